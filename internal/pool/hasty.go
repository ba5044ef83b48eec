// Requests that do not queue; see Request.Hasty. In the queue they stand among the first,
// which something is sure to come for.

package pool

// sure is coming without the dials that wait for what others have to give up.
func (c *core) sure() int {
	n := c.coming()
	for s := c.dials.front; s != nil; s = s.next {
		if s.dial.stalled && !s.dial.doubtful {
			n -= c.each()
		}
	}
	return n
}

// hurries says that w, which is hasty, may stand at the end of the queue: something is sure
// to come for it, or a dial begins that serves it. head says that its connection refused
// it: it gets another one that has room before all others.
func (c *core) hurries(w *Waiter, now int64, head bool) bool {
	if head && !c.paused {
		if s := c.pick(now); s != nil {
			c.grant(w, s, now)
		}
	}
	n, sure := c.waiters.len, c.sure()
	switch {
	case w.state == waiterGranted, c.paused:
	case n < sure:
		return true
	case n >= c.coming() && n < sure+c.each() && c.mayDial(now):
		return true
	}
	if head {
		c.dispatch(now) // what its connection's end brings about
	}
	return false
}

// served says that a request in the queue will be served if one more dial begins.
func (c *core) served(w *Waiter) bool {
	ahead := 0
	for v := w.prev; v != nil; v = v.prev {
		ahead++
	}
	return ahead < c.sure()+c.each()
}

// turnAwayHasty fails the requests in the queue that are hasty and that nothing is sure to
// come for any more. It reports whether there were any: fewer dials may be under way then.
func (c *core) turnAwayHasty(now int64) (any bool) {
	if c.waiters.hasty == 0 {
		return false
	}
	sure, left := c.sure(), c.waiters.hasty
	if c.paused {
		sure = 0
	}
	n := 0
	for w := c.waiters.front; left > 0; {
		next := w.next
		switch {
		case !w.hasty:
			n++
		case n < sure:
			n++
			left--
		default:
			left--
			c.turnAway(w, now)
			any = true
		}
		w = next
	}
	return any
}

// turnAway fails a request in the queue that is hasty.
func (c *core) turnAway(w *Waiter, now int64) {
	c.waiters.remove(w)
	c.orphan(w, false, now)
	c.stats.events().wouldQueue++
	w.state, w.err = waiterFailed, ErrWouldQueue
	c.emit(action{kind: actFail, waiter: w})
}
