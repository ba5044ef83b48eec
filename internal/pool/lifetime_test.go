package pool

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The end of connections by age, by number of requests and by disuse.

func TestLoneConnectionLivesExactlyForItsLifetime(t *testing.T) {
	bubble(t, func(c *Config) { c.Lifetime = 100 * time.Second }, nil, func(r *rig) {
		for i := range 3 { // one after the other, each alone
			begun := r.since()
			r.put(r.getConn(i))
			r.until(begun + 100*time.Second - 1)
			r.alive(i)
			r.sleep(1)
			r.closedAt(i, begun+100*time.Second, ReasonLifetime)
		}
	})
}

func TestRetirementsOfConnectionsOpenedAtOnceAreSpread(t *testing.T) {
	const lifetime = 100 * time.Second
	for _, n := range []int{2, 3, 10, 64, 100, 377} {
		bubble(t, func(c *Config) { c.Lifetime = lifetime }, nil, func(r *rig) {
			r.put(r.leases(n)...)
			r.until(2 * lifetime)
			var ends []time.Duration
			for i := range n {
				at, why := r.conn(i).end()
				if why != ReasonLifetime {
					t.Fatalf("connection %d of %d was closed for %v", i, n, why)
				}
				ends = append(ends, at)
			}
			slices.Sort(ends)
			if first, last := ends[0], ends[n-1]; first <= lifetime/2 || last > lifetime {
				t.Errorf("%d connections end from %v to %v", n, first, last)
			}
			apart := time.Duration(0.38 * float64(lifetime) / float64(2*n))
			for i := 1; i < n; i++ {
				if gap := ends[i] - ends[i-1]; gap < apart {
					t.Errorf("%d connections: two end %v apart, at %v; the least is %v", n, gap, ends[i], apart)
				}
			}
			if len(r.begun) != n {
				t.Errorf("%d connections without demand were replaced: %d dials", n, len(r.begun))
			}
		})
	}
}

func TestNoRequestStartsAfterTheLifetime(t *testing.T) {
	const lifetime = 10 * time.Second
	bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = 2, lifetime }, nil, func(r *rig) {
		for range 400 {
			l := r.get()
			if age := r.since() - l.Conn().(*fakeConn).opened; age >= lifetime {
				t.Errorf("at %v a request starts on a connection of %v", r.since(), age)
			}
			r.sleep(300 * ms)
			r.put(l)
		}
		if all, _ := r.count(); all < 12 || all > 26 {
			t.Errorf("%d connections in 2 minutes, of 5 to 10 s each", all)
		}
	})
}

func TestSuccessorIsThereBeforeABusyConnectionRetires(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = 2, 100*time.Second }, []dialPlan{{}, {takes: 300 * ms}}, func(r *rig) {
		r.put(r.getConn(0))
		r.until(98 * time.Second)
		l := r.getConn(0)
		r.until(99500 * ms)
		r.dials(0, 99*time.Second) // a tenth of the lifetime before its end, at most a second
		next := r.getConn(1)       // no request waits for a dial
		r.until(105 * time.Second)
		if s := r.pool.Stats(); s.Leased != 1 || s.Draining != 1 {
			t.Errorf("the old connection is not retired: %+v", s)
		}
		r.put(l)
		r.closedAt(0, 105*time.Second, ReasonLifetime)
		r.put(next)
		r.alive(1)
	})
}

func TestNoSuccessorAtTheLimit(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = 1, 100*time.Second }, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.until(98 * time.Second)
		l := r.getConn(0)
		r.until(101 * time.Second)
		r.dials(0)
		c := r.begin()
		c.waiting()
		r.until(102 * time.Second)
		r.put(l)
		r.put(c.getsAt(1, 102*time.Second))
		r.closedAt(0, 102*time.Second, ReasonLifetime)
	})
}

func TestNoSuccessorWithoutDemand(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = 2, 100*time.Second }, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.until(97 * time.Second)
		r.put(r.getConn(0))
		r.until(200 * time.Second)
		r.dials(0)
		r.closedAt(0, 100*time.Second, ReasonLifetime)
	})
}

func TestSuccessorDialledDuringCloseIsClosedToo(t *testing.T) {
	deaf := dialPlan{takes: 2 * time.Second, deaf: true}
	bubble(t, func(c *Config) { c.Lifetime = 100 * time.Second }, []dialPlan{{}, deaf}, func(r *rig) {
		l := r.getConn(0)
		r.until(99500 * ms)
		r.pool.Close()
		r.at(101 * time.Second) // when the dial has ended
		r.closedAt(1, 101*time.Second, ReasonShutdown)
		r.put(l)
		r.closedAt(0, 101*time.Second, ReasonLifetime)
	})
}

func TestLifetimeCanBeChanged(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		ls := r.leases(2)
		r.put(ls[0])
		r.until(10 * time.Second)
		r.config(func(c *Config) { c.Lifetime = 100 * time.Second })
		r.config(func(c *Config) { c.Lifetime = 20 * time.Second })
		r.until(30 * time.Second)
		r.closedAt(0, 20*time.Second, ReasonLifetime)
		r.put(ls[1])
		r.closedAt(1, 30*time.Second, ReasonLifetime)
	})
}

func TestRaisedLifetimeHasASuccessorOfItsOwn(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.Lifetime = 1, 100*time.Second }, nil, func(r *rig) {
		l := r.getConn(0)
		r.until(99500 * ms)
		r.dials(0) // at the limit
		r.config(func(c *Config) { c.MaxConns, c.Lifetime = 2, 200*time.Second })
		r.until(201 * time.Second)
		r.dials(0, 199*time.Second)
		r.put(l)
		r.closedAt(0, 201*time.Second, ReasonLifetime)
	})
}

func TestConnectionEndsAfterMaxRequests(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxRequests = 3 }, nil, func(r *rig) {
		for i := range 7 {
			r.put(r.getConn(i / 3))
		}
		r.closedAt(0, 0, ReasonRequests)
		r.closedAt(1, 0, ReasonRequests)
		r.alive(2)
	})
}

func TestMaxRequestsHoldsWhenRequestsShareAConnection(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxRequests = 3 }, []dialPlan{{capacity: 10}}, func(r *rig) {
		ls := []*Lease{r.getConn(0), r.getConn(0), r.getConn(0), r.getConn(1)}
		r.alive(0)
		r.put(ls...)
		r.closedAt(0, 0, ReasonRequests)
	})
}

func TestMaxRequestsLoweredHoldsForIdleConnections(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		r.put(r.getConn(0))
		r.put(r.getConn(0))
		r.config(func(c *Config) { c.MaxRequests = 2 })
		r.put(r.getConn(1))
		synctest.Wait()
		r.closedAt(0, 0, ReasonRequests)
	})
}

func TestPeersMaximumOfRequests(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		r.fate(r.getConn(0), Fate{Keep: true, MaxLeft: 0})
		r.closedAt(0, 0, ReasonRequests)
		r.fate(r.getConn(1), Fate{Keep: true, MaxLeft: 2})
		r.put(r.getConn(1)) // the peer does not repeat itself
		r.alive(1)
		r.put(r.getConn(1))
		r.closedAt(1, 0, ReasonRequests)
	})
}

func TestPeersIdleTimeout(t *testing.T) {
	bubble(t, func(c *Config) { c.IdleTimeout = time.Minute }, nil, func(r *rig) {
		hint := Fate{Keep: true, IdleFor: 5 * time.Second, MaxLeft: -1}
		ls := r.leases(2)
		r.fate(ls[0], hint)
		r.put(ls[1])
		r.until(4 * time.Second)
		ls = []*Lease{r.getConn(1), r.getConn(0)}
		r.fate(ls[1], hint) // counts from the end of each response
		r.until(5 * time.Second)
		r.put(ls[0])
		r.until(9*time.Second - 1)
		r.alive(0, 1)
		r.until(time.Hour)
		r.closedAt(0, 9*time.Second, ReasonIdle)
		r.closedAt(1, 65*time.Second, ReasonIdle)
	})
}

func TestPeersIdleTimeoutDoesNotOutlastOurs(t *testing.T) {
	bubble(t, func(c *Config) { c.IdleTimeout = 3 * time.Second }, nil, func(r *rig) {
		r.fate(r.getConn(0), Fate{Keep: true, IdleFor: time.Minute, MaxLeft: -1})
		r.until(time.Hour)
		r.closedAt(0, 3*time.Second, ReasonIdle)
	})
}

func TestIdleTimeoutZeroStillServesEveryRequest(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns, c.IdleTimeout = 1, 0 }, nil, func(r *rig) {
		l := r.getConn(0)
		c := r.begin()
		r.until(time.Second)
		r.put(l)
		r.put(c.getsAt(0, time.Second)) // nobody let it idle
		r.closedAt(0, time.Second, ReasonIdle)
	})
}
