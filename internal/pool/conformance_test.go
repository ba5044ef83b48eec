package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// The rows of the .NET conformance table that are rules of the pool; the numbers
// are the table's. C30 (the connect timeout covers TLS) is a rule of the dialler:
// the pool sees one dial. Where our outcome differs from .NET's, the test says so.

func TestC01SequentialRequestsUseOneConnection(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		for i := range 10 {
			l := r.getConn(0)
			if l.Reused() != (i > 0) {
				t.Errorf("request %d: reused %v", i, l.Reused())
			}
			r.put(l)
		}
		r.dials(0)
	})
}

func TestC05ConnectionPastItsLifetimeIsNotUsed(t *testing.T) {
	bubble(t, func(c *Config) { c.Lifetime = time.Millisecond }, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.sleep(100 * time.Millisecond)
		r.closedAt(0, time.Millisecond, ReasonLifetime)
		r.put(r.getConn(1))
	})
}

func TestC07RequestAtTheLimitWaitsAndGetsANewConnection(t *testing.T) {
	for _, lifetime := range []time.Duration{0, time.Millisecond} {
		t.Run(lifetime.String(), func(t *testing.T) {
			bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = 1, lifetime }, nil, func(r *rig) {
				first := r.getConn(0)
				second := r.begin()
				r.sleep(time.Second)
				second.waiting()
				r.put(first)
				r.put(second.getsAt(1, time.Second))
				r.closedAt(0, time.Second, ReasonLifetime)
			})
		})
	}
}

func TestC08NeverMoreConnectionsThanTheLimit(t *testing.T) {
	for _, x := range []struct{ limit, requests int }{{1, 5}, {2, 2}, {3, 2}, {3, 5}} {
		t.Run(fmt.Sprintf("limit=%d,requests=%d", x.limit, x.requests), func(t *testing.T) {
			usual := dialPlan{takes: 10 * time.Millisecond}
			bubble(t, func(c *Config) { c.MaxConns = x.limit }, []dialPlan{usual, usual, usual}, func(r *rig) {
				var wg sync.WaitGroup
				for range x.requests {
					wg.Go(func() {
						l := r.get()
						time.Sleep(100 * time.Millisecond)
						l.Release(r.pool.clock(), Fate{Keep: true, MaxLeft: -1})
					})
				}
				wg.Wait()
				rounds := (x.requests + x.limit - 1) / x.limit
				r.at(10*time.Millisecond + time.Duration(rounds)*100*time.Millisecond)
				if _, n := r.count(); n != min(x.limit, x.requests) {
					t.Errorf("%d connections were open at once, expected %d", n, min(x.limit, x.requests))
				}
			})
		})
	}
}

// .NET starts the third dial when the second fails; here each failure frees its
// place, and the first dial after it is held up by the back-off of 50 ms.
func TestC24FailedDialFailsOnlyItsInitiator(t *testing.T) {
	err1, err2, err3 := errors.New("first"), errors.New("second"), errors.New("third")
	plans := []dialPlan{{takes: time.Second, err: err1}, {takes: 2 * time.Second, err: err2}, {takes: 2 * time.Second, err: err3}}
	bubble(t, func(c *Config) { c.MaxConns = 2 }, plans, func(r *rig) {
		a, b, c := r.begin(), r.begin(), r.begin()
		r.dials(0, 0)
		r.until(time.Second)
		var d *DialError
		if err := a.failsAt(time.Second); !errors.Is(err, err1) || !errors.As(err, &d) || d.Failures != 1 || d.Backoff != 0 {
			t.Errorf("the first request failed with %#v", err)
		}
		b.waiting()
		c.waiting()
		r.until(2 * time.Second)
		r.dials(0, 0, 1050*time.Millisecond)
		if err := b.failsAt(2 * time.Second); !errors.Is(err, err2) {
			t.Errorf("the second request failed with %v", err)
		}
		c.waiting()
		r.until(4 * time.Second)
		if err := c.failsAt(3050 * time.Millisecond); !errors.Is(err, err3) {
			t.Errorf("the third request failed with %v", err)
		}
		r.dials(0, 0, 1050*time.Millisecond)
	})
}

func TestC26WaiterTakesTheConnectionThatIsFreedWhileItsDialHangs(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, []dialPlan{{}, {takes: 10 * time.Second}}, func(r *rig) {
		first := r.getConn(0)
		second := r.begin()
		r.until(time.Second)
		second.waiting()
		r.put(first)
		l := second.getsAt(0, time.Second)
		r.until(9 * time.Second)
		if s := r.pool.Stats(); s.Dialing != 1 || s.Idle != 0 {
			t.Errorf("the dial does not go on: %+v", s)
		}
		r.until(10 * time.Second)
		if s := r.pool.Stats(); s.Idle != 1 || s.Leased != 1 {
			t.Errorf("the dialled connection is not pooled: %+v", s)
		}
		r.put(r.getConn(1), l)
		r.dials(0, 0)
	})
}

func TestC27StalledDialOfACancelledRequestIsDroppedInTime(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.OrphanGrace = 1, 5*time.Second }, []dialPlan{{hang: true}}, func(r *rig) {
		first := r.begin()
		r.until(time.Second)
		first.cancel(errGone)
		synctest.Wait()
		if err := first.failsAt(time.Second); err != errGone {
			t.Errorf("the cancelled request failed with %v", err)
		}
		r.until(2 * time.Second)
		second := r.begin()
		r.until(time.Minute)
		r.put(second.getsAt(0, 6*time.Second))
		r.dials(0, 6*time.Second)
		if s := r.pool.Stats(); s.DialsCancelled != 1 {
			t.Errorf("%d dials were cancelled, expected 1", s.DialsCancelled)
		}
	})
}

func TestC28DialOfACancelledRequestIsPooledWithinItsGrace(t *testing.T) {
	for _, grace := range []time.Duration{20 * time.Second, Never} {
		t.Run(grace.String(), func(t *testing.T) {
			bubble(t, func(c *Config) { c.MaxConns, c.OrphanGrace = 1, grace }, []dialPlan{{takes: 10 * time.Second}}, func(r *rig) {
				first := r.begin()
				first.cancel(errGone)
				r.until(10 * time.Second)
				if s := r.pool.Stats(); s.Idle != 1 {
					t.Errorf("the dialled connection is not pooled: %+v", s)
				}
				r.until(time.Minute)
				r.put(r.getConn(0))
				r.dials(0)
			})
		})
	}
}

// The dialler bounds its time; the pool names the error for what it is.
func TestC29ConnectTimeoutIsADialError(t *testing.T) {
	timeout := fmt.Errorf("connect: %w", os.ErrDeadlineExceeded)
	bubble(t, nil, []dialPlan{{takes: time.Second, err: timeout}}, func(r *rig) {
		c := r.begin()
		r.until(time.Second)
		var d *DialError
		if err := c.failsAt(time.Second); !errors.As(err, &d) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the request failed with %v", err)
		}
	})
}

func TestC31NoDialForCancelledWaiters(t *testing.T) {
	failing := dialPlan{takes: time.Second, err: errDial}
	bubble(t, func(c *Config) { c.MaxConns = 1 }, []dialPlan{failing, failing}, func(r *rig) {
		first := r.begin()
		var cancelled []*call
		for range 100 {
			cancelled = append(cancelled, r.begin())
		}
		last := r.begin()
		for _, c := range cancelled {
			c.cancel(errGone)
		}
		r.until(time.Minute)
		for _, c := range cancelled {
			if err := c.failsAt(0); err != errGone {
				t.Fatalf("a cancelled request failed with %v", err)
			}
		}
		first.failsAt(time.Second)
		last.failsAt(2050 * time.Millisecond)
		r.dials(0, 1050*time.Millisecond)
		if s := r.pool.Stats(); s.Waiting != 0 || s.Dialing != 0 {
			t.Errorf("the queue is not empty: %+v", s)
		}
	})
}

func TestC32CountsReturnToZeroAfterManyCancels(t *testing.T) {
	const limit = 4
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.MaxConns, c.OrphanGrace = limit, 20*time.Millisecond })
		r.usual = dialPlan{takes: 3 * time.Millisecond}
		var wg sync.WaitGroup
		for i := range 50 {
			rnd := rand.New(rand.NewPCG(uint64(i), 32))
			wg.Go(func() {
				for range 100 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(10_000))*time.Microsecond)
					if l, err := r.pool.Acquire(ctx, r.pool.clock(), get); err == nil {
						time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
						l.Release(r.pool.clock(), Fate{Keep: rnd.IntN(4) > 0, Reason: ReasonCanceled, MaxLeft: -1})
					}
					cancel()
				}
			})
		}
		wg.Wait()
		r.sleep(time.Second)
		s := r.pool.Stats()
		if s.Waiting != 0 || s.Leased != 0 || s.InFlight != 0 || s.Dialing != 0 || s.TimedOut == 0 {
			t.Errorf("after the last request: %+v", s)
		}
		if _, n := r.count(); n > limit {
			t.Errorf("%d connections were open at once, the limit is %d", n, limit)
		}
		r.finish()
	})
}

func TestC33LimitHoldsWithLifetimeZero(t *testing.T) {
	const limit, requests = 2, 20
	bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = limit, 0 }, nil, func(r *rig) {
		var wg sync.WaitGroup
		for range requests {
			wg.Go(func() {
				l := r.get()
				if l.Reused() {
					t.Error("a connection without lifetime carried a second request")
				}
				time.Sleep(10 * time.Millisecond)
				l.Release(r.pool.clock(), Fate{Keep: true, MaxLeft: -1})
			})
		}
		wg.Wait()
		r.at(requests / limit * 10 * time.Millisecond)
		synctest.Wait()
		if all, atOnce := r.count(); atOnce != limit || all != requests || r.open.Load() != 0 {
			t.Errorf("%d open at once, %d in all, %d left", atOnce, all, r.open.Load())
		}
	})
}

func TestC34WaitersAreServedOldestFirst(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		l := r.getConn(0)
		calls := []*call{r.begin(), r.begin(), r.begin()}
		for i, c := range calls {
			for _, later := range calls[i:] {
				later.waiting()
			}
			r.sleep(time.Second)
			r.put(l)
			l = c.getsAt(0, time.Duration(i+1)*time.Second)
		}
		r.put(l)
	})
}

func TestC35IdleConnectionsAreUsedNewestFirst(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		ls := r.leases(3)
		r.put(ls[0], ls[2], ls[1])
		ls = []*Lease{r.getConn(1), r.getConn(2), r.getConn(0)}
		r.put(ls...)
	})
}

// .NET closes between T and 1.25 T, when its scavenger comes; here at T exactly.
func TestC36IdleConnectionIsClosedAtTheTimeout(t *testing.T) {
	bubble(t, func(c *Config) { c.IdleTimeout = 10 * time.Second }, nil, func(r *rig) {
		ls := r.leases(2)
		r.put(ls[0])
		r.sleep(3 * time.Second)
		r.put(ls[1])
		r.until(9 * time.Second)
		r.put(r.getConn(1))
		r.until(time.Minute)
		r.closedAt(0, 10*time.Second, ReasonIdle)
		r.closedAt(1, 19*time.Second, ReasonIdle)
	})
}

// .NET scavenges every 30 s; here a sweep finds dead peers every Config.Sweep.
func TestC37SweepFindsDeadPeersWithoutIdleTimeout(t *testing.T) {
	bubble(t, func(c *Config) { c.Sweep = 5 * time.Second }, nil, func(r *rig) {
		ls := r.leases(3)
		r.put(ls...)
		r.until(6 * time.Second)
		r.conn(1).dead.Store(true)
		r.until(24 * time.Second)
		r.closedAt(1, 10*time.Second, ReasonPeer)
		r.alive(0, 2)
		probed := []time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second}
		if got := r.conn(0).probed(); !slices.Equal(got, probed) {
			t.Errorf("connection 0 was probed at %v, expected %v", got, probed)
		}
		if s := r.pool.Stats(); s.PeerFirst != 1 || s.Idle != 2 {
			t.Errorf("after the sweep: %+v", s)
		}
	})
}

// .NET drops a pool after two ticks of disuse; here the owner is told when the
// pool has held nothing for Config.Forget, and a pool that holds nothing has no
// other timer.
func TestC38UnusedPoolIsForgottenAndHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout, c.Sweep, c.Forget = 10*time.Second, 5*time.Second, time.Minute })
		armed := func() int64 {
			r.pool.mu.Lock()
			defer r.pool.mu.Unlock()
			return r.pool.core.armed
		}
		if r.pool.timer != nil {
			t.Error("a new pool has a timer")
		}
		r.put(r.getConn(0))
		r.until(69 * time.Second)
		if told := r.toldEmpty(); len(told) > 0 {
			t.Errorf("the owner was told at %v", told)
		}
		r.until(71 * time.Second)
		if told := r.toldEmpty(); !slices.Equal(told, []time.Duration{70 * time.Second}) {
			t.Errorf("the owner was told at %v, expected 1m10s", told)
		}
		if armed() != never {
			t.Error("the timer of an empty pool is armed")
		}
		r.put(r.getConn(1)) // the owner may use it again
		r.mu.Lock()
		r.onEmpty = func() {
			if !r.pool.Forget() {
				t.Error("an empty pool is not forgotten")
			}
		}
		r.mu.Unlock()
		r.until(10 * time.Minute)
		if told := r.toldEmpty(); !slices.Equal(told, []time.Duration{70 * time.Second, 141 * time.Second}) {
			t.Errorf("the owner was told at %v, expected 1m10s and 2m21s", told)
		}
		if _, err := r.pool.Acquire(t.Context(), r.pool.clock(), get); err != ErrForgotten {
			t.Errorf("a forgotten pool answers %v", err)
		}
		if armed() != never {
			t.Error("the timer of a forgotten pool is armed")
		}
	})
}

func TestC42CloseLetsActiveRequestsFinish(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		ls := r.leases(2)
		r.put(ls[1])
		r.until(time.Second)
		r.pool.Close()
		r.at(time.Second)
		r.closedAt(1, time.Second, ReasonShutdown)
		r.alive(0)
		r.until(time.Minute)
		r.put(ls[0])
		r.closedAt(0, time.Minute, ReasonShutdown)
	})
}

// Real time: only the collector can show it.
func TestC43AbandonedPoolIsCollected(t *testing.T) {
	pool, conn := func() (pool, conn func() bool) {
		r := newRig(t, func(c *Config) { c.IdleTimeout, c.Lifetime, c.Sweep = time.Hour, time.Hour, time.Hour })
		a, b := r.get(), r.get()
		a.Release(r.pool.clock(), Fate{Keep: true, MaxLeft: -1})
		b.Release(r.pool.clock(), Fate{Keep: true, MaxLeft: -1})
		if s := r.pool.Stats(); s.Idle != 2 || r.pool.core.armed == never {
			t.Fatalf("the pool is not idle with its timer armed: %+v", s)
		}
		return watch(r.pool), watch(r.conn(0))
	}()
	collected(t, "the pool", pool)
	collected(t, "its connection", conn)
}

// watch returns a function that reports whether p has been collected.
func watch[T any](p *T) (gone func() bool) {
	w := weak.Make(p)
	return func() bool { return w.Value() == nil }
}

// collected runs the collector until gone.
func collected(t *testing.T, what string, gone func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !gone(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not collected", what)
		}
		runtime.GC()
	}
}
