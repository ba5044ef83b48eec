package pool

import "fmt"

// checkInvariants panics when the state contradicts itself. It runs after every
// event in the model test, and everywhere under the build tag "invariants".
func (c *core) checkInvariants() {
	fail := func(format string, args ...any) { panic("pool: invariant: " + fmt.Sprintf(format, args...)) }

	if sum := c.n[StateDialing] + c.n[StateIdle] + c.n[StateLeased] + c.n[StateDraining] + c.n[StateClosing]; sum != c.total {
		fail("dialing %d + idle %d + leased %d + draining %d + closing %d = %d, but there are %d slots", c.n[StateDialing],
			c.n[StateIdle], c.n[StateLeased], c.n[StateDraining], c.n[StateClosing], sum, c.total)
	}
	for s, n := range c.n {
		if n < 0 && State(s) != stateNew {
			fail("%d slots are %v", n, State(s))
		}
	}

	dials, trials, doubtful := 0, 0, 0
	for s := c.dials.front; s != nil; s = s.next {
		dials++
		if s.state != StateDialing || s.dial == nil {
			fail("a slot among the dials is %v", s.state)
		}
		if w := s.dial.initiator; w != nil && (w.dial != s || w.state != waiterQueued) {
			fail("a dial's initiator does not wait for it")
		}
		if s.dial.trial {
			trials++
		}
		if s.dial.doubtful {
			doubtful++
		}
	}
	if dials != c.n[StateDialing] || dials != c.dials.len || trials != c.trials || doubtful != c.doubtful {
		fail("%d dials, %d trials, %d doubtful; counted %d, %d, %d", dials, trials, doubtful, c.n[StateDialing], c.trials, c.doubtful)
	}

	idle, probing, doomed, grantable, unsettled := 0, 0, 0, 0, 0
	for s := c.idle.front; s != nil; s = s.next {
		idle++
		if s.state != StateIdle || s.inFlight != 0 || s.inRoom {
			fail("a slot in the idle list is %v with %d in flight", s.state, s.inFlight)
		}
		if s.prev != nil && s.prev.idleSince < s.idleSince {
			fail("the idle list is out of order")
		}
		if s.doom != ReasonNone {
			doomed++
		}
		if s.unsettled {
			unsettled++
		}
		if s.probing {
			probing++
		} else {
			grantable++
		}
	}
	if idle != c.n[StateIdle] || idle != c.idle.len || probing != c.probing || doomed != c.doomed {
		fail("%d idle, %d probing, %d doomed; counted %d, %d, %d", idle, probing, doomed, c.n[StateIdle], c.probing, c.doomed)
	}
	for s := c.room.front; s != nil; s = s.next {
		grantable++
		if s.state != StateLeased || !s.inRoom || s.inFlight >= s.capacity {
			fail("a slot in the room list is %v with %d of %d in flight", s.state, s.inFlight, s.capacity)
		}
	}

	inFlight := map[*Slot]int32{}
	leases := 0
	for l := c.leases.front; l != nil; l = l.next {
		leases++
		inFlight[l.slot]++
		if !l.active || l.slot.state != StateLeased && l.slot.state != StateDraining {
			fail("a lease is active %v on a slot that is %v", l.active, l.slot.state)
		}
		if l.next != nil && l.next.acquired < l.acquired {
			fail("the leases are out of order")
		}
	}
	for s, n := range inFlight {
		if s.unsettled {
			unsettled++
		}
		if s.inFlight != n {
			fail("a slot has %d in flight and %d leases", s.inFlight, n)
		}
		if s.state == StateLeased && s.inFlight < s.capacity && !s.inRoom {
			fail("a slot with room is not in the room list")
		}
	}
	if unsettled != c.unsettled {
		fail("%d connections do not know their capacity; counted %d", unsettled, c.unsettled)
	}
	if leases != c.leases.len || len(inFlight) != c.n[StateLeased]+c.n[StateDraining] {
		fail("%d leases on %d slots; counted %d on %d", leases, len(inFlight), c.leases.len, c.n[StateLeased]+c.n[StateDraining])
	}

	waiting, hasty := 0, 0
	for w := c.waiters.front; w != nil; w = w.next {
		if w.hasty {
			if hasty++; waiting >= c.sure() || c.paused {
				fail("a request that does not queue is the %d. that waits for %d, paused %v", waiting+1, c.sure(), c.paused)
			}
		}
		waiting++
		if w.state != waiterQueued || w.lease != nil {
			fail("a queued waiter is in state %d", w.state)
		}
		if w.dial != nil && (w.dial.dial == nil || w.dial.dial.initiator != w) {
			fail("a waiter's dial is not its own")
		}
	}
	if waiting != c.waiters.len || hasty != c.waiters.hasty {
		fail("%d wait, %d do not queue; counted %d, %d", waiting, hasty, c.waiters.len, c.waiters.hasty)
	}
	if waiting > 0 && grantable > 0 && !c.paused {
		fail("%d wait while %d connections have room", waiting, grantable)
	}

	if c.owed < 0 || c.old < 0 || int(c.old) > c.total {
		fail("%d owed, %d of %d slots are old", c.owed, c.old, c.total)
	}
	c.checkPlaces(fail)

	for i, s := range c.due {
		if int(s.heapPos) != i || s.due == never || i > 0 && c.due[(i-1)/2].due > s.due {
			fail("the deadline heap is broken at %d", i)
		}
		if s.state != StateIdle && s.state != StateLeased {
			fail("a slot in the deadline heap is %v", s.state)
		}
	}
}

// checkPlaces counts what the places have counted.
func (c *core) checkPlaces(fail func(string, ...any)) {
	if c.places == nil {
		return
	}
	idle := map[*place]int{}
	for s := c.idle.front; s != nil; s = s.next {
		if s.at != nil {
			idle[s.at.place]++
		}
	}
	inFlight := map[*place]int{}
	for l := c.leases.front; l != nil; l = l.next {
		if l.slot.at != nil {
			inFlight[l.slot.at.place]++
		}
	}
	ready := 0
	for name, p := range c.places.byName {
		n := 0
		for s := p.front; s != nil; s = s.at.next {
			n++
			if s.at.place != p {
				fail("a connection is in the list of another place")
			}
		}
		if n != idle[p] || p.inFlight != inFlight[p] || p.conns < n || p.conns == 0 {
			fail("%s has %d idle of %d and %d in flight; there are %d and %d", name, n, p.conns, p.inFlight, idle[p], inFlight[p])
		}
		if (n > 0) != (p.at >= 0) || n > 0 && c.places.ready[p.at] != p {
			fail("%s with %d idle is at %d among those that are ready", name, n, p.at)
		}
		if n > 0 {
			ready++
		}
	}
	if ready != len(c.places.ready) {
		fail("%d places have an idle connection; counted %d", ready, len(c.places.ready))
	}
}
