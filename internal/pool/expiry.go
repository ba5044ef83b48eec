package pool

import (
	"math/bits"
	"time"
)

func durationBetween(from, to int64) time.Duration { return time.Duration(to - from) }

// golden is the golden ratio's fraction of 2^64. Its multiples, taken modulo
// 2^64, keep the greatest possible distance from each other, however many they are.
const golden = 0x9E3779B97F4A7C15

// setRetirement fixes when a connection takes its last request: never after the
// lifetime, and up to half of it earlier, so that connections opened together do
// not end together. N of them, opened at once, retire at least 0.38·L/2N apart.
// A connection that is alone lives for the whole lifetime.
func (c *core) setRetirement(s *Slot) {
	s.retireAt = after(s.born, c.cfg.Lifetime)
	if s.retireAt != never {
		early, _ := bits.Mul64(uint64(s.ordinal)*golden, uint64(c.cfg.Lifetime)/2)
		s.retireAt -= int64(early)
	}
	s.heralded = false
	c.setDue(s)
}

// aged says that a connection is too old for a further request. At the moment of
// its birth it is not, however short the lifetime: the request that it was dialled
// for must get it.
func (s *Slot) aged(now int64) bool { return now >= s.retireAt && now > s.born }

// setDue computes when the timer must next look at s for reasons of its own.
func (c *core) setDue(s *Slot) {
	due := s.retireAt
	if due != never && !s.heralded {
		due -= lead(c.cfg.Lifetime)
	}
	if s.state == StateIdle {
		due = min(due, s.idleUntil)
	}
	if due == s.due && (s.heapPos >= 0) == (due != never) {
		return
	}
	s.due = due
	c.due.fix(s)
}

// pushIdle puts s among the idle connections, as the one used last.
func (c *core) pushIdle(s *Slot) {
	c.idle.pushFront(s)
	if s.at != nil {
		c.places.push(s)
	}
	if c.nextSweep == never {
		c.nextSweep = after(s.idleSince, c.cfg.Sweep)
	}
}

// popIdle takes s out of them.
func (c *core) popIdle(s *Slot) {
	c.idle.remove(s)
	if s.at != nil {
		c.places.pop(s)
	}
}

// idleTimeout is the policy's, or what the peer was seen to have.
func (c *core) idleTimeout() time.Duration {
	if c.learned != nil {
		return min(c.cfg.IdleTimeout, c.learned.timeout())
	}
	return c.cfg.IdleTimeout
}

// expire closes an idle connection that is past a deadline and says so.
func (c *core) expire(s *Slot, now int64) bool {
	switch {
	case now >= s.idleUntil, durationBetween(s.idleSince, now) >= c.idleTimeout() && now > s.idleSince && !c.keepsMin(now):
		c.retire(s, ReasonIdle)
	case s.aged(now):
		c.retire(s, ReasonLifetime)
	case c.usedUp(s): // the limit was lowered
		c.retire(s, ReasonRequests)
	default:
		return false
	}
	return true
}

// tick does what has become due.
func (c *core) tick(now int64) {
	for len(c.due) > 0 && c.due[0].due <= now {
		c.attend(c.due[0], now)
	}
	timeout := c.idleTimeout()
	for s := c.idle.back; s != nil && durationBetween(s.idleSince, now) >= timeout && !c.keepsMin(now); {
		prev := s.prev
		c.retire(s, ReasonIdle)
		s = prev
	}
	for s := c.dials.front; s != nil; s = s.next {
		if s.dial.reliedUntil <= now {
			s.dial.reliedUntil = never
			c.doubt(s)
		}
		if s.dial.orphanUntil <= now {
			s.dial.orphanUntil = never
			c.cancelDial(s)
		}
	}
	c.dispatch(now)
	if c.nextSweep <= now {
		c.startSweep(now)
	}
	if w := c.waiters.front; w != nil && !c.warned && durationBetween(w.since, now) >= c.cfg.WarnAfter {
		c.warned = true
		c.starved(now)
		c.emit(action{kind: actStarved, snap: c.snapshot(nil, now)})
	}
	if c.emptySince <= now-int64(c.cfg.Forget) && c.total == 0 && c.waiters.len == 0 && !c.paused {
		c.emptySince = never
		c.emit(action{kind: actEmpty})
	}
}

// attend deals with one connection whose own deadline has come.
func (c *core) attend(s *Slot, now int64) {
	switch {
	case now >= s.retireAt:
		c.due.remove(s)
		c.retire(s, ReasonLifetime)
	case s.state == StateIdle && now >= s.idleUntil:
		s.idleUntil = never
		c.setDue(s)
		c.retire(s, ReasonIdle)
	default: // its successor's dial
		s.heralded = true
		c.setDue(s)
		wanted := c.waiters.len > 0 || s.state == StateLeased ||
			durationBetween(s.idleSince, now) < time.Duration(lead(c.cfg.Lifetime))
		if wanted && s.successor == nil && !c.closed && c.mayDial(now) {
			c.startDial(nil, s)
		}
	}
}

// startSweep begins to probe every idle connection that has not been used since
// the last sweep; continueSweep goes on while batches return.
func (c *core) startSweep(now int64) {
	c.nextSweep = never
	if c.idle.len == 0 {
		return
	}
	c.nextSweep = after(now, c.cfg.Sweep)
	c.sweepSeq++
	c.swept = false
	c.trimToNeed(now)
	c.continueSweep(now)
}

// continueSweep sends the next batch for a probe, oldest first.
func (c *core) continueSweep(now int64) {
	if c.swept || c.probing > 0 {
		return
	}
	for s := c.idle.back; s != nil && c.probing < sweepBatch; s = s.prev {
		if s.sweep == c.sweepSeq {
			continue
		}
		if durationBetween(s.idleSince, now) < c.cfg.Sweep {
			break // used since the last sweep, and so were all before it
		}
		s.sweep = c.sweepSeq
		s.probing = true
		c.probing++
		c.emit(action{kind: actProbe, slot: s})
	}
	c.swept = c.probing == 0
}

// deadline returns when tick must be called next.
func (c *core) deadline() int64 {
	d := never
	if len(c.due) > 0 {
		d = c.due[0].due
	}
	if s := c.idle.back; s != nil {
		if s.doom == ReasonNone {
			end := after(s.idleSince, c.idleTimeout())
			if c.keepsMin(max(end, c.latest)) {
				end = max(end, c.lastUse+int64(minIdleFor))
			}
			d = min(d, end)
		}
		d = min(d, c.nextSweep)
	}
	if w := c.waiters.front; w != nil {
		if !c.warned {
			d = min(d, after(w.since, c.cfg.WarnAfter))
		}
		if c.waiters.len > c.coming() {
			d = min(d, c.nextDial())
		}
	}
	if c.cfg.MinIdle > 0 {
		if c.latest < c.topUpAt {
			d = min(d, c.topUpAt)
		} else if c.lacking(c.latest) > 0 {
			d = min(d, c.nextDial())
		}
	}
	if c.n[StateDialing] > 0 {
		for s := c.dials.front; s != nil; s = s.next {
			d = min(d, s.dial.orphanUntil)
			if c.waiters.len > 0 {
				d = min(d, s.dial.reliedUntil)
			}
		}
	}
	if c.emptySince != never && !c.paused {
		d = min(d, after(c.emptySince, c.cfg.Forget))
	}
	return d
}

// nextDial returns when the back-off lets a dial start; never when something else
// than time must let it.
func (c *core) nextDial() int64 {
	switch {
	case c.total >= c.cfg.MaxConns, c.n[StateDialing] >= c.cfg.MaxDials, c.trials > 0, c.paused:
	case c.exhaustedErr != nil && c.live() > 0:
		return c.exhaustedUntil
	case c.fails > 0:
		return c.notBefore
	}
	return never
}

// dueHeap is a binary heap of the slots that have a deadline of their own.
type dueHeap []*Slot

// fix puts s where its due belongs: into the heap, to another place, or out of it.
func (h *dueHeap) fix(s *Slot) {
	if s.due == never {
		h.remove(s)
		return
	}
	if s.heapPos < 0 {
		s.heapPos = int32(len(*h))
		*h = append(*h, s)
	}
	if !h.up(int(s.heapPos)) {
		h.down(int(s.heapPos))
	}
}

func (h *dueHeap) remove(s *Slot) {
	i := int(s.heapPos)
	if i < 0 {
		return
	}
	last := len(*h) - 1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	s.heapPos = -1
	if i < last && !h.up(i) {
		h.down(i)
	}
}

func (h dueHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapPos, h[j].heapPos = int32(i), int32(j)
}

func (h dueHeap) up(i int) (moved bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].due <= h[i].due {
			break
		}
		h.swap(i, parent)
		i, moved = parent, true
	}
	return moved
}

func (h dueHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].due < h[child].due {
			child++
		}
		if h[i].due <= h[child].due {
			return
		}
		h.swap(i, child)
		i = child
	}
}
