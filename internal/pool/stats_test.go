package pool

import (
	"context"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// What the pool counts, and what it keeps: nothing of requests that are over.

func TestHistogramBuckets(t *testing.T) {
	for _, x := range []struct {
		d    time.Duration
		want int
	}{
		{-1, 0}, {0, 0}, {1023, 0}, {1024, 1}, {2047, 1}, {2048, 2}, {time.Millisecond, 10}, {time.Second, 20},
		{math.MaxInt64, Buckets - 1},
	} {
		var h histogram
		if h.get() != (Histogram{}) {
			t.Error("an empty histogram counts")
		}
		h.add(int64(x.d))
		if v := h.get(); v[x.want] != 1 {
			t.Errorf("%v is counted in %v, expected bucket %d", x.d, v, x.want)
		}
		if x.want < Buckets-1 && x.d >= UpperBound(x.want) || x.want > 0 && x.d < UpperBound(x.want-1) {
			t.Errorf("%v is not below %v", x.d, UpperBound(x.want))
		}
	}
}

func TestStatsTellStatesPeaksAndTimes(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxConns = 3 }, []dialPlan{{}, {}, {takes: time.Second}}, func(r *rig) {
		ls := r.leases(2)
		a, b, c := r.begin(), r.begin(), r.begin()
		r.until(300 * ms)
		s := r.pool.Stats()
		if s.Dialing != 1 || s.Leased != 2 || s.InFlight != 2 || s.Waiting != 3 || s.OldestWait != 300*ms {
			t.Errorf("%+v", s)
		}
		c.cancel(errGone)
		synctest.Wait()
		r.put(ls[0]) // held for 300 ms; a has waited as long, c in vain
		r.until(time.Second)
		r.put(a.getsAt(0, 300*ms), b.getsAt(0+2, time.Second), ls[1])
		s = r.pool.Stats()
		want := Stats{Idle: 3, PeakConns: 3, PeakLeased: 3, PeakWaiting: 3, Requests: 4, Reused: 1, DialsOK: 3}
		want.Wait[bucket(0)] = 2 // those that dialled at once
		want.Wait[bucket(300*ms)] = 2
		want.Wait[bucket(time.Second)]++
		want.Hold[bucket(300*ms)]++
		want.Hold[bucket(700*ms)]++
		want.Hold[bucket(0)]++
		want.Hold[bucket(time.Second)]++
		if s != want {
			t.Errorf("%+v\nexpected\n%+v", s, want)
		}
	})
}

// bucket returns the bucket of a Histogram that counts d.
func bucket(d time.Duration) int {
	i := 0
	for i < Buckets-1 && d >= UpperBound(i) {
		i++
	}
	return i
}

func TestStatsTellWhyConnectionsWereClosedAndByWhom(t *testing.T) {
	bubble(t, nil, nil, func(r *rig) {
		for why := ReasonClose; why <= ReasonUpgrade; why++ {
			l := r.get()
			l.Conn().(*fakeConn).dead.Store(why == ReasonError || why == ReasonProtocol)
			r.fate(l, Fate{Reason: why, MaxLeft: -1})
		}
		s := r.pool.Stats()
		for why := range NumReasons {
			want := uint64(0)
			if why >= ReasonClose && why <= ReasonUpgrade {
				want = 1
			}
			if s.Closed[why] != want {
				t.Errorf("%d connections were closed for %v, expected %d", s.Closed[why], why, want)
			}
		}
		if s.PeerFirst != 2 || s.WeFirst != 4 {
			t.Errorf("%d closed by the peer first, %d by us; expected 2, 4", s.PeerFirst, s.WeFirst)
		}
	})
}

func TestEveryReasonStateAndPhaseHasAName(t *testing.T) {
	seen := map[string]bool{}
	name := func(s string) {
		if s == "" || seen[s] {
			t.Errorf("name %q", s)
		}
		seen[s] = true
	}
	for r := range NumReasons {
		name(r.String())
	}
	clear(seen)
	for s := range numStates {
		name(s.String())
	}
	clear(seen)
	for p := range numPhases {
		name(p.String())
	}
}

func TestIllegalMovePanics(t *testing.T) {
	defer func() {
		if v := recover(); v != "pool: slot moves from idle to dialing" {
			t.Errorf("panicked with %v", v)
		}
	}()
	var c core
	c.setState(&Slot{state: StateIdle}, StateDialing)
}

func TestErrorsSayWhatHappened(t *testing.T) {
	for _, x := range []struct {
		err  error
		want string
	}{
		{&DialError{Err: errDial, Failures: 1}, "pool: dial: connection refused"},
		{&DialError{Err: errDial, Failures: 3, Backoff: time.Second}, "pool: dial back-off after 3 failures: connection refused"},
		{&StarvedError{Err: ErrTimeout, Waited: time.Second}, "pool: starved for 1s: pool: acquire timeout"},
	} {
		if got := x.err.Error(); got != x.want {
			t.Errorf("%q, expected %q", got, x.want)
		}
	}
}

func TestRecycledWaiterKeepsNothing(t *testing.T) {
	w := &Waiter{prev: new(Waiter), next: new(Waiter), state: waiterGranted, lease: new(Lease), err: errDial, since: 1,
		ctx: t.Context(), dial: new(Slot), hasty: true, method: "GET", path: "/", ready: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	v := reflect.ValueOf(w).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the test forgets %s", v.Type().Field(i).Name)
		}
	}
	ready, timer := w.ready, w.timer
	new(Shared).putWaiter(w)
	if w.ready != ready || w.timer != timer {
		t.Error("the channel and the timer are not kept")
	}
	if timer.Stop() {
		t.Error("the timer of a recycled waiter runs")
	}
	w.ready, w.timer = nil, nil
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			t.Errorf("%s is kept", v.Type().Field(i).Name)
		}
	}
}

func TestEndedLeaseKeepsNothing(t *testing.T) {
	bubble(t, nil, []dialPlan{{capacity: 2}}, func(r *rig) {
		req := Request{Method: "GET", Path: "/secret", Budget: Never}
		a, b := r.beginAs(r.Context(), req).gets(0), r.beginAs(r.Context(), req).gets(0)
		r.put(a, b)
		for i, l := range []*Lease{a, b} {
			if l.method != "" || l.path != "" || l.prev != nil || l.next != nil || l.active {
				t.Errorf("lease %d keeps %q %q", i, l.method, l.path)
			}
		}
		if b.slot != nil {
			t.Error("a lease that goes back to all pools keeps its slot")
		}
	})
}

// Real time: only the collector can show it.
func TestIdleConnectionKeepsNothingOfItsRequest(t *testing.T) {
	p := benchPool(1)
	defer p.Close()
	value := new([64]byte)
	gone := watch(value)
	ctx := context.WithValue(t.Context(), requestKey{}, value)
	l, err := p.Acquire(ctx, p.clock(), get) // its own dial
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if l, err := p.Acquire(ctx, p.clock(), get); err == nil { // the queue
			l.Release(p.clock(), Fate{Keep: true, MaxLeft: -1})
		}
	}()
	for p.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	l.Release(p.clock(), Fate{Keep: true, MaxLeft: -1})
	<-done
	value, ctx = nil, nil
	collected(t, "the request's context", gone)
}
