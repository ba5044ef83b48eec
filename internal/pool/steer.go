// The core's events of an owner that steers: pause, reconnect, warm, give up for others.

package pool

import "time"

// reconnect takes every connection out of use: idle ones now, busy ones after their
// exchanges, and those being dialled as soon as they are open.
func (c *core) reconnect(now int64) {
	c.retireIdle(ReasonReconnect)
	for l := c.leases.front; l != nil; l = l.next {
		c.retire(l.slot, ReasonReconnect)
	}
	c.epoch++
	c.old = int32(c.total)
	for s := c.dials.front; s != nil; s = s.next {
		if s.dial.pending { // what is not begun will be new
			s.epoch = c.epoch
			c.old--
		} else {
			s.dial.stale = true
		}
	}
	c.dispatch(now)
}

// gone ends a slot.
func (c *core) gone(s *Slot) {
	c.setState(s, stateGone)
	c.total--
	if s.epoch != c.epoch {
		c.old--
	}
}

// retireSlot takes one connection out of use.
func (c *core) retireSlot(s *Slot, why Reason, now int64) {
	if s.state == StateIdle || s.state == StateLeased {
		c.retire(s, why)
	}
	c.dispatch(now)
}

// pause lends no connection and begins no dial until resume.
func (c *core) pause(now int64) {
	if !c.closed {
		c.paused = true
		c.turnAwayHasty(now)
	}
}

func (c *core) resume(now int64) {
	c.paused = false
	c.dispatch(now)
}

// heat opens connections until n are open, as far as the limits allow.
func (c *core) heat(n int, now int64) {
	c.evict = false
	c.warm, c.warmErr = max(c.warm, n), nil
	c.warmDials = c.warm
	c.lastUse = now
	c.dispatch(now)
}

// shed gives one connection more up for other pools: the longest idle one now, or the next
// that is free.
func (c *core) shed(now int64) {
	c.owed++
	for s := c.idle.back; s != nil && c.owed > 0; {
		prev := s.prev
		if s.doom == ReasonNone && !s.probing {
			c.owed--
			c.retire(s, ReasonStolen)
		}
		s = prev
	}
	c.dispatch(now)
}

// freed tells whoever admits dials that a slot has come to its end.
func (c *core) freed() {
	if c.admission != nil {
		c.emit(action{kind: actFreed, admission: c.admission})
	}
}

// keepsMin says that an idle connection is kept beyond its time, for MinIdle.
func (c *core) keepsMin(now int64) bool {
	return c.cfg.MinIdle > 0 && c.idle.len-c.doomed <= c.cfg.MinIdle && c.inUse(now) && !c.closed && !c.evict
}

func (c *core) inUse(now int64) bool { return c.lastUse > 0 && now-c.lastUse < int64(minIdleFor) }

// lacking is how many connections are to be opened that no request waits for.
func (c *core) lacking(now int64) int {
	if c.closed || c.paused || c.evict {
		return 0
	}
	n, ready := 0, c.idle.len-c.doomed+max(0, c.n[StateDialing]-c.waiters.len)
	if c.warm > 0 {
		n = min(c.warm-c.staying()-c.n[StateDialing], c.warmDials)
	}
	if c.inUse(now) && now >= c.topUpAt {
		n = max(n, c.cfg.MinIdle-ready)
	}
	return min(n, c.cfg.MaxIdle-ready)
}

// topUp opens what Warm and MinIdle want.
func (c *core) topUp(now int64) {
	if c.warm == 0 && c.cfg.MinIdle == 0 {
		return
	}
	for c.lacking(now) > 0 && c.mayDial(now) {
		c.warmDials--
		c.startDial(nil, nil)
	}
	if c.staying() >= c.warm || c.n[StateDialing] == 0 {
		if c.staying() < c.warm && c.fails > 0 {
			c.warmErr = c.dialErr
		}
		c.warm = 0 // reached, or no dial may start
	}
}

// ---- how many idle connections are needed ----

// need is a smoothed peak of the connections in use, by HAProxy's rule: what is idle
// beyond it is closed by halves. An idle connection that requests get in turn never ages.
type need struct {
	peak  int   // in the current window
	est   int   // over all of them, the last weighing a half
	until int64 // end of the current window
}

// window is how long a peak is watched: twice in an idle timeout, so that what every
// burst within that time needs is kept.
func (c *core) window() int64 { return int64(min(c.cfg.IdleTimeout, 2*minIdleFor)) / 2 }

func (c *core) trimToNeed(now int64) {
	n := &c.need
	used := c.n[StateLeased] + c.n[StateDraining]
	if now < n.until {
		return
	}
	begun := n.until > 0
	n.until = after(now, durationBetween(0, c.window()))
	n.est = max(n.peak, (n.est+n.peak+1)/2)
	n.peak = used
	if !begun {
		return // the window before it was of any length
	}
	surplus := min(used+c.idle.len-c.doomed-n.est, c.idle.len-c.doomed-c.cfg.MinIdle)
	for s := c.idle.back; s != nil && surplus > 0; {
		prev := s.prev
		fresh := s.requests == 0 && now-s.born < c.window() // its request may come yet
		if s.doom == ReasonNone && !fresh {
			c.retire(s, ReasonSurplus)
			surplus -= 2
		}
		s = prev
	}
}

// ---- how long the peer keeps an idle connection ----

// learned is the peer's idle timeout, as its closes show it: after some time without
// use a connection was dead, after less than that none was.
type learned struct {
	dead   int64 // the shortest time after which one was dead
	lived  int64 // the longest after which one was of use, below dead
	seen   int   // closes at different times
	latest int64
	since  int64
}

const (
	learnFrom  = int64(1e9)        // shorter times are not a timeout
	learnCount = 3                 // so many closes make one
	learnGap   = int64(1e9)        // closes nearer to each other are one
	learnFor   = int64(minIdleFor) // then it is asked anew
)

// foundDead notes that the peer has closed a connection that was unused for so long.
func (c *core) foundDead(s *Slot, idle int64) {
	if idle < learnFrom || s.requests == 0 {
		return
	}
	l := c.learned
	if l == nil || c.latest-l.since > learnFor {
		l = &learned{dead: never, since: c.latest}
		c.learned = l
	}
	if l.seen > 0 && c.latest-l.latest < learnGap {
		return
	}
	l.latest = c.latest
	l.seen++
	l.dead = min(l.dead, idle)
	if l.lived >= l.dead {
		l.lived = 0
	}
}

// alive notes that a connection was of use after idle without use. One that outlived
// what was taken for the timeout disproves it.
func (l *learned) alive(idle int64) {
	if idle > l.dead {
		*l = learned{dead: never, since: l.since}
		return
	}
	l.lived = max(l.lived, idle)
}

// timeout is within what was seen to be safe, and not below half of what was not.
func (l *learned) timeout() time.Duration {
	if l.seen < learnCount {
		return Never
	}
	return time.Duration(min(max(l.lived, l.dead/2), l.dead/10*9))
}
