package resilience

import (
	"context"
	"errors"
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

func wantLimit(t *testing.T, err error, want LimitError, timeout bool) *LimitError {
	t.Helper()
	var e *LimitError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want *LimitError", err)
	}
	got := *e
	got.cause = nil
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !berth.NotSent(err) || e.Timeout() != timeout || !e.Temporary() || e.Code() != "BERTH1022" || errors.Is(err, context.DeadlineExceeded) != timeout {
		t.Errorf("%v: not sent %v, timeout %v, temporary %v, code %s", err, berth.NotSent(err), e.Timeout(), e.Temporary(), e.Code())
	}
	return e
}

// sleeper is a stub that takes a second, and knows how many run.
type sleeper struct{ running, most, calls atomic.Int32 }

func (s *sleeper) RoundTrip(req *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	n := s.running.Add(1)
	defer s.running.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	time.Sleep(time.Second)
	return answering(200).RoundTrip(req)
}

func TestConcurrencyRunsMaxAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sleeper{}
		rt := over(t, Concurrency{Max: 3}, s)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { ask(t, rt, "http://a.test/") })
		}
		synctest.Wait()
		body := newCountedBody()
		_, err := rt.RoundTrip(stubRequest(t, t.Context(), "POST", "http://b.test/?secret=1", body))
		e := wantLimit(t, err, LimitError{Strategy: "concurrency", Endpoint: "http://b.test", Limit: "3 at once"}, false)
		if want := "berth: request to http://b.test refused by the limit of concurrency (3 at once) [BERTH1022]"; e.Error() != want {
			t.Errorf("text:\n%s\nwant\n%s", e, want)
		}
		if body.closed.Load() != 1 {
			t.Errorf("the body was closed %d times", body.closed.Load())
		}
		wg.Wait()
		for range 3 {
			wg.Go(func() {
				if err := ask(t, rt, "http://a.test/"); err != nil {
					t.Errorf("after the permits came back: %v", err)
				}
			})
		}
		wg.Wait()
		if s.calls.Load() != 6 || s.most.Load() != 3 {
			t.Errorf("%d ran, %d at once; want 6 and 3", s.calls.Load(), s.most.Load())
		}
	})
}

func TestConcurrencyQueuesOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sleeper{}
		var waits []WaitInfo
		var rejects []RejectInfo
		rt := over(t, Concurrency{Max: 1, MaxQueue: 3, Trace: &Trace{
			Wait: func(i WaitInfo) { waits = append(waits, i) }, Reject: func(i RejectInfo) { rejects = append(rejects, i) },
		}}, s)
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				err := ask(t, rt, "http://a.test/")
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					order = append(order, i)
					return
				}
				wantLimit(t, err, LimitError{Strategy: "concurrency", Endpoint: "http://a.test", Limit: "1 at once, 3 waiting"}, false)
				order = append(order, -i)
			})
			synctest.Wait()
		}
		wg.Wait()
		if want := []int{-4, 0, 1, 2, 3}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if s.most.Load() != 1 {
			t.Errorf("%d at once", s.most.Load())
		}
		wait := func(d time.Duration) WaitInfo { return WaitInfo{"http://a.test", "concurrency", d, "limit"} }
		if want := []WaitInfo{wait(1 * time.Second), wait(2 * time.Second), wait(3 * time.Second)}; !slices.Equal(waits, want) {
			t.Errorf("waits %v, want %v", waits, want)
		}
		if want := []RejectInfo{{"http://a.test", "concurrency", "limit"}}; !slices.Equal(rejects, want) {
			t.Errorf("rejects %v, want %v", rejects, want)
		}
	})
}

func TestConcurrencyWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sleeper{}
		rt := over(t, Concurrency{Max: 1, MaxQueue: 1}, s)
		var wg sync.WaitGroup
		wg.Go(func() { ask(t, rt, "http://a.test/") })
		synctest.Wait()

		why := errors.New("why")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, why)
		defer cancel()
		body := newCountedBody()
		_, err := rt.RoundTrip(stubRequest(t, ctx, "POST", "http://a.test/", body))
		e := wantLimit(t, err, LimitError{Strategy: "concurrency", Endpoint: "http://a.test", Limit: "1 at once, 1 waiting", Waited: 200 * time.Millisecond}, true)
		if !errors.Is(err, why) || !strings.Contains(e.Error(), "given up after 200ms") {
			t.Errorf("%v does not tell its cause", err)
		}

		canceled, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { stop(why) })
		body2 := newCountedBody()
		if _, err := rt.RoundTrip(stubRequest(t, canceled, "POST", "http://a.test/", body2)); err != why {
			t.Errorf("cancelled: %v, want the bare cause", err)
		}
		if body.closed.Load() != 1 || body2.closed.Load() != 1 {
			t.Errorf("bodies were closed %d and %d times", body.closed.Load(), body2.closed.Load())
		}
		// Both places are free again.
		if err := ask(t, rt, "http://a.test/"); err != nil {
			t.Errorf("after them: %v", err)
		}
		wg.Wait()
		if s.calls.Load() != 2 {
			t.Errorf("%d ran, want 2", s.calls.Load())
		}
	})
}

func TestConcurrencyPermitComesBackWhenTheRoundTripperPanics(t *testing.T) {
	panics := true
	rt := over(t, Concurrency{Max: 1}, stub(func(*http.Request) (*http.Response, error) {
		if panics {
			panic("below")
		}
		return stubResponse(200), nil
	}))
	func() {
		defer func() { recover() }()
		ask(t, rt, "http://a.test/")
	}()
	panics = false
	if err := ask(t, rt, "http://a.test/"); err != nil {
		t.Error(err)
	}
}

func TestConcurrencyPerEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := over(t, Concurrency{Max: 1, PerEndpoint: true}, &sleeper{})
		var wg sync.WaitGroup
		for _, url := range []string{"http://a.test/", "http://b.test/", "https://a.test/"} {
			wg.Go(func() {
				if err := ask(t, rt, url); err != nil {
					t.Errorf("%s: %v", url, err)
				}
			})
		}
		synctest.Wait()
		if err := ask(t, rt, "http://A.TEST:80/"); !errors.As(err, new(*LimitError)) {
			t.Errorf("the second to one endpoint: %v", err)
		}
		wg.Wait()
	})
}

func TestConcurrencyValidates(t *testing.T) {
	wantConfigError(t, Concurrency{MaxQueue: -1}, "Concurrency.MaxQueue")
	synctest.Test(t, func(t *testing.T) {
		s := &sleeper{}
		rt := over(t, Concurrency{Max: -1}, s)
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() { ask(t, rt, "http://a.test/") })
		}
		wg.Wait()
		if s.most.Load() != 2000 {
			t.Errorf("%d at once without a bound, want 2000", s.most.Load())
		}
	})
}

func TestConcurrencyAllocatesNothing(t *testing.T) {
	resp := stubResponse(200)
	for _, c := range []Concurrency{{}, {PerEndpoint: true}} {
		rt := over(t, c, stub(func(*http.Request) (*http.Response, error) { return resp, nil }))
		req := stubRequest(t, t.Context(), "GET", "http://a.test/", nil)
		if n := testing.AllocsPerRun(200, func() { rt.RoundTrip(req) }); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	}
}

func BenchmarkConcurrency(b *testing.B) {
	b.Run("all", func(b *testing.B) { benchStrategy(b, Concurrency{}) })
	b.Run("each", func(b *testing.B) { benchStrategy(b, Concurrency{PerEndpoint: true}) })
}
