package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-go/berth/sockets"
)

// timeWaitTime is TCP_TIMEWAIT_LEN of Linux.
const timeWaitTime = 60 * time.Second

// road is what ephemeral ports are unique in.
type road struct {
	from netip.Addr
	to   netip.AddrPort
}

// traffic is what goes on on a road.
type traffic struct {
	live     int         // any state but TIME_WAIT
	waiting  int         // TIME_WAIT whose port a new connection cannot have yet
	reusable int         // TIME_WAIT whose port it can have
	fresh    int         // connections that began between the looks
	ended    int         // of those, in TIME_WAIT already
	owners   map[int]int // whose connections were met, and how many
	openers  map[int]int // of those that began between the looks
	guess    int         // who had short-lived sockets, when nobody's connection was met; 0 is nobody
}

func (t *traffic) taken() int { return t.live + t.waiting }

// portRange returns the ephemeral ports and how many of them are usable; 0 when not
// known.
func (e *exam) portRange() (r sockets.PortRange, usable int, reserved string) {
	lo, hi, ok := strings.Cut(e.b.Settings["net.ipv4.ip_local_port_range"], " ")
	if !ok {
		return r, 0, ""
	}
	if n, err := fmt.Sscan(lo+" "+hi, &r.First, &r.Last); n != 2 || err != nil || r.First > r.Last {
		return sockets.PortRange{}, 0, ""
	}
	reserved = e.b.Settings["net.ipv4.ip_local_reserved_ports"]
	list, err := sockets.ParsePorts(reserved)
	if err != nil {
		list = nil
	}
	return r, r.Usable(list), reserved
}

// recycled says whether the kernel gives a port in TIME_WAIT to a new connection to the
// same place, and after what time: tcp_tw_reuse 1, or 2 on loopback, with timestamps.
func (e *exam) recycled(to netip.Addr) (after time.Duration, ok bool) {
	reuse := e.b.Settings["net.ipv4.tcp_tw_reuse"]
	if reuse != "1" && (reuse != "2" || !to.IsLoopback()) || e.b.Settings["net.ipv4.tcp_timestamps"] == "0" {
		return timeWaitTime, false
	}
	ms := 1000
	if v := e.b.Settings["net.ipv4.tcp_tw_reuse_delay"]; v != "" {
		fmt.Sscan(v, &ms)
	}
	return time.Duration(ms) * time.Millisecond, true
}

// roads sorts the clients' sockets whose port is in the range.
func (e *exam) roads(list []sockets.Socket, r sockets.PortRange) map[road]*traffic {
	roads := map[road]*traffic{}
	on := func(s sockets.Socket) *traffic {
		k := road{s.Local.Addr(), s.Remote}
		if roads[k] == nil {
			roads[k] = &traffic{owners: map[int]int{}, openers: map[int]int{}}
		}
		return roads[k]
	}
	for _, s := range list {
		port := s.Local.Port()
		if s.State == sockets.Listen || s.Remote.Port() == 0 || port < r.First || port > r.Last || e.server(s) || !e.wants(0, s.Remote) {
			continue
		}
		t := on(s)
		if e.isNew(s) {
			t.fresh++
			if s.State == sockets.TimeWait {
				t.ended++
			}
		}
		if s.PID != 0 {
			t.owners[s.PID]++
			if e.isNew(s) {
				t.openers[s.PID]++
			}
		}
		if s.State != sockets.TimeWait {
			t.live++
		} else if after, ok := e.recycled(s.Remote.Addr()); ok && s.Timer > 0 && s.Timer <= timeWaitTime-after {
			t.reusable++
		} else {
			t.waiting++
		}
	}
	return roads
}

// owners adds who was met on the roads at the first look and between the looks.
func (e *exam) owners(roads map[road]*traffic) {
	seen := map[tuple]bool{}
	for i, list := range [][]sockets.Socket{e.a.Sockets, e.b.Between} {
		for _, s := range list {
			t := roads[road{s.Local.Addr(), s.Remote}]
			if t == nil || s.PID == 0 || e.server(s) || seen[tupleOf(s)] {
				continue
			}
			seen[tupleOf(s)] = true
			t.owners[s.PID]++
			if i == 1 {
				t.openers[s.PID]++
			}
		}
	}
	for k, t := range roads {
		if len(t.openers) == 0 {
			t.guess = e.guess(k)
		}
	}
}

// guess returns the process that had short-lived sockets; 0 when none had two, when more
// than one comes into question, or on a road within this host: its server has as many, and
// may be the client as well. A wrong name is worse than none.
func (e *exam) guess(k road) int {
	if k.to.Addr().IsLoopback() || k.to.Addr() == k.from {
		return 0
	}
	short := maps.Clone(e.b.Short)
	pid := most(short)
	best := short[pid]
	delete(short, pid)
	if best < 2 || 4*short[most(short)] > best {
		return 0
	}
	return pid
}

// main returns the process that a road is most of; 0 when none is known.
func (t *traffic) main() int {
	if t.live > t.waiting+t.reusable {
		return cmp.Or(most(t.owners), t.guess)
	}
	return cmp.Or(most(t.openers), t.guess, most(t.owners))
}

// most returns the process of the highest number; 0 when there is none.
func most(of map[int]int) int {
	pids := slices.SortedFunc(maps.Keys(of), func(x, y int) int { return cmp.Or(cmp.Compare(of[y], of[x]), cmp.Compare(x, y)) })
	if len(pids) == 0 {
		return 0
	}
	return pids[0]
}

func busiest(roads map[road]*traffic, of func(*traffic) int) []road {
	return slices.SortedFunc(maps.Keys(roads), func(x, y road) int {
		return cmp.Or(cmp.Compare(of(roads[y]), of(roads[x])), x.to.Compare(y.to), x.from.Compare(y.from))
	})
}

// ports compares what each destination takes with the ports that there are.
func (e *exam) ports() {
	n := len(e.out)
	r, usable, reserved := e.portRange()
	if usable == 0 {
		e.ok("ports", n, e.say("ports-unknown"))
		return
	}
	now, was := e.roads(e.b.Sockets, r), e.roads(e.a.Sockets, r)
	e.owners(now)
	evidence := []string{e.say("ports-range", int(r.First), int(r.Last), usable, cmp.Or(reserved, "–"))}
	top := ""
	for i, k := range busiest(now, (*traffic).taken) {
		t := now[k]
		share := float64(t.taken()) / float64(usable)
		growth := float64(t.taken())
		if w := was[k]; w != nil {
			growth -= float64(w.taken())
		}
		growth /= e.took.Seconds()
		rate := float64(t.fresh) / e.took.Seconds()
		hold, recycled := e.recycled(k.to.Addr())
		at := level(share, e.o.Limits.PortsWarn, e.o.Limits.PortsFail)
		// Ports come back after the hold time: at a rate below ports/hold they last for
		// ever.
		settles := t.live + int(rate*hold.Seconds())
		runsOut := growth > 0.5 && settles > usable
		left := time.Duration(0)
		if runsOut {
			left = time.Duration(float64(usable-t.taken()) / growth * float64(time.Second))
			// Sooner than the first comes back.
			if at = max(at, Warn); left < hold {
				at = Fail
			}
		}
		if e.o.Limits.PortsWarn > 1 {
			at = OK
		}
		if i == 0 {
			top = e.say("ports-most", k.to.String(), t.taken(), percent(share))
		}
		if at == OK {
			continue
		}
		pid := t.main()
		if !e.wants(pid, k.to) {
			continue
		}
		lines := append(slices.Clone(evidence), e.say("ports-taken", k.from.String(), k.to.String(), t.live, t.waiting, t.reusable),
			e.say("ports-rate", fmt.Sprintf("%.1f", rate), settles))
		if recycled {
			lines = append(lines, e.say("ports-recycled", duration(hold)))
		}
		title := e.say("ports", k.to.String(), t.taken(), usable, percent(share), e.process(pid))
		if runsOut {
			title = e.say("ports-runs-out", k.to.String(), t.taken(), usable, percent(share), e.process(pid), duration(left))
		}
		e.add(Finding{
			Check: "ports", Code: "BERTH1004", Level: at, Title: title, Evidence: append(lines, e.ownerLines(t)...),
			Fix: e.say("fix-ports"), Subject: e.subject(pid, k.to, sockets.TimeWait, t.taken()),
		})
	}
	if top != "" {
		evidence = append(evidence, top)
	}
	if usable < 10_000 && e.o.Limits.PortsWarn <= 1 && len(e.out) == n {
		e.add(Finding{Check: "ports", Code: "BERTH1004", Level: Warn, Title: e.say("ports-narrow", usable, int(r.First), int(r.Last)),
			Evidence: evidence, Fix: e.say("fix-ports-narrow")})
	}
	e.ok("ports", n, e.say("ports-ok", usable, int(r.First), int(r.Last)), evidence...)
}

func (e *exam) ownerLines(t *traffic) []string {
	var lines []string
	for _, pid := range slices.Sorted(maps.Keys(t.owners)) {
		lines = append(lines, e.say("owner", e.process(pid), t.owners[pid]))
	}
	if t.guess != 0 {
		lines = append(lines, e.say("owner-guess", e.process(t.guess), e.b.Short[t.guess]))
	}
	return lines
}

// churn finds processes that open a connection for each request. They close it
// themselves, so that it stays in TIME_WAIT here; a TIME_WAIT has no owner, and the
// process is named by its connections that were met alive, or by its short-lived sockets.
func (e *exam) churn() {
	n := len(e.out)
	roads := e.roads(e.b.Sockets, sockets.PortRange{First: 1, Last: 65535})
	e.owners(roads)
	total := 0
	for _, k := range busiest(roads, func(t *traffic) int { return t.fresh }) {
		t := roads[k]
		total += t.fresh
		rate := float64(t.fresh) / e.took.Seconds()
		pid := t.main()
		if rate < e.o.Limits.ChurnRate || 2*t.ended < t.fresh || !e.wants(pid, k.to) {
			continue
		}
		evidence := []string{e.say("churn-counts", t.fresh, duration(e.took), t.ended, t.waiting+t.reusable)}
		if opened := e.b.Counters["Tcp.ActiveOpens"] - e.a.Counters["Tcp.ActiveOpens"]; opened > 0 {
			evidence = append(evidence, e.say("churn-opens", int(opened)))
		}
		if pid == 0 {
			evidence = append(evidence, e.say("churn-unknown"))
		}
		e.add(Finding{
			Check: "churn", Code: "BERTH2002", Level: Warn,
			Title:    e.say("churn", e.process(pid), fmt.Sprintf("%.0f", rate), k.to.String(), t.waiting+t.reusable),
			Evidence: append(evidence, e.ownerLines(t)...), Fix: e.say("fix-churn"),
			Subject: e.subject(pid, k.to, sockets.TimeWait, t.waiting+t.reusable),
		})
	}
	e.ok("churn", n, e.say("churn-ok", fmt.Sprintf("%.1f", float64(total)/e.took.Seconds())))
}

// timeWait looks at all TIME_WAIT of this host together.
func (e *exam) timeWait() {
	n := len(e.out)
	count := func(list []sockets.Socket) (clients, servers int) {
		for _, s := range list {
			switch {
			case s.State != sockets.TimeWait || !e.wants(0, s.Remote):
			case e.server(s):
				servers++
			default:
				clients++
			}
		}
		return
	}
	clients, servers := count(e.b.Sockets)
	before, _ := count(e.a.Sockets)
	counts := e.say("time-wait-counts", clients, clients-before, servers)
	roads := e.roads(e.b.Sockets, sockets.PortRange{First: 1, Last: 65535})
	e.owners(roads)
	waiting := func(t *traffic) int { return t.waiting + t.reusable }
	evidence := []string{counts}
	top := road{}
	for i, k := range busiest(roads, waiting) {
		if waiting(roads[k]) == 0 || i == 5 {
			break
		}
		if i == 0 {
			top = k
		}
		evidence = append(evidence, e.say("time-wait-to", k.to.String(), waiting(roads[k]), e.process(roads[k].main())))
	}
	if clients >= e.o.Limits.TimeWait && clients > before {
		pid := roads[top].main()
		e.add(Finding{
			Check: "time-wait", Code: "BERTH2012", Level: Warn,
			Title:    e.say("time-wait", clients, clients-before, duration(e.took), top.to.String(), e.process(pid)),
			Evidence: evidence, Fix: e.say("fix-churn"), Subject: e.subject(pid, top.to, sockets.TimeWait, clients),
		})
	}
	buckets := number(e.b.Settings["net.ipv4.tcp_max_tw_buckets"])
	tw := e.b.Counters["sockstat.TCP.tw"]
	overflowed := e.grown("TcpExt.TCPTimeWaitOverflow")
	at := e.table(tw, buckets)
	if overflowed > 0 {
		at = Fail
	}
	if at != OK && e.o.Limits.TableWarn <= 1 {
		e.add(Finding{
			Check: "time-wait", Code: "BERTH2026", Level: at,
			Title:    e.say("buckets", int(tw), int(buckets), int(overflowed), duration(e.took)),
			Evidence: evidence, Fix: e.say("fix-buckets"), Subject: Subject{State: sockets.TimeWait.String(), Count: int(tw)},
		})
	}
	if buckets > 0 {
		e.ok("time-wait", n, e.say("time-wait-ok-of", clients+servers, int(buckets)), evidence...)
	}
	e.ok("time-wait", n, e.say("time-wait-ok", clients+servers), evidence...)
}
