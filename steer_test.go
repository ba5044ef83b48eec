package berth_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// send sends n requests at once and returns what waits for them: the number of errors,
// and the first.
func (r *rig) send(n int, path string) func() (int, error) {
	return r.sendTo(r.tr, n, rigURL+path)
}

func (r *rig) sendTo(rt http.RoundTripper, n int, url string) func() (int, error) {
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := fetch(rt, url)
			errs <- err
		}()
	}
	return func() (failed int, first error) {
		for range n {
			if err := <-errs; err != nil {
				failed++
				first = errors.Join(first, err)
			}
		}
		return failed, first
	}
}

func (r *rig) none(wait func() (int, error)) {
	r.Helper()
	if n, err := wait(); n > 0 {
		r.Errorf("%d requests failed: %v", n, err)
	}
}

// dialsTake has every dial from now on take so long.
func (r *rig) dialsTake(d time.Duration) {
	r.net.OnDial = func(context.Context, string) error {
		time.Sleep(d)
		return nil
	}
}

func (r *rig) endpoint() *berth.Endpoint { return mustEndpoint(r.T, r.tr, rigURL) }

// C44, C68: a raised limit wakes the queue at once, in whatever way it is raised.
func TestC68RaisedLimitWakesTheQueue(t *testing.T) {
	for name, raise := range map[string]func(*rig) error{
		"Apply":     func(r *rig) error { return r.apply(berth.Policy{MaxConns: 4}) },
		"SetPolicy": func(r *rig) error { return r.endpoint().SetPolicy(berth.Policy{MaxConns: 4}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{MaxConns: 2}, origin.Latency(time.Second, ok("a")), func(r *rig) {
				done := r.send(8, "/")
				time.Sleep(100 * time.Millisecond)
				if s := r.stats(); s.Leased != 2 || s.Waiting != 6 {
					r.Fatalf("%+v", s)
				}
				if err := raise(r); err != nil {
					r.Fatal(err)
				}
				synctest.Wait()
				if s := r.stats(); s.Leased != 4 || s.Waiting != 4 {
					r.Errorf("after the limit was raised: %d leased, %d waiting", s.Leased, s.Waiting)
				}
				r.none(done)
			})
		})
	}
}

// apply gives the transport another policy.
func (r *rig) apply(p berth.Policy) error {
	cfg := r.tr.Config()
	cfg.Policy = p
	_, err := r.tr.Apply(cfg)
	return err
}

// C69: a lowered limit takes idle connections first, and cuts no request.
func TestC69LoweredLimitCutsNobody(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 4}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		r.none(r.send(4, "/"))
		done := r.send(3, "/")
		time.Sleep(100 * time.Millisecond)
		if err := r.apply(berth.Policy{MaxConns: 2}); err != nil {
			r.Fatal(err)
		}
		if s := r.stats(); s.Idle != 0 || s.Leased != 3 {
			r.Errorf("%d idle, %d leased: the idle one goes first", s.Idle, s.Leased)
		}
		r.none(done)
		synctest.Wait()
		if s := r.stats(); s.Idle != 2 || s.Closes["limit"] != 2 {
			r.Errorf("%d idle, closes %v", s.Idle, s.Closes)
		}
		r.none(r.send(6, "/"))
		r.wantDials(4)
	})
}

// C70: .NET gives a changed default to new hosts only; here those that exist follow,
// unless something nearer to them says otherwise.
func TestC70ChangedDefaultReachesAll(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Echo(), func(r *rig) {
		r.get("/")
		if err := r.endpoint().SetPolicy(berth.Policy{MaxIdle: 3}); err != nil {
			r.Fatal(err)
		}
		if err := r.apply(berth.Policy{MaxConns: 5, MaxIdle: 4}); err != nil {
			r.Fatal(err)
		}
		e := r.endpoint().Policy()
		if e.Policy.MaxConns != 5 || e.Policy.MaxIdle != 3 || e.From["max_idle"] != "endpoint" || e.Generation != 2 {
			r.Errorf("MaxConns %d, MaxIdle %d by %s, generation %d", e.Policy.MaxConns, e.Policy.MaxIdle, e.From["max_idle"], e.Generation)
		}
		if err := r.endpoint().SetPolicy(berth.Policy{}); err != nil {
			r.Fatal(err)
		}
		if e := r.endpoint().Policy(); e.Policy.MaxIdle != 4 || e.From["max_idle"] != "policy" {
			r.Errorf("taken back: MaxIdle %d by %s", e.Policy.MaxIdle, e.From["max_idle"])
		}
	})
}

// C72: a lifetime that is set while a connection is busy ends it between requests.
func TestC72LifetimeSetOnABusyConnection(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Latency(3*time.Second, ok("a")), func(r *rig) {
		done := r.send(1, "/")
		time.Sleep(time.Second)
		if err := r.endpoint().SetPolicy(berth.Policy{Lifetime: time.Second}); err != nil {
			r.Fatal(err)
		}
		r.none(done)
		synctest.Wait()
		if s := r.stats(); s.Closes["lifetime"] != 1 {
			r.Errorf("closes %v", s.Closes)
		}
	})
}

// What is wrong changes nothing; what is right is told.
func TestApplyIsAllOrNothing(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 4}, origin.Echo(), func(r *rig) {
		r.get("/")
		cfg := r.tr.Config()
		cfg.Policy.MaxConns = 9
		cfg.Rules = []berth.Rule{{Match: "https://*:x"}}
		if d, err := r.tr.Apply(cfg); d != nil || !errors.As(err, new(*berth.ConfigError)) {
			r.Errorf("%v, %v", d, err)
		}
		if err := r.endpoint().SetPolicy(berth.Policy{Order: "x"}); !errors.As(err, new(*berth.ConfigError)) {
			r.Errorf("SetPolicy: %v", err)
		}
		if e := r.endpoint().Policy(); e.Policy.MaxConns != 4 || e.Generation != 1 {
			r.Errorf("%+v", e)
		}
		cfg.Rules = []berth.Rule{{Match: "origin.test", Policy: berth.Policy{Strict: true}, Proxy: "http://user:secret@p.test"}}
		would, err := r.tr.Compare(cfg)
		if err != nil {
			r.Fatal(err)
		}
		did, err := r.tr.Apply(cfg)
		if err != nil || would.String() != did.String() {
			r.Errorf("%v: %v\nbut it was said\n%v", err, did, would)
		}
		want := "generation 2\n  policy.max_conns 4 → 9\n  rules[0] none → origin.test\n  http://origin.test: max_conns 4 → 9, strict unset → true (reconnects)"
		if did.String() != want {
			r.Errorf("got\n%v\nwant\n%s", did, want)
		}
		cfg.Rules[0].Proxy = "http://user:other@q.test"
		d, err := r.tr.Compare(cfg)
		if want := "rules[0].proxy http://p.test:80 → http://q.test:80"; err != nil || len(d.Changes) != 1 || d.Changes[0].String() != want {
			r.Errorf("%v, %v; want %s", d, err, want)
		}
		cfg = r.tr.Config()
		cfg.Rules = nil
		if _, err := r.tr.Apply(cfg); err != nil {
			r.Fatal(err)
		}
		r.get("/") // directly again
	})
}

// Reconnect: idle connections now, busy ones after their request, dials as soon as they
// are open; Drain waits for all that.
func TestReconnectAndDrain(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		r.none(r.send(3, "/"))
		done := r.send(2, "/")
		time.Sleep(500 * time.Millisecond)
		start := time.Now()
		drained := make(chan error, 1)
		go func() { drained <- r.endpoint().Drain(r.Context()) }()
		synctest.Wait()
		if s := r.stats(); s.Idle != 0 || s.Draining != 2 || s.Closes["reconnect"] != 1 {
			r.Errorf("%d idle, %d draining, closes %v", s.Idle, s.Draining, s.Closes)
		}
		during := r.send(1, "/") // over a connection of its own
		if err := <-drained; err != nil || time.Since(start) != 500*time.Millisecond {
			r.Errorf("drained after %v: %v", time.Since(start), err)
		}
		r.none(done)
		r.none(during)
		r.wantDials(4)
		if s := r.stats(); s.Idle != 1 || s.Closes["reconnect"] != 3 {
			r.Errorf("%d idle, closes %v", s.Idle, s.Closes)
		}
		done = r.send(1, "/")
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
		defer cancel()
		if err := r.endpoint().Drain(ctx); err != context.DeadlineExceeded {
			r.Errorf("a drain that has no time: %v", err)
		}
		r.none(done)
	})
}

// A dial that was begun before Reconnect is not used; the request that waits for it gets
// another.
func TestReconnectDuringADial(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Echo(), func(r *rig) {
		r.dialsTake(100 * time.Millisecond)
		done := r.send(1, "/")
		time.Sleep(50 * time.Millisecond)
		r.endpoint().Reconnect()
		r.none(done)
		if s := r.stats(); s.Closes["reconnect"] != 1 || s.Dials.OK != 2 {
			r.Errorf("closes %v, dials %+v", s.Closes, s.Dials)
		}
	})
}

// Pause lends nothing and Resume goes on; the acquire clock runs meanwhile.
func TestPauseAndResume(t *testing.T) {
	bubble(t, berth.Policy{AcquireTimeout: 5 * time.Second}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		running := r.send(2, "/")
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		if err := r.endpoint().Pause(r.Context()); err != nil || time.Since(start) != 900*time.Millisecond {
			r.Errorf("paused after %v: %v", time.Since(start), err)
		}
		r.none(running)
		waiting := r.send(3, "/")
		time.Sleep(2 * time.Second)
		if s := r.stats(); s.Waiting != 3 || s.Leased != 0 || s.Idle != 2 {
			r.Errorf("paused: %+v", s)
		}
		late := r.send(1, "/")
		r.endpoint().Resume()
		r.none(waiting)
		r.none(late)

		if err := r.endpoint().Pause(r.Context()); err != nil {
			r.Error(err)
		}
		_, err := fetch(r.tr, rigURL)
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is || e.Waited != 5*time.Second || e.Limit != "the endpoint is paused" || !strings.Contains(err.Error(), "Resume") {
			r.Errorf("a request during a pause: %v", err)
		}
		time.Sleep(10 * time.Minute) // long enough to be forgotten
		if s := r.stats(); s.Requests == 0 {
			r.Error("a paused endpoint was forgotten")
		}
		r.endpoint().Resume()
		r.get("/")
	})
}

// Warm opens what is missing and says what it could not.
func TestWarm(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 6, MaxDials: 2}, origin.Echo(), func(r *rig) {
		r.dialsTake(10 * time.Millisecond)
		start := time.Now()
		if err := r.endpoint().Warm(r.Context(), 4); err != nil || time.Since(start) < 20*time.Millisecond {
			r.Errorf("after %v: %v", time.Since(start), err)
		}
		if s := r.stats(); s.Idle != 4 || s.Requests != 0 {
			r.Errorf("%+v", s)
		}
		r.none(r.send(4, "/"))
		r.wantDials(4)
		if err := r.endpoint().Warm(r.Context(), 100); err != nil {
			r.Error(err)
		}
		if s := r.stats(); s.Idle != 6 {
			r.Errorf("%d idle: the limit is 6", s.Idle)
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
		defer cancel()
		r.endpoint().Reconnect()
		if err := r.endpoint().Warm(ctx, 2); err != context.DeadlineExceeded {
			r.Errorf("no time: %v", err)
		}
		time.Sleep(time.Second)
		nowhere := mustEndpoint(r.T, r.tr, "http://nowhere.test")
		if err := nowhere.Warm(r.Context(), 2); !errors.As(err, new(*berth.DialError)) {
			r.Errorf("nobody listens: %v", err)
		}
	})
}

// MinIdle connections are there from the first request to ten minutes after the last.
func TestMinIdle(t *testing.T) {
	bubble(t, berth.Policy{MinIdle: 2, Lifetime: -1}, origin.Echo(), func(r *rig) {
		r.get("/")
		synctest.Wait()
		if s := r.stats(); s.Idle != 3 { // two more than were in use
			r.Errorf("%d idle after the first request", s.Idle)
		}
		time.Sleep(9 * time.Minute)
		if s := r.stats(); s.Idle != 2 || s.Closes["idle"] != 0 {
			r.Errorf("%d idle after nine minutes, closes %v", s.Idle, s.Closes)
		}
		r.none(r.send(5, "/"))
		time.Sleep(2 * time.Minute)
		if s := r.stats(); s.Idle != 2 {
			r.Errorf("%d idle after a burst, closes %v", s.Idle, s.Closes)
		}
		time.Sleep(20 * time.Minute)
		if s := r.stats(); s.Idle != 0 {
			r.Errorf("%d idle long after the last request", s.Idle)
		}
	})
}

// What SetPolicy has set outlives the endpoint's being forgotten.
func TestSettingsAreNotForgotten(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		if err := r.endpoint().SetPolicy(berth.Policy{MaxConns: 1}); err != nil {
			r.Fatal(err)
		}
		r.get("/")
		time.Sleep(10 * time.Minute)
		if len(r.tr.Endpoints()) != 0 {
			r.Fatal("the endpoint is not forgotten")
		}
		r.none(r.send(3, "/"))
		if s := r.stats(); s.PeakConns != 1 {
			r.Errorf("%d connections after it was forgotten", s.PeakConns)
		}
	})
}

// Under FIFO all connections stay in use, and those that the peak does not need go after
// a while nevertheless.
func TestIdleSetFollowsThePeak(t *testing.T) {
	for _, order := range []berth.Order{berth.FIFO, berth.Spread} {
		t.Run(string(order), func(t *testing.T) {
			bubble(t, berth.Policy{Order: order}, origin.Latency(100*time.Millisecond, ok("a")), func(r *rig) {
				r.none(r.send(10, "/"))
				for range 10 {
					r.none(r.send(3, "/"))
					time.Sleep(time.Second)
				}
				s := r.stats()
				if s.Idle != 10 {
					r.Fatalf("%d idle", s.Idle)
				}
				for range 300 {
					r.none(r.send(3, "/"))
					time.Sleep(time.Second)
				}
				if s = r.stats(); s.Idle < 3 || s.Idle > 4 {
					r.Errorf("%d idle after five minutes of 3 at once", s.Idle)
				}
			})
		})
	}
}

// The server's idle timeout is learned from what it closes: after some requests that
// found their connection dead, none does.
func TestPeersIdleTimeoutIsLearned(t *testing.T) {
	bubble(t, berth.Policy{}, func(c *origin.Conn) {
		for {
			done := make(chan struct{})
			go func() { // the server's idle timeout
				select {
				case <-done:
				case <-time.After(8 * time.Second):
					c.Close()
				}
			}()
			_, err := c.ReadRequest()
			close(done)
			if err != nil || c.Write(ok("a")) != nil {
				return
			}
		}
	}, func(r *rig) {
		for range 12 {
			r.get("/")
			time.Sleep(12 * time.Second)
		}
		before := r.stats()
		for range 20 {
			r.get("/")
			time.Sleep(12 * time.Second)
		}
		after := r.stats()
		if n := after.Closes["peer"] - before.Closes["peer"]; n != 0 || after.Closes["idle"] == before.Closes["idle"] {
			r.Errorf("closed by the peer: %d of the last 20; closes %v", n, after.Closes)
		}
	})
}

// Several transports' worth of requests while everything is changed: the property test of
// steering is in churn_test.go; this one is its smallest case.
func TestApplyDuringRequests(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Latency(10*time.Millisecond, ok("a")), func(r *rig) {
		stop := make(chan struct{})
		errs := make(chan error, 1)
		go func() {
			defer close(errs)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := fetch(r.tr, rigURL); err != nil {
					errs <- err
					return
				}
			}
		}()
		for i := range 100 {
			time.Sleep(time.Millisecond)
			if err := r.apply(berth.Policy{MaxConns: 1 + i%3, Lifetime: time.Duration(i) * time.Millisecond}); err != nil {
				r.Fatal(err)
			}
		}
		close(stop)
		if err := <-errs; err != nil {
			r.Error(err)
		}
		if g := r.endpoint().Policy().Generation; g != 101 {
			r.Errorf("generation %d", g)
		}
	})
}
