package resilience

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRateRefusesWhatExceedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rejects []RejectInfo
		rt := over(t, Rate{PerSecond: 4, Burst: 2, Trace: &Trace{Reject: func(i RejectInfo) { rejects = append(rejects, i) }}}, answering(200))
		for range 2 {
			if err := ask(t, rt, "http://a.test/"); err != nil {
				t.Fatal(err)
			}
		}
		body := newCountedBody()
		_, err := rt.RoundTrip(stubRequest(t, t.Context(), "POST", "http://b.test/?secret=1", body))
		e := wantLimit(t, err, LimitError{Strategy: "rate", Endpoint: "http://b.test", Limit: "4 a second, burst 2", RetryAfter: 250 * time.Millisecond}, false)
		if want := "berth: request to http://b.test refused by the limit of rate (4 a second, burst 2); the next is allowed in 250ms [BERTH1022]"; e.Error() != want {
			t.Errorf("text:\n%s\nwant\n%s", e, want)
		}
		if body.closed.Load() != 1 {
			t.Errorf("the body was closed %d times", body.closed.Load())
		}
		if want := []RejectInfo{{"http://b.test", "rate", "limit"}}; !slices.Equal(rejects, want) {
			t.Errorf("rejects %v, want %v", rejects, want)
		}
		// Refusals take nothing: the token is there when it was said to be.
		for range 20 {
			ask(t, rt, "http://a.test/")
		}
		time.Sleep(e.RetryAfter)
		if err := ask(t, rt, "http://a.test/"); err != nil {
			t.Errorf("after RetryAfter: %v", err)
		}
		if err := ask(t, rt, "http://a.test/"); err == nil {
			t.Error("two were allowed for one token")
		}
	})
}

func TestRateDefaults(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		burst     int
	}{{0.1, 1}, {1, 1}, {2.5, 3}, {1e12, math.MaxInt32}} {
		rt := over(t, Rate{PerSecond: c.perSecond}, answering(200))
		if got := rt.(*rated).Burst; got != c.burst {
			t.Errorf("%v a second: burst %d, want %d", c.perSecond, got, c.burst)
		}
	}
	for _, r := range []Rate{{}, {PerSecond: -1}, {PerSecond: math.NaN()}, {PerSecond: math.Inf(1)}} {
		wantConfigError(t, r, "Rate.PerSecond")
	}
	wantConfigError(t, Rate{PerSecond: 1, Burst: -1}, "Rate.Burst")
}

func TestRateWaitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at, waited []time.Duration
		start := time.Now()
		rt := over(t, Rate{PerSecond: 10, Burst: 1, MaxWait: 300 * time.Millisecond, Trace: &Trace{Wait: func(i WaitInfo) {
			mu.Lock()
			defer mu.Unlock()
			waited = append(waited, i.Waited)
		}}}, stub(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
			return stubResponse(200), nil
		}))
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				err := ask(t, rt, "http://a.test/")
				if i < 4 && err != nil {
					t.Errorf("request %d: %v", i, err)
				}
				if i >= 4 {
					wantLimit(t, err, LimitError{Strategy: "rate", Endpoint: "http://a.test", Limit: "10 a second, burst 1", RetryAfter: 400 * time.Millisecond}, false)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		const ms = time.Millisecond
		if want := []time.Duration{0, 100 * ms, 200 * ms, 300 * ms}; !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
		if want := []time.Duration{100 * ms, 200 * ms, 300 * ms}; !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
	})
}

func TestRateDoesNotBeginAWaitThatReachesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := over(t, Rate{PerSecond: 1, MaxWait: -1}, answering(200))
		if err := ask(t, rt, "http://a.test/"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := rt.RoundTrip(stubRequest(t, ctx, "GET", "http://a.test/", nil))
		wantLimit(t, err, LimitError{Strategy: "rate", Endpoint: "http://a.test", Limit: "1 a second, burst 1", RetryAfter: time.Second}, false)
		if d := time.Since(start); d != 0 {
			t.Errorf("it waited %v", d)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second+1)
		defer cancel()
		if _, err := rt.RoundTrip(stubRequest(t, ctx, "GET", "http://a.test/", nil)); err != nil {
			t.Errorf("with time enough: %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("it waited %v, want 1s", d)
		}
		// Without a deadline as long as it takes.
		for range 3 {
			if err := ask(t, rt, "http://a.test/"); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start); d != 4*time.Second {
			t.Errorf("three more were through after %v, want 4s", d)
		}
	})
}

func TestRateCancelledWaitGivesItsTokenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := over(t, Rate{PerSecond: 1, MaxWait: time.Second}, answering(200))
		if err := ask(t, rt, "http://a.test/"); err != nil {
			t.Fatal(err)
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(500*time.Millisecond, func() { cancel(why) })
		body := newCountedBody()
		if _, err := rt.RoundTrip(stubRequest(t, ctx, "POST", "http://a.test/", body)); err != why {
			t.Errorf("cancelled: %v, want the bare cause", err)
		}
		start := time.Now()
		if err := ask(t, rt, "http://a.test/"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 500*time.Millisecond {
			t.Errorf("the next waited %v, want 500ms: the token was lost", d)
		}
		// What has ended already takes none.
		time.Sleep(time.Second)
		if _, err := rt.RoundTrip(stubRequest(t, ctx, "GET", "http://a.test/", nil)); err != why {
			t.Errorf("ended before: %v, want the bare cause", err)
		}
		start = time.Now()
		if err := ask(t, rt, "http://a.test/"); err != nil || time.Since(start) != 0 {
			t.Errorf("the next: %v after %v", err, time.Since(start))
		}
		if body.closed.Load() != 1 {
			t.Errorf("the body was closed %d times", body.closed.Load())
		}
	})
}

// However many are refused beside them, no slot stays empty.
func TestRateRefusalsLeaveNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := over(t, Rate{PerSecond: 100, Burst: 1, MaxWait: 10 * time.Millisecond}, answering(200))
		var mu sync.Mutex
		sent := 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 1000 {
					if err := ask(t, rt, "http://a.test/"); err == nil {
						mu.Lock()
						sent++
						mu.Unlock()
					} else if !strings.Contains(err.Error(), "BERTH1022") {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if want := int(time.Since(start).Seconds() * 100); sent < want-2 || sent > want+2 {
			t.Errorf("%d were sent in %v, want %d", sent, time.Since(start), want)
		}
	})
}

func TestRatePerEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := over(t, Rate{PerSecond: 1, PerEndpoint: true}, answering(200))
		for _, url := range []string{"http://a.test/", "http://b.test/", "https://a.test/"} {
			if err := ask(t, rt, url); err != nil {
				t.Errorf("%s: %v", url, err)
			}
		}
		if err := ask(t, rt, "http://A.TEST:80/"); !errors.As(err, new(*LimitError)) {
			t.Errorf("the second to one endpoint: %v", err)
		}
	})
}

func TestRateAllocatesNothing(t *testing.T) {
	resp := stubResponse(200)
	for _, r := range []Rate{{PerSecond: 1e9}, {PerSecond: 1e9, PerEndpoint: true}} {
		rt := over(t, r, stub(func(*http.Request) (*http.Response, error) { return resp, nil }))
		req := stubRequest(t, t.Context(), "GET", "http://a.test/", nil)
		if n := testing.AllocsPerRun(200, func() { rt.RoundTrip(req) }); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	}
}

func BenchmarkRate(b *testing.B) {
	b.Run("all", func(b *testing.B) { benchStrategy(b, Rate{PerSecond: 1e9}) })
	b.Run("each", func(b *testing.B) { benchStrategy(b, Rate{PerSecond: 1e9, PerEndpoint: true}) })
}
