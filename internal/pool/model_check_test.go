package pool

import (
	"fmt"
	"slices"
	"time"
)

// The books of the model (model_test.go): what each action of core must fulfil
// when it is emitted, what must hold after every event, and what must be left in
// the end.

// settle books the actions of one event, in order.
func (m *model) settle() {
	out := slices.Clone(m.c.out)
	clear(m.c.out)
	m.c.out = m.c.out[:0]
	for _, a := range out {
		switch a.kind {
		case actGrant:
			m.bookGrant(a.waiter)
		case actFail:
			m.bookFail(a.waiter)
		case actAdmit:
			m.bookAdmit(a.slot)
		case actDial:
			s := m.slot(a.slot)
			if s.stage != stageAdmit || s.cancelled {
				m.fail("%s is dialled in stage %d, cancelled %v", m.name(a.slot), s.stage, s.cancelled)
			}
			s.stage = stageDial
		case actCancelDial:
			m.bookCancelDial(m.slot(a.slot))
		case actClose:
			m.bookClose(m.slot(a.slot))
		case actFreed:
			m.freed++
			if !m.gated {
				m.fail("nobody admits dials, and is told of an end")
			}
		case actIdle:
			if !m.gated || !m.c.shared.Hungry.Load() {
				m.fail("nobody wants to know of idle connections")
			}
		case actProbe:
			m.bookProbe(m.slot(a.slot))
		case actStarved:
			m.starved++
			if m.starved > 1 || len(m.queue) == 0 || m.now-m.queue[0].since < int64(m.cfg.WarnAfter) || a.snap == nil {
				m.fail("starved is told for the %d. time with %d waiting", m.starved, len(m.queue))
			}
		case actEmpty:
			m.emptied++
			if len(m.slots)+len(m.queue) > 0 || m.now-m.emptySince < int64(m.cfg.Forget) {
				m.fail("empty is told with %d connections and %d waiting, %v after the last", len(m.slots), len(m.queue),
					time.Duration(m.now-m.emptySince))
			}
		}
	}
	if m.failing != nil || m.declining != nil {
		m.fail("a dial failed and its request was not told")
	}
	if len(m.slots)+len(m.queue) > 0 {
		m.emptySince = never
	} else if m.emptySince == never {
		m.emptySince = m.now
	}
}

func (m *model) name(s *Slot) string { return fmt.Sprintf("conn %d", m.slot(s).id) }

func (m *model) bookGrant(w *Waiter) {
	if len(m.queue) == 0 || m.queue[0].w != w {
		m.fail("a request was granted a connection that is not first in the queue")
	}
	mw := m.queue[0]
	m.leaveQueue(mw, false)
	m.logf("  granted %s to the first in the queue", m.name(w.lease.slot))
	m.lent(w.lease, mw)
}

// lent books a lease that core has given: may its connection be used?
func (m *model) lent(l *Lease, w *modelWaiter) {
	for _, g := range m.grant {
		if g.l == l {
			m.fail("a lease was given twice")
		}
	}
	if slices.Contains(m.held, l) {
		m.fail("a lease was given twice")
	}
	s := m.slot(l.slot)
	switch idle := time.Duration(m.now - s.idleSince); {
	case s.stage != stageOpen || s.probing || s.over:
		m.fail("%s was lent in stage %d, probing %v, at its end %v", m.name(s.s), s.stage, s.probing, s.over)
	case s.inFlight > 0 && s.inFlight >= s.capacity:
		m.fail("%s was lent with %d of %d in flight", m.name(s.s), s.inFlight, s.capacity)
	case s.requests >= m.cfg.MaxRequests || s.maxLeft == 0:
		m.fail("%s was lent after %d requests, %d left", m.name(s.s), s.requests, s.maxLeft)
	case m.now >= after(s.born, m.cfg.Lifetime) && m.now > s.born:
		m.fail("%s was lent at the age of %v", m.name(s.s), time.Duration(m.now-s.born))
	case m.paused:
		m.fail("%s was lent during a pause", m.name(s.s))
	case s.inFlight == 0 && idle >= m.c.idleTimeout() && idle > 0 && m.cfg.MinIdle == 0:
		m.fail("%s was lent after %v without use", m.name(s.s), idle)
	case s.inFlight == 0 && m.now >= s.hintUntil:
		m.fail("%s was lent after the peer's idle timeout", m.name(s.s))
	case s.inFlight == 0 && l.idle != idle:
		m.fail("%s was unused for %v, said %v", m.name(s.s), idle, l.idle)
	case l.Reused() != (s.requests > 0):
		m.fail("%s has had %d requests, said reused %v", m.name(s.s), s.requests, l.Reused())
	}
	s.inFlight++
	s.requests++
	m.granted++
	m.grant = append(m.grant, modelGrant{l, w})
}

func (m *model) bookFail(w *Waiter) {
	for _, mw := range m.queue {
		if mw.w != w {
			continue
		}
		if w.err == ErrWouldQueue {
			switch place := slices.Index(m.queue, mw); {
			case !mw.hasty:
				m.fail("a request that may queue was not let")
			case mw == m.declining:
				m.declining = nil
			case place < m.sure() && !m.paused:
				m.fail("a request failed that is the %d. in the queue, and %d are sure to be served", place+1, m.sure())
			}
			m.wouldQueue++
			m.logf("  would queue")
			m.leaveQueue(mw, false)
			m.finish(mw, "turned away")
			return
		}
		if mw != m.failing && !m.hard {
			m.fail("a request failed whose dial did not: %v", w.err)
		}
		if w.err == nil {
			m.fail("a request failed without an error")
		}
		m.logf("  failed: %v", w.err)
		m.leaveQueue(mw, true)
		m.finish(mw, "failed")
		if mw == m.failing {
			m.failing = nil
		}
		return
	}
	m.fail("a request failed that does not wait")
}

func (m *model) bookAdmit(slot *Slot) {
	s := &modelSlot{id: m.started + 1, s: slot, modest: slot.modest, orphaned: never, relied: never, hintUntil: never, maxLeft: -1, trial: m.fails > 0 || m.exhausted}
	if m.hard || m.paused || len(m.slots) >= m.cfg.MaxConns || m.dialing() >= m.cfg.MaxDials {
		m.fail("a dial starts with %d connections and %d dials, hard %v", len(m.slots), m.dialing(), m.hard)
	}
	switch {
	case m.exhausted && m.living() > 0:
		if m.trials() > 0 || m.now < m.exhaustedUntil {
			m.fail("a dial starts while there is nothing to dial with")
		}
	case m.fails > 0:
		if m.trials() > 0 || m.now < m.notBefore {
			m.fail("a dial starts during back-off: %d trials, %v early", m.trials(), time.Duration(m.notBefore-m.now))
		}
	}
	switch {
	case slot.dial.replaces != nil:
		s.replaces = m.slot(slot.dial.replaces)
	case slot.why == WhyReady:
		if !m.warmed && m.cfg.MinIdle == 0 || m.soft || m.evict || slot.dial.initiator != nil {
			m.fail("a dial starts that nobody wants")
		}
	case slot.dial.initiator == nil && m.ticking: // a successor whose predecessor ended in the same tick
	default:
		for _, w := range m.queue {
			if w.dial == nil {
				w.dial, s.initiator = s, w
				break
			}
		}
		if s.initiator == nil || slot.dial.initiator != s.initiator.w {
			m.fail("a dial starts that is not for the first request without one")
		}
	}
	if want := s.initiator == nil || s.initiator.hasty; slot.modest != want {
		m.fail("a dial is modest %v", slot.modest)
	}
	m.started++
	m.slots = append(m.slots, s)
	m.logf("  dial %s, for a request %v", m.name(slot), s.initiator != nil)
}

func (m *model) bookCancelDial(s *modelSlot) {
	asks := m.gated && s.stage == stageAdmit // a place that others wait for; its request is being granted another one
	unwanted := m.soft && len(m.queue) == 0 || asks
	if s.stage != stageAdmit && s.stage != stageDial || s.cancelled || s.initiator != nil && !asks {
		m.fail("the dial of %s is cancelled in stage %d, before %v, with a request %v", m.name(s.s), s.stage, s.cancelled, s.initiator != nil)
	}
	if !unwanted && (!m.ticking || s.orphaned > m.now) {
		m.fail("the dial of %s is cancelled before its time", m.name(s.s))
	}
	m.logf("  cancel the dial of %s", m.name(s.s))
	s.cancelled, s.doubtful = true, true
}

func (m *model) bookClose(s *modelSlot) {
	r := s.s.reason
	if s.stage != stageOpen || s.inFlight > 0 || s.probing {
		m.fail("%s is closed in stage %d with %d in flight, probing %v", m.name(s.s), s.stage, s.inFlight, s.probing)
	}
	m.logf("  close %s: %v", m.name(s.s), r)
	if !s.blurred && !m.justified(s, r) {
		m.fail("%s is closed for no good reason: %v", m.name(s.s), r)
	}
	s.stage, s.reason = stageClosing, r
}

// justified reports whether a reason to close an unused connection holds.
func (m *model) justified(s *modelSlot, r Reason) bool {
	switch r {
	case ReasonIdle:
		return m.now-s.idleSince >= int64(m.c.idleTimeout()) || m.now >= s.hintUntil
	case ReasonLifetime:
		return s.succeeded || m.now >= after(s.born, m.cfg.Lifetime/2)
	case ReasonRequests:
		return s.requests >= m.cfg.MaxRequests || s.maxLeft == 0
	case ReasonSurplus:
		idle := 0
		for _, o := range m.slots {
			if o.stage == stageOpen && o.inFlight == 0 {
				idle++
			}
		}
		return idle > m.cfg.MaxIdle || m.ticking // by need
	case ReasonStolen:
		return m.stolen
	case ReasonLimit:
		return m.staying() > m.cfg.MaxConns
	case ReasonEvict:
		return m.evict
	case ReasonShutdown:
		return m.soft
	}
	return s.over
}

func (m *model) bookProbe(s *modelSlot) {
	if s.stage != stageOpen || s.inFlight > 0 || s.probing || m.now-s.idleSince < int64(m.cfg.Sweep) {
		m.fail("%s is probed in stage %d with %d in flight, probing %v, after %v", m.name(s.s), s.stage, s.inFlight, s.probing,
			time.Duration(m.now-s.idleSince))
	}
	m.logf("  probe %s", m.name(s.s))
	s.probing = true
}

func (m *model) dialing() int {
	return m.count(func(s *modelSlot) bool { return s.stage <= stageDial })
}
func (m *model) living() int { return m.count(func(s *modelSlot) bool { return s.stage == stageOpen }) }
func (m *model) trials() int {
	return m.count(func(s *modelSlot) bool { return s.stage <= stageDial && s.trial })
}

func (m *model) count(is func(*modelSlot) bool) (n int) {
	for _, s := range m.slots {
		if is(s) {
			n++
		}
	}
	return n
}

// staying is the number of open connections that nobody has given up.
func (m *model) staying() int {
	return m.count(func(s *modelSlot) bool {
		leaving := s.s.state == StateDraining || s.probing && s.s.doom != ReasonNone
		return s.stage == stageOpen && !leaving
	})
}

// coming is the number of requests that need no dial beyond those under way.
func (m *model) coming() int {
	each := m.each()
	return each*m.count(func(s *modelSlot) bool { return s.stage <= stageDial && !s.doubtful }) +
		(each-1)*m.count(func(s *modelSlot) bool {
			return s.unsettled && (s.s.state == StateIdle || s.s.state == StateLeased)
		}) +
		m.count(func(s *modelSlot) bool { return s.probing })
}

func (m *model) each() int { return min(m.cfg.Expect, m.cfg.MaxRequests) }

// sure is coming without what waits for others.
func (m *model) sure() int {
	return m.coming() - m.each()*m.count(func(s *modelSlot) bool { return s.stage <= stageDial && s.stalled && !s.doubtful })
}

// heldUp says that dials may not start now for a reason that is no limit.
func (m *model) heldUp() bool {
	switch {
	case m.exhausted && m.living() > 0:
		return m.trials() > 0 || m.now < m.exhaustedUntil
	case m.fails > 0:
		return m.trials() > 0 || m.now < m.notBefore
	}
	return false
}

// expectedRefusal says how enqueue must answer.
func (m *model) expectedRefusal(hasty, head bool) error {
	usable := m.count(func(s *modelSlot) bool { return s.s.state == StateIdle || s.s.state == StateLeased })
	free := max(0, min(m.cfg.MaxConns-len(m.slots), m.cfg.MaxDials-m.dialing()))
	switch {
	case m.hard, m.soft && !head:
		return ErrClosed
	case hasty && m.paused:
		return ErrWouldQueue
	case hasty:
		if n := len(m.queue); n < m.sure() || n >= m.coming() && n < m.sure()+m.each() && free > 0 && !m.heldUp() {
			return nil
		}
		return ErrWouldQueue
	case head:
		return nil
	case m.paused && len(m.queue) < m.cfg.MaxWaiters:
		return nil
	case m.paused:
		return ErrQueueFull
	case m.fails >= 3 && usable == 0 && m.dialing() == m.trials() && (m.trials() > 0 || m.now < m.notBefore):
		return errModelDial
	case max(0, len(m.queue)-m.coming())-free >= m.cfg.MaxWaiters:
		return ErrQueueFull
	}
	return nil
}

// check compares core with the books after an event.
func (m *model) check() {
	m.c.checkInvariants()
	m.checkCounts()
	m.checkQueue()
	m.checkIdle()
	m.checkProgress()
}

func (m *model) checkCounts() {
	c, k, e := m.c, &m.c.stats, m.c.stats.seen()
	inFlight := 0
	for _, s := range m.slots {
		inFlight += s.inFlight
	}
	for _, x := range [...]struct {
		what      string
		got, want int
	}{
		{"connections", c.total, len(m.slots)},
		{"dialing", c.n[StateDialing], m.dialing()},
		{"open", c.live(), m.living()},
		{"closing", c.n[StateClosing], len(m.slots) - m.dialing() - m.living()},
		{"leases", c.leases.len, len(m.grant) + len(m.held)},
		{"exchanges", inFlight, len(m.grant) + len(m.held)},
		{"probing", c.probing, m.count(func(s *modelSlot) bool { return s.probing })},
		{"requests", int(k.requests), m.granted - m.returned},
		{"dials ok", int(k.dialsOK), m.dialsOK},
		{"dials failed", int(e.dialsFailed), m.failed},
		{"dials cancelled", int(e.dialsCancelled), m.cancelled},
		{"dials exhausted", int(e.dialsExhausted), m.exhaustedCount},
		{"dials refused", int(e.dialsRefused), m.refusedCount},
		{"would queue", int(e.wouldQueue), m.wouldQueue},
		{"peer first", int(e.peerFirst), m.peerFirst},
		{"we first", int(e.weFirst), m.weFirst},
		{"old", int(c.old), m.count(func(s *modelSlot) bool { return s.old })},
		{"ends told to admission", m.freed, m.ends * map[bool]int{true: 1}[m.gated]},
		{"dials begun", m.started, m.dialsOK + m.failed + m.cancelled + m.exhaustedCount + m.refusedCount + m.dialing()},
		{"dials ok", m.dialsOK, m.closes + m.living() + c.n[StateClosing]},
	} {
		if x.got != x.want {
			m.fail("%s: %d, expected %d", x.what, x.got, x.want)
		}
	}
	for r, n := range m.reasons {
		if e.closed[r] != uint64(n) {
			m.fail("closed for %v: %d, expected %d", Reason(r), e.closed[r], n)
		}
	}
}

func (m *model) checkQueue() {
	w := m.c.waiters.front
	for i, mw := range m.queue {
		if w != mw.w {
			m.fail("the queue differs at %d", i)
		}
		if (mw.dial == nil) != (w.dial == nil) || mw.dial != nil && mw.dial.s != w.dial {
			m.fail("the %d. request waits for another dial", i+1)
		}
		w = w.next
	}
	if w != nil {
		m.fail("the queue is longer than %d", len(m.queue))
	}
}

// checkIdle holds the unused connections against the rules for them.
func (m *model) checkIdle() {
	idle, staying := 0, m.staying()
	for _, s := range m.slots {
		if s.s.state == StateDraining && !s.draining {
			s.draining = true
			if s.s.reason == ReasonLimit && staying < m.cfg.MaxConns {
				m.fail("%s is given up for the limit, and %d stay", m.name(s.s), staying)
			}
		}
		s.blurred = s.blurred || s.draining || s.probing
		if s.stage != stageOpen || s.inFlight > 0 || s.probing {
			continue
		}
		idle++
		if s.over {
			m.fail("%s is at its end, unused, and not closed", m.name(s.s))
		}
	}
	switch {
	case idle > m.cfg.MaxIdle:
		m.fail("%d idle", idle)
	case idle > 0 && m.evict:
		m.fail("%d idle after CloseIdle", idle)
	case idle > 0 && m.soft:
		m.fail("%d idle after Shutdown", idle)
	case idle > 0 && staying > m.cfg.MaxConns:
		m.fail("%d idle with %d connections above the limit", idle, staying-m.cfg.MaxConns)
	}
}

// checkProgress fails when a request waits and nothing will happen for it.
func (m *model) checkProgress() {
	if len(m.queue) == 0 || m.paused {
		return
	}
	deadline := m.c.deadline()
	if len(m.slots) == 0 && deadline > m.now+int64(time.Second) {
		m.fail("%d wait and nothing is under way", len(m.queue))
	}
	if len(m.queue) > m.coming() && len(m.slots) < m.cfg.MaxConns && m.dialing() < m.cfg.MaxDials {
		until := int64(-1) // dials are held up until then
		switch {
		case m.exhausted && m.living() > 0:
			until = m.exhaustedUntil
		case m.fails > 0:
			until = m.notBefore
		}
		if until < 0 || m.trials() == 0 && deadline > until {
			m.fail("%d wait for %d, and no dial starts", len(m.queue), m.coming())
		}
	}
	if m.starved == 0 && deadline > after(m.queue[0].since, m.cfg.WarnAfter) {
		m.fail("nobody will be told when a request starves")
	}
	if m.hard {
		m.fail("%d wait after Close", len(m.queue))
	}
}

// checkTicked holds what must be true after a tick that left nothing due.
func (m *model) checkTicked() {
	for _, s := range m.slots {
		if s.stage <= stageDial && s.orphaned <= m.now && !s.cancelled {
			m.fail("the dial of %s goes on after its grace", m.name(s.s))
		}
		if s.stage != stageOpen || s.inFlight > 0 || s.probing {
			continue
		}
		if m.now >= after(s.idleSince, m.c.idleTimeout()) && m.cfg.MinIdle == 0 || m.now >= s.hintUntil || m.now >= after(s.born, m.cfg.Lifetime) {
			m.fail("%s lives on, %v old and unused for %v", m.name(s.s), time.Duration(m.now-s.born), time.Duration(m.now-s.idleSince))
		}
	}
	if len(m.queue) > 0 && m.starved == 0 && m.now >= after(m.queue[0].since, m.cfg.WarnAfter) {
		m.fail("a request starves and nobody is told")
	}
}

// drain lets everything end well: every request that still waits must be served,
// and nothing may be left.
func (m *model) drain() {
	if m.paused {
		m.resume()
		m.settle()
	}
	waiting := slices.Clone(m.queue)
	m.weather = 0
	m.answerAll("the queue is served")
	for _, w := range waiting {
		if w.end != "granted" && !w.hasty {
			m.fail("a request that waited was %q when everything went well", w.end)
		}
	}
	m.shutdown(m.started&1 == 1)
	m.check()
	m.answerAll("the pool is shut down")
	for _, w := range m.all {
		if w.end == "" {
			m.fail("a request was lost")
		}
	}
	if m.ended != len(m.all) {
		m.fail("%d requests ended, there were %d", m.ended, len(m.all))
	}
	if len(m.slots) > 0 || m.c.total != 0 || m.c.leases.len != 0 || len(m.c.due) != 0 || m.c.room.len != 0 {
		m.fail("%d connections are left", len(m.slots))
	}
	sum := 0
	for _, n := range m.c.stats.hold.get() {
		sum += int(n)
	}
	if sum != m.granted-m.returned {
		m.fail("%d releases in the histogram, expected %d", sum, m.granted-m.returned)
	}
	told := m.emptied
	for range 3 {
		m.tickAtDeadline()
	}
	if m.cfg.Forget != Never && m.emptied == told {
		m.fail("the pool is empty and nobody is told")
	}
}

// answerAll carries out what core asks for until nothing is left to do.
func (m *model) answerAll(until string) {
	for range 10_000 {
		switch {
		case len(m.grant) > 0:
			m.opReserve(0, 0)
		case len(m.held) > 0:
			m.opRelease(0, 1)
		case len(m.probes()) > 0:
			m.opProbed(0, 1)
		case len(m.inStage(stageClosing)) > 0:
			m.opClosed(0, 0)
		case len(m.inStage(stageAdmit)) > 0:
			m.opAnswerAdmit(0, 1)
		case len(m.inStage(stageDial)) > 0:
			m.opEndDial(0, 15)
		case len(m.queue) > 0:
			if m.c.deadline() == never {
				m.fail("%d wait and there is no deadline", len(m.queue))
			}
			m.tickAtDeadline()
		default:
			return
		}
		m.check()
	}
	m.fail("it takes forever until %s", until)
}
