package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Requests that do not queue, and dials that the owner does not want.

var atOnce = Request{Method: "GET", Path: "/", Budget: Never, Hasty: true}

// hasty makes a request that does not queue.
func (r *rig) hasty() *call { return r.beginAs(context.Background(), atOnce) }

// turnedAway fails the test unless the request has just failed for want of a connection.
func (c *call) turnedAway() {
	c.r.Helper()
	if err := c.failsAt(c.r.since()); err != ErrWouldQueue {
		c.r.Errorf("the request failed with %v", err)
	}
}

func TestHastyRequestTakesWhatIsFreeOrADialOfItsOwn(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, []dialPlan{{takes: time.Second}}, func(r *rig) {
		own := r.hasty()
		own.waiting()
		r.until(time.Second)
		a := own.getsAt(0, time.Second)
		b := r.hasty().gets(1)
		r.hasty().turnedAway()
		r.put(b)
		b = r.hasty().gets(1)
		r.hasty().turnedAway()
		r.dials(0, time.Second)
		s := r.pool.Stats()
		if s.WouldQueue != 2 || s.RejectedFull != 0 || s.TimedOut != 0 || s.PeakWaiting != 1 {
			t.Errorf("%+v", s)
		}
		if d := r.pool.Snapshot().Demand; d.Arrivals != 0 {
			t.Errorf("what was turned away is counted as a demand of %d", d.Arrivals)
		}
		r.put(a, b)
	})
}

func TestHastyRequestWaitsForNothingButADial(t *testing.T) {
	hang := dialPlan{hang: true}
	for name, x := range map[string]struct {
		change  func(*Config)
		plans   []dialPlan
		prepare func(*rig)
	}{
		"a limit": {func(c *Config) { c.MaxConns = 1 }, []dialPlan{hang}, func(r *rig) { r.begin() }},
		"dials":   {func(c *Config) { c.MaxDials = 1 }, []dialPlan{hang}, func(r *rig) { r.begin() }},
		"back-off": {nil, []dialPlan{{err: errDial}}, func(r *rig) {
			r.begin().failsAt(0)
		}},
		"a trial of another's": {nil, []dialPlan{{err: errDial}, hang}, func(r *rig) {
			r.begin().failsAt(0)
			r.begin()
			r.until(time.Second)
		}},
		"back-off that fails all": {nil, []dialPlan{{err: errDial}, {err: errDial}, {err: errDial}, {err: errDial}}, func(r *rig) {
			for range 3 {
				r.begin()
				r.sleep(time.Second)
			}
			r.begin()
			r.begin().failsAt(r.since())
		}},
		"a pause": {nil, nil, func(r *rig) {
			r.put(r.get())
			r.pool.Pause(context.Background())
		}},
		"the kernel": {nil, []dialPlan{{}, {err: errExhausted}}, func(r *rig) {
			r.get()
			r.begin()
		}},
		"a port": {nil, []dialPlan{hang}, func(r *rig) {
			r.begin()
			r.pool.Stalled(r.pool.core.dials.front, true)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, x.change, x.plans...)
				x.prepare(r)
				r.hasty().turnedAway()
				if s := r.pool.Stats(); s.WouldQueue != 1 {
					t.Errorf("%d were counted", s.WouldQueue)
				}
				r.pool.Resume()
				r.mu.Lock()
				r.usual = dialPlan{}
				r.mu.Unlock()
				r.pool.Close()
			})
		})
	}
}

// A dial that nobody else needs serves it, one that somebody needs does not.
func TestHastyRequestTakesAnOrphanedDial(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, []dialPlan{{}, {takes: 500 * ms}}, func(r *rig) {
		a := r.getConn(0)
		b := r.begin() // has a dial of its own
		r.hasty().turnedAway()
		r.put(a)
		a = b.gets(0)
		c := r.hasty() // has what b left
		c.waiting()
		r.hasty().turnedAway()
		r.until(time.Second)
		r.put(a, c.getsAt(1, 500*ms))
		r.dials(0, 0)
	})
}

// What it counted on may be lost to it: it fails then, and not at its context's end.
func TestHastyRequestIsTurnedAwayWhenWhatWasToComeIsLost(t *testing.T) {
	for name, x := range map[string]struct {
		plan dialPlan
		lose func(*rig)
	}{
		"the connection has less room": {dialPlan{takes: time.Second}, func(r *rig) { r.until(time.Second) }},
		"the dial fails":               {dialPlan{takes: time.Second, err: errDial}, func(r *rig) { r.until(time.Second) }},
		"a pause": {dialPlan{hang: true}, func(r *rig) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			r.pool.Pause(ctx)
		}},
		"the dial waits for a port": {dialPlan{hang: true}, func(r *rig) { r.pool.Stalled(r.pool.core.dials.front, true) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(c *Config) { c.MaxConns, c.Expect, c.Forget, c.OrphanGrace = 1, 2, time.Minute, 0 }, x.plan)
				a, b := r.hasty(), r.hasty()
				b.waiting()
				x.lose(r)
				synctest.Wait()
				b.turnedAway()
				if a.over() && a.err == nil {
					r.drop(a.lease)
				}
				if name == "a pause" {
					r.pool.Resume()
				}
				a.cancel(errGone)
				r.until(3 * time.Minute)
				r.mu.Lock()
				if len(r.emptied) == 0 {
					t.Error("the pool holds nothing, and nobody is told")
				}
				r.mu.Unlock()
				r.pool.Close()
			})
		})
	}
}

// A dial that waits for a port serves those that came for it all the same, and when it goes
// on, those that do not queue may count on it.
func TestHastyRequestCountsOnADialThatGoesOn(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.Expect = 1, 2 }, []dialPlan{{takes: time.Second, capacity: 2}}, func(r *rig) {
		a := r.begin()
		dial := r.pool.core.dials.front
		r.pool.Stalled(dial, true)
		r.hasty().turnedAway()
		r.pool.Stalled(dial, false)
		b := r.hasty()
		r.until(time.Second)
		r.put(a.getsAt(0, time.Second), b.getsAt(0, time.Second))
		r.pool.Stalled(dial, true) // too late to mean anything
	})
}

func TestHastyRequestThatItsConnectionRefused(t *testing.T) {
	full := func(c *fakeConn) { c.full.Store(1) }
	t.Run("a dial of its own", func(t *testing.T) {
		bubble(t, nil, nil, func(r *rig) {
			r.put(r.get())
			r.conn(0).dead.Store(true)
			r.put(r.hasty().gets(1))
		})
	})
	t.Run("another one", func(t *testing.T) {
		bubble(t, nil, nil, func(r *rig) {
			r.put(r.leases(3)...)
			r.conn(2).dead.Store(true)
			r.conn(1).dead.Store(true)
			r.put(r.hasty().gets(0))
			r.dials(0, 0, 0)
		})
	})
	t.Run("no room", func(t *testing.T) {
		bubble(t, func(c *Config) { c.MaxConns = 1 }, []dialPlan{{capacity: 2, prepare: func(c *fakeConn) {}}}, func(r *rig) {
			l := r.get()
			full(r.conn(0))
			r.hasty().turnedAway()
			r.put(l)
		})
	})
	t.Run("no room on what was dialled for it", func(t *testing.T) {
		bubble(t, func(c *Config) { c.MaxConns = 1 }, []dialPlan{{prepare: full}}, func(r *rig) {
			r.hasty().turnedAway()
			r.pool.Close()
		})
	})
	t.Run("during a pause", func(t *testing.T) {
		bubble(t, nil, nil, func(r *rig) {
			r.put(r.get())
			r.conn(0).reserve = func() Verdict {
				time.Sleep(time.Second)
				return Full
			}
			c := r.hasty()
			go r.pool.Pause(context.Background())
			r.until(time.Second)
			c.turnedAway()
			r.pool.Resume()
		})
	})
}

// Its end comes by its context or its budget, like anybody's, while it waits for a dial.
func TestHastyRequestHasItsDeadline(t *testing.T) {
	bubble(t, nil, []dialPlan{{hang: true}}, func(r *rig) {
		soon := atOnce
		soon.Budget = time.Second
		c := r.beginAs(context.Background(), soon)
		r.until(2 * time.Second)
		if err := c.failsAt(time.Second); !errors.Is(err, ErrTimeout) {
			t.Errorf("%v", err)
		}
	})
}

// Nothing is taken from another pool for it, and it does not stand in line for a place.
func TestHastyRequestUnderALimitOverPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newRig(t, nil), newRig(t, nil)
		q := NewQuota(a.pool.clock, a.pool.shared)
		l := MakeLimit("all", 2)
		q.Join(a.pool, &l)
		q.Join(b.pool, &l)
		held := a.hasty().gets(0)
		a.put(a.leases(1)...)
		b.hasty().turnedAway()
		a.alive(0, 1)
		b.dials()
		waits := b.begin() // for it the idle one is closed
		b.put(waits.gets(0))
		if at, why := a.conn(1).end(); at < 0 || why != ReasonStolen {
			t.Errorf("closed at %v for %v", at, why)
		}
		full := b.leases(1)
		waits = b.begin()
		b.hasty().turnedAway() // though a dial is planned that one more could count on
		b.config(func(c *Config) { c.Expect = 5 })
		b.hasty().turnedAway()
		b.put(full...)
		b.put(waits.gets(0))
		a.put(held)
		a.pool.Close()
		b.pool.Close()
	})
}

// A dial that the owner does not want fails its request, and holds nobody up.
func TestRefusedDialsHoldNobodyUp(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxDials = 1 }, nil, func(r *rig) {
		r.mu.Lock()
		r.usual = dialPlan{takes: ms, err: errRefused}
		r.mu.Unlock()
		var calls []*call
		for range 20 {
			calls = append(calls, r.begin())
		}
		r.until(20 * ms)
		for i, c := range calls {
			var dial *DialError
			if err := c.failsAt(time.Duration(i+1) * ms); !errors.As(err, &dial) || dial.Err != errRefused || dial.Failures != 0 || dial.Backoff != 0 {
				t.Errorf("request %d: %v", i, err)
			}
		}
		s := r.pool.Stats()
		if s.DialsRefused != 20 || s.DialsFailed != 0 || s.RejectedBackoff != 0 {
			t.Errorf("%+v", s)
		}
		r.mu.Lock()
		r.usual = dialPlan{}
		r.mu.Unlock()
		r.put(r.get()) // at once
	})
}

// They neither end a back-off nor prolong it.
func TestRefusedDialDuringBackoff(t *testing.T) {
	bubble(t, nil, []dialPlan{{err: errDial}, {err: errRefused}, {err: errDial}}, func(r *rig) {
		r.begin().failsAt(0)
		a, b := r.begin(), r.begin()
		r.until(50 * ms)
		for c, want := range map[*call]error{a: errRefused, b: errDial} {
			if err := c.failsAt(50 * ms); !errors.Is(err, want) {
				t.Errorf("%v, expected %v", err, want)
			}
		}
		c := r.begin()
		r.until(time.Second)
		r.put(c.getsAt(0, 150*ms)) // after two failures
	})
}

// MinIdle does not ask without end.
func TestRefusedDialsOfMinIdle(t *testing.T) {
	bubble(t, func(c *Config) { c.MinIdle = 2 }, nil, func(r *rig) {
		r.mu.Lock()
		r.plans = []dialPlan{{}}
		r.usual = dialPlan{err: errRefused}
		r.mu.Unlock()
		l := r.get()
		r.until(10 * time.Second)
		if n := len(r.begun); n < 5 || n > 40 {
			t.Errorf("%d dials in ten seconds", n)
		}
		r.put(l)
	})
}
