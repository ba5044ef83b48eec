package pool

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type benchConn struct{}

func (benchConn) Reserve(time.Duration) Verdict { return Ready }
func (benchConn) Place() string                 { return "" }
func (benchConn) Probe() bool                   { return true }
func (benchConn) Close(Reason) bool             { return false }

type benchOwner struct{}

func (benchOwner) Dial(context.Context, *Slot) (Conn, int, error) { return benchConn{}, 1, nil }
func (benchOwner) Exhausted(error) bool                           { return false }
func (benchOwner) Refused(error) bool                             { return false }
func (benchOwner) Starved(*Snapshot)                              {}
func (benchOwner) Empty()                                         {}

func benchPool(conns int) *Pool {
	base := time.Now()
	cfg := Config{MaxConns: conns, MaxIdle: Unlimited, MaxWaiters: Unlimited, MaxDials: 100, MaxRequests: Unlimited, Expect: 1,
		IdleTimeout: time.Minute, Lifetime: 10 * time.Minute, Sweep: 5 * time.Second, OrphanGrace: 5 * time.Second, WarnAfter: Never, Forget: time.Minute}
	return New(benchOwner{}, nil, func() int64 { return int64(time.Since(base)) + 1 }, &cfg, new(Shared))
}

// One request at a time: the fast path of acquire and release.
func BenchmarkAcquireRelease(b *testing.B) {
	p := benchPool(64)
	defer p.Close()
	ctx, now := context.Background(), p.clock()
	r := Request{Method: "GET", Path: "/", Budget: Never}
	b.ReportAllocs()
	for b.Loop() {
		l, err := p.Acquire(ctx, now, r)
		if err != nil {
			b.Fatal(err)
		}
		l.Release(now, Fate{Keep: true, MaxLeft: -1})
	}
}

// 64 goroutines share 64 connections: the lock is fought for, nobody waits long.
func BenchmarkAcquireRelease64(b *testing.B) {
	p := benchPool(64)
	defer p.Close()
	ctx, now := context.Background(), p.clock()
	r := Request{Method: "GET", Path: "/", Budget: Never}
	b.ReportAllocs()
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := p.Acquire(ctx, now, r)
			if err != nil {
				b.Error(err)
				return
			}
			l.Release(now, Fate{Keep: true, MaxLeft: -1})
		}
	})
}

// queued returns a pool of one connection, its lease, and n waiters in the queue.
func queued(b testing.TB, n int) (*Pool, *Lease, []*Waiter) {
	p := benchPool(1)
	l, err := p.Acquire(context.Background(), p.clock(), Request{Budget: Never})
	if err != nil {
		b.Fatal(err)
	}
	ws := make([]*Waiter, n)
	for i := range ws {
		ws[i] = p.shared.getWaiter()
		enqueue(b, p, ws[i])
	}
	return p, l, ws
}

// enqueue puts a waiter into the queue without a goroutine that waits.
func enqueue(b testing.TB, p *Pool, w *Waiter) {
	w.ctx, w.state, w.lease = context.Background(), waiterNew, nil
	p.mu.Lock()
	if err := p.core.enqueue(w, p.now(), false); err != nil {
		b.Fatal(err)
	}
	p.flush()
}

// A release hands the connection to the oldest waiter, who returns to the end of
// the queue: the cost must not depend on its length.
func BenchmarkHandOver(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("waiters=%d", n), func(b *testing.B) {
			p, l, ws := queued(b, n)
			now, i := p.clock(), 0
			b.ReportAllocs()
			for b.Loop() {
				l.Release(now, Fate{Keep: true, MaxLeft: -1})
				w := ws[i]
				<-w.ready
				l = w.lease
				enqueue(b, p, w)
				i = (i + 1) % n
			}
			b.StopTimer()
			p.mu.Lock()
			p.core.shutdown(true, now)
			p.flush()
			l.Release(now, Fate{Keep: true, MaxLeft: -1})
			p.Close()
		})
	}
}

// The same with goroutines that wait: ten thousand are queued for 64 connections, so
// that every release wakes one, and who was served queues again.
func BenchmarkHandOverBlocked(b *testing.B) {
	const conns, waiters = 64, 10_000
	p := benchPool(conns)
	defer p.Close()
	ctx, now := context.Background(), p.clock()
	r := Request{Method: "GET", Path: "/", Budget: Never}
	held := make([]*Lease, conns)
	for i := range held {
		var err error
		if held[i], err = p.Acquire(ctx, now, r); err != nil {
			b.Fatal(err)
		}
	}
	var (
		served atomic.Int64
		begin  atomic.Int64 // when everybody had had a turn: stacks are grown then
		wg     sync.WaitGroup
	)
	for range waiters {
		wg.Go(func() {
			for more := true; more; {
				l, err := p.Acquire(ctx, now, r)
				if err != nil {
					b.Error(err)
					return
				}
				n := served.Add(1)
				if n == waiters {
					begin.Store(p.clock())
				}
				more = n < int64(waiters+b.N)
				l.Release(now, Fate{Keep: true, MaxLeft: -1})
			}
		})
	}
	for p.Stats().Waiting < waiters {
		runtime.Gosched()
	}
	for _, l := range held {
		l.Release(now, Fate{Keep: true, MaxLeft: -1})
	}
	wg.Wait()
	// The last round, in which nobody queues again, is as many hand-overs.
	b.ReportMetric(float64(p.clock()-begin.Load())/float64(b.N+waiters), "ns/op")
}

// A waiter in the middle of the queue leaves and comes back at its end: the cost
// must not depend on the queue's length.
func BenchmarkCancelQueued(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("waiters=%d", n), func(b *testing.B) {
			p, l, ws := queued(b, n)
			now, i := p.clock(), 0
			b.ReportAllocs()
			for b.Loop() {
				w := ws[(i*7919)%n]
				p.mu.Lock()
				p.core.cancel(w, now)
				p.flush()
				enqueue(b, p, w)
				i++
			}
			b.StopTimer()
			p.mu.Lock()
			p.core.shutdown(true, now)
			p.flush()
			l.Release(now, Fate{Keep: true, MaxLeft: -1})
			p.Close()
		})
	}
}

func TestAcquireAndReleaseDoNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("allocations cannot be counted under the race detector")
	}
	if checking {
		t.Skip("the check of the invariants allocates")
	}
	p := benchPool(4)
	defer p.Close()
	ctx, now := context.Background(), p.clock()
	r := Request{Method: "GET", Path: "/", Budget: time.Minute}
	if n := testing.AllocsPerRun(1000, func() {
		l, err := p.Acquire(ctx, now, r)
		if err != nil {
			t.Fatal(err)
		}
		l.Release(now, Fate{Keep: true, MaxLeft: -1})
	}); n != 0 {
		t.Errorf("%v allocations for a request that does not wait", n)
	}
}

// The queue recycles its waiters, their channels and their timers.
func TestHandOverDoesNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("allocations cannot be counted under the race detector")
	}
	if checking {
		t.Skip("the check of the invariants allocates")
	}
	p, l, ws := queued(t, 2)
	now, i := p.clock(), 0
	if n := testing.AllocsPerRun(1000, func() {
		l.Release(now, Fate{Keep: true, MaxLeft: -1})
		<-ws[i].ready
		l = ws[i].lease
		enqueue(t, p, ws[i])
		i = 1 - i
	}); n != 0 {
		t.Errorf("%v allocations for a hand-over", n)
	}
	for _, w := range ws {
		p.mu.Lock()
		p.core.cancel(w, now)
		p.flush()
	}
	l.Release(now, Fate{Keep: true, MaxLeft: -1})
	p.Close()
}

// The same with everything that steers: places, an order, limits over pools, a mark on the
// last request.
func BenchmarkAcquireReleaseSteered(b *testing.B) {
	cfg := Config{MaxConns: 4, MaxIdle: Unlimited, MaxWaiters: Unlimited, MaxDials: 100, MaxRequests: Unlimited, Expect: 1,
		IdleTimeout: time.Minute, Lifetime: time.Hour, Sweep: time.Hour, OrphanGrace: time.Second, WarnAfter: time.Minute, Forget: Never,
		Order: Spread, MarkLast: true, MinIdle: 1}
	base := time.Now()
	clock := func() int64 { return int64(time.Since(base)) + 1 }
	shared := new(Shared)
	p := New(placedOwner{}, nil, clock, &cfg, shared)
	q := NewQuota(clock, shared)
	limit := &Limit{}
	q.SetMax(limit, 10)
	q.Join(p, limit)
	defer p.Close()
	if err := p.Warm(b.Context(), 4); err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		l, err := p.Acquire(ctx, clock(), Request{Budget: Never})
		if err != nil {
			b.Fatal(err)
		}
		l.Release(clock(), Fate{Keep: true, MaxLeft: -1})
	}
}

// placedOwner dials connections to several places.
type placedOwner struct{ benchOwner }

func (placedOwner) Dial(context.Context, *Slot) (Conn, int, error) { return placedConn{}, 1, nil }

type placedConn struct{ benchConn }

func (placedConn) Place() string { return "192.0.2.1:80" }

// What it takes to find the connection that is idle for longest among ten thousand pools.
func BenchmarkQuotaVictim(b *testing.B) {
	cfg := Config{MaxConns: 4, MaxIdle: Unlimited, MaxWaiters: Unlimited, MaxDials: 100, MaxRequests: Unlimited, Expect: 1,
		IdleTimeout: Never, Lifetime: Never, Sweep: Never, OrphanGrace: time.Second, WarnAfter: time.Minute, Forget: Never}
	base := time.Now()
	clock := func() int64 { return int64(time.Since(base)) + 1 }
	shared := new(Shared)
	q := NewQuota(clock, shared)
	limit := MakeLimit("", Unlimited)
	var last *Member
	for range 10_000 {
		p := New(placedOwner{}, nil, clock, &cfg, shared)
		last = q.Join(p, &limit)
		if err := p.Warm(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		q.mu.Lock()
		v, _ := q.victim(&limit, last)
		q.mu.Unlock()
		if v == nil {
			b.Fatal("nobody is idle")
		}
	}
}
