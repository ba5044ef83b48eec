package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Dials: back-off after failures, a kernel that has nothing left, dials whose
// request has gone, and admission.

const ms = time.Millisecond

func TestBackoffDoublesFrom50msToASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.MaxConns = 1 })
		r.usual = dialPlan{takes: 10 * ms, err: errDial}
		var calls []*call
		for range 8 {
			calls = append(calls, r.begin())
		}
		r.until(time.Minute)
		// One dial at a time, 10 ms long, then 50, 100, 200, 400, 800, 1000, 1000 ms of rest.
		r.dials(0, 60*ms, 170*ms, 380*ms, 790*ms, 1600*ms, 2610*ms, 3620*ms)
		for i, at := range []time.Duration{10 * ms, 70 * ms, 180 * ms, 390 * ms, 800 * ms, 1610 * ms, 2620 * ms, 3630 * ms} {
			var d *DialError
			if err := calls[i].failsAt(at); !errors.As(err, &d) || d.Failures != i+1 || !errors.Is(err, errDial) {
				t.Errorf("request %d failed with %#v", i, err)
			}
		}
		if s := r.pool.Stats(); s.DialsFailed != 8 || s.RejectedBackoff != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
		r.finish()
	})
}

func TestNewRequestsFailAtOnceAfterThreeFailuresInARow(t *testing.T) {
	fails := dialPlan{err: errDial}
	bubble(t, nil, []dialPlan{fails, fails, fails}, func(r *rig) {
		r.begin().failsAt(0)
		second := r.begin() // two failures are not enough
		second.waiting()
		r.until(50 * ms)
		second.failsAt(50 * ms)
		third := r.begin()
		third.waiting()
		queued := r.begin() // has its turn, whatever comes
		r.until(150 * ms)
		third.failsAt(150 * ms)
		queued.waiting()
		var d *DialError
		err := r.begin().failsAt(150 * ms)
		if !errors.As(err, &d) || d.Failures != 3 || d.Backoff != 200*ms || !errors.Is(err, errDial) {
			t.Errorf("a new request failed with %#v", err)
		}
		r.until(time.Second)
		r.dials(0, 50*ms, 150*ms, 350*ms)
		l := queued.getsAt(0, 350*ms)
		if s := r.pool.Stats(); s.RejectedBackoff != 1 || s.DialsFailed != 3 {
			t.Errorf("%+v", s)
		}
		r.begin().gets(1) // success has ended the back-off
		r.put(l)
		r.drainAll()
	})
}

func TestNewRequestsWaitDuringBackoffWhileAConnectionLives(t *testing.T) {
	fails := dialPlan{err: errDial}
	bubble(t, nil, []dialPlan{{}, fails, fails, fails, fails}, func(r *rig) {
		l := r.getConn(0)
		for _, at := range []time.Duration{0, 50 * ms, 150 * ms} {
			c := r.begin()
			r.until(at)
			c.failsAt(at)
		}
		c := r.begin()
		c.waiting()
		r.until(200 * ms)
		r.put(l)
		r.put(c.getsAt(0, 200*ms))
		r.dials(0, 0, 50*ms, 150*ms)
	})
}

func TestOneTrialAtATimeDuringBackoff(t *testing.T) {
	fails, works := dialPlan{takes: 10 * ms, err: errDial}, dialPlan{takes: 10 * ms}
	bubble(t, nil, []dialPlan{fails, fails, works, works, works, works, works}, func(r *rig) {
		a, b := r.begin(), r.begin()
		r.until(10 * ms)
		a.failsAt(10 * ms)
		b.failsAt(10 * ms)
		var calls []*call
		for range 5 {
			calls = append(calls, r.begin())
		}
		r.until(time.Second)
		// Two failures: 100 ms. The trial succeeds, and the others dial at once.
		r.dials(0, 0, 110*ms, 120*ms, 120*ms, 120*ms, 120*ms)
		calls[0].getsAt(0, 120*ms)
		for _, c := range calls[1:] {
			if !c.over() || c.err != nil || c.at != 130*ms {
				t.Errorf("a request was answered at %v: %v", c.at, c.err)
			}
		}
		r.drainAll()
	})
}

func TestExhaustedKernelLeavesTheWaiterToTheLivingConnections(t *testing.T) {
	exhausted := dialPlan{err: errExhausted}
	bubble(t, nil, []dialPlan{{}, exhausted, exhausted, exhausted}, func(r *rig) {
		l := r.getConn(0)
		c := r.begin()
		r.until(2500 * ms)
		c.waiting()
		r.dials(0, 0, time.Second, 2*time.Second) // a trial a second
		r.put(l)
		r.put(c.getsAt(0, 2500*ms))
		if s := r.pool.Stats(); s.DialsExhausted != 3 || s.DialsFailed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestExhaustedKernelIsTriedAgainWhenAConnectionCloses(t *testing.T) {
	bubble(t, nil, []dialPlan{{}, {}, {err: errExhausted}, {}}, func(r *rig) {
		ls := r.leases(2)
		c := r.begin()
		r.until(300 * ms)
		r.drop(ls[0])
		c.getsAt(2, 300*ms)
		r.dials(0, 0, 0, 300*ms)
		r.put(ls[1])
		r.drainAll()
	})
}

func TestExhaustedKernelFailsTheRequestWithoutALivingConnection(t *testing.T) {
	bubble(t, nil, []dialPlan{{err: errExhausted}}, func(r *rig) {
		if err := r.begin().failsAt(0); !errors.Is(err, errExhausted) {
			t.Errorf("the request failed with %v", err)
		}
		if s := r.pool.Stats(); s.DialsExhausted != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDialThatWasGivenUpDoesNotHoldUpTheNextRequest(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.OrphanGrace = 2, 5*time.Second }, []dialPlan{{hang: true}, {takes: time.Second}}, func(r *rig) {
		first := r.begin()
		r.until(time.Second)
		first.cancel(errGone)
		r.until(2 * time.Second)
		second := r.begin()
		r.until(time.Minute)
		second.getsAt(0, 3*time.Second)
		r.dials(0, 2*time.Second)
		r.mu.Lock()
		if len(r.ended) != 1 || r.ended[0] != 6*time.Second {
			t.Errorf("the dial was cancelled at %v, expected 6s", r.ended)
		}
		r.mu.Unlock()
		r.drainAll()
	})
}

func TestDialThatWasGivenUpServesTheNextRequestWhenItCompletes(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.OrphanGrace = 1, 5*time.Second }, []dialPlan{{takes: 3 * time.Second}}, func(r *rig) {
		first := r.begin()
		first.cancel(errGone)
		r.until(time.Second)
		second := r.begin()
		r.until(time.Minute)
		r.put(second.getsAt(0, 3*time.Second))
		r.dials(0)
	})
}

func TestConnectionOfACancelledDialIsPooledAllTheSame(t *testing.T) {
	deaf := dialPlan{takes: 3 * time.Second, deaf: true}
	bubble(t, func(c *Config) { c.OrphanGrace = time.Second }, []dialPlan{deaf}, func(r *rig) {
		r.begin().cancel(errGone)
		r.until(time.Minute)
		r.put(r.getConn(0))
		r.dials(0)
	})
}

type requestKey struct{}

func TestDialHasTheValuesOfItsRequestButNotItsEnd(t *testing.T) {
	bubble(t, nil, []dialPlan{{takes: 3 * time.Second}}, func(r *rig) {
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), requestKey{}, "one"), time.Second)
		defer cancel()
		c := r.beginAs(ctx, get)
		r.until(2 * time.Second)
		c.failsAt(time.Second)
		r.mu.Lock()
		ctx = r.contexts[0]
		r.mu.Unlock()
		if _, has := ctx.Deadline(); has || ctx.Err() != nil || ctx.Value(requestKey{}) != "one" {
			t.Errorf("the dial's context: %v", ctx)
		}
		r.until(time.Minute)
		if ctx.Err() == nil {
			t.Error("the dial's context outlives the dial")
		}
		r.put(r.getConn(0))
	})
}

func TestDialsInFlightAreLimited(t *testing.T) {
	slow := dialPlan{takes: 900 * time.Millisecond}
	bubble(t, func(c *Config) { c.MaxDials = 2 }, []dialPlan{slow, slow, slow, slow, slow}, func(r *rig) {
		ls := r.leases(5)
		r.dials(0, 0, 900*time.Millisecond, 900*time.Millisecond, 1800*time.Millisecond)
		r.put(ls...)
	})
}

// gate admits a dial when the test says so.
type gate chan *Slot

func (g gate) Admit(_ *Pool, s *Slot)         { g <- s }
func (g gate) Withdraw(_ *Pool, s *Slot) bool { return false }
func (g gate) Freed(*Pool)                    {}
func (g gate) Idle(*Pool)                     {}

func TestDialWaitsForAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate, 10)
		r := newAdmittedRig(t, g, nil)
		first, second := r.begin(), r.begin()
		r.until(time.Second)
		r.dials()
		if s := r.pool.Stats(); s.Dialing != 2 {
			t.Errorf("a dial that waits for admission does not count: %+v", s)
		}
		r.pool.Admitted(<-g)
		synctest.Wait()
		l := first.getsAt(0, time.Second)
		r.until(2 * time.Second)
		r.pool.Denied(<-g, errExhausted)
		synctest.Wait()
		second.waiting() // for the living one
		r.put(l)
		r.put(second.getsAt(0, 2*time.Second))
		r.dials(time.Second)

		l = r.getConn(0)
		third := r.begin()
		s := <-g
		third.cancel(errGone)
		r.config(func(c *Config) { c.OrphanGrace = 0 })
		fourth := r.begin()
		fourth.waiting()
		r.put(l)
		l = fourth.gets(0)
		closed := make(chan struct{})
		go func() { r.pool.Close(); close(closed) }()
		synctest.Wait()
		r.pool.Admitted(s) // too late: the dial was cancelled
		<-closed
		r.dials(time.Second)
		if s := r.pool.Stats(); s.DialsCancelled != 1 {
			t.Errorf("%+v", s)
		}
		r.put(l)
		r.finish()
	})
}

func TestDeniedWithoutALivingConnectionFailsTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate, 1)
		r := newAdmittedRig(t, g, nil)
		c := r.begin()
		r.pool.Denied(<-g, errExhausted)
		synctest.Wait()
		if err := c.failsAt(0); !errors.Is(err, errExhausted) {
			t.Errorf("the request failed with %v", err)
		}
		r.finish()
	})
}
