package pool

import (
	"context"
	"math"
)

// dispatch matches waiting requests with connections that have room, oldest
// first, then starts the dials that the rest need. Every event ends with it.
func (c *core) dispatch(now int64) {
	for c.waiters.len > 0 && !c.paused {
		s := c.pick(now)
		if s == nil {
			c.startDials(now)
			for c.turnAwayHasty(now) {
				c.startDials(now)
			}
			if c.waiters.len == 0 {
				break
			}
			c.topUp(now)
			return
		}
		w := c.waiters.front
		c.waiters.remove(w)
		c.orphan(w, false, now)
		c.grant(w, s, now)
	}
	if c.closed && c.waiters.len == 0 {
		for s := c.dials.front; s != nil; s = s.next {
			c.cancelDial(s)
		}
	}
	c.topUp(now)
	if c.total == 0 && c.waiters.len == 0 && c.emptySince == never && !c.forgotten {
		c.emptySince = now
	}
}

// grant gives a request that is not in the queue any more its hold on s.
func (c *core) grant(w *Waiter, s *Slot, now int64) {
	c.stats.wait.add(now - w.since)
	w.lease = c.lend(s, now)
	w.lease.method, w.lease.path = w.method, w.path
	w.lease.set(leaseWaited, true)
	w.state = waiterGranted
	c.emit(action{kind: actGrant, waiter: w})
}

// pick returns the connection that the next request gets: one that is in use and
// has room, so that others can turn idle, else the idle one used last. Those past
// a deadline or a limit are retired on the way; the timer may be late.
func (c *core) pick(now int64) *Slot {
	for {
		s := c.room.front
		if c.cfg.Order != LIFO {
			s = c.room.back
		}
		if s == nil {
			break
		}
		switch {
		case s.aged(now):
			c.retire(s, ReasonLifetime)
		case c.usedUp(s):
			c.retire(s, ReasonRequests)
		default:
			return s
		}
	}
	switch c.cfg.Order {
	case Spread:
		if s := c.pickSpread(now); s != nil {
			return s
		}
		fallthrough
	case FIFO:
		for s := c.idle.back; s != nil; {
			prev := s.prev
			if !s.probing && !c.expire(s, now) {
				return s
			}
			s = prev
		}
		return nil
	}
	for s := c.idle.front; s != nil; {
		next := s.next
		if !s.probing && !c.expire(s, now) {
			return s
		}
		s = next
	}
	return nil
}

// lend gives a request its hold on s.
func (c *core) lend(s *Slot, now int64) *Lease {
	l := &s.lease
	if s.state == StateIdle {
		c.popIdle(s)
		c.setState(s, StateLeased)
		l.idle = durationBetween(s.idleSince, now)
		if s.idleUntil != never {
			c.setDue(s)
		}
		if s.capacity > 1 {
			c.enterRoom(s)
		}
		used := c.n[StateLeased] + c.n[StateDraining]
		c.need.peak = max(c.need.peak, used)
		c.stats.peakLeased = max(c.stats.peakLeased, used)
	} else {
		if l.active {
			l = c.shared.getLease()
		}
		l.idle = 0
	}
	l.flags, l.before = 0, uint32(min(s.requests, math.MaxUint32))
	l.set(leaseShared, s.inFlight > 0)
	s.inFlight++
	c.lastUse = now
	if s.at != nil {
		s.at.place.inFlight++
	}
	if s.inRoom && c.cfg.Order != LIFO { // the next request gets another one
		c.room.remove(s)
		c.room.pushFront(s)
	}
	if s.inRoom && s.inFlight >= s.capacity {
		c.leaveRoom(s)
	}
	l.slot = s
	l.acquired = now
	l.set(leaseReused, s.requests > 0)
	l.active = true
	l.set(leaseSampled, c.sample(now))
	l.phase.Store(uint32(PhaseSending))
	l.lastByte.Store(0)
	c.leases.pushBack(l)
	s.requests++
	l.set(leaseLast, c.cfg.MarkLast && (c.usedUp(s) || s.maxLeft == 1 || s.retireAt != never && now >= s.retireAt-lead(c.cfg.Lifetime)))
	c.stats.requests++
	if l.Reused() {
		c.stats.reused++
	}
	return l
}

// unlease takes a lease off its connection.
func (c *core) unlease(l *Lease) {
	s := l.slot
	c.leases.remove(l)
	l.active = false
	l.method, l.path = "", ""
	if k := l.known.Load(); k != nil {
		l.known.Store(nil)
		if k.watch != nil {
			c.unwatch(k.watch)
		}
	}
	s.inFlight--
	if s.at != nil {
		s.at.place.inFlight--
	}
	if l != &s.lease {
		l.slot = nil
		c.shared.leases.Put(l)
	}
}

func (c *core) enterRoom(s *Slot) {
	s.inRoom = true
	c.room.pushFront(s)
}

func (c *core) leaveRoom(s *Slot) {
	s.inRoom = false
	c.room.remove(s)
}

// putBack takes a connection on which an exchange has ended well.
func (c *core) putBack(s *Slot, now int64) {
	if s.state == StateDraining {
		if s.inFlight == 0 {
			c.closeSlot(s, s.reason)
		}
		return
	}
	if why := c.spent(s, now); why != ReasonNone {
		c.discard(s, why)
		return
	}
	if s.inFlight > 0 {
		if !s.inRoom && s.inFlight < s.capacity {
			c.enterRoom(s)
		}
		return
	}
	if s.inRoom {
		c.leaveRoom(s)
	}
	c.setState(s, StateIdle)
	s.idleSince = now
	c.pushIdle(s)
	if s.idleUntil != never {
		c.setDue(s)
	}
	if c.waiters.len == 0 || c.paused {
		c.settle(s, now)
	}
}

// settle closes what may not stay idle: s, which turned idle just now and nobody
// waits for, or the oldest when there are too many.
func (c *core) settle(s *Slot, now int64) {
	switch {
	case c.closed:
		c.closeSlot(s, ReasonShutdown)
	case c.evict:
		c.closeSlot(s, ReasonEvict)
	case c.idle.len-c.doomed > c.cfg.MaxIdle, c.staying() > c.cfg.MaxConns:
		c.trim()
	case c.admission != nil && c.shared.Hungry.Load():
		c.emit(action{kind: actIdle, admission: c.admission})
	}
}

// spent says why a connection may carry no further request.
func (c *core) spent(s *Slot, now int64) Reason {
	switch {
	case now >= s.retireAt:
		return ReasonLifetime
	case c.usedUp(s):
		return ReasonRequests
	case c.staying() > c.cfg.MaxConns:
		return ReasonLimit
	case c.hard:
		return ReasonShutdown
	case c.owed > 0:
		c.owed--
		return ReasonStolen
	}
	return ReasonNone
}

// usedUp says that a connection has carried as many requests as it may.
func (c *core) usedUp(s *Slot) bool {
	return s.requests >= uint64(c.cfg.MaxRequests) || s.maxLeft == 0
}

// staying is the number of open connections that nothing has been decided against.
// When the limit was lowered they are too many or not; those on their way out have
// been given up for it already, and a dial may yet fail.
func (c *core) staying() int { return c.n[StateIdle] - c.doomed + c.n[StateLeased] }

// discard ends a connection: now, or when its last exchange has ended.
func (c *core) discard(s *Slot, why Reason) {
	if s.inFlight == 0 {
		c.closeSlot(s, why)
		return
	}
	c.retire(s, why)
}

// retire lets a connection carry no further request and closes it as soon as
// nothing is in flight on it.
func (c *core) retire(s *Slot, why Reason) {
	switch s.state {
	case StateIdle:
		if s.probing {
			if s.doom == ReasonNone {
				c.doomed++
			}
			s.doom = why
			return
		}
		c.closeSlot(s, why)
	case StateLeased:
		c.settled(s)
		if s.inRoom {
			c.leaveRoom(s)
		}
		s.reason = why
		c.due.remove(s)
		c.setState(s, StateDraining)
	}
}

// closeSlot has the connection closed; its slot is free when that is done.
func (c *core) closeSlot(s *Slot, why Reason) {
	if s.state == StateIdle {
		c.popIdle(s)
	}
	c.leavePlace(s)
	if s.inRoom {
		c.leaveRoom(s)
	}
	c.due.remove(s)
	c.settled(s)
	if s.successor != nil {
		s.successor.dial.replaces = nil
		s.successor = nil
	}
	s.reason = why
	c.setState(s, StateClosing)
	c.emit(action{kind: actClose, slot: s})
}

// ---- dials ----

// coming is the number of requests that what is under way will serve. A dial that
// its request gave up on, or that nobody waits for and is slow, is not relied upon.
// A connection whose capacity is not known yet has one request, and is expected to
// take more. None is expected to take more than it may.
func (c *core) coming() int {
	each := c.each()
	return (c.n[StateDialing]-c.doubtful)*each + c.unsettled*(each-1) + c.probing
}

// each is the number of requests that a dial will serve.
func (c *core) each() int { return min(c.expect, c.cfg.MaxRequests) }

// live is the number of connections that a waiter may still hope for.
func (c *core) live() int { return c.n[StateIdle] + c.n[StateLeased] + c.n[StateDraining] }

// mayDial says whether the limits and the back-off allow one more dial now.
func (c *core) mayDial(now int64) bool {
	switch {
	case c.hard, c.paused, c.total >= c.cfg.MaxConns, c.n[StateDialing] >= c.cfg.MaxDials:
		return false
	case c.exhaustedErr != nil && c.live() > 0:
		return c.trials == 0 && now >= c.exhaustedUntil
	case c.fails > 0:
		return c.trials == 0 && now >= c.notBefore
	}
	return true
}

// startDials starts what the queue needs beyond what is under way.
func (c *core) startDials(now int64) {
	for c.waiters.len > c.coming() && c.mayDial(now) {
		w := c.waiters.front
		for w != nil && w.dial != nil {
			w = w.next
		}
		if w != nil && w.hasty && !c.served(w) {
			c.turnAway(w, now) // the dial would be for others
			continue
		}
		c.startDial(w, nil)
	}
}

// startDial takes a slot for a connection that w caused, or that is to replace
// another.
func (c *core) startDial(w *Waiter, replaces *Slot) {
	d := &dialing{ctx: context.Background(), begun: c.latest, initiator: w, orphanUntil: never, reliedUntil: never, replaces: replaces,
		trial: c.fails > 0 || c.exhaustedErr != nil, pending: true}
	s := &Slot{pool: c.pool, dial: d, capacity: 1, maxLeft: -1, heapPos: -1, idleUntil: never, retireAt: never, due: never}
	s.lease.slot = s
	s.epoch = c.epoch
	if w != nil {
		d.ctx = w.ctx
		w.dial = s
	}
	s.modest = w == nil || w.hasty
	if replaces != nil {
		replaces.successor = s
	}
	switch {
	case replaces != nil:
		s.why = WhySuccessor
	case w == nil:
		s.why = WhyReady
	case d.trial:
		s.why = WhyTrial
	}
	if d.trial {
		c.trials++
	}
	c.setState(s, StateDialing)
	c.total++
	c.emptySince = never
	c.dials.pushFront(s)
	c.stats.peakConns = max(c.stats.peakConns, c.total)
	c.emit(action{kind: actAdmit, slot: s})
}

// orphan leaves a dial to itself when the request that caused it waits no more:
// whoever comes next may have it, but only for so long. gaveUp says that the
// request did not get another connection but lost patience.
func (c *core) orphan(w *Waiter, gaveUp bool, now int64) {
	s := w.dial
	if s == nil {
		return
	}
	w.dial = nil
	s.dial.initiator = nil
	s.dial.orphanUntil = after(now, c.cfg.OrphanGrace)
	s.dial.reliedUntil = after(now, relyOnDial)
	if gaveUp {
		c.doubt(s)
	}
	if c.admission != nil && s.dial.pending && c.waiters.len < c.coming() {
		c.cancelDial(s) // others wait for its place
	}
}

func (c *core) doubt(s *Slot) {
	if !s.dial.doubtful {
		s.dial.doubtful = true
		c.doubtful++
	}
}

func (c *core) cancelDial(s *Slot) {
	if !s.dial.cancelled {
		s.dial.cancelled = true
		c.doubt(s)
		c.emit(action{kind: actCancelDial, slot: s})
	}
}
