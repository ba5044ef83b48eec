package doctor

import (
	"net/netip"

	"github.com/berth-go/berth/sockets"
)

// sockets says how many there are, in which states and whose. It finds nothing wrong.
// Its evidence tells of a fixed set of connections, which is what a pool looks like from
// outside, starved or not.
func (e *exam) sockets() {
	var asked []sockets.Socket
	for _, s := range e.b.Sockets {
		if e.wantsOwned(s) || s.State == sockets.Listen && s.PID != 0 && e.wants(s.PID, netip.AddrPort{}) {
			asked = append(asked, s)
		}
	}
	order, by := group(asked, byProcess)
	var evidence []string
	processes := 0
	for _, h := range order {
		if h.pid != 0 {
			processes++
			evidence = append(evidence, e.process(h.pid)+": "+states(by[h]))
		} else {
			evidence = append(evidence, e.say("no-owner")+": "+states(by[h]))
		}
	}
	evidence = append(evidence, e.fixedSets(asked)...)
	n := len(e.out)
	if len(asked) == 0 {
		e.ok("sockets", n, e.say("sockets-none"))
		return
	}
	e.ok("sockets", n, e.say("sockets-ok", len(asked), processes, states(asked)), evidence...)
}

// fixedSets tells of processes whose connections to a destination are the same at both
// looks.
func (e *exam) fixedSets(asked []sockets.Socket) []string {
	var open []sockets.Socket
	for _, s := range asked {
		if s.State == sockets.Established && s.PID != 0 && !e.server(s) {
			open = append(open, s)
		}
	}
	order, by := group(open, byBoth)
	var lines []string
	for _, h := range order {
		same, unread, unacknowledged := 0, 0, 0
		for _, s := range by[h] {
			if _, ok := e.stayed(s); ok {
				same++
			}
			if s.RecvQ > 0 {
				unread++
			}
			if s.SendQ > 0 {
				unacknowledged++
			}
		}
		if n := len(by[h]); same == n && n > 1 {
			lines = append(lines, e.say("fixed-set", e.process(h.pid), n, h.dest.String(), unread, unacknowledged))
		}
	}
	return lines
}
