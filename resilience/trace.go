package resilience

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berth-go/berth"
)

// Trace is told what strategies do. A nil function costs nothing. Functions are called on
// the goroutine of the request, several at a time, and must not block.
type Trace struct {
	Attempt func(AttemptInfo) // an attempt of Retry or Hedge has ended
	Wait    func(WaitInfo)    // a strategy has waited
	Breaker func(BreakerInfo) // a circuit breaker has changed its state
	Reject  func(RejectInfo)  // a strategy has refused a request, or another attempt
}

// AttemptInfo describes one attempt, up to its response head.
type AttemptInfo struct {
	Endpoint string // scheme, host and port
	Strategy string // "retry" or "hedge"
	Attempt         // what it met
	Final    bool   // its outcome is the request's
}

// WaitInfo describes a wait.
type WaitInfo struct {
	Endpoint string
	Strategy string        // "retry", "rate" or "concurrency"
	Waited   time.Duration // to its end, or to that of the request
	Why      string        // retry: "backoff" or "retry-after"; else "limit"
}

// BreakerInfo describes a breaker's change of state.
type BreakerInfo struct {
	Endpoint string
	From, To string        // "closed", "open", "half-open"
	Failures int           // of the requests in the window, when it opens
	Requests int           // in the window, when it opens
	Break    time.Duration // how long it stays open, when it opens
}

// RejectInfo describes a refusal.
type RejectInfo struct {
	Endpoint string
	Strategy string // "timeout", "retry", "hedge", "breaker", "rate", "concurrency"

	// Why is "open" and "half-open" (breaker), "limit" (rate, concurrency), "budget",
	// "deadline", "body" and "method" (retry and hedge: no other attempt), "queue" (hedge:
	// it would have had to wait for a connection), "total" and "attempt" (timeout).
	Why string
}

func (t *Trace) attempt(i AttemptInfo) {
	if t != nil && t.Attempt != nil {
		t.Attempt(i)
	}
}

func (t *Trace) wait(i WaitInfo) {
	if t != nil && t.Wait != nil {
		t.Wait(i)
	}
}

func (t *Trace) breaker(i BreakerInfo) {
	if t != nil && t.Breaker != nil {
		t.Breaker(i)
	}
}

func (t *Trace) reject(i RejectInfo) {
	if t != nil && t.Reject != nil {
		t.Reject(i)
	}
}

// Attempt is what one attempt met.
type Attempt struct {
	N          int           // from 1
	Start      time.Duration // since the request's begin
	Duration   time.Duration // up to the response head, or the error
	Status     int           // 0 without a response
	RetryAfter time.Duration // what the response asked for; negative when it did not
	Err        error         // nil with a response
	Waited     time.Duration // for a connection, when it got none
	Sent       bool          // something of it may have left
	Hedge      bool          // it ran beside another
}

// text is an attempt in a line.
func (a *Attempt) text() string {
	name := fmt.Sprint(a.N)
	if a.Hedge {
		name += " (hedge)"
	}
	met := "no outcome"
	switch {
	case a.Err != nil:
		met = firstLine(a.Err)
	case a.Status != 0:
		met = strings.TrimSpace(fmt.Sprint(a.Status, " ", http.StatusText(a.Status)))
		if a.RetryAfter >= 0 {
			met += fmt.Sprintf(", Retry-After %v", brief(a.RetryAfter))
		}
	}
	return fmt.Sprintf("%s: at %v, for %v: %s", name, brief(a.Start), brief(a.Duration), met)
}

// newAttempt describes an attempt that has ended.
func newAttempt(n int, start, took time.Duration, resp *http.Response, err error, now time.Time) Attempt {
	a := Attempt{N: n, Start: start, Duration: took, Err: err, RetryAfter: -1, Sent: !berth.NotSent(err)}
	if resp != nil {
		a.Status = resp.StatusCode
		if d, asked := retryAfter(resp, now); asked {
			a.RetryAfter = d
		}
	}
	if e, is := errors.AsType[*berth.AcquireTimeoutError](err); is {
		a.Waited = e.Waited
	} else if _, is := errors.AsType[*berth.DialError](err); is {
		a.Waited = took
	}
	return a
}

type attemptKey struct{}

// AttemptOf returns which attempt of its request a RoundTripper sees, by the request's
// context: 1 is the first, and what no strategy has sent again. Of several strategies, the
// innermost that has sent it again tells.
func AttemptOf(ctx context.Context) int {
	if n, has := ctx.Value(attemptKey{}).(int); has {
		return n
	}
	return 1
}

func withAttempt(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, attemptKey{}, n)
}

// endpointName is where a request goes, without what identifies a user.
func endpointName(u *url.URL) string { return u.Scheme + "://" + u.Host }

// endpointKey tells endpoints apart.
type endpointKey struct{ scheme, host string }

// methodOf, endpointOf and pathOf are a request's for people.
func methodOf(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

func endpointOf(req *http.Request) string {
	if req.URL == nil {
		return ""
	}
	return endpointName(req.URL)
}

func pathOf(req *http.Request) string {
	if req.URL == nil {
		return ""
	}
	return clip(req.URL.EscapedPath())
}
