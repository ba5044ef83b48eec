package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The events of the model (model_test.go). Each opX picks one of the things that
// can happen now, books it, tells core, and books what core does about it. It
// returns false when nothing of the kind is possible.

var errModelDial = errors.New("model: dial failed")

// modelOps says how often an event is tried, in 128ths.
var modelOps = func() (table [128]func(*model, byte, byte) bool) {
	weights := []struct {
		n int
		f func(*model, byte, byte) bool
	}{
		{25, (*model).opAcquire}, {16, (*model).opReserve}, {21, (*model).opRelease},
		{6, (*model).opCancelQueued}, {3, (*model).opCancelGranted},
		{10, (*model).opAnswerAdmit}, {12, (*model).opEndDial}, {9, (*model).opClosed},
		{4, (*model).opProbed}, {3, (*model).opCapacity}, {1, (*model).opPeerClosed},
		{2, (*model).opSetConfig}, {3, (*model).opSteer}, {1, (*model).opCloseIdle},
		{4, (*model).opTickAtDeadline}, {2, (*model).opTickEarly}, {2, (*model).opTickLate}, {3, (*model).opTime},
		{1, (*model).opShutdown},
	}
	i := 0
	for _, w := range weights {
		for range w.n {
			table[i] = w.f
			i++
		}
	}
	if i != len(table) {
		panic(fmt.Sprintf("the weights of the model's events add up to %d", i))
	}
	return table
}()

func (m *model) opAcquire(a, _ byte) bool {
	if len(m.queue) >= m.load {
		return false
	}
	m.evictOff()
	l := m.c.tryAcquire(m.now)
	if l != nil {
		if len(m.queue) > 0 {
			m.fail("a new request got a connection before %d that wait", len(m.queue))
		}
		m.logf("acquire: %s at once", m.name(l.slot))
		m.settle()
		m.lent(l, nil)
		return true
	}
	m.settle() // what tryAcquire retired on the way
	m.enqueue(m.waiter(a&3 == 0), false)
	return true
}

func (m *model) waiter(hasty bool) *modelWaiter {
	w := &Waiter{ctx: context.Background(), since: m.now, hasty: hasty, ready: make(chan struct{}, 1)}
	return &modelWaiter{w: w, since: m.now, hasty: hasty}
}

func (m *model) evictOff() {
	if !m.soft {
		m.evict = false
	}
}

// enqueue is the second half of an acquire, and of a refusal.
func (m *model) enqueue(w *modelWaiter, head bool) {
	if !m.soft || head && !m.hard {
		m.evict = false
	}
	if !head {
		m.all = append(m.all, w)
	}
	want := m.expectedRefusal(w.hasty, head)
	if w.hasty && head && !m.hard {
		m.enqueueHastyAgain(w)
		return
	}
	if want == nil {
		if head {
			m.queue = slices.Insert(m.queue, 0, w)
		} else {
			m.queue = append(m.queue, w)
		}
	}
	err := m.c.enqueue(w.w, m.now, head)
	m.logf("enqueue (head %v, hasty %v): %v", head, w.hasty, err)
	var dial *DialError
	switch {
	case err == nil && want == nil:
	case want == ErrWouldQueue && err == want:
		m.wouldQueue++
		m.finish(w, "refused")
	case want != nil && errors.Is(err, want), want == errModelDial && errors.As(err, &dial):
		m.finish(w, "refused")
	default:
		m.fail("enqueue returned %v, expected %v", err, want)
	}
	m.settle()
}

// enqueueHastyAgain books what becomes of a request that does not queue and that its
// connection has refused: it is granted another one at once, or waits at the end of the
// queue for what is sure to come, or fails.
func (m *model) enqueueHastyAgain(w *modelWaiter) {
	err := m.c.enqueue(w.w, m.now, true)
	m.logf("enqueue again, hasty: %v", err)
	switch {
	case err == ErrWouldQueue:
		m.wouldQueue++
		m.finish(w, "refused")
	case err != nil:
		m.fail("enqueue returned %v", err)
	case w.w.state == waiterGranted:
		m.queue = slices.Insert(m.queue, 0, w) // it is granted before all others
	default:
		m.queue = append(m.queue, w)
	}
	m.settle()
}

func (m *model) finish(w *modelWaiter, how string) {
	if w.end != "" {
		m.fail("a request whose wait had ended (%s) is now %s", w.end, how)
	}
	w.end = how
	m.ended++
}

func (m *model) opReserve(a, b byte) bool {
	i := int(a)
	if len(m.grant) == 0 {
		return false
	}
	i %= len(m.grant)
	g := m.grant[i]
	m.grant = slices.Delete(m.grant, i, i+1)
	v := Ready
	switch b & 31 {
	case 1, 2:
		v = Full
	case 3:
		v = Dead
	}
	m.logf("reserve on %s: %d", m.name(g.l.slot), v)
	if v == Ready {
		m.held = append(m.held, g.l)
		if g.w != nil {
			m.finish(g.w, "granted")
		}
		return true
	}
	s := m.slot(g.l.slot)
	m.unlent(s)
	if v == Dead {
		s.over = true
	} else if s.inFlight == 0 {
		s.over = true
	} else {
		s.capacity = s.inFlight
	}
	w := g.w
	m.c.refused(g.l, v)
	if w == nil {
		w = m.waiter(a&5 == 0)
		m.all = append(m.all, w)
	}
	w.w.lease, w.w.state = nil, waiterNew
	m.enqueue(w, true)
	return true
}

// unlent books a lease that was given back unused.
func (m *model) unlent(s *modelSlot) {
	s.inFlight--
	s.requests--
	m.returned++
	if s.inFlight == 0 {
		s.idleSince = m.now
	}
}

func (m *model) opRelease(a, b byte) bool {
	if len(m.held) == 0 {
		return false
	}
	i := int(a) % len(m.held)
	l := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	s := m.slot(l.slot)
	f := Fate{Keep: b&7 != 0, MaxLeft: -1}
	if !f.Keep {
		f.Reason = ReasonError
		s.over = true
	} else if f.Unanswered = b&128 != 0; !f.Unanswered && !s.useful {
		s.useful = true
		if m.duds > 0 {
			m.duds, m.fails, m.notBefore = 0, 0, 0
		}
	}
	switch b >> 3 & 15 {
	case 1:
		f.IdleFor = 1
	case 2:
		f.IdleFor = 2 * time.Second
	case 3:
		f.MaxLeft = 0
	case 4:
		f.MaxLeft = 2
	}
	s.inFlight--
	if s.inFlight == 0 {
		s.idleSince = m.now
	}
	s.hintUntil = never
	if f.IdleFor > 0 {
		s.hintUntil = after(m.now, f.IdleFor)
	}
	if f.MaxLeft >= 0 {
		s.maxLeft = f.MaxLeft
	} else if s.maxLeft > 0 {
		s.maxLeft--
	}
	m.logf("release %s: %+v", m.name(s.s), f)
	m.c.release(l, m.now, f)
	m.settle()
	return true
}

func (m *model) opCancelQueued(a, _ byte) bool {
	w, ok := nth(a, m.queue)
	if !ok {
		return false
	}
	m.logf("cancel the %d. of %d in the queue", int(a)%len(m.queue)+1, len(m.queue))
	m.leaveQueue(w, true)
	m.finish(w, "cancelled")
	m.c.cancel(w.w, m.now)
	m.settle()
	return true
}

// leaveQueue books the end of a wait.
func (m *model) leaveQueue(w *modelWaiter, gaveUp bool) {
	i := slices.Index(m.queue, w)
	if i < 0 {
		m.fail("a request leaves the queue that is not in it")
	}
	m.queue = slices.Delete(m.queue, i, i+1)
	if s := w.dial; s != nil {
		w.dial, s.initiator = nil, nil
		s.orphaned = after(m.now, m.cfg.OrphanGrace)
		s.relied = after(m.now, relyOnDial)
		s.doubtful = s.doubtful || gaveUp
	}
}

func (m *model) opCancelGranted(a, _ byte) bool {
	for i := range m.grant {
		i = (i + int(a)) % len(m.grant)
		g := m.grant[i]
		if g.w == nil {
			continue // it never queued and cannot leave
		}
		m.logf("cancel a request that was granted %s", m.name(g.l.slot))
		m.grant = slices.Delete(m.grant, i, i+1)
		m.unlent(m.slot(g.l.slot))
		m.finish(g.w, "cancelled")
		m.c.cancel(g.w.w, m.now)
		m.settle()
		return true
	}
	return false
}

func (m *model) opAnswerAdmit(a, b byte) bool {
	s, ok := nth(a, m.inStage(stageAdmit))
	if !ok {
		return false
	}
	if s.cancelled && m.gated && b&1 == 1 {
		m.logf("withdrawn %s", m.name(s.s))
		m.dialEnds(s, false)
		m.c.withdrawn(s.s, m.now)
		m.settle()
		return true
	}
	if m.gated && s.modest && b&2 == 2 {
		m.logf("declined %s", m.name(s.s))
		s.cancelled, s.doubtful = true, true
		m.declining = s.initiator
		m.dialEnds(s, false)
		m.c.declined(s.s, m.now)
		m.settle()
		return true
	}
	if int(b%32) < m.weather {
		m.logf("denied %s", m.name(s.s))
		m.dialEnds(s, true)
		m.c.denied(s.s, errModelDial, m.now)
		m.settle()
		return true
	}
	m.logf("admitted %s", m.name(s.s))
	s.stalled = false
	if s.cancelled {
		m.ends++
		m.dialEnds(s, false)
	}
	m.c.admitted(s.s, m.now)
	m.settle()
	return true
}

// dialEnds books a dial that brought no connection. It is called before core
// learns of it.
func (m *model) dialEnds(s *modelSlot, exhausted bool) {
	how := dialBroken
	if exhausted {
		how = dialExhausted
	}
	m.dialEndsSo(s, how)
}

func (m *model) dialEndsSo(s *modelSlot, how dialEnd) {
	exhausted := how == dialExhausted
	w := s.initiator
	m.removeSlot(s)
	switch {
	case s.cancelled:
		m.cancelled++
		w = nil
	case exhausted && m.living() > 0:
		m.exhaustedCount++
		m.exhausted, m.exhaustedUntil = true, m.now+int64(time.Second)
		w = nil
	case how == dialRefused: // and nobody is held up
		m.refusedCount++
	default:
		if exhausted {
			m.exhaustedCount++
		} else {
			m.failed++
		}
		m.fails++
		m.notBefore = m.now + min(int64(time.Second), int64(50*time.Millisecond)<<min(m.fails-1, 10))
	}
	if s.initiator != nil {
		s.initiator.dial = nil
	}
	m.failing = w
}

func (m *model) removeSlot(s *modelSlot) {
	m.slots = slices.DeleteFunc(m.slots, func(o *modelSlot) bool { return o == s })
}

func (m *model) opEndDial(a, b byte) bool {
	s, ok := nth(a, m.inStage(stageDial))
	if !ok {
		return false
	}
	var err error
	how := dialBroken
	switch roll := int(b & 15); {
	case roll < m.weather:
		err, how = errModelDial, choose(byte(roll), dialBroken, dialRefused, dialExhausted)
	case s.cancelled && roll < 14: // the others finish in spite of it
		err = context.Canceled
	}
	if err != nil {
		m.logf("dial of %s failed: %v, in the way %d", m.name(s.s), err, how)
		m.ends++
		m.dialEndsSo(s, how)
		m.c.dialFailed(s.s, err, how, m.now)
		m.settle()
		return true
	}
	capacity := choose(b>>4, 1, 1, 1, 1, 1, 1, 2, 3, 5, 0, Unlimited, Unsettled, Unsettled)
	m.logf("dialled %s, capacity %d", m.name(s.s), capacity)
	s.stage, s.born, s.idleSince = stageOpen, m.now, m.now
	if s.unsettled = capacity == Unsettled && !s.told; s.unsettled {
		s.capacity = 1
	} else if !s.told {
		s.capacity = capacity
	}
	s.over = s.gone || s.stale
	if s.initiator != nil {
		s.initiator.dial, s.initiator = nil, nil
	}
	if s.replaces != nil {
		s.replaces.succeeded = true
	}
	m.dialsOK++
	m.fails, m.notBefore, m.exhausted = m.duds, 0, false
	if s.gone && s.dud && !m.hard {
		m.turnedAway()
	}
	m.c.dialled(s.s, nil, choose(b>>2, "", "a", "b", "c"), capacity, m.now)
	m.settle()
	return true
}

func (m *model) opClosed(a, b byte) bool {
	s, ok := nth(a, m.inStage(stageClosing))
	if !ok {
		return false
	}
	first := b&1 == 1
	m.logf("closed %s", m.name(s.s))
	m.removeSlot(s)
	m.closes++
	m.ends++
	m.reasons[s.reason]++
	if first {
		m.peerFirst++
	} else {
		m.weFirst++
	}
	m.exhaustedUntil = 0
	m.c.closedConn(s.s, first, m.now)
	m.settle()
	return true
}

func (m *model) opProbed(a, b byte) bool {
	s, ok := nth(a, m.probes())
	if !ok {
		return false
	}
	alive := b%4 != 0
	m.logf("probed %s: alive %v", m.name(s.s), alive)
	s.probing = false
	s.over = s.over || !alive
	m.c.probed(s.s, alive, m.now)
	m.c.continueSweep(m.now)
	m.settle()
	return true
}

func (m *model) opCapacity(a, b byte) bool {
	s, ok := nth(a, m.inStage(stageDial, stageOpen))
	if !ok {
		return false
	}
	s.capacity = choose(b, 0, 1, 2, 3, 5, 100, Unlimited)
	s.told, s.unsettled = true, false
	m.logf("capacity of %s: %d", m.name(s.s), s.capacity)
	m.c.setCapacity(s.s, s.capacity, m.now)
	m.settle()
	return true
}

func (m *model) opPeerClosed(a, b byte) bool {
	s, ok := nth(a, m.inStage(stageDial, stageOpen, stageClosing))
	if !ok {
		return false
	}
	var dud error
	if b&1 == 1 {
		dud = errModelDial
	}
	m.logf("peer closed %s, dud %v", m.name(s.s), dud)
	switch {
	case s.stage == stageDial:
		s.gone, s.dud = true, dud != nil
	case dud != nil && !s.useful && !s.probing && (s.s.state == StateIdle || s.s.state == StateLeased),
		dud != nil && !s.useful && s.probing && s.s.doom == ReasonNone:
		m.turnedAway()
		fallthrough
	default:
		s.over = true
	}
	m.c.peerClosed(s.s, dud, m.now)
	m.settle()
	return true
}

// turnedAway books a connection that served nobody as a failed dial.
func (m *model) turnedAway() {
	m.duds++
	m.fails = m.duds
	m.notBefore = m.now + min(int64(time.Second), int64(50*time.Millisecond)<<min(m.fails-1, 10))
}

func (m *model) opSetConfig(a, b byte) bool {
	m.settings[int(a)%modelConfigured] = b
	m.cfg = modelConfig(m.settings[:])
	m.logf("config: %+v", m.cfg)
	for _, s := range m.slots {
		s.blurred = s.blurred || s.inFlight > 0 || s.probing
	}
	cfg := m.cfg
	m.c.setConfig(&cfg, m.now)
	m.settle()
	return true
}

// opSteer is what an owner may do to a pool besides.
func (m *model) opSteer(a, b byte) bool {
	switch a % 7 {
	case 6:
		s, ok := nth(b, m.inStage(stageAdmit, stageDial))
		if !ok {
			return false
		}
		s.stalled = !s.stalled
		m.logf("%s is stalled %v", m.name(s.s), s.stalled)
		m.c.stall(s.s, s.stalled, m.now)
	case 0:
		m.logf("reconnect")
		for _, s := range m.slots {
			s.old = s.stage != stageAdmit
			s.stale = s.stale || s.stage == stageDial
			if s.stage == stageOpen {
				s.over = true
			}
		}
		m.c.reconnect(m.now)
	case 1:
		s, ok := nth(b, m.inStage(stageDial, stageOpen, stageClosing))
		if !ok {
			return false
		}
		m.logf("retire %s", m.name(s.s))
		s.over = s.over || s.stage == stageOpen
		m.c.retireSlot(s.s, ReasonAddress, m.now)
	case 2:
		m.logf("pause")
		m.paused = !m.soft
		m.c.pause(m.now)
	case 3:
		m.resume()
	case 4:
		m.logf("warm")
		m.warmed = true
		m.evictOff()
		m.c.heat(int(b%5), m.now)
	case 5:
		m.logf("shed")
		m.stolen = true
		m.c.shared.Hungry.Store(b&64 != 0)
		if m.c.shed(m.now); b&32 != 0 {
			m.c.owed = 0
		}
	}
	m.settle()
	return true
}

func (m *model) resume() {
	m.logf("resume")
	m.paused = false
	m.c.resume(m.now)
}

func (m *model) opCloseIdle(_, _ byte) bool {
	m.logf("close idle")
	m.evict = true
	m.c.closeIdle(m.now)
	m.settle()
	return true
}

// opShutdown is rare: a closed pool has little left to show.
func (m *model) opShutdown(a, b byte) bool {
	if a >= 12 {
		return false
	}
	m.shutdown(b&1 == 1)
	return true
}

func (m *model) shutdown(hard bool) {
	m.logf("shutdown, hard %v", hard)
	m.soft, m.hard, m.paused = true, m.hard || hard, false
	m.c.shutdown(hard, m.now)
	m.settle()
}

func (m *model) opTickAtDeadline(_, _ byte) bool { return m.tickAtDeadline() }

// tickAtDeadline lets time pass until the timer fires, if it does.
func (m *model) tickAtDeadline() bool {
	d := m.c.deadline()
	if d == never {
		return false
	}
	m.now = max(m.now, d)
	m.tick()
	return true
}

func (m *model) opTickEarly(a, _ byte) bool {
	if d := m.c.deadline(); d != never && d > m.now+1 {
		m.now += min(d-m.now-1, 1+int64(a)*int64(time.Millisecond))
	}
	m.tick()
	return true
}

func (m *model) opTickLate(a, _ byte) bool {
	if d := m.c.deadline(); d != never {
		m.now = max(m.now, d+choose(a, int64(1), int64(time.Millisecond), int64(time.Second), int64(time.Minute)))
	}
	m.tick()
	return true
}

// opTime lets time pass; the timer is late if something became due meanwhile.
func (m *model) opTime(a, _ byte) bool {
	m.now += int64(choose(a, 1, time.Microsecond, time.Millisecond, 10*time.Millisecond, 40*time.Millisecond,
		200*time.Millisecond, time.Second, 3*time.Second))
	m.c.at(m.now)
	return true
}

// tick fires the timer as the shell does, as often as something is due: that
// must come to an end.
func (m *model) tick() {
	m.logf("tick")
	m.c.at(m.now)
	m.ticking = true
	for range 4 {
		for _, s := range m.slots {
			s.doubtful = s.doubtful || s.stage <= stageDial && s.relied <= m.now
		}
		m.c.tick(m.now)
		m.settle()
		if m.c.deadline() > m.now {
			m.ticking = false
			m.checkTicked()
			return
		}
	}
	m.fail("the timer spins: after four ticks at %d the deadline is %d", m.now, m.c.deadline())
}
