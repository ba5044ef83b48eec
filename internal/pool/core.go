package pool

import (
	"math"
	"time"
)

// never is a time that does not come.
const never = int64(math.MaxInt64)

// core is the pool's state and its only decider; see the package comment. Every
// method is called with the pool's lock held.
type core struct {
	cfg       *Config
	shared    *Shared
	pool      *Pool
	expect    int       // Config.Expect, or what setExpect said since
	admission Admission // dials wait for admission, which is told of every end of a slot

	n     [numStates]int // slots by state
	total int            // slots that count against the limit

	dials   slotList // Dialing
	idle    slotList // Idle, most recently used first
	room    slotList // Leased, with room for more exchanges
	leases  leaseList
	waiters waiterList
	due     dueHeap // open connections with a deadline of their own

	unsettled int    // open slots whose capacity is not known yet
	probing   int    // idle slots that are out for a probe
	doomed    int    // those of them that are closed when they return
	ordinal   uint32 // of the connection opened last; see retirement
	sweepSeq  uint32
	swept     bool // the current sweep has visited every idle connection

	nextSweep  int64  // never while no sweep is due
	epoch      uint32 // calls of reconnect so far
	old        int32  // slots that were begun before the last one
	emptySince int64  // when the last slot and waiter left; never while there is one
	armed      int64  // when the timer fires; never while it is stopped
	latest     int64  // time of the latest event; see at

	fails     int   // dials failed in a row, duds included
	duds      int   // connections in a row that the peer ended before they were of use
	trials    int   // dials in flight that were started during back-off or exhaustion
	doubtful  int   // dials in flight that no request should rely on
	notBefore int64 // no trial starts before
	dialErr   error // of the last failed dial

	exhaustedErr   error // the kernel refused what a connection needs, and has not given it since
	exhaustedUntil int64 // while a connection lives, no trial starts before

	owed      int   // connections that are given up for other pools as soon as they are free
	warmDials int   // that may still be begun for it
	warm      int   // so many are to be open; 0 when they have been
	warmErr   error // why that ended

	topUpAt int64 // MinIdle has to wait until then
	lastUse int64 // when a connection was last lent
	need    need
	learned *learned
	places  *places

	told   bool // setExpect was called
	paused bool // no connection is lent, no dial begun
	evict  bool // connections that turn idle are closed, until the next request
	closed bool // no request is accepted
	hard   bool // no waiter is served any more
	warned bool // Owner.Starved has been told

	forgotten bool // the owner has given the pool up

	sampledTo int64      // the budget of samples is spent up to then; see sample
	diag      *diagnosis // nil while nothing is wrong

	stats counters
	out   []action
}

type actionKind uint8

const (
	actGrant actionKind = iota
	actFail
	actAdmit
	actFreed
	actIdle
	actDial
	actCancelDial
	actClose
	actProbe
	actStarved
	actEmpty
)

// action is what the shell carries out after unlocking.
type action struct {
	kind   actionKind
	slot   *Slot
	waiter *Waiter
	snap   *Snapshot

	admission Admission
}

// lasts says that an action calls a connection, which may take a while.
func (a *action) lasts() bool { return a.kind == actClose || a.kind == actProbe }

func (c *core) emit(a action) { c.out = append(c.out, a) }

func (c *core) init(p *Pool, cfg *Config, shared *Shared, admission Admission, now int64) {
	c.pool, c.cfg, c.shared, c.admission = p, cfg, shared, admission
	c.expect = cfg.Expect
	c.nextSweep, c.emptySince, c.armed = never, now, never
	c.sampledTo = now - sampleBurst*sampleEvery
}

// after returns the time d after now; never when d does not end.
func after(now int64, d time.Duration) int64 {
	if int64(d) >= never-now {
		return never
	}
	return now + int64(d)
}

// at returns the time of an event that was measured before the lock was held:
// now, or the time of an event that overtook it. Time never runs backwards in
// core, so that its lists stay in the order of time.
func (c *core) at(now int64) int64 {
	c.latest = max(c.latest, now)
	return c.latest
}

// ---- events of requests ----

// tryAcquire lends a connection that has room at once. It returns nil when there
// is none, or when others have waited longer.
func (c *core) tryAcquire(now int64) *Lease {
	if c.waiters.len > 0 || c.closed || c.paused {
		return nil
	}
	c.evict = false
	s := c.pick(now)
	if s == nil {
		return nil
	}
	if c.diag != nil {
		c.diag.arrived(now)
	}
	return c.lend(s, now)
}

// enqueue puts a request into the queue: at its end, or at its head when it has
// had its turn already and was refused by its connection. The error is final.
func (c *core) enqueue(w *Waiter, now int64, head bool) error {
	if c.forgotten {
		return ErrForgotten
	}
	if c.closed && (c.hard || !head) {
		c.stats.events().rejectedClosed++
		return ErrClosed
	}
	c.evict = false
	if w.hasty && !c.hurries(w, now, head) {
		if w.state == waiterGranted {
			return nil
		}
		c.stats.events().wouldQueue++
		return ErrWouldQueue
	}
	if !head && (c.diag != nil || c.total >= c.cfg.MaxConns || c.admission != nil) {
		c.diagnose().arrived(now)
	}
	switch {
	case w.hasty:
		c.waiters.pushBack(w)
	case head:
		c.waiters.pushFront(w)
	default:
		if err := c.refusal(now); err != nil {
			return err
		}
		c.waiters.pushBack(w)
	}
	w.state = waiterQueued
	c.emptySince = never
	c.stats.peakWaiting = max(c.stats.peakWaiting, c.waiters.len)
	c.dispatch(now)
	return nil
}

// refusal says why a new request may not even queue.
func (c *core) refusal(now int64) error {
	if c.paused {
		if c.waiters.len >= c.cfg.MaxWaiters {
			c.stats.events().rejectedFull++
			return ErrQueueFull
		}
		return nil
	}
	if c.fails >= backoffFails && c.n[StateIdle]+c.n[StateLeased] == 0 && c.n[StateDialing] == c.trials &&
		(c.trials > 0 || now < c.notBefore) {
		c.stats.events().rejectedBackoff++
		return &DialError{Err: c.dialErr, Failures: c.fails, Backoff: time.Duration(max(c.notBefore-now, 0))}
	}
	// A request that gets a dial of its own waits behind nobody.
	startable := max(0, min(c.cfg.MaxConns-c.total, c.cfg.MaxDials-c.n[StateDialing]))
	if unserved := max(0, c.waiters.len-c.coming()); unserved-startable >= c.cfg.MaxWaiters {
		c.starved(now)
		c.stats.events().rejectedFull++
		return ErrQueueFull
	}
	return nil
}

// cancel takes a request out of the queue. A grant that it was given meanwhile
// passes on to the next.
func (c *core) cancel(w *Waiter, now int64) {
	switch w.state {
	case waiterQueued:
		c.stats.wait.add(now - w.since)
		c.waiters.remove(w)
		c.orphan(w, true, now)
	case waiterGranted:
		l := w.lease
		s := l.slot
		s.requests--
		c.stats.requests--
		if l.Reused() {
			c.stats.reused--
		}
		c.unlease(l)
		c.putBack(s, now)
	}
	c.dispatch(now)
}

// release ends a lease.
func (c *core) release(l *Lease, now int64, f Fate) {
	c.stats.hold.add(now - l.acquired)
	if c.diag != nil {
		c.diag.held(now-l.acquired, now)
	}
	s := l.slot
	c.unlease(l)
	if f.Keep && !f.Unanswered && !s.useful {
		s.useful = true
		if c.duds > 0 {
			c.duds, c.fails, c.notBefore, c.dialErr = 0, 0, 0, nil
		}
	}
	if f.MaxLeft >= 0 {
		s.maxLeft = int32(min(f.MaxLeft, math.MaxInt32))
	} else if s.maxLeft > 0 {
		s.maxLeft-- // what the peer said before, less this request
	}
	if c.learned != nil && f.Keep && !f.Unanswered {
		c.learned.alive(int64(l.idle))
	}
	s.idleUntil = never
	if f.IdleFor > 0 {
		s.idleUntil = after(now, f.IdleFor)
	}
	if f.Keep {
		c.putBack(s, now)
	} else {
		c.discard(s, f.Reason)
	}
	c.dispatch(now)
}

// refused takes back a grant that the connection had no room for.
func (c *core) refused(l *Lease, v Verdict) {
	s := l.slot
	idle := int64(l.idle)
	s.requests--
	c.stats.requests--
	if l.Reused() {
		c.stats.reused--
	}
	c.unlease(l)
	switch {
	case v == Dead:
		if s.inFlight == 0 {
			c.foundDead(s, idle)
		}
		c.discard(s, ReasonPeer)
	case s.inFlight == 0:
		c.discard(s, ReasonRefused)
	default:
		s.capacity = s.inFlight // until an event says otherwise
		if s.inRoom {
			c.leaveRoom(s)
		}
	}
}

// ---- events of connections ----

// probed returns an idle connection from its probe.
func (c *core) probed(s *Slot, alive bool, now int64) {
	s.probing = false
	c.probing--
	switch {
	case s.doom != ReasonNone:
		c.doomed--
		c.closeSlot(s, s.doom)
	case !alive:
		c.foundDead(s, now-s.idleSince)
		c.closeSlot(s, ReasonPeer)
	default:
		c.expire(s, now)
	}
	c.dispatch(now)
	if s.state == StateIdle && !s.probing {
		c.settle(s, now) // the limit may have been passed meanwhile
		c.dispatch(now)
	}
}

// closed frees the slot of a connection whose close is done.
func (c *core) closedConn(s *Slot, peerFirst bool, now int64) {
	c.gone(s)
	c.freed()
	c.stats.events().closed[s.reason]++
	if peerFirst {
		c.stats.events().peerFirst++
	} else {
		c.stats.events().weFirst++
	}
	c.exhaustedUntil = 0 // what it held may be had again
	c.dispatch(now)
}

// setCapacity tells how many exchanges a connection may carry at once.
func (c *core) setCapacity(s *Slot, n int, now int64) {
	s.capacity = int32(min(n, math.MaxInt32))
	c.settled(s)
	if s.state == StateDialing {
		s.dial.told = true
	}
	if s.state == StateLeased {
		if has := s.inFlight < s.capacity; has && !s.inRoom {
			c.enterRoom(s)
		} else if !has && s.inRoom {
			c.leaveRoom(s)
		}
	}
	c.dispatch(now)
}

// settled ends the time when a connection's capacity was not known.
func (c *core) settled(s *Slot) {
	if s.unsettled {
		s.unsettled = false
		c.unsettled--
	}
}

// peerClosed tells that a connection is of no use any more; exchanges in flight
// end by themselves. dud is not nil when the peer has turned away whoever came: if
// the connection served nobody, that counts as a failed dial.
func (c *core) peerClosed(s *Slot, dud error, now int64) {
	switch {
	case s.state == StateDialing:
		s.dial.gone, s.dial.dud = true, dud
	case (s.state == StateIdle || s.state == StateLeased) && s.doom == ReasonNone:
		c.turnedAway(s, dud, now)
		c.retire(s, ReasonPeer)
	}
	c.dispatch(now)
}

// ---- events of the owner ----

func (c *core) setConfig(cfg *Config, now int64) {
	c.cfg = cfg
	if !c.told {
		c.expect = cfg.Expect
	}
	for s := c.idle.front; s != nil; s = s.next {
		c.setRetirement(s)
	}
	for l := c.leases.front; l != nil; l = l.next {
		if l.slot.state == StateLeased {
			c.setRetirement(l.slot)
		}
	}
	c.nextSweep = never
	if c.idle.len > 0 {
		c.nextSweep = after(now, cfg.Sweep)
	}
	c.trim()
	c.dispatch(now)
}

// trim closes idle connections, oldest first, until the limits hold again.
// Connections in use follow when their exchange ends.
func (c *core) trim() {
	surplus := c.idle.len - c.doomed - c.cfg.MaxIdle
	over := c.staying() - c.cfg.MaxConns
	for s := c.idle.back; s != nil && (surplus > 0 || over > 0); {
		prev := s.prev
		if s.doom == ReasonNone {
			if over > 0 {
				c.retire(s, ReasonLimit)
			} else {
				c.retire(s, ReasonSurplus)
			}
			over--
			surplus--
		}
		s = prev
	}
}

func (c *core) closeIdle(now int64) {
	c.evict = true
	c.retireIdle(ReasonEvict)
	c.dispatch(now)
}

// setExpect tells how many requests a connection will carry that has not told.
func (c *core) setExpect(n int, now int64) {
	c.expect, c.told = n, true
	c.dispatch(now)
}

func (c *core) retireIdle(why Reason) {
	for s := c.idle.front; s != nil; {
		next := s.next
		c.retire(s, why)
		s = next
	}
}

// shutdown accepts no request from now on. Those that wait are still served,
// unless hard; those that run are never cut.
func (c *core) shutdown(hard bool, now int64) {
	c.closed, c.paused = true, false
	if hard {
		c.hard = true
		for w := c.waiters.front; w != nil; w = c.waiters.front {
			c.waiters.remove(w)
			c.orphan(w, true, now)
			w.state, w.err = waiterFailed, ErrClosed
			c.emit(action{kind: actFail, waiter: w})
		}
	}
	c.retireIdle(ReasonShutdown)
	c.dispatch(now)
}
