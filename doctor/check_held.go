package doctor

import (
	"slices"
	"time"

	"github.com/berth-go/berth/sockets"
)

// unread finds clients whose responses have arrived and are not read: a body that nobody
// reads or closes holds its connection, and a pool of such connections is starved,
// whatever the language. The kernel knows how much a program has read: what was received
// less what is in the queue. Where it does not tell what was received, a queue that is
// the same to the byte at both looks is taken for unread.
func (e *exam) unread() {
	n := len(e.out)
	open := map[holding]int{}
	var held []sockets.Socket
	for _, s := range e.b.Sockets {
		if s.State != sockets.Established || e.server(s) || !e.wantsOwned(s) {
			continue
		}
		open[byBoth(s)]++
		was, ok := e.stayed(s)
		if ok && notRead(was, s) && uint64(min(was.RecvQ, s.RecvQ)) >= uint64(e.o.Limits.Unread) {
			held = append(held, s)
		}
	}
	order, by := group(held, byBoth)
	for _, h := range order {
		var bytes uint64
		var longest time.Duration
		var evidence []string
		for _, s := range by[h] {
			bytes += uint64(s.RecvQ)
			longest = max(longest, s.LastData)
			evidence = append(evidence, e.say("unread-socket", s.Local.String(), s.Remote.String(), size(uint64(s.RecvQ)), duration(max(s.LastData, e.took))))
		}
		count := len(by[h])
		if h.pid == 0 {
			evidence = append([]string{e.say("user", int(by[h][0].UID))}, evidence...)
		}
		if count == open[h] {
			evidence = append([]string{e.say("unread-all", count)}, evidence...)
		}
		subject := e.subject(h.pid, h.dest, sockets.Established, count)
		subject.Bytes = bytes
		e.add(Finding{
			Check: "unread", Code: "BERTH2006", Level: Warn,
			Title:    e.say("unread", e.process(h.pid), count, open[h], h.dest.String(), size(bytes), duration(max(longest, e.took))),
			Evidence: evidence,
			Fix:      e.release(h.pid),
			Subject:  subject,
		})
	}
	e.ok("unread", n, e.say("unread-ok", len(open), duration(e.took)))
}

// notRead says whether the program has read nothing of what is in the queue between two
// looks at a connection that stayed in its state.
func notRead(was, is sockets.Socket) bool {
	if is.Received > 0 && was.Received > 0 {
		return was.Received-uint64(was.RecvQ) == is.Received-uint64(is.RecvQ)
	}
	return was.RecvQ == is.RecvQ
}

// closeWait finds processes that keep connections whose peer has closed.
func (e *exam) closeWait() {
	n := len(e.out)
	count := func(list []sockets.Socket) map[int]int {
		by := map[int]int{}
		for _, s := range list {
			if s.State == sockets.CloseWait {
				by[s.PID]++
			}
		}
		return by
	}
	before, now := count(e.a.Sockets), count(e.b.Sockets)
	var kept []sockets.Socket
	all := 0
	for _, s := range e.b.Sockets {
		if s.State != sockets.CloseWait || !e.wantsOwned(s) {
			continue
		}
		all++
		if _, ok := e.stayed(s); ok {
			kept = append(kept, s)
		}
	}
	var few []string
	order, by := group(kept, byProcess)
	for _, h := range order {
		of := by[h]
		at := level(len(of), e.o.Limits.CloseWait, e.o.Limits.CloseWaitFail)
		// A few may be a pool's idle ones, but those have nothing left to read.
		if at == OK && slices.ContainsFunc(of, e.stuck) {
			at = Warn
		}
		if at == OK {
			few = append(few, e.say("close-wait-few", e.process(h.pid), len(of)))
			continue
		}
		unread, servers := 0, 0
		var longest time.Duration
		var bytes uint64
		for _, s := range of {
			if s.RecvQ > 1 { // the FIN itself counts as one
				unread++
				bytes += uint64(s.RecvQ) - 1
			}
			if e.server(s) {
				servers++
			}
			longest = max(longest, s.LastAck)
		}
		evidence := []string{e.say("close-wait-age", duration(max(longest, e.took)), now[h.pid]-before[h.pid])}
		if unread > 0 {
			evidence = append(evidence, e.say("close-wait-unread", unread, size(bytes)))
		}
		places, byPlace := group(of, byBoth)
		for _, p := range places {
			s := byPlace[p][0]
			if e.server(s) {
				evidence = append(evidence, e.say("close-wait-server", s.Local.String(), p.dest.String(), len(byPlace[p])))
				continue
			}
			evidence = append(evidence, e.say("close-wait-to", p.dest.String(), len(byPlace[p]), s.Local.String(), s.RecvQ))
		}
		fix := e.release(h.pid)
		switch {
		case servers > len(of)/2:
			fix = e.say("fix-close-wait-server")
		case unread == 0:
			fix = e.say("fix-close-wait-idle")
		}
		subject := e.subject(h.pid, places[0].dest, sockets.CloseWait, len(of))
		subject.Bytes = bytes
		e.add(Finding{
			Check: "close-wait", Code: "BERTH2013", Level: at,
			Title:    e.say("close-wait", e.process(h.pid), len(of), duration(max(longest, e.took))),
			Evidence: evidence, Fix: fix, Subject: subject,
		})
	}
	if all == 0 {
		e.ok("close-wait", n, e.say("close-wait-none"))
	}
	e.ok("close-wait", n, e.say("close-wait-ok", all, len(kept)), few...)
}

// stuck says whether a connection that the peer has closed holds data that nobody read
// between the looks.
func (e *exam) stuck(s sockets.Socket) bool {
	was, ok := e.stayed(s)
	return ok && s.RecvQ > 1 && uint64(s.RecvQ-1) >= uint64(e.o.Limits.Unread) && notRead(was, s)
}

// finWait2 finds processes that have closed their half and keep the other.
func (e *exam) finWait2() {
	n := len(e.out)
	var kept []sockets.Socket
	orphans, wereOrphans, owned := 0, 0, 0
	for _, s := range e.a.Sockets {
		if s.State == sockets.FinWait2 && s.Inode == 0 && s.PID == 0 {
			wereOrphans++
		}
	}
	for _, s := range e.b.Sockets {
		if s.State != sockets.FinWait2 || !e.wantsOwned(s) {
			continue
		}
		if s.Inode == 0 && s.PID == 0 {
			orphans++
			continue
		}
		owned++
		if _, ok := e.stayed(s); ok {
			kept = append(kept, s)
		}
	}
	order, by := group(kept, byProcess)
	for _, h := range order {
		if len(by[h]) < e.o.Limits.FinWait2 {
			continue
		}
		var evidence []string
		places, byPlace := group(by[h], byBoth)
		for _, p := range places {
			evidence = append(evidence, e.say("fin-wait-to", p.dest.String(), len(byPlace[p])))
		}
		e.add(Finding{
			Check: "fin-wait", Code: "BERTH2014", Level: Warn,
			Title:    e.say("fin-wait", e.process(h.pid), len(by[h])),
			Evidence: evidence, Fix: e.say("fix-fin-wait"),
			Subject: e.subject(h.pid, places[0].dest, sockets.FinWait2, len(by[h])),
		})
	}
	// Without an owner they end by themselves after tcp_fin_timeout; many are a peer
	// that does not close.
	if orphans >= 10*e.o.Limits.FinWait2 && orphans > wereOrphans {
		e.add(Finding{
			Check: "fin-wait", Code: "BERTH2014", Level: Warn,
			Title:    e.say("fin-wait-orphans", orphans, orphans-wereOrphans, duration(e.took)),
			Evidence: []string{e.say("fin-wait-timeout", e.b.Settings["net.ipv4.tcp_fin_timeout"])},
			Fix:      e.say("fix-fin-wait-orphans"),
			Subject:  Subject{State: sockets.FinWait2.String(), Count: orphans},
		})
	}
	e.ok("fin-wait", n, e.say("fin-wait-ok", owned, orphans))
}

// connecting finds destinations that do not answer.
func (e *exam) connecting() {
	n := len(e.out)
	var waiting []sockets.Socket
	all := 0
	for _, s := range e.b.Sockets {
		if s.State != sockets.SynSent || !e.wantsOwned(s) {
			continue
		}
		all++
		if _, ok := e.stayed(s); ok {
			waiting = append(waiting, s)
		}
	}
	places, byPlace := group(waiting, func(s sockets.Socket) holding { return holding{dest: s.Remote} })
	for _, p := range places {
		of := byPlace[p]
		if len(of) < e.o.Limits.SynSent {
			continue
		}
		order, by := group(of, byProcess)
		var evidence []string
		for _, h := range order {
			evidence = append(evidence, e.say("connecting-by", e.process(h.pid), len(by[h])))
		}
		e.add(Finding{
			Check: "connecting", Code: "BERTH2025", Level: Warn,
			Title:    e.say("connecting", p.dest.String(), len(of), e.process(order[0].pid), duration(e.took)),
			Evidence: evidence, Fix: e.say("fix-connecting"),
			Subject: e.subject(order[0].pid, p.dest, sockets.SynSent, len(of)),
		})
	}
	e.ok("connecting", n, e.say("connecting-ok", all))
}
