package pool

import (
	"context"
	"errors"
	"sync"
	"time"
	"weak"
)

// Owner is the endpoint that a pool serves. Its methods are called without the
// pool's lock held.
type Owner interface {
	// Dial opens a connection and returns it with the number of exchanges that
	// it may carry at once, or Unsettled. slot is where it will be. It runs on a
	// goroutine of the pool, bounds its own time, and must return soon after ctx is
	// cancelled. ctx has the values of the request that caused the dial, but neither
	// its deadline nor its end.
	Dial(ctx context.Context, slot *Slot) (Conn, int, error)

	// Exhausted reports whether a dial failed because this host has no port,
	// descriptor or memory left for it.
	Exhausted(err error) bool

	// Refused reports whether a dial failed because the owner does not want the
	// connection: that says nothing of the endpoint.
	Refused(err error) bool

	// Starved is told once when a request has waited for WarnAfter.
	Starved(*Snapshot)

	// Empty is told when the pool has held nothing for Config.Forget; the owner
	// may call Forget.
	Empty()
}

// Admission decides whether a dial may start. It is the place of limits over several
// pools. Its methods are called without the pool's lock held.
type Admission interface {
	// Admit is answered by Pool.Admitted or Pool.Denied, at once or later; the slot
	// counts as dialing meanwhile.
	Admit(p *Pool, s *Slot)

	// Withdraw takes a question back that was not answered, and reports whether it came
	// in time: it is not answered then.
	Withdraw(p *Pool, s *Slot) bool

	// Freed tells that a slot that was admitted has come to its end.
	Freed(p *Pool)

	// Idle tells, while Shared.Hungry is set, that a connection has turned idle.
	Idle(p *Pool)
}

// Pool hands out the connections of one endpoint. It is safe for concurrent use.
// It has no goroutine but for its dials, and no timer while it holds nothing.
type Pool struct {
	owner  Owner
	clock  func() int64
	shared *Shared
	timer  *time.Timer

	// mu guards core. It is held for one event at a time: no I/O, no call of
	// Owner, Conn or Admission, no other lock and no blocking send while it is
	// held. quiet is signalled when dialing or closing comes to an end after
	// the pool was closed.
	mu    sync.Mutex
	quiet *sync.Cond // made when somebody waits
	core  core
}

// New makes a pool. clock returns nanoseconds of a monotonic clock, at least 1;
// all times passed to the pool are of that clock. cfg and shared may be those of
// many pools; cfg must not change.
func New(owner Owner, admission Admission, clock func() int64, cfg *Config, shared *Shared) *Pool {
	p := &Pool{owner: owner, clock: clock, shared: shared}
	p.core.init(p, cfg, shared, admission, clock())
	return p
}

// Request is what the pool wants to know of a request.
type Request struct {
	Method, Path string          // for diagnosis; the path without the query
	Cancel       <-chan struct{} // ends the wait, as the context does; may be nil
	Budget       time.Duration   // for queue and dial together; Never has none
	// BudgetIsDefault says that Budget holds only if the context has no deadline.
	BudgetIsDefault bool

	// Hasty says that the request does not queue. It takes a connection that has room, or
	// the one that is being dialled and that nobody else needs, or has one dialled if every
	// limit allows that now. Else it fails at once with ErrWouldQueue: it waits behind
	// nobody, and for no limit, no back-off, no port and no end of a pause. When what it
	// counted on is lost to it, it fails at that moment.
	Hasty bool
}

// Acquire lends a connection. It returns at once when one is free; else it waits,
// oldest request first, for whatever comes first: a connection that another
// request gives back, or one that is dialled. ctx, r.Cancel and r.Budget end the
// wait. Errors: *StarvedError when a deadline ended it, context.Cause(ctx) when
// the request was cancelled, ErrCanceled, *DialError, ErrQueueFull, ErrClosed,
// ErrForgotten, and ErrWouldQueue for a request that is hasty.
func (p *Pool) Acquire(ctx context.Context, now int64, r Request) (*Lease, error) {
	p.mu.Lock()
	l := p.core.tryAcquire(p.core.at(now))
	if l == nil {
		return p.wait(ctx, now, r, false)
	}
	l.method, l.path = r.Method, r.Path
	if len(p.core.out) > 0 || checking {
		p.flush()
	} else {
		p.mu.Unlock() // lending brings no deadline nearer
	}
	v := l.slot.conn.Reserve(l.idle)
	if v == Ready {
		return l, nil
	}
	// The request has had its turn: it keeps its place before all others.
	p.mu.Lock()
	p.core.refused(l, v)
	return p.wait(ctx, now, r, true)
}

// wait queues the request until it is granted a connection. It is called with mu
// held and returns without. What it returns has been reserved.
func (p *Pool) wait(ctx context.Context, since int64, r Request, head bool) (*Lease, error) {
	w := p.shared.getWaiter()
	w.hasty = r.Hasty
	w.ctx, w.since, w.method, w.path = ctx, since, r.Method, r.Path
	if err := p.core.enqueue(w, p.now(), head); err != nil {
		p.flush()
		p.shared.putWaiter(w)
		return nil, err
	}
	p.flush()

	var budget <-chan time.Time
	budgeted := r.Budget != Never
	if budgeted && r.BudgetIsDefault {
		_, hasDeadline := ctx.Deadline()
		budgeted = !hasDeadline
	}
	if budgeted {
		d := r.Budget - time.Duration(p.clock()-since)
		if w.timer == nil {
			w.timer = time.NewTimer(d)
		} else {
			w.timer.Reset(d)
		}
		budget = w.timer.C
	}
	for {
		var cause error
		select {
		case <-w.ready:
		case <-ctx.Done():
			cause = context.Cause(ctx)
		case <-r.Cancel:
			cause = ErrCanceled
		case <-budget:
			cause = ErrTimeout
		}
		if cause != nil {
			return nil, p.leave(w, since, cause, ctx.Err())
		}
		l, err := w.lease, w.err
		if err != nil {
			p.shared.putWaiter(w)
			return nil, err
		}
		v := l.slot.conn.Reserve(l.idle)
		if v == Ready {
			p.shared.putWaiter(w)
			return l, nil
		}
		p.mu.Lock()
		p.core.refused(l, v)
		w.lease, w.state = nil, waiterNew
		err = p.core.enqueue(w, p.now(), true)
		p.flush()
		if err != nil {
			p.shared.putWaiter(w)
			return nil, err
		}
	}
}

// leave takes a waiter out of the queue whose wait was ended by cause.
func (p *Pool) leave(w *Waiter, since int64, cause, ctxErr error) error {
	var err error = cause
	p.mu.Lock()
	now := p.now()
	if cause == ErrTimeout || cause != ErrCanceled && errors.Is(ctxErr, context.DeadlineExceeded) {
		p.core.stats.events().timedOut++
		p.core.starved(now)
		err = &StarvedError{Err: cause, Waited: time.Duration(now - since), Snapshot: p.core.snapshot(w, now)}
	}
	told := w.state != waiterQueued
	p.core.cancel(w, now)
	p.flush()
	if told {
		<-w.ready // sent, or about to be
	}
	p.shared.putWaiter(w)
	return err
}

// setAdmission has dials wait for a from now on; nil lets them start. It returns the
// number of slots that live without having been asked for.
func (p *Pool) setAdmission(a Admission) (live int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.core
	c.admission = a
	live = c.total
	for s := c.dials.front; s != nil; s = s.next {
		if s.dial.pending {
			live--
		}
	}
	return live
}

// Admitted answers Admission.Admit: the dial starts.
func (p *Pool) Admitted(s *Slot) {
	p.mu.Lock()
	p.core.admitted(s, p.now())
	p.flush()
}

// declined ends a modest dial that there is no room for.
func (p *Pool) declined(s *Slot) {
	p.mu.Lock()
	p.core.declined(s, p.now())
	p.flush()
}

// Stalled tells that a dial waits for what others have to give up, a port, or that it does
// so no more.
func (p *Pool) Stalled(s *Slot, on bool) {
	p.mu.Lock()
	p.core.stall(s, on, p.now())
	p.flush()
}

// queued tells that a dial was not admitted at once.
func (p *Pool) queued(s *Slot) {
	p.mu.Lock()
	if s.dial != nil && s.dial.pending { // it may have been meanwhile
		p.core.stall(s, true, p.now())
	}
	p.flush()
}

// Denied answers Admission.Admit: the dial does not start.
func (p *Pool) Denied(s *Slot, err error) {
	p.mu.Lock()
	p.core.denied(s, err, p.now())
	p.flush()
}

// SetCapacity tells how many exchanges a connection may carry at once from now on.
func (p *Pool) SetCapacity(s *Slot, n int) {
	p.mu.Lock()
	p.core.setCapacity(s, n, p.now())
	p.flush()
}

// PeerClosed tells that the peer takes no further request on a connection. dud is
// not nil when it does so with whoever comes, as an overloaded one that greets by
// turning away: if no exchange ended well on the connection, that counts as a
// failed dial, and the next dials are held up as after one.
func (p *Pool) PeerClosed(s *Slot, dud error) {
	p.mu.Lock()
	p.core.peerClosed(s, dud, p.now())
	p.flush()
}

// CloseIdle closes the idle connections, and those that turn idle before the
// next request comes.
func (p *Pool) CloseIdle() {
	p.mu.Lock()
	p.core.closeIdle(p.now())
	p.flush()
}

// Shutdown accepts no further request, serves those that wait, and returns when
// the last connection is closed or ctx ends.
func (p *Pool) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.core.shutdown(false, p.now())
	p.flush()
	return p.await(ctx, func(c *core) bool { return c.total == 0 })
}

// Close accepts no further request, fails those that wait with ErrClosed, cancels
// dials and closes idle connections; connections in use are closed when their
// exchange ends. It returns when no dial and no close is under way.
func (p *Pool) Close() {
	p.mu.Lock()
	p.core.shutdown(true, p.now())
	p.flush()
	p.await(context.Background(), func(c *core) bool {
		return c.n[StateDialing]+c.n[StateIdle]+c.n[StateClosing] == 0 // idle: out for a probe
	})
}

// await waits until done holds, or ctx ends.
func (p *Pool) await(ctx context.Context, done func(*core) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet == nil {
		p.quiet = sync.NewCond(&p.mu)
	}
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.quiet.Broadcast()
	})
	defer stop()
	for !done(&p.core) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.quiet.Wait()
	}
	return nil
}

// Forget gives the pool up if it holds nothing, and reports whether it did.
func (p *Pool) Forget() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.core
	if c.total > 0 || c.waiters.len > 0 || c.paused {
		return false
	}
	c.closed, c.hard, c.forgotten = true, true, true
	c.emptySince = never
	if p.timer != nil {
		p.timer.Stop()
	}
	return true
}

// Stats returns the pool's state and counts.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.getStats(p.now())
}

// Snapshot returns what a request would be told that starved now.
func (p *Pool) Snapshot() *Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.snapshot(nil, p.now())
}

// now returns the time of an event that begins under the lock.
func (p *Pool) now() int64 { return p.core.at(p.clock()) }

// flush ends an event: it sets the timer, unlocks, and carries the actions out.
func (p *Pool) flush() {
	c := &p.core
	if checking {
		c.checkInvariants()
	}
	if d := c.deadline(); d < c.armed {
		c.armed = d
		p.setTimer(time.Duration(d - p.clock()))
	}
	if p.quiet != nil {
		p.quiet.Broadcast()
	}
	if len(c.out) == 0 {
		p.mu.Unlock()
		return
	}
	var buf [8]action
	acts := append(buf[:0], c.out...)
	clear(c.out)
	c.out = c.out[:0]
	p.mu.Unlock()

	for i := range acts { // whoever waits goes first
		if k := acts[i].kind; k == actGrant || k == actFail {
			acts[i].waiter.ready <- struct{}{}
		}
	}
	for i := range acts { // a dial does not wait for a close
		if !acts[i].lasts() {
			p.act(&acts[i])
		}
	}
	for i := range acts {
		if acts[i].lasts() {
			p.act(&acts[i])
		}
	}
}

// act carries out one action.
func (p *Pool) act(a *action) {
	s := a.slot
	switch a.kind {
	case actAdmit:
		p.mu.Lock()
		if a := p.core.admission; a != nil {
			p.mu.Unlock()
			a.Admit(p, s)
			return
		}
		p.core.admitted(s, p.now())
		p.flush()
	case actDial:
		p.startDial(s)
	case actCancelDial:
		var cancel context.CancelFunc
		p.mu.Lock()
		pending, admission := s.dial != nil && s.dial.pending, p.core.admission
		if s.dial != nil {
			cancel = s.dial.cancel
		}
		p.mu.Unlock()
		switch {
		case cancel != nil:
			cancel()
		case pending && admission != nil && admission.Withdraw(p, s):
			p.mu.Lock()
			p.core.withdrawn(s, p.now())
			p.flush()
		}
	case actFreed:
		a.admission.Freed(p)
	case actIdle:
		a.admission.Idle(p)
	case actClose:
		if l, ok := s.conn.(Lingerer); ok && l.Lingers(s.reason) {
			go p.close(s) // a closing slot is waited for
			return
		}
		p.close(s)
	case actProbe:
		alive := s.conn.Probe()
		p.mu.Lock()
		now := p.now()
		p.core.probed(s, alive, now)
		p.core.continueSweep(now)
		p.flush()
	case actStarved:
		p.owner.Starved(a.snap)
	case actEmpty:
		p.owner.Empty()
	}
}

// close closes a connection.
func (p *Pool) close(s *Slot) {
	peerFirst := s.conn.Close(s.reason)
	p.mu.Lock()
	p.core.closedConn(s, peerFirst, p.now())
	p.flush()
}

// startDial runs a dial on a goroutine of its own. It ends when Owner.Dial does;
// Close and Shutdown wait for it.
func (p *Pool) startDial(s *Slot) {
	p.mu.Lock()
	d := s.dial
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.ctx))
	d.ctx, d.cancel = nil, cancel
	if d.cancelled {
		cancel()
	}
	p.mu.Unlock()
	go func() {
		conn, capacity, err := p.owner.Dial(ctx, s)
		cancel()
		how, place := dialBroken, ""
		switch {
		case err == nil:
			place = conn.Place()
		case p.owner.Refused(err):
			how = dialRefused
		case p.owner.Exhausted(err):
			how = dialExhausted
		}
		p.mu.Lock()
		if err != nil {
			p.core.dialFailed(s, err, how, p.now())
		} else {
			p.core.dialled(s, conn, place, capacity, p.now())
		}
		p.flush()
	}()
}

// setTimer has tick called after d. The timer holds the pool by a weak pointer:
// an abandoned pool can be collected while connections are idle.
func (p *Pool) setTimer(d time.Duration) {
	if p.timer != nil {
		p.timer.Reset(d)
		return
	}
	wp := weak.Make(p)
	p.timer = time.AfterFunc(d, func() {
		if p := wp.Value(); p != nil {
			p.tick()
		}
	})
}

func (p *Pool) tick() {
	p.mu.Lock()
	p.core.armed = never
	p.core.tick(p.now())
	p.flush()
}
