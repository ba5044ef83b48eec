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
