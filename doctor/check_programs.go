package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-go/berth/sockets"
)

// programs joins what programs say of their pools with what the kernel says of the same
// sockets.
func (e *exam) programs() {
	n := len(e.out)
	if len(e.b.Programs) == 0 {
		return // none was asked for
	}
	kernel := map[tuple]sockets.Socket{}
	for _, s := range e.b.Sockets {
		kernel[tupleOf(s)] = s
	}
	var evidence []string
	for _, p := range e.b.Programs {
		if p.Err != "" {
			e.add(Finding{Check: "programs", Level: Warn, Title: e.say("program-unread", p.Source, clean(p.Err)), Fix: e.say("fix-program-unread")})
			continue
		}
		if !e.wants(p.PID, netip.AddrPort{}) {
			continue
		}
		was := &Program{}
		for i := range e.a.Programs {
			if e.a.Programs[i].Source == p.Source && e.a.Programs[i].PID == p.PID {
				was = &e.a.Programs[i]
			}
		}
		who := fmt.Sprintf("%s (pid %d)", p.Program, p.PID)
		evidence = append(evidence, e.say("program", who, len(p.Endpoints), p.Source))
		for _, ep := range p.Endpoints {
			e.endpoint(p, who, ep, before(was, ep), kernel)
		}
		e.leaks(p, who)
		e.programPorts(p, who)
	}
	e.ok("programs", n, e.say("programs-ok", len(evidence)), evidence...)
}

// before returns the same endpoint at the first look.
func before(was *Program, ep endpoint) *endpoint {
	i := slices.IndexFunc(was.Endpoints, func(x endpoint) bool { return x.Endpoint == ep.Endpoint && x.Group == ep.Group })
	if i < 0 {
		return nil
	}
	return &was.Endpoints[i]
}

func (e *exam) endpoint(p Program, who string, ep endpoint, was *endpoint, kernel map[tuple]sockets.Socket) {
	name := ep.Endpoint
	if ep.Group != "" {
		name += " [" + ep.Group + "]"
	}
	leases := slices.Clone(ep.Leases)
	slices.SortStableFunc(leases, func(x, y lease) int { return int(min(max(y.Held-x.Held, -1), 1)) })
	subject := func(state sockets.State, count int) Subject {
		s := Subject{PID: p.PID, Process: p.Program, Destination: ep.Endpoint, Count: count}
		if state != 0 {
			s.State = state.String()
		}
		return s
	}
	site, held := "", sockets.State(0)
	var lines []string
	for _, l := range leases {
		line, state := e.lease(l, kernel)
		lines = append(lines, line)
		if site == "" && l.Site != "" && (l.Suspect || ep.Verdict == "leaked") {
			site = l.Site
		}
		if held == 0 {
			held = state
		}
	}
	if w := ep.Stats.Waiting; w > 0 {
		at := Warn
		if was != nil && was.Stats.Waiting > 0 {
			at = Fail
		}
		fix := e.say("fix-starved")
		switch {
		case site != "":
			fix = e.say("fix-starved-leaked", site)
		case ep.Verdict == "too small":
			fix = e.say("fix-starved-small")
		}
		counts := e.say("starved-counts", ep.Stats.Leased, ep.Stats.Idle, ep.Stats.Dialing)
		e.add(Finding{
			Check: "programs", Code: "BERTH1001", Level: at,
			Title:    e.say("starved", who, w, name, duration(ep.Stats.OldestWait), orDash(ep.Limit, ep.Reason)),
			Evidence: append([]string{counts}, lines...), Fix: fix, Subject: subject(held, w),
		})
	} else if ep.Stats.Leaks.Suspect > 0 {
		fix := e.say("fix-leaked")
		if site != "" {
			fix = e.say("fix-leaked-at", site)
		}
		var suspects []string
		for i, l := range leases {
			if l.Suspect {
				suspects = append(suspects, lines[i])
			}
		}
		e.add(Finding{
			Check: "programs", Code: "BERTH1018", Level: Warn,
			Title:    e.say("suspects", who, ep.Stats.Leaks.Suspect, name),
			Evidence: suspects, Fix: fix, Subject: subject(held, ep.Stats.Leaks.Suspect),
		})
	}
	e.idleChurn(who, name, ep, was, subject(0, 0))
}

func orDash(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return "–"
}

// lease is one line of evidence: the request, and what the kernel says of its socket.
func (e *exam) lease(l lease, kernel map[tuple]sockets.Socket) (string, sockets.State) {
	state, known := e.say("lease-unknown"), sockets.State(0)
	local, remote := addrPort(l.Local), addrPort(l.Remote)
	if s, ok := kernel[tuple{local, remote}]; ok && local.IsValid() && remote.IsValid() {
		known = s.State
		state = e.say("lease-state", s.State.String(), size(uint64(s.RecvQ)))
	}
	phase := orDash(l.Phase)
	if l.Unread > 0 {
		phase += " " + duration(l.Unread)
	}
	return e.say("lease", l.Method, l.Path, phase, duration(l.Held), l.Local, l.Remote, state, orDash(l.Site)), known
}

// idleChurn finds a pool that closes connections only because it may not keep as many
// idle, and dials again.
func (e *exam) idleChurn(who, name string, ep endpoint, was *endpoint, subject Subject) {
	if was == nil {
		return
	}
	closed := uint64(0)
	for _, reason := range []string{"surplus", "evict", "limit"} {
		closed += ep.Stats.Closes[reason] - min(was.Stats.Closes[reason], ep.Stats.Closes[reason])
	}
	dialed := ep.Stats.Dials.OK - min(was.Stats.Dials.OK, ep.Stats.Dials.OK)
	rate := float64(dialed) / e.took.Seconds()
	if rate < e.o.Limits.ChurnRate || 2*closed < dialed {
		return
	}
	subject.Count = int(dialed)
	e.add(Finding{
		Check: "programs", Code: "BERTH2015", Level: Warn,
		Title: e.say("idle-churn", who, int(dialed), int(closed), name, duration(e.took)),
		Fix:   e.say("fix-idle-churn"), Subject: subject,
	})
}

// leaks tells of bodies that the collector found, by the place that asked for them.
func (e *exam) leaks(p Program, who string) {
	var lines []string
	var total uint64
	for _, l := range p.Leaks {
		if l.Reclaimed > 0 {
			total += l.Reclaimed
			lines = append(lines, e.say("leak", orDash(l.Site), int(l.Reclaimed), orDash(l.Endpoint)))
		}
	}
	if total > 0 {
		e.add(Finding{
			Check: "programs", Code: "BERTH1018", Level: Warn, Title: e.say("leaks", who, int(total)),
			Evidence: lines, Fix: e.say("fix-leaked-at", orDash(p.Leaks[0].Site)), Subject: Subject{PID: p.PID, Process: p.Program, Count: int(total)},
		})
	}
}

func (e *exam) programPorts(p Program, who string) {
	for _, u := range p.Ports {
		if u.Ports <= 0 {
			continue
		}
		used := u.Live + u.Held
		share := float64(used) / float64(u.Ports)
		at := level(share, e.o.Limits.TableWarn, e.o.Limits.TableFail)
		if !u.Budget {
			at = level(share, e.o.Limits.PortsWarn, e.o.Limits.PortsFail)
		}
		if at == OK {
			continue
		}
		code, key := "BERTH1004", "program-ports"
		if u.Budget {
			code, key = "BERTH2008", "program-budget"
		}
		f := Finding{
			Check: "programs", Code: code, Level: at,
			Title:    e.say(key, who, used, u.Ports, percent(share), orDash(u.Destination)),
			Evidence: []string{e.say("program-ports-counts", u.Live, u.Held, fmt.Sprintf("%.1f", u.Rate))},
			Fix:      e.say("fix-" + key), Subject: Subject{PID: p.PID, Process: p.Program, Destination: u.Destination, Count: used},
		}
		if left := float64(u.Ports-used) / u.Rate; u.Rate > 0 && left > 0 && left < 1e6 {
			f.Evidence = append(f.Evidence, e.say("program-ports-left", duration(time.Duration(left*float64(time.Second)))))
		}
		e.add(f)
	}
}
