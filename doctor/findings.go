package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/sockets"
)

// Findings compares two looks. Each check gives its warnings and failures, or one
// finding at [OK] that says what was looked at. It reads nothing and changes neither
// sample. Invalid options are taken for their defaults.
func Findings(a, b Sample, o Options) []Finding {
	if checked, err := o.withDefaults(); err == nil {
		o = checked
	} else {
		o, _ = Options{Limits: o.Limits}.withDefaults()
	}
	e := &exam{a: a, b: b, o: o, say: words(o.Lang), server: sockets.Listening(b.Sockets), before: map[tuple]sockets.Socket{}}
	if e.took = b.Time.Sub(a.Time); e.took <= 0 {
		e.took = o.Interval
	}
	for _, s := range a.Sockets {
		e.before[tupleOf(s)] = s
	}
	for _, check := range []func(){
		e.sockets, e.programs, e.unread, e.closeWait, e.churn, e.ports, e.timeWait, e.connecting, e.finWait2,
		e.files, e.conntrack, e.listening, e.memory, e.settings,
	} {
		since := len(e.out)
		check()
		e.fold(since)
	}
	return e.out
}

// maxFindings is how many findings a check gives, the worst and largest, beyond which
// they are counted.
const maxFindings = 20

// fold makes one finding of those that are too many.
func (e *exam) fold(since int) {
	list := e.out[since:]
	if len(list) <= maxFindings {
		return
	}
	slices.SortStableFunc(list, func(x, y Finding) int { return cmp.Compare(y.Level, x.Level) })
	rest := list[maxFindings]
	e.out = append(e.out[:since+maxFindings], Finding{Check: rest.Check, Code: rest.Code, Level: rest.Level, Title: e.say("more", len(list)-maxFindings), Fix: rest.Fix})
}

// exam is one comparison under way.
type exam struct {
	a, b   Sample
	o      Options
	took   time.Duration // between the looks
	say    func(key string, args ...any) string
	server func(sockets.Socket) bool
	before map[tuple]sockets.Socket
	out    []Finding
}

type tuple struct{ local, remote netip.AddrPort }

func tupleOf(s sockets.Socket) tuple { return tuple{s.Local, s.Remote} }

// stayed returns the socket as it was at the first look, when it was there in the same
// state and of the same process.
func (e *exam) stayed(s sockets.Socket) (sockets.Socket, bool) {
	was, ok := e.before[tupleOf(s)]
	return was, ok && was.State == s.State && was.Inode == s.Inode && was.PID == s.PID
}

// isNew says whether the connection began after the first look. A tuple in TIME_WAIT that
// begins to wait anew has been another connection meanwhile.
func (e *exam) isNew(s sockets.Socket) bool {
	was, ok := e.before[tupleOf(s)]
	if !ok {
		return true
	}
	if was.State == sockets.TimeWait {
		return s.State != sockets.TimeWait || s.Timer > was.Timer
	}
	return was.Inode != s.Inode && s.Inode != 0
}

// wants says whether findings of a process and a destination are asked for. A pid of 0
// or a zero destination is not known, and no reason to leave anything out.
func (e *exam) wants(pid int, dest netip.AddrPort) bool {
	if pid != 0 && len(e.o.PIDs) > 0 && !slices.Contains(e.o.PIDs, pid) {
		return false
	}
	if !dest.IsValid() || len(e.o.Destinations) == 0 {
		return true
	}
	return slices.ContainsFunc(e.o.Destinations, func(d netip.AddrPort) bool {
		return d.Addr().Unmap() == dest.Addr() && (d.Port() == 0 || d.Port() == dest.Port())
	})
}

// wantsOwned is wants for sockets that have an owner: one that is not known is not one
// that is asked for.
func (e *exam) wantsOwned(s sockets.Socket) bool {
	return (s.PID != 0 || len(e.o.PIDs) == 0) && e.wants(s.PID, s.Remote)
}

// maxEvidence is how many lines of evidence a finding has, beyond which they are counted.
const maxEvidence = 20

func (e *exam) add(f Finding) {
	if n := len(f.Evidence); n > maxEvidence {
		f.Evidence = append(slices.Clip(f.Evidence[:maxEvidence]), e.say("more", n-maxEvidence))
	}
	e.out = append(e.out, f)
}

// ok adds what a check looked at when it has found nothing.
func (e *exam) ok(check string, since int, title string, evidence ...string) {
	if len(e.out) == since {
		e.add(Finding{Check: check, Title: title, Evidence: evidence})
	}
}

// level compares with two thresholds.
func level[T int | float64](v, warn, fail T) Level {
	switch {
	case v >= fail:
		return Fail
	case v >= warn:
		return Warn
	}
	return OK
}

// process names a process for people: python3 (pid 4711).
func (e *exam) process(pid int) string {
	if pid == 0 {
		return e.say("unknown-process")
	}
	return fmt.Sprintf("%s (pid %d)", e.name(pid), pid)
}

// name is the kernel's name of a process; that of its program where the kernel's is of a
// thread.
func (e *exam) name(pid int) string {
	p, ok := e.b.Processes[pid]
	if !ok {
		p = e.a.Processes[pid]
	}
	if p.Name == "" || p.Name == "MainThread" {
		if p.Program != "" {
			return clean(path.Base(p.Program))
		}
	}
	return clean(cmp.Or(p.Name, "?"))
}

func (e *exam) subject(pid int, dest netip.AddrPort, state sockets.State, count int) Subject {
	s := Subject{PID: pid, Count: count}
	if pid != 0 {
		s.Process = e.name(pid)
	}
	if dest.IsValid() {
		s.Destination = dest.String()
	}
	if state != 0 {
		s.State = state.String()
	}
	return s
}

// release says how a program of this kind gives a connection back.
func (e *exam) release(pid int) string {
	name := e.name(pid)
	program := path.Base(e.b.Processes[pid].Program)
	is := func(prefix string) bool { return strings.HasPrefix(name, prefix) || strings.HasPrefix(program, prefix) }
	switch {
	case is("python"), is("gunicorn"), is("uwsgi"), is("celery"):
		return e.say("release-python")
	case is("node"), is("bun"), is("deno"):
		return e.say("release-node")
	case is("java"):
		return e.say("release-java")
	case is("dotnet"):
		return e.say("release-dotnet")
	}
	return e.say("release-any")
}

// holding is sockets of one process to one destination.
type holding struct {
	pid  int
	dest netip.AddrPort
}

// group sorts sockets by process and destination, those with most sockets first.
func group(list []sockets.Socket, key func(sockets.Socket) holding) (order []holding, by map[holding][]sockets.Socket) {
	by = map[holding][]sockets.Socket{}
	for _, s := range list {
		k := key(s)
		by[k] = append(by[k], s)
	}
	for _, of := range by {
		slices.SortFunc(of, func(x, y sockets.Socket) int {
			return cmp.Or(cmp.Compare(y.RecvQ, x.RecvQ), x.Local.Compare(y.Local), x.Remote.Compare(y.Remote))
		})
	}
	return slices.SortedFunc(maps.Keys(by), func(x, y holding) int {
		return cmp.Or(cmp.Compare(len(by[y]), len(by[x])), cmp.Compare(x.pid, y.pid), x.dest.Compare(y.dest))
	}), by
}

func byProcess(s sockets.Socket) holding { return holding{pid: s.PID} }
func byBoth(s sockets.Socket) holding    { return holding{s.PID, s.Remote} }

// states writes how many sockets are in which state, the most first.
func states(list []sockets.Socket) string {
	n := sockets.Count(list)
	var parts []string
	for _, s := range slices.SortedFunc(maps.Keys(n), func(x, y sockets.State) int { return cmp.Or(cmp.Compare(n[y], n[x]), cmp.Compare(x, y)) }) {
		parts = append(parts, fmt.Sprintf("%v %d", s, n[s]))
	}
	return strings.Join(parts, ", ")
}

// clean makes a text of elsewhere fit for one line of a terminal.
func clean(s string) string { return source.Clean(s) }

// duration writes a time as people say it: 0.4s, 14m02s, 3h.
func duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", max(d, 0).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// size writes a number of bytes.
func size(n uint64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// percent writes a share of 1, and no 0% of something.
func percent(v float64) string {
	if v > 0 && v < 0.01 {
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", v*100)
}
