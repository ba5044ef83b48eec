package resilience

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

// server is a stub whose status is set from aside; 0 fails.
type server struct{ status, calls atomic.Int32 }

func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	status := int(s.status.Load())
	if status == 0 {
		return failing(errStub).RoundTrip(req)
	}
	return answering(status).RoundTrip(req)
}

func wantOpen(t *testing.T, err error, state string, retryAfter time.Duration) *CircuitOpenError {
	t.Helper()
	var e *CircuitOpenError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want *CircuitOpenError", err)
	}
	if e.State != state || e.RetryAfter != retryAfter {
		t.Errorf("%s, retry after %v; want %s, %v", e.State, e.RetryAfter, state, retryAfter)
	}
	if !berth.NotSent(err) || e.Timeout() || !e.Temporary() || e.Code() != "BERTH1021" {
		t.Errorf("%v: not sent %v, timeout %v, temporary %v, code %s", err, berth.NotSent(err), e.Timeout(), e.Temporary(), e.Code())
	}
	return e
}

// C77: 100 calls in 30 s of which 10 % fail open it; 5 s later it lets one through.
func TestC77BreakerOpensAtTheRatioAndTriesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const url = "http://a.test/"
		s := &server{}
		var states []string
		slow := make(chan struct{})
		gate := stub(func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("Slow") != "" {
				<-slow
			}
			return s.RoundTrip(req)
		})
		rt := over(t, Breaker{Trace: &Trace{Breaker: func(i BreakerInfo) {
			states = append(states, fmt.Sprintf("%s %s→%s %d/%d %v", i.Endpoint, i.From, i.To, i.Failures, i.Requests, i.Break))
		}}}, gate)
		for i := range 100 {
			s.status.Store(200)
			if i%10 == 9 {
				s.status.Store(503)
			}
			if err := ask(t, rt, url); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			if i < 99 {
				time.Sleep(300 * time.Millisecond)
			}
		}
		e := wantOpen(t, ask(t, rt, url), "open", 5*time.Second)
		if e.Failures != 10 || e.Requests != 100 || e.Endpoint != "http://a.test" {
			t.Errorf("%+v, want 10 of 100", e)
		}
		if want := "berth: circuit to http://a.test is open: 10 of 100 requests had failed when it opened 0s ago, and the next is let through in 5s [BERTH1021]"; e.Error() != want {
			t.Errorf("text:\n%s\nwant\n%s", e, want)
		}
		if err := ask(t, rt, "http://b.test/"); err != nil {
			t.Errorf("another endpoint: %v", err)
		}
		time.Sleep(5*time.Second - time.Nanosecond)
		wantOpen(t, ask(t, rt, url), "open", 1)
		time.Sleep(time.Nanosecond)

		// One of many at the same time is the trial, and fails.
		before := s.calls.Load()
		s.status.Store(500)
		var refused atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				req := stubRequest(t, t.Context(), "GET", url, nil)
				req.Header.Set("Slow", "1")
				var e *CircuitOpenError
				if _, err := rt.RoundTrip(req); errors.As(err, &e) && e.State == "half-open" && e.RetryAfter == 0 {
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		if refused.Load() != 49 {
			t.Errorf("%d were refused during the trial, want 49", refused.Load())
		}
		time.Sleep(time.Second)
		close(slow)
		wg.Wait()
		if n := s.calls.Load() - before; n != 1 {
			t.Errorf("%d were let through, want 1", n)
		}

		// It opens anew for 5 s from now; then the trial succeeds, and counting is new.
		s.status.Store(200)
		if e := wantOpen(t, ask(t, rt, url), "open", 5*time.Second); e.Failures != 1 || e.Requests != 1 {
			t.Errorf("after the trial: %d of %d, want 1 of 1", e.Failures, e.Requests)
		}
		time.Sleep(5 * time.Second)
		if err := ask(t, rt, url); err != nil {
			t.Errorf("the trial: %v", err)
		}
		s.status.Store(503)
		for i := range 99 {
			if err := ask(t, rt, url); err != nil {
				t.Fatalf("failure %d after it closed: %v", i, err)
			}
		}
		want := []string{
			"http://a.test closed→open 10/100 5s", "http://a.test open→half-open 0/0 0s", "http://a.test half-open→open 1/1 5s",
			"http://a.test open→half-open 0/0 0s", "http://a.test half-open→closed 0/0 0s",
		}
		if !slices.Equal(states, want) {
			t.Errorf("states:\n%s\nwant\n%s", strings.Join(states, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestBreakerForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	for _, c := range []struct {
		apart time.Duration
		open  bool
	}{{time.Second, true}, {11 * time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{}
			rt := over(t, Breaker{MinRequests: 4, FailureRatio: 0.5, Window: 30 * time.Second}, s)
			for range 12 {
				ask(t, rt, "http://a.test/")
				time.Sleep(c.apart)
			}
			if opened := s.calls.Load() < 12; opened != c.open {
				t.Errorf("requests %v apart: opened %v, want %v", c.apart, opened, c.open)
			}
		})
	}
}

// The window slides: what came just before and after the end of one counts together.
func TestBreakerWindowSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := over(t, Breaker{MinRequests: 4, FailureRatio: 0.5, Window: 30 * time.Second}, failing(errStub))
		ask(t, rt, "http://a.test/")
		time.Sleep(28 * time.Second)
		ask(t, rt, "http://a.test/")
		time.Sleep(5 * time.Second)
		ask(t, rt, "http://a.test/")
		ask(t, rt, "http://a.test/")
		if err := ask(t, rt, "http://a.test/"); err != errStub {
			t.Errorf("after three in 30 s: %v", err)
		}
		wantOpen(t, ask(t, rt, "http://a.test/"), "open", 5*time.Second)
	})
}

// What says nothing of the server neither opens the circuit nor keeps it closed.
func TestBreakerCountsWhatTheServerDid(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		next    stub
		failure func(*http.Response, error) bool
		opens   bool
	}{
		{"status 200", t.Context(), answering(200), nil, false},
		{"status 404", t.Context(), answering(404), nil, false},
		{"status 408", t.Context(), answering(408), nil, true},
		{"status 429", t.Context(), answering(429), nil, true},
		{"status 500", t.Context(), answering(500), nil, true},
		{"an answer after the caller left", canceled, answering(500), nil, true},
		{"an error", t.Context(), failing(errStub), nil, true},
		{"dial", t.Context(), failing(&berth.DialError{Err: errStub}), nil, true},
		{"cancelled", canceled, failing(context.Canceled), nil, false},
		{"deadline", late, failing(context.DeadlineExceeded), nil, false},
		{"an attempt's timeout", t.Context(), failing(context.DeadlineExceeded), nil, true},
		{"acquire", t.Context(), failing(&berth.AcquireTimeoutError{}), nil, false},
		{"queue full", t.Context(), failing(&berth.QueueFullError{}), nil, false},
		{"would queue", t.Context(), failing(&berth.WouldQueueError{}), nil, false},
		{"ports", t.Context(), failing(&berth.PortsExhaustedError{}), nil, false},
		{"closed", t.Context(), failing(&berth.ClosedError{}), nil, false},
		{"a request that is wrong", t.Context(), failing(&berth.RequestError{}), nil, false},
		{"a limit below", t.Context(), failing(&LimitError{}), nil, false},
		{"certificate", t.Context(), failing(x509.UnknownAuthorityError{}), nil, false},
		{"own, 404", t.Context(), answering(404), func(r *http.Response, _ error) bool { return r.StatusCode == 404 }, true},
		{"own, 500", t.Context(), answering(500), func(r *http.Response, _ error) bool { return r.StatusCode == 404 }, false},
		{"own, deadline", late, failing(context.DeadlineExceeded), func(_ *http.Response, err error) bool { return err != nil }, true},
		{"own, cancelled", canceled, failing(context.Canceled), func(_ *http.Response, err error) bool { return err != nil }, false},
		{"own, acquire", t.Context(), failing(&berth.AcquireTimeoutError{}), func(_ *http.Response, err error) bool { return err != nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := over(t, Breaker{MinRequests: 2, FailureRatio: 1, Failure: c.failure}, c.next)
			for range 5 {
				rt.RoundTrip(stubRequest(t, c.ctx, "GET", "http://a.test/", nil))
			}
			_, err := rt.RoundTrip(stubRequest(t, t.Context(), "GET", "http://a.test/", nil))
			if opened := errors.As(err, new(*CircuitOpenError)); opened != c.opens {
				t.Errorf("opened %v (%v), want %v", opened, err, c.opens)
			}
		})
	}
}

// Errors that say nothing do not count among the requests either: failures are half of
// what is left.
func TestBreakerLeavesOutWhatSaysNothing(t *testing.T) {
	var err error
	rt := over(t, Breaker{MinRequests: 4, FailureRatio: 0.5}, stub(func(*http.Request) (*http.Response, error) {
		if err == nil {
			return stubResponse(200), nil
		}
		return nil, err
	}))
	for _, err = range []error{nil, nil, &berth.QueueFullError{}, &berth.QueueFullError{}, &berth.QueueFullError{}, errStub, errStub} {
		if got := ask(t, rt, "http://a.test/"); got != err {
			t.Fatalf("error %v, want %v", got, err)
		}
	}
	var e *CircuitOpenError
	if err := ask(t, rt, "http://a.test/"); !errors.As(err, &e) || e.Failures != 2 || e.Requests != 4 {
		t.Errorf("%v, want it open at 2 of 4", err)
	}
}

// A trial of which nothing is learnt, because it was cancelled or panics, makes room for
// another.
func TestBreakerTrialWithoutOutcomeIsRepeated(t *testing.T) {
	for _, how := range []string{"cancelled", "panics"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				rt := over(t, Breaker{MinRequests: 2, FailureRatio: 0.5}, stub(func(req *http.Request) (*http.Response, error) {
					switch req.Header.Get("How") {
					case "cancelled":
						<-req.Context().Done()
						return nil, context.Cause(req.Context())
					case "panics":
						panic("below")
					}
					return s.RoundTrip(req)
				}))
				ask(t, rt, "http://a.test/")
				ask(t, rt, "http://a.test/")
				wantOpen(t, ask(t, rt, "http://a.test/"), "open", 5*time.Second)
				time.Sleep(5 * time.Second)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				func() {
					defer func() { recover() }()
					req := stubRequest(t, ctx, "GET", "http://a.test/", nil)
					req.Header.Set("How", how)
					rt.RoundTrip(req)
				}()
				s.status.Store(200)
				if err := ask(t, rt, "http://a.test/"); err != nil {
					t.Errorf("the next trial: %v", err)
				}
				if err := ask(t, rt, "http://a.test/"); err != nil {
					t.Errorf("after it: %v", err)
				}
			})
		})
	}
}

func TestBreakerRefusalClosesTheBody(t *testing.T) {
	var rejected []RejectInfo
	rt := over(t, Breaker{MinRequests: 2, FailureRatio: 0.5, Trace: &Trace{Reject: func(i RejectInfo) { rejected = append(rejected, i) }}}, failing(errStub))
	ask(t, rt, "http://a.test/")
	ask(t, rt, "http://a.test/")
	body := newCountedBody()
	_, err := rt.RoundTrip(stubRequest(t, t.Context(), "POST", "http://A.test:80/?secret=1", body))
	if !errors.As(err, new(*CircuitOpenError)) || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
	if body.closed.Load() != 1 {
		t.Errorf("the body was closed %d times", body.closed.Load())
	}
	if want := []RejectInfo{{"http://a.test", "breaker", "open"}}; !slices.Equal(rejected, want) {
		t.Errorf("rejected %v, want %v", rejected, want)
	}
}

func TestBreakerValidates(t *testing.T) {
	for _, c := range []struct {
		b     Breaker
		field string
	}{
		{Breaker{FailureRatio: 1.1}, "Breaker.FailureRatio"},
		{Breaker{MinRequests: 1}, "Breaker.MinRequests"},
		{Breaker{MinRequests: -1}, "Breaker.MinRequests"},
		{Breaker{Window: 499 * time.Millisecond}, "Breaker.Window"},
		{Breaker{Break: 499 * time.Millisecond}, "Breaker.Break"},
		{Breaker{Break: -time.Second}, "Breaker.Break"},
	} {
		wantConfigError(t, c.b, c.field)
	}
	over(t, Breaker{FailureRatio: 1, MinRequests: 2, Window: 500 * time.Millisecond, Break: 500 * time.Millisecond}, nil)
}

func TestBreakerSuccessAllocatesOnce(t *testing.T) {
	resp := stubResponse(200)
	rt := over(t, Breaker{}, stub(func(*http.Request) (*http.Response, error) { return resp, nil }))
	req := stubRequest(t, t.Context(), "GET", "http://a.test/", nil)
	if n := testing.AllocsPerRun(200, func() { rt.RoundTrip(req) }); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func BenchmarkBreaker(b *testing.B) {
	benchStrategy(b, Breaker{})
}
