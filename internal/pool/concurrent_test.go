package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many goroutines on one pool, in real time: what the model cannot show, because
// it has no lock, no timer and no goroutine.

// hammerOwner dials connections that misbehave now and then, and counts those
// that are open.
type hammerOwner struct {
	open, most, dials, closes atomic.Int64
}

type hammerConn struct {
	o      *hammerOwner
	closed atomic.Bool
	inUse  atomic.Int32
}

func (o *hammerOwner) Dial(ctx context.Context, _ *Slot) (Conn, int, error) {
	switch n := rand.IntN(100); {
	case n < 2:
		return nil, 0, errDial
	case n < 8:
		return nil, 0, []error{errExhausted, errRefused}[rand.IntN(2)]
	case n < 12: // stalls
		t := time.NewTimer(5 * time.Millisecond)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-t.C:
		}
	case n < 30:
		runtime.Gosched()
	}
	n := o.open.Add(1)
	for most := o.most.Load(); n > most && !o.most.CompareAndSwap(most, n); most = o.most.Load() {
	}
	o.dials.Add(1)
	return &hammerConn{o: o}, 1 + rand.IntN(3)*rand.IntN(2), nil
}

func (o *hammerOwner) Exhausted(err error) bool { return errors.Is(err, errExhausted) }
func (o *hammerOwner) Refused(err error) bool   { return errors.Is(err, errRefused) }
func (o *hammerOwner) Starved(*Snapshot)        {}
func (o *hammerOwner) Empty()                   {}

func (c *hammerConn) Reserve(time.Duration) Verdict {
	if c.closed.Load() {
		panic("room is reserved on a closed connection")
	}
	switch rand.IntN(40) {
	case 0:
		return Dead
	case 1:
		return Full
	}
	return Ready
}

func (c *hammerConn) Place() string { return "" }

func (c *hammerConn) Probe() bool {
	if c.closed.Load() {
		panic("a closed connection is probed")
	}
	return rand.IntN(10) > 0
}

func (c *hammerConn) Close(Reason) bool {
	if c.closed.Swap(true) {
		panic("a connection is closed twice")
	}
	if c.inUse.Load() > 0 {
		panic("a connection in use is closed")
	}
	c.o.closes.Add(1)
	c.o.open.Add(-1)
	return rand.IntN(2) == 0
}

func TestHammer(t *testing.T) {
	const limit, workers, rounds = 6, 16, 1500
	base := time.Now()
	o := new(hammerOwner)
	cfg := Config{MaxConns: limit, MaxIdle: 4, MaxWaiters: 12, MaxDials: 3, MaxRequests: 50, Expect: 1,
		IdleTimeout: 2 * ms, Lifetime: 10 * ms, Sweep: ms, OrphanGrace: ms, WarnAfter: ms, Forget: ms}
	p := New(o, nil, func() int64 { return int64(time.Since(base)) + 1 }, &cfg, new(Shared))

	var granted, refused atomic.Int64
	worker := func() {
		r := Request{Method: "GET", Path: "/"}
		for range rounds {
			ctx, cancel := context.WithCancel(context.Background())
			r.Hasty = rand.IntN(4) == 0
			r.Budget = time.Duration(rand.IntN(4000)) * time.Microsecond
			var gone chan struct{}
			switch rand.IntN(4) {
			case 0: // a cancel that races with whatever happens
				time.AfterFunc(time.Duration(rand.IntN(200))*time.Microsecond, cancel)
			case 1:
				gone = make(chan struct{})
				go close(gone)
			}
			r.Cancel = gone
			l, err := p.Acquire(ctx, p.clock(), r)
			if err != nil {
				refused.Add(1)
				cancel()
				continue
			}
			granted.Add(1)
			c := l.Conn().(*hammerConn)
			if c.inUse.Add(1); c.closed.Load() {
				panic("a closed connection was lent")
			}
			for range rand.IntN(4) {
				l.SetPhase(PhaseBody)
				l.Touch(p.clock())
				runtime.Gosched()
			}
			s := l.slot
			switch rand.IntN(60) {
			case 0:
				p.SetCapacity(s, rand.IntN(4))
			case 1:
				p.PeerClosed(s, nil)
			}
			f := Fate{Keep: rand.IntN(10) > 0, Reason: ReasonError, MaxLeft: -1}
			switch rand.IntN(20) {
			case 0:
				f.IdleFor = ms
			case 1:
				f.MaxLeft = rand.IntN(3)
			}
			c.inUse.Add(-1)
			l.Release(p.clock(), f)
			cancel()
		}
	}

	var wg, others sync.WaitGroup
	for range workers {
		wg.Go(worker)
	}
	end := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Duration(rand.IntN(500)) * time.Microsecond):
			}
			switch rand.IntN(4) {
			case 0:
				p.CloseIdle()
			case 1:
				changed := cfg
				changed.MaxConns, changed.MaxIdle, changed.MaxDials = 1+rand.IntN(limit), rand.IntN(limit), 1+rand.IntN(4)
				changed.Lifetime = time.Duration(1+rand.IntN(10)) * ms
				p.SetConfig(&changed)
			case 2:
				if s := p.Stats(); s.Dialing+s.Leased+s.Idle+s.Draining > limit {
					t.Errorf("more than %d connections: %+v", limit, s)
				}
			case 3:
				p.Snapshot()
			}
		}
	})

	within(t, time.Minute, wg.Wait)
	close(end)
	others.Wait()
	within(t, time.Minute, p.Close)

	s := p.Stats()
	if s.Dialing+s.Leased+s.Idle+s.Draining+s.InFlight+s.Waiting != 0 || o.open.Load() != 0 {
		t.Errorf("after Close %d connections are open: %+v", o.open.Load(), s)
	}
	var closed uint64
	for _, n := range s.Closed {
		closed += n
	}
	if n := uint64(o.dials.Load()); s.DialsOK != n || closed != n || s.WeFirst+s.PeerFirst != n || uint64(o.closes.Load()) != n {
		t.Errorf("%d connections, %d dials counted, %d closes, %d counted", n, s.DialsOK, o.closes.Load(), closed)
	}
	if n := uint64(granted.Load()); s.Requests != n {
		t.Errorf("%d requests were granted, %d counted", n, s.Requests)
	}
	if o.most.Load() > limit {
		t.Errorf("%d connections were open at once, the limit is %d", o.most.Load(), limit)
	}
	t.Logf("%d granted, %d refused", granted.Load(), refused.Load())
	if granted.Load() == 0 || refused.Load() == 0 {
		t.Error("the hammer misses")
	}
	if left := leftGoroutines(10 * time.Second); left != "" {
		t.Errorf("goroutines are left:\n%s", left)
	}
}

// Closing in the middle of everything: every request ends, nothing stays open.
func TestCloseDuringTheHammer(t *testing.T) {
	for range 60 {
		base := time.Now()
		o := new(hammerOwner)
		cfg := generous()
		cfg.MaxConns, cfg.IdleTimeout, cfg.Sweep, cfg.OrphanGrace = 4, ms, ms, ms
		p := New(o, nil, func() int64 { return int64(time.Since(base)) + 1 }, &cfg, new(Shared))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					l, err := p.Acquire(context.Background(), p.clock(), get)
					if err == ErrClosed {
						return
					}
					if err == nil {
						runtime.Gosched()
						l.Release(p.clock(), Fate{Keep: true, MaxLeft: -1})
					}
				}
			})
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		soft := rand.IntN(2) == 0
		within(t, time.Minute, func() {
			if soft {
				if err := p.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			} else {
				p.Close()
			}
			wg.Wait()
		})
		p.Close() // again: connections that were in use
		if s := p.Stats(); s.Dialing+s.Leased+s.Idle+s.Draining+s.Waiting != 0 || o.open.Load() != 0 {
			t.Fatalf("after the end (soft %v) %d connections are open: %+v", soft, o.open.Load(), s)
		}
	}
}

// within fails the test when f does not return in time.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		buf := make([]byte, 1<<20)
		t.Fatalf("deadlock:\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// A recycled waiter's timer belongs to its next request.
func TestEveryBudgetEnds(t *testing.T) {
	p := benchPool(1)
	l, err := p.Acquire(context.Background(), p.clock(), get)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 300 {
				_, err := p.Acquire(context.Background(), p.clock(), Request{Budget: time.Duration(1+rand.IntN(100)) * time.Microsecond})
				if !errors.Is(err, ErrTimeout) {
					t.Errorf("a request behind a lease got %v", err)
					return
				}
			}
		})
	}
	within(t, time.Minute, wg.Wait)
	l.Release(p.clock(), Fate{Keep: true, MaxLeft: -1})
	p.Close()
}
