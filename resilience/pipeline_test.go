package resilience

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

// C78: over a server that never answers, .NET's standard pipeline cuts an attempt at 10 s
// and the request at 30 s.
func TestC78StandardPipelineOverASlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begins, ends []time.Duration
		start := time.Now()
		rt := wrapped(t, Standard(), trip(func(req *http.Request) (*http.Response, error) {
			begins = append(begins, time.Since(start))
			<-req.Context().Done()
			ends = append(ends, time.Since(start))
			return nil, context.Cause(req.Context())
		}))
		_, err := rt.RoundTrip(getOf(t, t.Context()))
		if took := time.Since(start); took > 30*time.Second || took < 20*time.Second {
			t.Errorf("ended after %v", took)
		}
		if len(begins) < 2 || len(begins) > 3 {
			t.Fatalf("%d attempts", len(begins))
		}
		for i := range begins {
			if d := ends[i] - begins[i]; d != 10*time.Second && ends[i] != 30*time.Second {
				t.Errorf("attempt %d was cut after %v, at %v", i+1, d, ends[i])
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // an attempt that lasts to the end of the request
		cfg := Standard()
		cfg.Retry = &Retry{Delay: -1}
		start := time.Now()
		_, err := wrapped(t, cfg, takes(time.Hour)).RoundTrip(getOf(t, t.Context()))
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("ended after %v", took)
		}
		var late *TimeoutError
		var story *AttemptsError
		if !errors.As(err, &late) || late.Scope != "total" || !errors.As(err, &story) || len(story.Attempts) != 3 {
			t.Errorf("%v", err)
		}
	})
}

// The defaults of .NET's standard pipeline: dotnet.md §4.1.
func TestStandardDefaults(t *testing.T) {
	t.Run("a thousand at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rt := wrapped(t, Standard(), takes(time.Second))
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					if _, err := rt.RoundTrip(getOf(t, t.Context())); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			if _, err := rt.RoundTrip(getOf(t, t.Context())); !errors.As(err, new(*LimitError)) {
				t.Errorf("the 1,001st: %v", err)
			}
			wg.Wait()
		})
	})
	t.Run("three retries, statuses", func(t *testing.T) {
		for status, attempts := range map[int]int{200: 1, 404: 1, 400: 1, 408: 4, 429: 4, 500: 4, 501: 4, 503: 4, 599: 4} {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				rt := wrapped(t, Standard(), trip(func(req *http.Request) (*http.Response, error) {
					n++
					resp := answerTo(req, status, "")
					resp.Header.Set("Retry-After", "1")
					return resp, nil
				}))
				start := time.Now()
				resp, err := rt.RoundTrip(getOf(t, t.Context()))
				if err != nil || resp.StatusCode != status || n != attempts || time.Since(start) != time.Duration(attempts-1)*time.Second {
					t.Errorf("%d: %d attempts in %v, %v", status, n, time.Since(start), err)
				}
			})
		}
	})
	t.Run("waits from 2 s on, decorrelated", func(t *testing.T) {
		// By Polly's formula three of them come to 2/1.4 · 2^t · tanh(√4t), with t between 2
		// and 3: 8.2 s in the mean.
		var sum time.Duration
		const rounds = 300
		for range rounds {
			synctest.Test(t, func(t *testing.T) {
				cfg := Standard()
				cfg.Total = &Timeout{After: time.Hour}
				cfg.Trace = &Trace{Wait: func(i WaitInfo) { sum += i.Waited }}
				rt := wrapped(t, cfg, trip(func(req *http.Request) (*http.Response, error) { return answerTo(req, 503, ""), nil }))
				if _, err := rt.RoundTrip(getOf(t, t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		if mean := sum / rounds; mean < 7*time.Second || mean > 9500*time.Millisecond {
			t.Errorf("three waits take %v together in the mean, 8.2 s were expected", mean)
		}
	})
	t.Run("the breaker", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := Standard()
			cfg.Retry = &Retry{MaxRetries: -1}
			n := 0
			rt := wrapped(t, cfg, trip(func(req *http.Request) (*http.Response, error) {
				if n++; n%10 == 0 {
					return answerTo(req, 500, ""), nil
				}
				return answerTo(req, 200, ""), nil
			}))
			for i := range 100 {
				if _, err := rt.RoundTrip(getOf(t, t.Context())); err != nil {
					t.Fatalf("request %d: %v", i+1, err)
				}
				time.Sleep(290 * time.Millisecond)
			}
			_, err := rt.RoundTrip(getOf(t, t.Context()))
			var open *CircuitOpenError
			if !errors.As(err, &open) || open.Failures != 10 || open.Requests != 100 {
				t.Fatalf("after 10 failures of 100: %v", err)
			}
			time.Sleep(5 * time.Second)
			if _, err := rt.RoundTrip(getOf(t, t.Context())); err != nil {
				t.Errorf("5 s later: %v", err)
			}
		})
	})
	t.Run("unsafe methods once", func(t *testing.T) { // a difference
		for method, attempts := range map[string]int{"GET": 4, "HEAD": 4, "PUT": 4, "DELETE": 4, "OPTIONS": 4, "POST": 1, "PATCH": 1} {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				cfg := Standard()
				cfg.Retry = &Retry{Delay: -1}
				rt := wrapped(t, cfg, trip(func(req *http.Request) (*http.Response, error) { n++; return answerTo(req, 503, ""), nil }))
				req := getOf(t, t.Context())
				req.Method = method
				if _, err := rt.RoundTrip(req); err != nil || n != attempts {
					t.Errorf("%s: %d attempts, %v", method, n, err)
				}
			})
		}
	})
}

// The defaults of .NET's standard hedging: dotnet.md §4.2.
func TestStandardHedgingDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var begins []time.Duration
		start := time.Now()
		rt := wrapped(t, StandardHedging(), trip(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			begins = append(begins, time.Since(start))
			mu.Unlock()
			return takes(time.Hour)(req)
		}))
		_, err := rt.RoundTrip(getOf(t, t.Context()))
		// Two attempts, 2 s apart, of 10 s each: none is left to take the place of the second.
		if took := time.Since(start); len(begins) != 2 || begins[1] != 2*time.Second || took != 12*time.Second {
			t.Errorf("attempts at %v, the end after %v: %v", begins, took, err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the limit is each endpoint's own
		rt := wrapped(t, StandardHedging(), takes(time.Second))
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { rt.RoundTrip(getOf(t, t.Context())) })
		}
		synctest.Wait()
		if _, err := rt.RoundTrip(getOf(t, t.Context())); !errors.As(err, new(*LimitError)) {
			t.Errorf("the 1,001st: %v", err)
		}
		other := getOf(t, t.Context())
		other.URL.Host = "other.example"
		if _, err := rt.RoundTrip(other); err != nil {
			t.Errorf("another endpoint's: %v", err)
		}
		wg.Wait()
	})
}

// A preset gives what a Config leaves out; a negative field switches a strategy off.
func TestPreset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		cfg := Config{Preset: "standard", Retry: &Retry{MaxRetries: -1}, Breaker: &Breaker{FailureRatio: -1}, Concurrency: &Concurrency{Max: -1},
			Total: &Timeout{After: -1}, Attempt: &Timeout{After: -1}}
		rt := wrapped(t, cfg, trip(func(req *http.Request) (*http.Response, error) { n++; return answerTo(req, 503, ""), nil }))
		for range 200 {
			if _, err := rt.RoundTrip(getOf(t, t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if n != 200 {
			t.Errorf("%d attempts of 200", n)
		}
	})
}

func TestPipelineValidates(t *testing.T) {
	for field, cfg := range map[string]Config{
		"Preset":             {Preset: "best"},
		"Attempt.After":      {Preset: "standard", Attempt: &Timeout{After: 31 * time.Second}},
		"Breaker.Window":     {Preset: "standard", Breaker: &Breaker{Window: 19 * time.Second}},
		"Hedge.Delay":        {Preset: "hedging", Hedge: &Hedge{MaxHedges: 4, Delay: 8 * time.Second}},
		"Total.After":        {Total: &Timeout{After: time.Millisecond}},
		"Retry.Delay":        {Retry: &Retry{Delay: 25 * time.Hour}},
		"Rate.PerSecond":     {Rate: &Rate{}},
		"Hedge.MaxHedges":    {Hedge: &Hedge{MaxHedges: 11}},
		"Retry.Budget.Ratio": {Retry: &Retry{Budget: Budget{Ratio: 11}}},
	} {
		_, err := cfg.Handler()
		var e *berth.ConfigError
		if !errors.As(err, &e) || e.Field != field {
			t.Errorf("%v, want one of field %s", err, field)
		}
	}
	for name, cfg := range map[string]Config{"standard": Standard(), "hedging": StandardHedging(), "nothing": {}} {
		if _, err := cfg.Handler(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What each strategy does is told, and which attempt was the last.
func TestTraceOfAPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		cfg := Standard()
		cfg.Retry = &Retry{MaxRetries: 2, Delay: time.Second, NoJitter: true, Backoff: "constant"}
		cfg.Attempt = &Timeout{After: time.Second}
		cfg.Trace = &Trace{
			Attempt: func(i AttemptInfo) { told = append(told, "attempt") },
			Wait:    func(i WaitInfo) { told = append(told, "wait "+i.Why) },
			Reject:  func(i RejectInfo) { told = append(told, "reject "+i.Strategy+" "+i.Why) },
		}
		n := 0
		rt := wrapped(t, cfg, trip(func(req *http.Request) (*http.Response, error) {
			n++
			switch n {
			case 1:
				return takes(time.Minute)(req)
			case 2:
				resp := answerTo(req, 429, "")
				resp.Header.Set("Retry-After", "3")
				return resp, nil
			}
			return answerTo(req, 200, "hello"), nil
		}))
		resp, err := rt.RoundTrip(getOf(t, t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
		resp.Body.Close()
		want := "reject timeout attempt, attempt, wait backoff, attempt, wait retry-after, attempt"
		if got := strings.Join(told, ", "); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// What the standard pipeline adds to a request that goes well. Its time is in
// docs/performance.md.
func TestStandardAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	body := io.NopCloser(strings.NewReader(""))
	resp := &http.Response{StatusCode: 200, Header: http.Header{}}
	stub := trip(func(req *http.Request) (*http.Response, error) {
		resp.Body = body
		return resp, nil
	})
	req := getOf(t, context.Background())
	for name, of := range map[string]struct {
		cfg  Config
		most float64
	}{"standard": {Standard(), 8}, "hedging": {StandardHedging(), 22}} {
		rt := wrapped(t, of.cfg, stub)
		got := testing.AllocsPerRun(500, func() {
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		})
		if got > of.most {
			t.Errorf("%s: %v allocations, at most %v", name, got, of.most)
		}
		t.Logf("%s: %v allocations", name, got)
	}
}

func BenchmarkStandard(b *testing.B) {
	body := io.NopCloser(strings.NewReader(""))
	resp := &http.Response{StatusCode: 200, Header: http.Header{}}
	stub := trip(func(req *http.Request) (*http.Response, error) {
		resp.Body = body
		return resp, nil
	})
	for _, of := range []struct {
		name string
		rt   http.RoundTripper
	}{{"none", stub}, {"total", wrapped(b, Config{Total: &Timeout{}}, stub)}, {"standard", wrapped(b, Standard(), stub)}, {"hedging", wrapped(b, StandardHedging(), stub)}} {
		b.Run("pipeline="+of.name, func(b *testing.B) {
			req := getOf(b, context.Background())
			b.ReportAllocs()
			for b.Loop() {
				resp, err := of.rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}
