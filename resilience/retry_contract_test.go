package resilience

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

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
