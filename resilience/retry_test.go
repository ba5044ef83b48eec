package resilience

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

var errReset = &berth.ConnError{Endpoint: "http://origin.test", Err: syscall.ECONNRESET} // nothing was sent

// The defaults of .NET's retry strategy: three retries, from 2 s, twice as long each time.
func TestRetryDefaultsAreNETs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		retry Retry
		want  []time.Duration
	}{
		{"without jitter", Retry{NoJitter: true}, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second}},
		{"with jitter", Retry{random: func() float64 { return 0.5 }}, []time.Duration{1794809871, 2186007094, 4071495925}},
		{"linear", Retry{Backoff: "linear", NoJitter: true}, []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second}},
		{"constant", Retry{Backoff: "constant", NoJitter: true}, []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second}},
		{"5 retries of at most 3 s", Retry{MaxRetries: 5, MaxDelay: 3 * time.Second, NoJitter: true},
			[]time.Duration{2 * time.Second, 3 * time.Second, 3 * time.Second, 3 * time.Second, 3 * time.Second}},
		{"no wait", Retry{Delay: -1}, []time.Duration{0, 0, 0}},
		{"none", Retry{MaxRetries: -1}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rtScript{outcomes: []rtOutcome{{status: 503}}}
				resp, err := rtWrap(t, tc.retry, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil))
				if err != nil {
					t.Fatal(err)
				}
				near := func(a, b time.Duration) bool { return (a - b).Abs() < 10 }
				if got := s.gaps(); !slices.EqualFunc(got, tc.want, near) {
					t.Errorf("waits %v, want %v", got, tc.want)
				}
				if body, err := io.ReadAll(resp.Body); resp.StatusCode != 503 || string(body) != "body" || err != nil {
					t.Errorf("the last response is %d %q, %v", resp.StatusCode, body, err)
				}
				if n := s.open(t); n != 1 {
					t.Errorf("%d responses are open, want the last alone", n)
				}
			})
		})
	}
}

// Which outcomes are met again. 408, 429 and 5xx are .NET's.
func TestWhatIsTransient(t *testing.T) {
	tests := map[string]struct {
		rtOutcome
		again bool
	}{
		"attempt timeout": {rtOutcome{err: context.DeadlineExceeded}, true},
		"reset":           {rtOutcome{err: syscall.ECONNRESET}, true},
		"EOF":             {rtOutcome{err: io.ErrUnexpectedEOF}, true},
		"dial":            {rtOutcome{err: &berth.DialError{Err: syscall.ECONNREFUSED}}, true},
		"acquire":         {rtOutcome{err: &berth.AcquireTimeoutError{}}, true},
		"queue":           {rtOutcome{err: &berth.QueueFullError{}}, true},
		"head timeout":    {rtOutcome{err: &berth.ResponseHeaderTimeoutError{}}, true},
		"server closed":   {rtOutcome{err: &berth.ServerClosedError{}}, true},
		"canceled":        {rtOutcome{err: context.Canceled}, false},
		"closed":          {rtOutcome{err: &berth.ClosedError{}}, false},
		"legacy cancel":   {rtOutcome{err: berth.ErrRequestCanceled}, false},
		"request":         {rtOutcome{err: &berth.RequestError{Reason: "no"}}, false},
		"address refused": {rtOutcome{err: &berth.AddrRefusedError{Err: io.EOF}}, false},
		"unknown CA":      {rtOutcome{err: &berth.DialError{Err: x509.UnknownAuthorityError{}}}, false},
		"no TLS":          {rtOutcome{err: tls.RecordHeaderError{}}, false},
		"circuit open":    {rtOutcome{err: &CircuitOpenError{}}, false},
		"limit":           {rtOutcome{err: &LimitError{}}, false},
	}
	for status := 200; status < 600; status++ {
		tests[fmt.Sprint(status)] = struct {
			rtOutcome
			again bool
		}{rtOutcome{status: status}, status == 408 || status == 429 || status >= 500}
	}
	for name, tc := range tests {
		s := &rtScript{outcomes: []rtOutcome{tc.rtOutcome, {status: 200}}}
		resp, err := rtWrap(t, Retry{Delay: -1}, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		if got := len(s.seen) == 2; got != tc.again || len(s.seen) > 2 {
			t.Errorf("%s: sent %d times, again is %v", name, len(s.seen), tc.again)
		}
		switch {
		case tc.again && (err != nil || resp.StatusCode != 200):
			t.Errorf("%s: %v, %v after a second attempt that went well", name, resp, err)
		case !tc.again && err != tc.err:
			t.Errorf("%s: error %v, want %v as it is", name, err, tc.err)
		}
	}
}

// Which requests may be sent twice, and what is said when one may not.
func TestWhatMayBeSentAgain(t *testing.T) {
	again := func() (io.ReadCloser, error) { return newRTBody("abc"), nil }
	sent, notSent := rtOutcome{err: syscall.ECONNRESET}, rtOutcome{err: errReset}
	status := rtOutcome{status: 503}
	for _, tc := range []struct {
		method  string
		body    bool
		getBody bool
		key     string
		retry   Retry
		outcome rtOutcome
		stopped string // "" is sent again
	}{
		{method: "", outcome: sent},
		{method: "GET", outcome: sent},
		{method: "HEAD", outcome: status},
		{method: "OPTIONS", outcome: status},
		{method: "TRACE", outcome: status},
		{method: "DELETE", outcome: status},
		{method: "PUT", body: true, getBody: true, outcome: sent},
		{method: "POST", body: true, getBody: true, outcome: sent, stopped: "method"},
		{method: "POST", body: true, getBody: true, outcome: status, stopped: "method"},
		{method: "POST", outcome: sent, stopped: "method"},
		{method: "PATCH", body: true, getBody: true, outcome: sent, stopped: "method"},
		{method: "CONNECT", outcome: sent, stopped: "method"},
		{method: "BREW", outcome: sent, stopped: "method"},
		{method: "get", outcome: sent, stopped: "method"}, // methods are case-sensitive
		{method: "POST", body: true, getBody: true, outcome: notSent},
		{method: "PATCH", outcome: notSent},
		{method: "POST", body: true, getBody: true, key: "Idempotency-Key", outcome: sent},
		{method: "POST", body: true, getBody: true, key: "X-Idempotency-Key", outcome: status},
		{method: "POST", body: true, getBody: true, retry: Retry{Unsafe: true}, outcome: sent},
		{method: "POST", body: true, getBody: true, retry: Retry{Unsafe: true}, outcome: status},
		{method: "PUT", body: true, outcome: sent, stopped: "body"},
		{method: "PUT", body: true, outcome: status, stopped: "body"},
		{method: "POST", body: true, outcome: notSent, stopped: "body"},
		{method: "POST", body: true, retry: Retry{Unsafe: true}, outcome: sent, stopped: "body"},
		{method: "POST", body: true, outcome: sent, stopped: "method"},
		// What decides for itself is held to the same rules.
		{method: "POST", outcome: sent, retry: Retry{Retryable: func(*http.Response, error) bool { return true }}, stopped: "method"},
		{method: "PUT", body: true, outcome: status, retry: Retry{Retryable: func(*http.Response, error) bool { return true }}, stopped: "body"},
	} {
		name := fmt.Sprintf("%s body=%v GetBody=%v key=%q unsafe=%v after %v", tc.method, tc.body, tc.getBody, tc.key, tc.retry.Unsafe, tc.outcome)
		s := &rtScript{outcomes: []rtOutcome{tc.outcome, {status: 200}}}
		tc.retry.Delay = -1
		record := &rtRecord{}
		tc.retry.Trace = record.trace()
		req := rtRequest(t, t.Context(), "GET", nil)
		req.Method = tc.method
		if tc.body {
			req.Body = newRTBody("abc")
		}
		if tc.getBody {
			req.GetBody = again
		}
		if tc.key != "" {
			req.Header[tc.key] = []string{"k"}
		}
		resp, err := rtWrap(t, tc.retry, s).RoundTrip(req)
		if tc.stopped == "" {
			if len(s.seen) != 2 || err != nil || resp.StatusCode != 200 {
				t.Errorf("%s: sent %d times: %v", name, len(s.seen), err)
			}
			continue
		}
		if len(s.seen) != 1 {
			t.Errorf("%s: sent %d times", name, len(s.seen))
		}
		if !slices.Contains(record.events, "reject retry "+tc.stopped) {
			t.Errorf("%s: the trace was told %q", name, record.events)
		}
		if tc.outcome.err == nil {
			if err != nil || resp.StatusCode != tc.outcome.status || s.open(t) != 1 {
				t.Errorf("%s: %v, %d open; want the response as it is", name, err, s.open(t))
			}
			continue
		}
		e := rtAttempts(t, err)
		if e.Stopped != tc.stopped || len(e.Attempts) != 1 || !errors.Is(err, tc.outcome.err) {
			t.Errorf("%s: stopped by %q after %d: %v", name, e.Stopped, len(e.Attempts), err)
		}
	}
}

func TestRetryableReplacesTransient(t *testing.T) {
	gone := func(resp *http.Response, err error) bool { return resp != nil && resp.StatusCode == http.StatusGone }
	for _, tc := range []struct {
		outcome rtOutcome
		want    int
	}{
		{rtOutcome{status: 410}, 2},
		{rtOutcome{status: 503}, 1},
		{rtOutcome{err: io.EOF}, 1},
	} {
		s := &rtScript{outcomes: []rtOutcome{tc.outcome, {status: 200}}}
		rtWrap(t, Retry{Delay: -1, Retryable: gone}, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		if len(s.seen) != tc.want {
			t.Errorf("%v: sent %d times, want %d", tc.outcome, len(s.seen), tc.want)
		}
	}
	// It is asked once an attempt, and not after the context's end.
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	r := Retry{Delay: -1, MaxRetries: 2, Retryable: func(*http.Response, error) bool { asked++; return true }, Trace: (&rtRecord{}).trace()}
	rtWrap(t, r, &rtScript{outcomes: []rtOutcome{{status: 200}}}).RoundTrip(rtRequest(t, ctx, "GET", nil))
	if asked != 3 {
		t.Errorf("asked %d times of 3 attempts", asked)
	}
	cancel()
	rtWrap(t, r, &rtScript{outcomes: []rtOutcome{{status: 200}}}).RoundTrip(rtRequest(t, ctx, "GET", nil))
	if asked != 3 {
		t.Error("asked after the context's end")
	}
}

func TestRetryAfterWinsOverTheBackoff(t *testing.T) {
	for _, tc := range []struct {
		name   string
		retry  Retry
		status int
		after  string
		want   time.Duration
	}{
		{"longer", Retry{}, 503, "60", time.Minute},
		{"shorter", Retry{}, 429, "1", time.Second},
		{"longer than MaxDelay", Retry{MaxDelay: time.Second}, 503, "60", time.Minute},
		{"on any transient status", Retry{}, 500, "3", 3 * time.Second},
		{"a date", Retry{}, 503, "Sat, 01 Jan 2000 00:00:30 GMT", 30 * time.Second}, // a bubble begins in 2000
		{"a past date", Retry{}, 503, "Fri, 31 Dec 1999 00:00:00 GMT", 0},
		{"at once", Retry{}, 503, "0", 0},
		{"garbage", Retry{}, 503, "soon", 2 * time.Second},
		{"negative", Retry{}, 503, "-5", 2 * time.Second},
		{"ignored", Retry{IgnoreRetryAfter: true}, 503, "60", 2 * time.Second},
		{"without a backoff", Retry{Delay: -1}, 503, "60", time.Minute},
		{"absurd", Retry{}, 503, "99999999999999999999", 24 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rtScript{outcomes: []rtOutcome{{status: tc.status, after: tc.after}, {status: 200}}}
				tc.retry.NoJitter = true
				if _, err := rtWrap(t, tc.retry, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil)); err != nil {
					t.Fatal(err)
				}
				if got := s.gaps(); !slices.Equal(got, []time.Duration{tc.want}) {
					t.Errorf("waited %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// A wait that would outlast the deadline is not begun: the response in hand is returned
// while there is time to read it, and an error comes at once.
func TestWaitThatOutlastsTheDeadlineIsNotBegun(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome rtOutcome
		timeout time.Duration
		want    int // attempts
	}{
		{"fits", rtOutcome{err: io.EOF}, 2*time.Second + 1, 2},
		{"just not", rtOutcome{err: io.EOF}, 2 * time.Second, 1},
		{"Retry-After", rtOutcome{status: 503, after: "3"}, 3 * time.Second, 1},
		{"Retry-After that fits", rtOutcome{status: 503, after: "1"}, 2 * time.Second, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				s := &rtScript{outcomes: []rtOutcome{tc.outcome, {status: 200}}}
				record := &rtRecord{}
				start := time.Now()
				resp, err := rtWrap(t, Retry{NoJitter: true, Trace: record.trace()}, s).RoundTrip(rtRequest(t, ctx, "GET", nil))
				if len(s.seen) != tc.want {
					t.Fatalf("%d attempts, want %d", len(s.seen), tc.want)
				}
				if tc.want == 2 {
					return
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("it took %v", d)
				}
				if !slices.Contains(record.events, "reject retry deadline") {
					t.Errorf("the trace was told %q", record.events)
				}
				if tc.outcome.err == nil {
					if err != nil || resp.StatusCode != 503 || s.open(t) != 1 {
						t.Errorf("%v, %v", resp, err)
					}
					return
				}
				if e := rtAttempts(t, err); e.Stopped != "deadline" || !strings.Contains(e.Error(), "was due in 2s, and the deadline is in 2s") {
					t.Errorf("stopped by %q: %v", e.Stopped, e)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("the deadline has not passed, and the error says so")
				}
			})
		})
	}
}

// The caller may give up at any point.
func TestCallerGivesUp(t *testing.T) {
	mine := errors.New("mine")
	for _, tc := range []struct {
		name     string
		outcomes []rtOutcome
		after    time.Duration // the caller gives up
		attempts int
		stopped  string // "" is an error that is no *AttemptsError
		waited   time.Duration
	}{
		{"before", []rtOutcome{{status: 503, takes: time.Second}}, 0, 1, "", 0},
		{"in the first attempt", []rtOutcome{{status: 503, takes: 2 * time.Second}}, time.Second, 1, "", 0},
		{"in the wait, after a response", []rtOutcome{{status: 503}}, time.Second, 1, "canceled", time.Second},
		{"in the wait, after an error", []rtOutcome{{err: io.EOF}}, time.Second, 1, "canceled", time.Second},
		{"in the second attempt", []rtOutcome{{status: 503}, {status: 503, takes: 2 * time.Second}}, 3 * time.Second, 2, "canceled", 2 * time.Second},
		{"in the second wait", []rtOutcome{{err: io.EOF}, {status: 503}}, 5 * time.Second, 2, "canceled", 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				if tc.after == 0 {
					cancel(mine)
				} else {
					time.AfterFunc(tc.after, func() { cancel(mine) })
				}
				s := &rtScript{outcomes: tc.outcomes}
				bodies := &rtBodies{}
				req := rtRequest(t, ctx, "PUT", nil)
				req.Body, _ = bodies.get()
				req.GetBody = bodies.get
				start := time.Now()
				resp, err := rtWrap(t, Retry{NoJitter: true}, s).RoundTrip(req)
				if resp != nil || !errors.Is(err, mine) {
					t.Fatalf("%v, %v; want the cause", resp, err)
				}
				if d := time.Since(start); d != tc.after {
					t.Errorf("it took %v, want %v", d, tc.after)
				}
				if len(s.seen) != tc.attempts || s.open(t) != 0 {
					t.Errorf("%d attempts, want %d; %d responses open", len(s.seen), tc.attempts, s.open(t))
				}
				bodies.wantClosed(t, tc.attempts)
				if tc.stopped == "" {
					if err != mine {
						t.Errorf("error %v, want the cause itself", err)
					}
					return
				}
				e := rtAttempts(t, err)
				if e.Stopped != tc.stopped || e.Waited != tc.waited || e.Elapsed != tc.after {
					t.Errorf("stopped by %q, waited %v of %v", e.Stopped, e.Waited, e.Elapsed)
				}
				discarded := tc.outcomes[tc.attempts-1].status != 0 && tc.attempts == len(tc.outcomes) && tc.outcomes[tc.attempts-1].takes == 0
				if got := strings.Contains(e.Error(), "after its response was discarded: mine"); got != discarded {
					t.Errorf("a response was discarded: %v\n%v", discarded, e)
				}
			})
		})
	}
}

// http.Client closes Request.Cancel, and nothing else, for a RoundTripper it does not know.
func TestLegacyCancelEndsTheWait(t *testing.T) {
	for _, delay := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			cancel := make(chan struct{})
			s := &rtScript{outcomes: []rtOutcome{{status: 503}}}
			req := rtRequest(t, t.Context(), "GET", nil)
			//lint:ignore SA1019 what is tested
			req.Cancel = cancel
			if delay < 0 {
				close(cancel)
			} else {
				time.AfterFunc(time.Second, func() { close(cancel) })
			}
			_, err := rtWrap(t, Retry{Delay: delay}, s).RoundTrip(req)
			if e := rtAttempts(t, err); e.Stopped != "canceled" || !errors.Is(err, berth.ErrRequestCanceled) || len(s.seen) != 1 {
				t.Errorf("%d attempts: %v", len(s.seen), err)
			}
		})
	}
}

// http.Client's own timeout bounds all attempts, and is told as one.
func TestClientTimeoutBoundsAllAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &rtScript{outcomes: []rtOutcome{{status: 503}, {status: 503, takes: time.Hour}}}
		c := &http.Client{Transport: rtWrap(t, Retry{NoJitter: true}, s), Timeout: 5 * time.Second}
		start := time.Now()
		_, err := c.Get("http://origin.test/")
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if e := rtAttempts(t, err); e.Stopped != "deadline" || len(e.Attempts) != 2 {
			t.Errorf("stopped by %q after %d", e.Stopped, len(e.Attempts))
		}
	})
}

// Whatever the attempts meet: every body that was made is closed once, every response but
// the one returned too, the request is as it was, and every attempt knows its number.
func TestBooksOfAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := []rtOutcome{{status: 200}, {status: 404}, {status: 503}, {status: 429, after: "1"}, {err: io.EOF}, {err: errReset}, {err: &berth.RequestError{}}}
		var try func(prefix []rtOutcome)
		try = func(prefix []rtOutcome) {
			if len(prefix) < 3 {
				for _, o := range outcomes {
					try(append(slices.Clone(prefix), o))
				}
				return
			}
			for _, method := range []string{"PUT", "POST"} {
				s := &rtScript{outcomes: prefix}
				bodies := &rtBodies{}
				req := rtRequest(t, t.Context(), method, nil)
				req.Body, _ = bodies.get()
				req.GetBody = bodies.get
				was, ctx := *req, req.Context()
				resp, err := rtWrap(t, Retry{MaxRetries: 2, Budget: Budget{Ratio: -1}}, s).RoundTrip(req)
				if (resp == nil) == (err == nil) {
					t.Fatalf("%s %v: response %v, error %v", method, prefix, resp, err)
				}
				bodies.wantClosed(t, len(s.seen))
				open := 0
				if resp != nil {
					open = 1
					if resp.Request != req {
						t.Errorf("%s %v: the response is not to the caller's request", method, prefix)
					}
				}
				if n := s.open(t); n != open {
					t.Errorf("%s %v: %d responses are open, want %d", method, prefix, n, open)
				}
				if req.Body != was.Body || req.Context() != ctx || req.URL != was.URL || len(req.Header) != 0 {
					t.Errorf("%s %v: the request was changed", method, prefix)
				}
				for i, seen := range s.seen {
					if got := AttemptOf(seen.Context()); got != i+1 {
						t.Errorf("%s %v: attempt %d thinks it is %d", method, prefix, i+1, got)
					}
					if (seen == req) != (i == 0) {
						t.Errorf("%s %v: attempt %d: the caller's request itself is %v", method, prefix, i+1, seen == req)
					}
				}
			}
		}
		try(nil)
	})
}

func TestGetBodyThatFails(t *testing.T) {
	broken := errors.New("the file is gone")
	s := &rtScript{outcomes: []rtOutcome{{status: 503}}}
	req := rtRequest(t, t.Context(), "PUT", nil)
	req.Body, req.GetBody = newRTBody("abc"), func() (io.ReadCloser, error) { return nil, broken }
	_, err := rtWrap(t, Retry{Delay: -1}, s).RoundTrip(req)
	if e := rtAttempts(t, err); e.Stopped != "body" || !errors.Is(err, broken) || !strings.Contains(err.Error(), "GetBody says: the file is gone") {
		t.Errorf("error %v", err)
	}
	if s.open(t) != 0 {
		t.Error("the discarded response is open")
	}
}

// A response is closed before the wait that follows it, not after.
func TestResponseIsClosedBeforeTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &rtScript{outcomes: []rtOutcome{{status: 503}}}
		go rtWrap(t, Retry{NoJitter: true}, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		for n := range 3 {
			synctest.Wait()
			if s.attempts() != n+1 || s.open(t) != 0 {
				t.Errorf("in wait %d: %d attempts, %d responses open", n+1, s.attempts(), s.open(t))
			}
			time.Sleep(2 * time.Second << n)
		}
		synctest.Wait()
		if s.attempts() != 4 || s.open(t) != 1 {
			t.Errorf("in the end: %d attempts, %d responses open", s.attempts(), s.open(t))
		}
	})
}

// A RoundTripper that breaks its contract is held to it.
func TestRetryHoldsTheOneBelowToTheContract(t *testing.T) {
	both, body := 0, newRTBody("")
	_, err := rtWrap(t, Retry{Delay: -1, MaxRetries: 1}, rtFunc(func(*http.Request) (*http.Response, error) {
		both++
		return &http.Response{StatusCode: 200, Body: body}, io.EOF
	})).RoundTrip(rtRequest(t, t.Context(), "GET", nil))
	if both != 2 || !errors.Is(err, io.EOF) || body.closed.Load() != 2 {
		t.Errorf("a response with an error: %d attempts, %d closed: %v", both, body.closed.Load(), err)
	}
	resp, err := rtWrap(t, Retry{MaxRetries: -1}, rtFunc(func(*http.Request) (*http.Response, error) { return nil, nil })).
		RoundTrip(rtRequest(t, t.Context(), "GET", nil))
	if resp != nil || err != errNoResponse {
		t.Errorf("neither response nor error: %v, %v", resp, err)
	}
	// Nor is a request without a URL any reason to panic.
	_, err = rtWrap(t, Retry{Delay: -1, Trace: (&rtRecord{}).trace()}, rtFunc(func(*http.Request) (*http.Response, error) { return nil, io.EOF })).
		RoundTrip(&http.Request{})
	if e := rtAttempts(t, err); e.Endpoint != "" || len(e.Attempts) != 4 {
		t.Errorf("a request without a URL: %v", err)
	}
}

// A panic below goes up, and leaves nothing locked or lost for the next request.
func TestPanicBelowGoesUp(t *testing.T) {
	n := 0
	body := newRTBody("")
	h := rtWrap(t, Retry{Delay: -1}, rtFunc(func(*http.Request) (*http.Response, error) {
		switch n++; n {
		case 1:
			return &http.Response{StatusCode: 503, Body: body}, nil
		case 2:
			panic("below")
		}
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	}))
	func() {
		defer func() {
			if got := recover(); got != "below" {
				t.Errorf("recovered %v", got)
			}
		}()
		h.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
	}()
	if body.closed.Load() != 1 {
		t.Error("the first response is open")
	}
	if resp, err := h.RoundTrip(rtRequest(t, t.Context(), "GET", nil)); err != nil || resp.StatusCode != 200 {
		t.Errorf("the next request: %v, %v", resp, err)
	}
}

// rtCloser counts.
type rtCloser struct {
	rtFunc
	closed int
}

func (c *rtCloser) CloseIdleConnections() { c.closed++ }

func TestRetryForwards(t *testing.T) {
	below := &rtCloser{}
	h := rtWrap(t, Retry{}, below)
	(&http.Client{Transport: h}).CloseIdleConnections()
	if below.closed != 1 {
		t.Errorf("CloseIdleConnections arrived %d times", below.closed)
	}
	if u, is := h.(interface{ Unwrap() http.RoundTripper }); !is || u.Unwrap() != below {
		t.Error("Unwrap does not lead below")
	}
	(&http.Client{Transport: rtWrap(t, Retry{}, rtFunc(nil))}).CloseIdleConnections() // one that has none
}

func TestRetryIsValidated(t *testing.T) {
	for field, r := range map[string]Retry{
		"Retry.MaxRetries": {MaxRetries: 101},
		"Retry.Backoff":    {Backoff: "Exponential"},
		"Retry.Delay":      {Delay: 24*time.Hour + 1},
		"Retry.MaxDelay":   {MaxDelay: 24*time.Hour + 1},
	} {
		h, err := r.Handler()
		e, is := errors.AsType[*berth.ConfigError](err)
		if !is || e.Field != field || h != nil {
			t.Errorf("%s: error %v", field, err)
		}
	}
	for _, r := range []Retry{{}, {MaxRetries: 100, Delay: 24 * time.Hour, MaxDelay: 24 * time.Hour}, {MaxRetries: -5, Delay: -5, MaxDelay: -5}} {
		if _, err := r.Handler(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// The trace is told of every attempt, of every wait once it is over, and of the refusal.
func TestRetryTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := &rtRecord{}
		s := &rtScript{outcomes: []rtOutcome{{status: 503, takes: time.Second}, {status: 429, after: "3"}, {err: io.EOF}, {status: 200}}}
		h := rtWrap(t, Retry{NoJitter: true, Trace: record.trace(), Budget: Budget{Ratio: 2, MinPerSecond: -1}}, s)
		h.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		h.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		want := []string{
			"retry http://origin.test 1: at 0s, for 1s: 503 Service Unavailable",
			"wait retry 2s backoff",
			"retry http://origin.test 2: at 3s, for 0s: 429 Too Many Requests, Retry-After 3s",
			"wait retry 3s retry-after",
			"retry http://origin.test 3: at 6s, for 0s: EOF (final)",
			"reject retry budget",
			"retry http://origin.test 1: at 0s, for 0s: 200 OK (final)",
		}
		if !slices.Equal(record.events, want) {
			t.Errorf("the trace was told\n%s\nwant\n%s", strings.Join(record.events, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A Trace whose functions are nil, or of which some are, is as none.
func TestRetryTraceOfNothing(t *testing.T) {
	s := &rtScript{outcomes: []rtOutcome{{err: io.EOF}, {status: 503}}}
	if _, err := rtWrap(t, Retry{Delay: -1, MaxRetries: 1, Trace: &Trace{}}, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil)); err != nil {
		t.Error(err)
	}
}

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
func (f rtOnClose) Close() error             { f(); return nil }

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
