package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Waiting: the budget and what a starved request is told, the bound of the queue,
// and grants that do not come to be used.

func budget(d time.Duration) Request { return Request{Method: "GET", Path: "/", Budget: d} }

func TestBudgetCoversTheQueue(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		l := r.getConn(0)
		r.until(time.Second)
		c := r.beginAs(r.Context(), budget(2*time.Second))
		r.until(time.Minute)
		err := c.failsAt(3 * time.Second)
		var starved *StarvedError
		if !errors.As(err, &starved) || starved.Waited != 2*time.Second || !errors.Is(err, ErrTimeout) {
			t.Errorf("the request failed with %#v", err)
		}
		if s := r.pool.Stats(); s.TimedOut != 1 || s.Waiting != 0 {
			t.Errorf("after the timeout: %+v", s)
		}
		r.put(l)
	})
}

func TestBudgetCoversTheDial(t *testing.T) {
	bubble(t, nil, []dialPlan{{takes: 10 * time.Second}}, func(r *rig) {
		c := r.beginAs(r.Context(), budget(time.Second))
		r.until(time.Minute)
		if err := c.failsAt(time.Second); !errors.Is(err, ErrTimeout) {
			t.Errorf("the request failed with %v", err)
		}
	})
}

func TestBudgetBeginsWithTheRequestNotWithTheWait(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.conn(0).reserve = func() Verdict { // half of the budget passes before the request must wait
			time.Sleep(time.Second)
			return Dead
		}
		r.mu.Lock()
		r.usual = dialPlan{hang: true}
		r.mu.Unlock()
		c := r.beginAs(r.Context(), budget(2*time.Second))
		r.until(time.Minute)
		c.failsAt(2 * time.Second)
	})
}

func TestDeadlineOfTheContextStarvesAndItsCancellationDoesNot(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		l := r.getConn(0)
		cause := errors.New("too slow")
		late, stop := context.WithTimeoutCause(r.Context(), time.Second, cause)
		defer stop()
		a := r.beginAs(late, get)
		b := r.begin()
		gone := make(chan struct{})
		c := r.beginAs(r.Context(), Request{Cancel: gone, Budget: time.Hour})
		r.until(2 * time.Second)
		b.cancel(errGone)
		close(gone)
		synctest.Wait()
		if err := a.failsAt(time.Second); !errors.Is(err, cause) || r.starvedError(err).Waiting != 3 {
			t.Errorf("at the deadline: %v", err)
		}
		if err := b.failsAt(2 * time.Second); err != errGone {
			t.Errorf("cancelled by the context: %v", err)
		}
		if err := c.failsAt(2 * time.Second); err != ErrCanceled {
			t.Errorf("cancelled by the channel: %v", err)
		}
		r.put(l)
	})
}

func TestStarvedRequestIsToldWhatBinds(t *testing.T) {
	hang := dialPlan{hang: true}
	for _, x := range []struct {
		name    string
		change  func(*Config)
		plans   []dialPlan
		prepare func(*rig) []*Lease
		want    Binding
		check   func(*testing.T, *Snapshot)
	}{
		{"dialing", nil, []dialPlan{hang}, nil, BindingDial, func(t *testing.T, s *Snapshot) {
			if s.Dialing != 1 || s.Waiting != 1 {
				t.Errorf("%+v", s)
			}
		}},
		{"conns", func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) []*Lease { return r.leases(1) }, BindingConns,
			func(t *testing.T, s *Snapshot) {
				if s.Leased != 1 || s.Config.MaxConns != 1 {
					t.Errorf("%+v", s)
				}
			}},
		{"dials", func(c *Config) { c.MaxDials = 1 }, []dialPlan{hang}, func(r *rig) []*Lease { r.begin(); return nil }, BindingDials,
			func(t *testing.T, s *Snapshot) {
				if s.Dialing != 1 || s.Waiting != 2 || s.Ahead != 1 {
					t.Errorf("%+v", s)
				}
			}},
		{"backoff", nil, []dialPlan{{err: errDial}, {err: errDial}, hang}, func(r *rig) []*Lease {
			for range 2 {
				r.begin().failsAt(r.since())
				r.sleep(50 * time.Millisecond)
			}
			return nil
		}, BindingBackoff, func(t *testing.T, s *Snapshot) {
			if s.DialErr != errDial || s.Dialing != 0 {
				t.Errorf("%+v", s)
			}
		}},
		{"exhausted", nil, []dialPlan{{}, {err: errExhausted}}, func(r *rig) []*Lease { return r.leases(1) }, BindingExhausted,
			func(t *testing.T, s *Snapshot) {
				if s.Exhausted != errExhausted || s.Leased != 1 || s.DialsExhausted != 1 {
					t.Errorf("%+v", s)
				}
			}},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, x.change, x.plans, func(r *rig) {
				var ls []*Lease
				if x.prepare != nil {
					ls = x.prepare(r)
				}
				begun := r.since()
				c := r.beginAs(r.Context(), budget(40*time.Millisecond))
				r.sleep(40 * time.Millisecond)
				s := r.starvedError(c.failsAt(begun + 40*time.Millisecond))
				if s.Binding != x.want {
					t.Errorf("binding %d, expected %d", s.Binding, x.want)
				}
				x.check(t, s)
				r.put(ls...)
			})
		})
	}
}

func TestStarvedRequestIsToldTheOldestLeases(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 4 }, nil, func(r *rig) {
		var ls []*Lease
		for i, path := range []string{"/a", "/b", "/c", "/d"} {
			r.until(time.Duration(i) * time.Second)
			c := r.beginAs(r.Context(), Request{Method: "POST", Path: path, Budget: Never})
			ls = append(ls, c.gets(i))
		}
		ls[0].SetPhase(PhaseBody)
		r.until(6 * time.Second)
		ls[0].Touch(r.pool.clock())
		ls[1].SetPhase(PhaseAwaiting)
		r.begin()
		r.begin()
		c := r.beginAs(r.Context(), budget(4*time.Second))
		r.until(10 * time.Second)
		s := r.starvedError(c.failsAt(10 * time.Second))
		if s.Ahead != 2 || s.OldestWait != 4*time.Second || s.Waiting != 3 {
			t.Errorf("%d ahead of %d, the oldest waits for %v", s.Ahead, s.Waiting, s.OldestWait)
		}
		want := []LeaseInfo{
			{Method: "POST", Path: "/a", Phase: PhaseBody, Held: 10 * time.Second, SinceByte: 4 * time.Second, Unread: 4 * time.Second},
			{Method: "POST", Path: "/b", Phase: PhaseAwaiting, Held: 9 * time.Second, SinceByte: -1},
			{Method: "POST", Path: "/c", Phase: PhaseSending, Held: 8 * time.Second, SinceByte: -1},
		}
		if len(s.Oldest) != len(want) {
			t.Fatalf("the oldest leases are %+v", s.Oldest)
		}
		for i, w := range want {
			s.Oldest[i].Conn = nil
			if s.Oldest[i] != w {
				t.Errorf("lease %d is %+v, expected %+v", i, s.Oldest[i], w)
			}
		}
		r.drainAll()
	})
}

// drainAll ends every lease, and those that follow, without their requests.
func (r *rig) drainAll() {
	for {
		r.pool.mu.Lock()
		l := r.pool.core.leases.front
		r.pool.mu.Unlock()
		if l == nil {
			return
		}
		r.put(l)
	}
}

func TestStarvedIsToldOnce(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.WarnAfter = 1, 3*time.Second }, nil, func(r *rig) {
		l := r.getConn(0)
		r.until(time.Second)
		r.begin()
		r.begin()
		r.until(4*time.Second - 1)
		if told := r.toldStarved(); len(told) != 0 {
			t.Errorf("told %d times before its time", len(told))
		}
		r.until(time.Minute)
		told := r.toldStarved()
		if len(told) != 1 || told[0].OldestWait != 3*time.Second || told[0].Waiting != 2 || told[0].Binding != BindingConns {
			t.Fatalf("told %d times: %+v", len(told), told)
		}
		r.put(l)
		r.drainAll()
	})
}

func TestQueueIsBounded(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.MaxWaiters = 1, 2 }, nil, func(r *rig) {
		l := r.getConn(0)
		a, b := r.begin(), r.begin()
		if err := r.begin().failsAt(0); err != ErrQueueFull {
			t.Errorf("a third waiter got %v", err)
		}
		a.cancel(errGone)
		synctest.Wait()
		c := r.begin()
		c.waiting()
		if s := r.pool.Stats(); s.RejectedFull != 1 || s.Waiting != 2 {
			t.Errorf("%+v", s)
		}
		r.put(l)
		r.put(b.gets(0))
		r.put(c.gets(0))
	})
}

func TestRequestWithADialOfItsOwnWaitsBehindNobody(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.MaxWaiters = 2, 0 }, []dialPlan{{takes: time.Second}, {takes: 2 * time.Second}}, func(r *rig) {
		a := r.begin()
		a.waiting()
		b := r.begin()
		b.waiting()
		if err := r.begin().failsAt(0); err != ErrQueueFull {
			t.Errorf("a request without a dial got %v", err)
		}
		r.until(2 * time.Second)
		r.put(a.getsAt(0, time.Second), b.getsAt(1, 2*time.Second))
		r.put(r.getConn(1))
	})
}

func TestQueueBoundWithoutOtherLimits(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxWaiters, c.Expect = 0, 100 }, []dialPlan{{takes: time.Second, capacity: 100}}, func(r *rig) {
		var ls []*Lease
		calls := []*call{r.begin(), r.begin(), r.begin()}
		r.until(time.Second)
		for _, c := range calls {
			ls = append(ls, c.gets(0))
		}
		r.put(ls...)
	})
}

// A request that leaves while it is being granted a connection passes it on.
func TestGrantIsTransferable(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		l := r.getConn(0)
		for range 200 { // which of the two a request sees first is left to chance
			a, b := r.begin(), r.begin()
			l.Release(r.pool.clock(), Fate{Keep: true, MaxLeft: -1})
			a.cancel(errGone)
			synctest.Wait()
			if a.err == nil {
				r.put(a.gets(0))
			} else if a.err != errGone {
				t.Fatalf("the cancelled request got %v", a.err)
			}
			l = b.gets(0)
		}
		r.put(l)
		r.dials(0)
		r.alive(0)
	})
}

func TestCancelledGrantKeepsThePeersIdleTimeout(t *testing.T) {
	var c core
	cfg := generous()
	cfg.MaxConns = 1
	c.init(nil, &cfg, new(Shared), nil, 1)
	w := &Waiter{ctx: t.Context(), since: 1}
	c.enqueue(w, 1, false)
	s := w.dial
	c.admitted(s, 1)
	c.dialled(s, nil, "", 1, 1)
	next := &Waiter{ctx: t.Context(), since: 1}
	c.enqueue(next, 1, false)
	c.release(w.lease, 10, Fate{Keep: true, IdleFor: 5, MaxLeft: -1})
	if next.state != waiterGranted {
		t.Fatal("the waiter was not granted the connection")
	}
	c.cancel(next, 12)
	if d := c.deadline(); s.state != StateIdle || d != 15 {
		t.Errorf("the connection is %v until %d, expected idle until 15", s.state, d)
	}
	c.tick(15)
	if s.state != StateClosing || s.reason != ReasonIdle {
		t.Errorf("the connection is %v (%v), expected closing (idle)", s.state, s.reason)
	}
}

func TestRequestRefusedByItsConnectionReturnsToTheHead(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		l := r.getConn(0)
		a, b, c := r.begin(), r.begin(), r.begin()
		r.conn(0).full.Store(1)
		r.pool.SetCapacity(l.slot, 2)
		synctest.Wait()
		a.waiting() // was granted room that was not there
		b.waiting()
		if s := r.pool.Stats(); s.Waiting != 3 || s.Requests != 1 || s.InFlight != 1 {
			t.Errorf("after the refusal: %+v", s)
		}
		r.put(l)
		r.put(a.gets(0))
		r.put(b.gets(0))
		r.put(c.gets(0))
		r.dials(0)
	})
}

func TestConnectionFoundDeadIsReplaced(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.conn(0).dead.Store(true)
		r.sleep(time.Second)
		r.put(r.getConn(1))
		r.closedAt(0, time.Second, ReasonPeer)
		if n := len(r.conn(1).reserved()); n != 1 {
			t.Errorf("room for one request was reserved %d times", n)
		}
		if s := r.pool.Stats(); s.Requests != 2 || s.Reused != 0 || s.PeerFirst != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestConnectionWithoutRoomAndWithoutExchangesIsClosed(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.conn(0).full.Store(1)
		r.put(r.getConn(1))
		synctest.Wait()
		r.closedAt(0, 0, ReasonRefused)
	})
}

func TestReserveIsToldHowLongTheConnectionSatUnused(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		l := r.getConn(0)
		r.sleep(time.Second)
		r.put(l)
		r.sleep(3 * time.Second)
		l = r.getConn(0)
		if got := r.conn(0).reserved(); l.Idle() != 3*time.Second || got[1] != 3*time.Second {
			t.Errorf("the lease says %v, Reserve was told %v", l.Idle(), got)
		}
		r.put(l)
	})
}

func TestCapacityRaisedByEventServesTheQueueWithoutADial(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.Expect = 1, 100 }, nil, func(r *rig) {
		ls := r.leases(1)
		var calls []*call
		for range 99 {
			calls = append(calls, r.begin())
		}
		calls[0].waiting()
		r.until(time.Second)
		r.pool.SetCapacity(ls[0].slot, 100)
		synctest.Wait()
		for _, c := range calls {
			ls = append(ls, c.getsAt(0, time.Second))
		}
		if s := r.pool.Stats(); s.InFlight != 100 || s.Leased != 1 || s.PeakLeased != 1 {
			t.Errorf("%+v", s)
		}
		r.dials(0)
		r.put(ls...)
		if s := r.pool.Stats(); s.InFlight != 0 || s.Idle != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestUnlimitedCapacity(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 1 }, []dialPlan{{capacity: Unlimited}}, func(r *rig) {
		ls := []*Lease{r.getConn(0), r.getConn(0), r.getConn(0)}
		r.pool.SetCapacity(ls[0].slot, 1)
		c := r.begin()
		c.waiting()
		r.pool.SetCapacity(ls[0].slot, Unlimited)
		synctest.Wait()
		r.put(append(ls, c.gets(0))...)
	})
}

func TestReleasingTwicePanicsWithWords(t *testing.T) {
	twice := func(t *testing.T, r *rig, l *Lease) {
		t.Helper()
		defer func() {
			if v := recover(); v != "pool: lease released twice" {
				t.Errorf("the second release panicked with %v", v)
			}
		}()
		r.put(l)
	}
	bubble(t, func(c *Config) { c.MaxConns = 1 }, []dialPlan{{capacity: 2}}, func(r *rig) {
		a, b := r.getConn(0), r.getConn(0)
		r.put(b)
		twice(t, r, b)
		r.put(a)
		twice(t, r, a)
		r.put(r.getConn(0)) // the pool goes on
	})
}

// Times are taken before the lock: an older one may come later.
func TestTimeNeverRunsBackwards(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		ls := r.leases(2)
		r.until(time.Second)
		early := r.pool.clock()
		r.until(2 * time.Second)
		r.put(ls[0])
		ls[1].Release(early, Fate{Keep: true, MaxLeft: -1})
		r.pool.mu.Lock()
		r.pool.core.checkInvariants()
		r.pool.mu.Unlock()
		l, err := r.pool.Acquire(r.Context(), early, get)
		if err != nil || l.Idle() < 0 {
			t.Fatalf("got %v after %v, %v", l, l.Idle(), err)
		}
		r.put(l)
	})
}
