// The core's events of dials: their ends, and how long failures hold up the next one.

package pool

import (
	"context"
	"math"
)

func (c *core) admitted(s *Slot, now int64) {
	s.dial.pending, s.dial.stalled = false, false
	if s.dial.cancelled {
		c.dialFailed(s, context.Canceled, dialBroken, now)
		return
	}
	c.emit(action{kind: actDial, slot: s})
}

// declined ends a modest dial before it began: MinIdle has to wait, and a request that is
// hasty fails.
func (c *core) declined(s *Slot, now int64) {
	if s.why == WhyReady {
		c.topUpAt, c.warm = now+topUpPause, 0
	}
	s.dial.cancelled = true
	c.doubt(s)
	if w := s.dial.initiator; w != nil {
		c.turnAway(w, now)
	}
	c.dialFailed(s, context.Canceled, dialBroken, now)
}

// stall notes that a dial waits for what others have to give up, or does so no more.
func (c *core) stall(s *Slot, on bool, now int64) {
	if s.state == StateDialing {
		s.dial.stalled = on
		c.dispatch(now)
	}
}

// withdrawn ends a dial that was cancelled before it was admitted.
func (c *core) withdrawn(s *Slot, now int64) {
	c.dialFailed(s, context.Canceled, dialBroken, now)
}

// denied ends a dial that may not start: the waiter goes on waiting for one of
// the living connections.
func (c *core) denied(s *Slot, err error, now int64) {
	c.dialFailed(s, err, dialExhausted, now)
}

func (c *core) dialled(s *Slot, conn Conn, place string, capacity int, now int64) {
	d := c.endDial(s)
	c.stats.dialsOK++
	c.fails, c.notBefore = c.duds, 0 // after duds dials stay one at a time
	if c.duds == 0 {
		c.dialErr = nil
	}
	c.exhaustedUntil, c.exhaustedErr = 0, nil

	if r := d.replaces; r != nil {
		r.successor = nil
	}

	s.conn = conn
	switch {
	case d.told:
		capacity = int(s.capacity)
	case capacity == Unsettled:
		capacity = 1
		s.unsettled = true
		c.unsettled++
	}
	s.capacity = int32(min(capacity, math.MaxInt32))
	s.born = now
	if c.n[StateIdle]+c.n[StateLeased] == 0 {
		c.ordinal = 0
	} else {
		c.ordinal++
	}
	s.ordinal = c.ordinal
	c.setRetirement(s)
	switch {
	case c.hard:
		c.closeSlot(s, ReasonShutdown)
		return
	case d.gone:
		c.turnedAway(s, d.dud, now)
		c.closeSlot(s, ReasonPeer)
		c.dispatch(now)
		return
	}
	c.enter(s, place)
	c.setState(s, StateIdle)
	s.idleSince = now
	if d.stale {
		c.pushIdle(s)
		c.closeSlot(s, ReasonReconnect)
		c.dispatch(now)
		return
	}
	c.pushIdle(s)
	if r := d.replaces; r != nil {
		c.retire(r, ReasonLifetime)
	}
	c.dispatch(now)
	if s.state == StateIdle {
		c.settle(s, now)
	}
	c.dispatch(now)
}

// dialEnd is what a dial that brought no connection says of the endpoint.
type dialEnd uint8

const (
	dialBroken    dialEnd = iota // the endpoint cannot be reached
	dialExhausted                // nothing: this host has run out of what a connection needs
	dialRefused                  // nothing: the owner does not want the connection
)

// dialFailed ends a dial. When this host has run out of what a connection needs, those
// that live are the limit. A connection that the owner does not want holds nobody up: the
// next request asks again, and learns the same, or not.
func (c *core) dialFailed(s *Slot, err error, how dialEnd, now int64) {
	exhausted := how == dialExhausted
	d := s.dial
	w := d.initiator
	c.endDial(s)
	if r := d.replaces; r != nil {
		r.successor = nil
	}
	if !d.pending {
		c.freed()
	}
	c.gone(s)
	switch {
	case d.cancelled:
		c.stats.events().dialsCancelled++
	case exhausted && c.live() > 0:
		c.stats.events().dialsExhausted++
		c.exhaustedUntil, c.exhaustedErr = now+exhaustedWait, err
		w = nil
	case how == dialRefused:
		c.stats.events().dialsRefused++
		c.topUpAt = now + topUpPause // MinIdle would ask without end
	default:
		if exhausted {
			c.stats.events().dialsExhausted++
		} else {
			c.stats.events().dialsFailed++
		}
		c.fails++
		c.dialErr = err
		c.notBefore = now + backoff(c.fails)
	}
	if c.warm > 0 && !d.cancelled {
		c.warm, c.warmErr = 0, err
	}
	if w != nil {
		c.stats.wait.add(now - w.since)
		c.waiters.remove(w)
		w.state = waiterFailed
		w.err = &DialError{Err: err, Failures: c.fails}
		c.emit(action{kind: actFail, waiter: w})
	}
	c.dispatch(now)
}

// backoff returns how long the n-th failure in a row holds up the next dial.
func backoff(n int) int64 {
	if n > 5 {
		return backoffMax
	}
	return min(backoffMin<<(n-1), backoffMax)
}

// endDial forgets what only a dial needs.
func (c *core) endDial(s *Slot) *dialing {
	d := s.dial
	s.dial = nil
	c.dials.remove(s)
	if d.trial {
		c.trials--
	}
	if d.doubtful {
		c.doubtful--
	}
	if d.initiator != nil {
		d.initiator.dial = nil
	}
	return d
}

// turnedAway counts a connection that the peer has ended, with dud for the reason
// when it is one for all, as a failed dial if it was of no use to anybody.
func (c *core) turnedAway(s *Slot, dud error, now int64) {
	if dud == nil || s.useful {
		return
	}
	c.duds++
	c.fails, c.dialErr = c.duds, dud
	c.notBefore = now + backoff(c.fails)
}
