package pool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The end of a pool: Shutdown, Close, Forget.

func TestShutdownServesTheQueueAndReturnsAtTheEnd(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, nil, func(r *rig) {
		ls := r.leases(2)
		a, b := r.begin(), r.begin()
		r.put(ls[1])
		second := a.gets(1)
		var ended time.Duration
		go func() {
			if err := r.pool.Shutdown(r.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			ended = r.since()
		}()
		synctest.Wait()
		if err := r.begin().failsAt(0); err != ErrClosed {
			t.Errorf("a new request got %v", err)
		}
		b.waiting()
		r.until(time.Second)
		r.put(ls[0])
		first := b.getsAt(0, time.Second)
		r.until(2 * time.Second)
		r.put(second)
		r.closedAt(1, 2*time.Second, ReasonShutdown)
		r.until(3 * time.Second)
		r.put(first)
		r.closedAt(0, 3*time.Second, ReasonShutdown)
		if ended != 3*time.Second {
			t.Errorf("Shutdown returned at %v, expected 3s", ended)
		}
		if s := r.pool.Stats(); s.RejectedClosed != 1 || s.Closed[ReasonShutdown] != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestShutdownDialsForTheQueueButForNobodyElse(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, []dialPlan{{}, {takes: time.Second}, {hang: true}}, func(r *rig) {
		first := r.getConn(0)
		a := r.begin()
		go r.pool.Shutdown(context.Background())
		r.until(time.Second)
		r.put(a.getsAt(1, time.Second))
		r.put(first)
		r.closedAt(1, time.Second, ReasonShutdown)
		r.at(time.Second)
	})
	bubble(t, nil, []dialPlan{{hang: true}}, func(r *rig) {
		r.begin().cancel(errGone)
		synctest.Wait()
		if err := r.pool.Shutdown(r.Context()); err != nil {
			t.Error(err)
		}
		r.at(0) // the dial that nobody waits for was cancelled
	})
}

func TestShutdownReturnsAtTheEndOfItsContext(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		l := r.getConn(0)
		ctx, cancel := context.WithTimeoutCause(r.Context(), 5*time.Second, errGone)
		defer cancel()
		if err := r.pool.Shutdown(ctx); err != errGone {
			t.Errorf("Shutdown returned %v", err)
		}
		r.at(5 * time.Second)
		r.alive(0) // nothing was cut
		r.put(l)
		r.closedAt(0, 5*time.Second, ReasonShutdown)
	})
}

func TestCloseFailsTheQueueAndCancelsDials(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, []dialPlan{{}, {hang: true}}, func(r *rig) {
		l := r.getConn(0)
		calls := []*call{r.begin(), r.begin(), r.begin()}
		r.until(time.Second)
		r.pool.Close()
		r.at(time.Second)
		synctest.Wait()
		for _, c := range append(calls, r.begin()) {
			if err := c.failsAt(time.Second); err != ErrClosed {
				t.Errorf("a request failed with %v", err)
			}
		}
		r.alive(0)
		if s := r.pool.Stats(); s.DialsCancelled != 1 || s.Dialing != 0 || s.Leased != 1 {
			t.Errorf("%+v", s)
		}
		r.put(l)
		r.closedAt(0, time.Second, ReasonShutdown)
	})
}

func TestCloseWaitsForWhatIsUnderWay(t *testing.T) {
	slow := dialPlan{prepare: func(c *fakeConn) { c.slow = 2 * time.Second }}
	deaf := dialPlan{takes: 7 * time.Second, deaf: true}
	t.Run("close", func(t *testing.T) {
		bubble(t, nil, []dialPlan{slow}, func(r *rig) {
			r.put(r.getConn(0))
			r.pool.Close()
			r.at(2 * time.Second)
		})
	})
	t.Run("dial", func(t *testing.T) {
		bubble(t, nil, []dialPlan{deaf}, func(r *rig) {
			r.begin()
			r.pool.Close()
			r.at(7 * time.Second)
			r.closedAt(0, 7*time.Second, ReasonShutdown)
		})
	})
	t.Run("probe", func(t *testing.T) {
		bubble(t, func(c *Config) { c.Sweep = 5 * time.Second }, []dialPlan{slow}, func(r *rig) {
			r.put(r.getConn(0))
			r.until(6 * time.Second)
			r.pool.Close()
			r.at(9 * time.Second)
			r.closedAt(0, 9*time.Second, ReasonShutdown)
		})
	})
}

func TestRequestRefusedByItsConnectionDuringShutdownIsServedByAnother(t *testing.T) {
	for _, hard := range []bool{false, true} {
		bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
			r.put(r.getConn(0))
			end := make(chan struct{})
			r.conn(0).reserve = func() Verdict {
				go func() {
					defer close(end)
					if hard {
						r.pool.Close()
					} else {
						r.pool.Shutdown(context.Background())
					}
				}()
				time.Sleep(time.Second)
				return Dead
			}
			c := r.begin()
			r.until(2 * time.Second)
			if hard {
				if err := c.failsAt(time.Second); err != ErrClosed {
					t.Errorf("the request failed with %v", err)
				}
			} else {
				r.put(c.getsAt(1, time.Second))
			}
			<-end
		})
	}
}

func TestPoolThatHoldsSomethingIsNotForgotten(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, []dialPlan{{takes: time.Second}}, func(r *rig) {
		c := r.begin()
		if r.pool.Forget() {
			t.Error("forgotten during a dial")
		}
		r.until(time.Second)
		l := c.gets(0)
		if r.pool.Forget() {
			t.Error("forgotten during a request")
		}
		r.put(l)
		if r.pool.Forget() {
			t.Error("forgotten with an idle connection")
		}
		r.pool.CloseIdle()
		synctest.Wait()
		for range 2 {
			if !r.pool.Forget() {
				t.Error("an empty pool is not forgotten")
			}
		}
		if err := r.begin().failsAt(time.Second); err != ErrForgotten {
			t.Errorf("a forgotten pool answers %v", err)
		}
	})
}

// The timer may have fired already when the pool is forgotten.
func TestForgottenPoolTellsNobodyThatItIsEmpty(t *testing.T) {
	cfg := generous()
	p := New(benchOwner{}, nil, func() int64 { return 1 }, &cfg, new(Shared))
	if !p.Forget() {
		t.Fatal("a new pool is not empty")
	}
	p.core.cfg.Forget = 0
	p.core.tick(1)
	p.core.tick(2)
	if len(p.core.out) > 0 || p.core.deadline() != never {
		t.Errorf("%d actions, deadline %d", len(p.core.out), p.core.deadline())
	}
}
