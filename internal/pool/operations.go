// What an owner may do to a pool while it runs, and ask of it.

package pool

import (
	"context"
	"time"
)

// SetConfig puts other limits in force at once. Raised ones wake the queue,
// lowered ones cut no active request. cfg must not change afterwards.
func (p *Pool) SetConfig(cfg *Config) {
	p.mu.Lock()
	p.core.setConfig(cfg, p.now())
	p.flush()
}

// SetExpect tells how many requests a connection will carry that has not told, in
// place of Config.Expect.
func (p *Pool) SetExpect(n int) {
	p.mu.Lock()
	p.core.setExpect(n, p.now())
	p.flush()
}

// Reconnect takes every connection that is open or being dialled out of use: idle ones
// are closed now, busy ones after their exchanges.
func (p *Pool) Reconnect() {
	p.mu.Lock()
	p.core.reconnect(p.now())
	p.flush()
}

// Retire takes one connection out of use.
func (p *Pool) Retire(s *Slot, why Reason) {
	p.mu.Lock()
	p.core.retireSlot(s, why, p.now())
	p.flush()
}

// Drained returns when the last of the connections that Reconnect took out of use is
// closed, those of a Reconnect meanwhile included, or ctx ends.
func (p *Pool) Drained(ctx context.Context) error {
	return p.await(ctx, func(c *core) bool { return c.old == 0 })
}

// Pause lends no connection until Resume: requests queue, and their time goes on. It
// returns when no connection is in use, or ctx ends; the pool stays paused then.
func (p *Pool) Pause(ctx context.Context) error {
	p.mu.Lock()
	if p.core.forgotten {
		p.mu.Unlock()
		return ErrForgotten
	}
	p.core.pause(p.now())
	p.flush()
	return p.await(ctx, func(c *core) bool { return !c.paused || c.leases.len == 0 })
}

// Resume ends Pause.
func (p *Pool) Resume() {
	p.mu.Lock()
	p.core.resume(p.now())
	p.flush()
}

// Warm opens connections until n are open, as many as the limits allow, and returns when
// no more can be. The error is that of a dial, ErrClosed, or the cause of ctx's end.
func (p *Pool) Warm(ctx context.Context, n int) error {
	p.mu.Lock()
	c := &p.core
	if c.forgotten {
		p.mu.Unlock()
		return ErrForgotten
	}
	if c.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	c.heat(n, p.now())
	p.flush()
	err := p.await(ctx, func(c *core) bool { return c.warm == 0 || c.closed })
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err = c.warmErr; err == nil && c.closed {
			err = ErrClosed
		}
		return err
	}
	p.mu.Lock()
	c.warm = 0
	p.flush()
	return err
}

// Shed gives one connection more up for other pools: the longest idle one now, or the
// next that is free.
func (p *Pool) Shed() {
	p.mu.Lock()
	p.core.shed(p.now())
	p.flush()
}

// Keep takes back what Shed has left to be given.
func (p *Pool) Keep() {
	p.mu.Lock()
	p.core.owed = 0
	p.flush()
}

// OldestIdle returns since when the connection is unused that is so for longest; ok is
// false when there is none that may be closed.
func (p *Pool) OldestIdle() (since int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := p.core.idle.back; s != nil; s = s.prev {
		if s.doom == ReasonNone && !s.probing {
			return s.idleSince, true
		}
	}
	return 0, false
}

// Live reports whether a connection is open.
func (p *Pool) Live() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.live() > 0
}

// Load returns how many connections are open to a place.
func (p *Pool) Load(place string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.core.places != nil {
		if pl := p.core.places.byName[place]; pl != nil {
			return pl.conns
		}
	}
	return 0
}

// Conns returns the slots of the open connections that take requests: the idle ones first,
// the longest idle before others.
func (p *Pool) Conns() (open []*Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.core
	for s := c.idle.back; s != nil; s = s.prev {
		open = append(open, s)
	}
	seen := map[*Slot]bool{} // a slot has a lease for each stream
	for l := c.leases.front; l != nil; l = l.next {
		if s := l.slot; s.state == StateLeased && !seen[s] {
			seen[s] = true
			open = append(open, s)
		}
	}
	return open
}

// Busy reports whether a request waits, or holds a connection, or one is being opened, or
// the pool was made a moment ago for a request that is about to come; if not, since when.
func (p *Pool) Busy() (busy bool, since int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.core
	begun := c.lastUse == 0 && c.emptySince != never && p.now()-c.emptySince < int64(time.Second)
	return begun || c.leases.len+c.waiters.len+c.n[StateDialing] > 0, c.lastUse
}
