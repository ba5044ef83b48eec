package resilience

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

var _ net.Error = (*AttemptsError)(nil)

// rtRefused is an attempt without a response.
func rtRefused(n int, at, took time.Duration, err error) Attempt {
	return newAttempt(n, at, took, nil, err, time.Time{})
}

func rtAnswered(n int, at, took time.Duration, status int, after string) Attempt {
	resp := &http.Response{StatusCode: status, Header: http.Header{}}
	if after != "" {
		resp.Header.Set("Retry-After", after)
	}
	return newAttempt(n, at, took, resp, nil, time.Time{})
}

// The whole text, for each reason of its end.
func TestStoryOfAttempts(t *testing.T) {
	s := time.Second
	get := func(e AttemptsError) *AttemptsError {
		if e.Method == "" {
			e.Method = "GET"
		}
		e.Endpoint, e.Path = "https://api.example", "/v1/items"
		if e.Strategy == "" {
			e.Strategy = "retry"
		}
		return &e
	}
	busy, reset := rtAnswered(1, 0, s/10, 503, "2"), rtRefused(2, 2100*time.Millisecond, 3*s, syscall.ECONNRESET)
	for _, tc := range []struct {
		e    *AttemptsError
		want string
	}{
		{get(AttemptsError{Attempts: []Attempt{busy, reset}, Elapsed: 5100 * time.Millisecond, Waited: 2 * s, Stopped: "retries"}), `
berth: retry: GET https://api.example/v1/items: 2 attempts in 5.1s
  1: at 0s, for 100ms: 503 Service Unavailable, Retry-After 2s
  2: at 2.1s, for 3s: connection reset by peer
  waited 3.1s for the server, 2s between attempts
  -> the server failed every attempt: check its health; if it only needs longer to come back, raise Delay [BERTH1020]`},
		{get(AttemptsError{Attempts: []Attempt{reset}, Elapsed: 5 * s, Stopped: "deadline", wait: 4 * s, left: s}), `
berth: retry: GET https://api.example/v1/items: 1 attempt in 5s
  2: at 2.1s, for 3s: connection reset by peer
  waited 3s for the server
  -> the next attempt was due in 4s, and the deadline is in 1s: give the request more time, or wait less [BERTH1020]`},
		{get(AttemptsError{Attempts: []Attempt{busy, rtRefused(2, s, s, context.DeadlineExceeded)}, Elapsed: 2 * s, Waited: s, Stopped: "deadline", cause: context.DeadlineExceeded}), `
berth: retry: GET https://api.example/v1/items: 2 attempts in 2s
  1: at 0s, for 100ms: 503 Service Unavailable, Retry-After 2s
  2: at 1s, for 1s: context deadline exceeded
  waited 1.1s for the server, 1s between attempts
  -> the deadline has passed: give the request more time, or an attempt less [BERTH1020]`},
		{get(AttemptsError{Method: "POST", Attempts: []Attempt{rtRefused(1, 0, s, io.ErrUnexpectedEOF)}, Elapsed: s, Stopped: "method"}), `
berth: retry: POST https://api.example/v1/items: 1 attempt in 1s
  1: at 0s, for 1s: unexpected EOF
  waited 1s for the server
  -> the server may have received the POST and is not to twice: send an Idempotency-Key, or set Unsafe [BERTH1020]`},
		{get(AttemptsError{Method: "PUT", Attempts: []Attempt{rtRefused(1, 0, 0, io.ErrUnexpectedEOF)}, Stopped: "body"}), `
berth: retry: PUT https://api.example/v1/items: 1 attempt in 0s
  1: at 0s, for 0s: unexpected EOF
  -> the body cannot be sent again: set Request.GetBody [BERTH1020]`},
		{get(AttemptsError{Attempts: []Attempt{rtRefused(1, 0, 2*s, &berth.DialError{Endpoint: "https://api.example", Err: syscall.ECONNREFUSED})}, Elapsed: 2 * s, Stopped: "budget", ratio: 0.2}), `
berth: retry: GET https://api.example/v1/items: 1 attempt in 2s
  1: at 0s, for 2s: berth: dial https://api.example: connection refused: nothing listens there; check address and port, and that the server runs [BERTH1003]
  waited 2s for a connection
  -> the retry budget is used up, 20% of the requests: the server fails many of them, and more attempts would keep it down [BERTH1020]`},
		{get(AttemptsError{Attempts: []Attempt{busy}, Elapsed: s, Waited: 900 * time.Millisecond, Stopped: "canceled", cause: context.Canceled}), `
berth: retry: GET https://api.example/v1/items: 1 attempt in 1s
  1: at 0s, for 100ms: 503 Service Unavailable, Retry-After 2s
  then canceled, after its response was discarded: context canceled
  waited 100ms for the server, 900ms between attempts
  -> the caller gave up: nothing to do, or give it more time [BERTH1020]`},
		{get(AttemptsError{Strategy: "hedge", Attempts: []Attempt{reset, {N: 2, Start: s, Duration: s, Sent: true, Hedge: true, RetryAfter: -1}}, Elapsed: 2 * s, Stopped: "permanent"}), `
berth: hedge: GET https://api.example/v1/items: 2 attempts in 2s
  2: at 2.1s, for 3s: connection reset by peer
  2 (hedge): at 1s, for 1s: no outcome
  waited 4s for the server
  -> another attempt would meet the same error [BERTH1020]`},
		{get(AttemptsError{Attempts: []Attempt{rtRefused(1, 0, s, errReset), rtRefused(2, s, s, errReset)}, Elapsed: 2 * s, Stopped: "retries"}), `
berth: retry: GET https://api.example/v1/items: 2 attempts in 2s
  1: at 0s, for 1s: berth: http://origin.test: connection broken before the request was sent: connection reset by peer
  2: at 1s, for 1s: berth: http://origin.test: connection broken before the request was sent: connection reset by peer
  -> nothing was ever sent: check the endpoint's address and health, and the way to it [BERTH1020]`},
	} {
		if got, want := tc.e.Error(), strings.TrimPrefix(tc.want, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// Part of the attempts starved, and part did not.
func TestStoryOfSomeAttemptsThatStarved(t *testing.T) {
	full := &berth.QueueFullError{Waiting: 7, Starvation: berth.Starvation{Endpoint: "http://x", Reason: berth.ReasonQueue}}
	late := &berth.AcquireTimeoutError{Waited: 2 * time.Second, Starvation: berth.Starvation{Endpoint: "http://x", Reason: berth.ReasonPaused}}
	e := &AttemptsError{Attempts: []Attempt{rtRefused(1, 0, 0, fmt.Errorf("wrapped: %w", full)), rtRefused(2, 0, 2*time.Second, late), rtAnswered(3, 0, 0, 503, "")}}
	want := "\n  2 of 3 attempts got no connection, and each joined the queue again and made it longer\n  -> call Resume\n"
	if got := e.Error(); !strings.Contains(got, want) || strings.Contains(got, "never asked") || strings.Contains(got, "in full") {
		t.Errorf("lacks %q, or says too much:\n%s", want, got)
	}
	e.Attempts = e.Attempts[1:]
	if got := e.Error(); strings.Contains(got, "joined the queue") {
		t.Errorf("one attempt is no retry that starved:\n%s", got)
	}
}

// An error's text is bounded, in lines and in their length, and has no query and no user.
func TestStoryIsBoundedAndKeepsSecrets(t *testing.T) {
	leaky := &url.Error{Op: "Get", URL: "http://user:secret@inner.test/path?token=secret", Err: errors.New(strings.Repeat("é", 1000) + "\nsecond line")}
	odd := &url.Error{Op: "Get", URL: "http://\x7fsecret", Err: io.EOF}
	e := &AttemptsError{Endpoint: "http://x"}
	for n := range 101 {
		err := error(leaky)
		if n%2 == 1 {
			err = odd
		}
		e.Attempts = append(e.Attempts, rtRefused(n+1, 0, 0, err))
	}
	got := e.Error()
	if strings.Contains(got, "secret") {
		t.Error("a secret is told")
	}
	if !strings.Contains(got, "\n  6: at") || !strings.Contains(got, "\n  89 more\n  96: at") || !strings.Contains(got, "\n  101: at") {
		t.Errorf("which attempts are told:\n%s", got)
	}
	if !strings.Contains(got, "Get http://inner.test/path: éé") || !strings.Contains(got, "Get URL: EOF") {
		t.Errorf("what remains of the errors:\n%s", got)
	}
	lines := strings.Split(got, "\n")
	for _, l := range lines[:14] {
		if len(l) > toldLine+50 || strings.ContainsRune(l, '\uFFFD') {
			t.Errorf("a line of %d bytes: %q", len(l), l)
		}
	}
	for n := range 30 {
		e.Attempts = e.Attempts[:n]
		if got, want := strings.Count(e.Error(), ": at 0s"), min(n, toldAttempts); got != want {
			t.Errorf("of %d attempts, %d are told, want %d", n, got, want)
		}
	}
	// A path cannot begin a line of its own.
	req := rtRequest(t, t.Context(), "GET", nil)
	req.URL.Path = "/a\n  -> all is well"
	_, err := rtWrap(t, Retry{Delay: -1, MaxRetries: 1}, rtFunc(func(*http.Request) (*http.Response, error) { return nil, io.EOF })).RoundTrip(req)
	if strings.Contains(err.Error(), "all is well") {
		t.Errorf("%v", err)
	}
}

func TestAttemptsErrorReachesEveryCause(t *testing.T) {
	one, two, cause := errors.New("one"), &berth.AcquireTimeoutError{}, errors.New("cause")
	e := &AttemptsError{Attempts: []Attempt{rtRefused(1, 0, 0, one), rtAnswered(2, 0, 0, 503, ""), rtRefused(3, 0, 0, two)}}
	wrapped := fmt.Errorf("wrapped: %w", e)
	if !errors.Is(wrapped, one) || !errors.Is(wrapped, two) || !errors.Is(wrapped, context.DeadlineExceeded) || errors.Is(wrapped, cause) {
		t.Error("not every cause is reached, or one too many")
	}
	if !e.Timeout() || !e.Temporary() || e.NotSent() || e.Code() != "BERTH1020" {
		t.Errorf("timeout %v, temporary %v, not sent %v, code %s", e.Timeout(), e.Temporary(), e.NotSent(), e.Code())
	}
	e.cause = cause
	if !errors.Is(wrapped, cause) || e.Timeout() || e.Temporary() {
		t.Error("the cause ended it, and is no timeout")
	}
	e = &AttemptsError{Attempts: []Attempt{rtRefused(1, 0, 0, two), rtRefused(2, 0, 0, io.EOF)}}
	if e.Timeout() || e.Temporary() {
		t.Error("the first attempt's error decides")
	}
	for _, tc := range []struct {
		attempts []Attempt
		want     bool
	}{
		{[]Attempt{rtRefused(1, 0, 0, two), rtRefused(2, 0, 0, errReset)}, true},
		{[]Attempt{rtRefused(1, 0, 0, io.EOF), rtRefused(2, 0, 0, two)}, false},
		{[]Attempt{rtAnswered(1, 0, 0, 503, ""), rtRefused(2, 0, 0, two)}, false},
	} {
		if got := berth.NotSent(&AttemptsError{Attempts: tc.attempts}); got != tc.want {
			t.Errorf("NotSent of %v is %v", tc.attempts, got)
		}
	}
}

func TestAttemptOf(t *testing.T) {
	ctx := t.Context()
	if n := AttemptOf(ctx); n != 1 {
		t.Errorf("without an attempt: %d", n)
	}
	if n := AttemptOf(withAttempt(withAttempt(ctx, 2), 3)); n != 3 {
		t.Errorf("the innermost is %d, want 3", n)
	}
}
