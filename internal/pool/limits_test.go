package pool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Limits, while they stand and when they change, and CloseIdle.

func TestMaxIdleKeepsTheNewest(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxIdle = 2 }, nil, func(r *rig) {
		ls := r.leases(4)
		for _, i := range []int{1, 3, 0, 2} {
			r.sleep(time.Second)
			r.put(ls[i])
		}
		r.closedAt(1, 3*time.Second, ReasonSurplus)
		r.closedAt(3, 4*time.Second, ReasonSurplus)
		r.alive(0, 2)
	})
}

func TestMaxIdleZeroKeepsNoneButServesTheQueue(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.MaxIdle = 1, 0 }, nil, func(r *rig) {
		l := r.getConn(0)
		c := r.begin()
		r.put(l)
		r.alive(0)
		r.put(c.gets(0))
		r.closedAt(0, 0, ReasonSurplus)
	})
}

func TestMaxIdleLoweredClosesTheOldest(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		r.put(r.leases(3)...)
		r.until(time.Second)
		r.config(func(c *Config) { c.MaxIdle = 1 })
		synctest.Wait()
		r.closedAt(0, time.Second, ReasonSurplus)
		r.closedAt(1, time.Second, ReasonSurplus)
		r.alive(2)
	})
}

// C68: in .NET only new requests profit.
func TestC68RaisedLimitWakesTheQueue(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, nil, func(r *rig) {
		ls := r.leases(2)
		a, b, c := r.begin(), r.begin(), r.begin()
		r.until(time.Second)
		r.config(func(c *Config) { c.MaxConns = 4 })
		synctest.Wait()
		r.dials(0, 0, time.Second, time.Second)
		ls = append(ls, a.getsAt(2, time.Second), b.getsAt(3, time.Second))
		c.waiting()
		r.put(ls...)
		r.drainAll()
	})
}

func TestRaisedDialLimitWakesTheQueue(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxDials = 1 }, []dialPlan{{takes: time.Minute}, {}, {}}, func(r *rig) {
		a, b, c := r.begin(), r.begin(), r.begin()
		r.until(time.Second)
		r.config(func(c *Config) { c.MaxDials = 2 })
		synctest.Wait()
		r.dials(0, time.Second, time.Second)
		ls := []*Lease{a.getsAt(0, time.Second), b.getsAt(1, time.Second)}
		c.waiting() // for the dial that is under way
		r.until(time.Hour)
		// That dial hangs: c gets one of its own when it is relied upon no longer.
		r.put(append(ls, c.getsAt(2, time.Second+relyOnDial))...)
	})
}

// C69: in .NET the oldest two go, busy or not.
func TestC69LoweredLimitTakesIdleVictimsFirstAndCutsNobody(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 4 }, nil, func(r *rig) {
		ls := r.leases(4)
		r.put(ls[2])
		r.until(time.Second)
		r.config(func(c *Config) { c.MaxConns = 2 })
		synctest.Wait()
		r.closedAt(2, time.Second, ReasonLimit)
		r.alive(0, 1, 3)
		waiter := r.begin()
		r.until(2 * time.Second)
		r.put(ls[1])
		r.closedAt(1, 2*time.Second, ReasonLimit)
		waiter.waiting()
		r.until(3 * time.Second)
		r.put(ls[0])
		l := waiter.getsAt(0, 3*time.Second)
		r.put(ls[3], l)
		r.alive(0, 3)
		r.dials(0, 0, 0, 0)
	})
}

func TestLoweredLimitGivesUpNoMoreThanNeedBe(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		first := r.leases(3)
		for _, l := range first {
			r.pool.SetCapacity(l.slot, 2)
		}
		second := []*Lease{r.get(), r.get(), r.get()} // the second place of each
		r.dials(0, 0, 0)
		r.config(func(c *Config) { c.MaxConns = 2 })
		r.put(first...) // nothing turns idle yet
		if s := r.pool.Stats(); s.Draining != 1 || s.Leased != 2 {
			t.Errorf("one of three is one too many: %+v", s)
		}
		r.put(second...)
		if s := r.pool.Stats(); s.Idle != 2 || s.Closed[ReasonLimit] != 1 {
			t.Errorf("one of three is one too many: %+v", s)
		}
	})
}

func TestLimitLoweredDuringADialIsHeldAfterIt(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 2 }, []dialPlan{{}, {takes: time.Second}}, func(r *rig) {
		l := r.getConn(0)
		c := r.begin()
		r.config(func(c *Config) { c.MaxConns = 1 })
		r.put(l)
		l = c.getsAt(0, 0)
		r.until(time.Second)
		r.closedAt(1, time.Second, ReasonLimit)
		r.put(l)
		r.alive(0)
	})
}

func TestCloseIdleAlsoClosesWhatTurnsIdleBeforeTheNextRequest(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 4 }, []dialPlan{{}, {}, {}, {takes: 2 * time.Second}}, func(r *rig) {
		ls := r.leases(3)
		orphan := r.begin()
		r.put(ls[0])
		l := orphan.gets(0) // its dial goes on
		r.put(l)
		r.until(time.Second)
		r.pool.CloseIdle()
		synctest.Wait()
		r.closedAt(0, time.Second, ReasonEvict)
		r.put(ls[1])
		r.closedAt(1, time.Second, ReasonEvict)
		r.until(2 * time.Second)
		r.closedAt(3, 2*time.Second, ReasonEvict)
		l = r.getConn(4) // the next request
		r.put(ls[2], l)
		r.alive(2, 4)
	})
}

func TestCloseIdleReachesConnectionsOutForAProbe(t *testing.T) {
	slow := dialPlan{prepare: func(c *fakeConn) { c.slow = time.Second }}
	bubble(t, func(c *Config) { c.Sweep = 5 * time.Second }, []dialPlan{slow}, func(r *rig) {
		r.put(r.getConn(0))
		r.until(5500 * ms)
		r.pool.CloseIdle()
		r.put(r.getConn(1)) // the one that is probed is not lent
		r.until(time.Minute)
		r.closedAt(0, 7*time.Second, ReasonEvict)
		r.alive(1)
	})
}

func TestRequestWaitsForAProbeRatherThanDialling(t *testing.T) {
	slow := dialPlan{prepare: func(c *fakeConn) { c.slow = time.Second }}
	for _, dead := range []bool{false, true} {
		bubble(t, func(c *Config) { c.Sweep = 5 * time.Second }, []dialPlan{slow}, func(r *rig) {
			r.put(r.getConn(0))
			r.conn(0).dead.Store(dead)
			r.until(5500 * ms)
			c := r.begin()
			c.waiting()
			r.until(8 * time.Second)
			if dead {
				r.put(c.getsAt(1, 6*time.Second))
				r.closedAt(0, 7*time.Second, ReasonPeer)
			} else {
				r.put(c.getsAt(0, 6*time.Second))
			}
		})
	}
}

func TestSweepProbesInBatches(t *testing.T) {
	const n = 3*sweepBatch + 7
	bubble(t, func(c *Config) { c.Sweep = 5 * time.Second }, nil, func(r *rig) {
		r.put(r.leases(n)...)
		for i := range n {
			if i%3 == 0 {
				r.conn(i).dead.Store(true)
			}
		}
		r.until(9 * time.Second)
		for i := range n {
			if got := r.conn(i).probed(); len(got) != 1 || got[0] != 5*time.Second {
				t.Fatalf("connection %d was probed at %v, expected once at 5s", i, got)
			}
			if at, _ := r.conn(i).end(); (at >= 0) != (i%3 == 0) {
				t.Errorf("connection %d was closed at %v", i, at)
			}
		}
	})
}

func TestPeerClosedRetiresAConnection(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		ls := r.leases(2)
		r.put(ls[0])
		r.until(time.Second)
		for _, l := range ls {
			r.pool.PeerClosed(l.slot, nil)
		}
		synctest.Wait()
		r.closedAt(0, time.Second, ReasonPeer)
		r.alive(1)
		r.put(r.getConn(2))
		r.until(2 * time.Second)
		r.put(ls[1])
		r.closedAt(1, 2*time.Second, ReasonPeer)
	})
}

// A connection that does not know its capacity yet holds further dials back: the
// requests that it may be able to take wait for its word.
func TestUnsettledConnectionIsWaitedFor(t *testing.T) {
	plans := []dialPlan{{takes: time.Second, capacity: Unsettled}, {takes: time.Second, capacity: 3}}
	bubble(t, func(c *Config) { c.Expect = 100 }, plans, func(r *rig) {
		calls := []*call{r.begin(), r.begin(), r.begin(), r.begin(), r.begin()}
		r.until(2 * time.Second)
		r.dials(0)
		first := calls[0].getsAt(0, time.Second)
		for _, c := range calls[1:] {
			c.waiting()
		}
		r.pool.SetCapacity(first.slot, 3)
		synctest.Wait()
		ls := []*Lease{first, calls[1].getsAt(0, 2*time.Second), calls[2].getsAt(0, 2*time.Second)}
		r.until(3 * time.Second)
		r.dials(0, 2*time.Second)
		ls = append(ls, calls[3].getsAt(1, 3*time.Second), calls[4].getsAt(1, 3*time.Second))
		r.put(ls...)
	})
}

// A peer that ends every connection before it serves anybody is dialled as rarely
// as one that refuses.
func TestDudsHoldUpTheNextDial(t *testing.T) {
	turned := errors.New("turned away")
	const ms = time.Millisecond
	bubble(t, nil, nil, func(r *rig) {
		for i, at := range []time.Duration{0, 50 * ms, 150 * ms} {
			c := r.begin()
			r.until(at)
			l := c.getsAt(i, at)
			r.pool.PeerClosed(l.slot, turned)
			r.drop(l)
		}
		var failed *DialError
		if err := r.begin().failsAt(150 * ms); !errors.As(err, &failed) || failed.Err != turned || failed.Failures != 3 {
			t.Errorf("after three duds: %v", err)
		}
		r.until(350 * ms)
		l := r.getConn(3)
		r.dials(0, 50*ms, 150*ms, 350*ms)
		r.put(l) // it was of use
		r.pool.PeerClosed(l.slot, turned)
		synctest.Wait()
		r.put(r.getConn(4))
		r.dials(0, 50*ms, 150*ms, 350*ms, 350*ms)
	})
}

// What a connection tells before its dial returns counts when it does.
func TestNewsFromAConnectionThatIsBeingDialled(t *testing.T) {
	turned := errors.New("turned away")
	plans := []dialPlan{{takes: time.Second, capacity: Unsettled}, {takes: time.Second}, {takes: time.Second}}
	bubble(t, func(c *Config) { c.Expect = 10 }, plans, func(r *rig) {
		calls := []*call{r.begin(), r.begin()}
		r.pool.SetCapacity(r.pool.core.dials.front, 2)
		r.until(time.Second)
		r.put(calls[0].gets(0), calls[1].gets(0))
		r.pool.CloseIdle()
		c := r.begin()
		r.pool.PeerClosed(r.pool.core.dials.front, turned)
		r.until(2 * time.Second)
		c.waiting()
		r.closedAt(1, 2*time.Second, ReasonPeer)
		r.until(3050 * time.Millisecond)
		r.put(c.getsAt(2, 3050*time.Millisecond))
	})
}
