package resilience

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A server that fails every request meets 1.2 times the load and a burst, not four times.
func TestBudgetBoundsTheLoadOnAServerThatFails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		budget Budget
		want   int // retries, of 10,000 requests over 10 s that would want 30,000
	}{
		{"default", Budget{}, 2200},                                         // a fifth, 100 at first, 10 a second
		{"ratio alone", Budget{MinPerSecond: -1}, 2000},                     // a fifth
		{"minimum alone", Budget{Ratio: 1e-12, MinPerSecond: 5}, 50 + 5*10}, // 10 s worth at first
		{"none", Budget{Ratio: -1}, 30000},                                  // all
		{"twice", Budget{Ratio: 2, MinPerSecond: -1}, 20000},                // more than one each
		{"more than is wanted", Budget{Ratio: 10, MinPerSecond: -1}, 30000}, // no more than MaxRetries each
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				h := rtWrap(t, Retry{Delay: -1, Budget: tc.budget}, rtFunc(func(*http.Request) (*http.Response, error) {
					sent++
					return &http.Response{StatusCode: 500, Body: http.NoBody}, nil
				}))
				for range 10000 {
					before := sent
					h.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
					if n := sent - before; n < 1 || n > 4 {
						t.Fatalf("%d attempts of one request", n)
					}
					time.Sleep(time.Millisecond)
				}
				if got := sent - 10000; got > tc.want || got < tc.want-20 {
					t.Errorf("%d retries, want %d or a few less", got, tc.want)
				}
			})
		})
	}
}

// What the budget refuses: a response as it is, an error with the reason.
func TestBudgetThatIsUsedUp(t *testing.T) {
	s := &rtScript{outcomes: []rtOutcome{{status: 503}, {err: io.EOF}}}
	h := rtWrap(t, Retry{Delay: -1, Budget: Budget{Ratio: 0.01, MinPerSecond: -1}}, s)
	if resp, err := h.RoundTrip(rtRequest(t, t.Context(), "GET", nil)); err != nil || resp.StatusCode != 503 || s.open(t) != 1 {
		t.Errorf("%v, %v", resp, err)
	}
	_, err := h.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
	if e := rtAttempts(t, err); e.Stopped != "budget" || len(e.Attempts) != 1 || !strings.Contains(err.Error(), "1% of the requests") {
		t.Errorf("error %v", err)
	}
	if len(s.seen) != 2 {
		t.Errorf("%d attempts of 2 requests", len(s.seen))
	}
}

// Everything that one Handler has wrapped has one budget.
func TestBudgetIsTheHandlers(t *testing.T) {
	handler, err := Retry{Delay: -1, MaxRetries: 1, Budget: Budget{Ratio: 0.5, MinPerSecond: -1}}.Handler()
	if err != nil {
		t.Fatal(err)
	}
	s := &rtScript{outcomes: []rtOutcome{{status: 503}}}
	a, b := handler(s), handler(s)
	a.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
	b.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
	if len(s.seen) != 3 {
		t.Errorf("%d attempts of two requests with half a retry each, want 3", len(s.seen))
	}
}

func TestRetryUnderManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent, open atomic.Int64
		h := rtWrap(t, Retry{Budget: Budget{Ratio: -1}}, rtFunc(func(req *http.Request) (*http.Response, error) {
			n := sent.Add(1)
			switch {
			case n%3 == 0:
				return nil, io.EOF
			case n%3 == 1:
				open.Add(1)
				return &http.Response{StatusCode: 503, Body: rtOnClose(func() { open.Add(-1) })}, nil
			}
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		}))
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					resp, err := h.RoundTrip(rtRequest(t, ctx, "PUT", strings.NewReader("abc")))
					if (resp == nil) == (err == nil) {
						t.Errorf("response %v, error %v", resp, err)
					}
					if resp != nil {
						resp.Body.Close()
					}
					cancel()
				}
			})
		}
		wg.Wait()
		if open.Load() != 0 {
			t.Errorf("%d responses were left open", open.Load())
		}
		if n := sent.Load(); n <= 64*20 || n > 4*64*20 {
			t.Errorf("%d attempts of %d requests", n, 64*20)
		}
	})
}

type rtOnClose func()

func (f rtOnClose) Read([]byte) (int, error) { return 0, io.EOF }

func (f rtOnClose) Close() error { f(); return nil }

// A request that goes well at once costs nothing but a look at the clock.
func TestRetryAllocatesNothingOnSuccess(t *testing.T) {
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	stub := rtFunc(func(*http.Request) (*http.Response, error) { return resp, nil })
	req := rtRequest(t, t.Context(), "GET", nil)
	for name, r := range map[string]Retry{
		"default": {},
		"traced":  {Trace: &Trace{Wait: func(WaitInfo) {}, Reject: func(RejectInfo) {}}},
		"own":     {Retryable: func(resp *http.Response, err error) bool { return err != nil }},
	} {
		h := rtWrap(t, r, stub)
		if n := testing.AllocsPerRun(1000, func() { h.RoundTrip(req) }); n != 0 {
			t.Errorf("%s: %v allocations a request", name, n)
		}
	}
}

func BenchmarkRetrySuccess(b *testing.B) {
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	stub := rtFunc(func(*http.Request) (*http.Response, error) { return resp, nil })
	req := rtRequest(b, b.Context(), "GET", nil)
	for name, h := range map[string]http.RoundTripper{"without": stub, "with": rtWrap(b, Retry{}, stub)} {
		b.Run("retry="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.RoundTrip(req)
			}
		})
	}
}
