package resilience

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/berth-go/berth"
)

// Retry sends a request again when its outcome is transient: by [Transient], a response of
// status 408, 429 or 5xx, or an error that is not the caller's own and not for good. The
// response of an attempt that is followed by another is closed before the wait for it, so
// that no connection is held meanwhile.
//
// A request is sent again only if all of this holds:
//
//   - nothing of it has left by [berth.NotSent], or the server may receive it twice by
//     [Repeatable], or Unsafe is set;
//   - it has no body, or a GetBody that gives it anew: nothing is buffered in secret;
//   - retries are left, and its context has time for the wait;
//   - the Budget has one.
//
// If not, a transient response is returned as it is, its body unread, and an error as an
// *[AttemptsError] that says why; but an error that is not transient, of a request that was
// sent once, is returned as it is.
//
// It differs from .NET's retry strategy (HttpRetryStrategyOptions) in this: methods that
// are not idempotent are sent again only when nothing of them had left (there, all are by
// default, POST too); there is a budget; a wait that would outlast the request's deadline
// is not begun, so that a response in hand is not lost for it; what stays as it is (an
// address that is not allowed, a certificate that does not verify) is not tried again; and
// the error tells of all attempts, not of the last one only. Numbers, jitter and
// Retry-After are .NET's.
type Retry struct {
	// MaxRetries is how often a request is sent again. Default 3; negative: never. At most
	// 100.
	MaxRetries int `json:"max_retries"`

	// Backoff is how the waits grow: "exponential" (default: base, 2, 4, 8 times it),
	// "linear" (base, 2, 3, 4 times it) or "constant".
	Backoff string `json:"backoff"`

	// Delay is the base of the waits. Default 2 s; negative: no wait. At most 24 h.
	Delay time.Duration `json:"delay"`

	// MaxDelay bounds a wait, jitter included. Default and negative: none but 24 h. It is
	// no bound for Retry-After.
	MaxDelay time.Duration `json:"max_delay"`

	// NoJitter makes the waits exact: requests that failed together come back together.
	// Otherwise exponential waits are spread by Polly's decorrelated formula, others by
	// 25 % either way.
	NoJitter bool `json:"no_jitter"`

	// IgnoreRetryAfter waits as Backoff says where a response has a Retry-After of its own
	// to say. Otherwise that is waited for, in seconds or until a date, without jitter, up
	// to 24 h.
	IgnoreRetryAfter bool `json:"ignore_retry_after"`

	// Unsafe sends requests again whose methods are not idempotent too, as .NET does by
	// default: a POST may then be carried out twice.
	Unsafe bool `json:"unsafe"`

	// Budget bounds retries to a share of all requests. Default 0.2 per request, and 10 a
	// second.
	Budget Budget `json:"budget"`

	// Retryable decides in place of [Transient] if it is set. It gets a response or an
	// error, must neither read nor close the response's body, and is not asked once the
	// request's context has ended. What makes it unsafe to send the request again still
	// keeps it from being sent.
	Retryable func(resp *http.Response, err error) bool `json:"-"`

	// Trace is told of attempts, waits, and refusals to make another attempt.
	Trace *Trace `json:"-"`

	random func() float64 // in place of math/rand/v2's; in [0, 1)
}

// Defaults and bounds of a Retry.
const (
	defaultMaxRetries = 3
	defaultRetryDelay = 2 * time.Second
	mostRetries       = 100
)

var defaultRetryBudget = Budget{Ratio: 0.2, MinPerSecond: 10}

func (r *Retry) validate() error {
	fail := func(field, format string, args ...any) error {
		return &berth.ConfigError{Field: "Retry." + field, Reason: fmt.Sprintf(format, args...)}
	}
	switch r.Backoff {
	case "", backoffExponential, backoffLinear, backoffConstant:
	default:
		return fail("Backoff", "is %q, and exponential, linear and constant are known", r.Backoff)
	}
	switch {
	case r.MaxRetries > mostRetries:
		return fail("MaxRetries", "is %d, and at most %d is allowed", r.MaxRetries, mostRetries)
	case r.Delay > longestWait:
		return fail("Delay", "is %v, and at most 24h is allowed", r.Delay)
	case r.MaxDelay > longestWait:
		return fail("MaxDelay", "is %v, and at most 24h is allowed", r.MaxDelay)
	}
	return r.Budget.validate("Retry.Budget")
}

// Handler returns what wraps a RoundTripper. What it wraps shares the budget. The error is
// a *berth.ConfigError.
func (r Retry) Handler() (Handler, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	t := retryTransport{
		retries:   defaultMaxRetries,
		wait:      backoff{kind: r.Backoff, base: defaultRetryDelay, max: longestWait, jitter: !r.NoJitter, random: r.random},
		ignore:    r.IgnoreRetryAfter,
		unsafe:    r.Unsafe,
		retryable: r.Retryable,
		budget:    newBudget(r.Budget, defaultRetryBudget),
		trace:     r.Trace,
	}
	if r.MaxRetries != 0 {
		t.retries = max(r.MaxRetries, 0)
	}
	if r.Delay != 0 {
		t.wait.base = max(r.Delay, 0)
	}
	if r.MaxDelay > 0 {
		t.wait.max = r.MaxDelay
	}
	return func(next http.RoundTripper) http.RoundTripper {
		t := t
		t.next = next
		return &t
	}, nil
}

// retryTransport is a Retry around a RoundTripper.
type retryTransport struct {
	forward
	retries   int
	wait      backoff
	ignore    bool // Retry-After
	unsafe    bool
	retryable func(*http.Response, error) bool
	budget    *budget
	trace     *Trace
}

// RoundTrip sends the request, again where Retry allows it, and returns the response or
// the error of the last attempt; the latter as an *AttemptsError where there were several,
// or should have been. It blocks for all attempts and the waits between them; the request's
// context ends it at any point. It does not change the request: attempts after the first
// are made with copies.
func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.budget.request()
	start := time.Now()
	resp, err := t.send(req)
	again := t.transient(req, resp, err)
	if !again && (t.trace == nil || t.trace.Attempt == nil) {
		return resp, err
	}
	r := retries{retryTransport: t, req: req, start: start, begin: start}
	return r.run(resp, err, again)
}

func (t *retryTransport) transient(req *http.Request, resp *http.Response, err error) bool {
	if t.retryable == nil {
		return Transient(req.Context(), resp, err)
	}
	return req.Context().Err() == nil && t.retryable(resp, err)
}

// retries is a request that is sent more than once, or might be.
type retries struct {
	*retryTransport
	req          *http.Request
	start, begin time.Time // of the request, of the attempt
	attempts     []Attempt
	prev         float64       // of the backoff
	waited       time.Duration // between attempts
	left         time.Duration // of the deadline, when a wait was too long for it
}

// run goes on after the first attempt.
func (r *retries) run(resp *http.Response, err error, again bool) (*http.Response, error) {
	for n := 1; ; n++ {
		now := time.Now()
		a := newAttempt(n, r.begin.Sub(r.start), now.Sub(r.begin), resp, err, now)
		r.attempts = append(r.attempts, a)
		wait, stopped := r.next(a, again)
		r.trace.attempt(AttemptInfo{Endpoint: endpointOf(r.req), Strategy: "retry", Attempt: a, Final: stopped != ""})
		if stopped != "" {
			refused := again && stopped != stoppedRetries && stopped != stoppedCanceled
			if refused {
				r.trace.reject(RejectInfo{Endpoint: endpointOf(r.req), Strategy: "retry", Why: stopped})
			}
			if err != nil && (n > 1 || refused) {
				return nil, r.error(stopped, wait, r.ended())
			}
			return resp, err
		}
		discard(resp)
		if err := r.sleep(wait, r.asked(a)); err != nil {
			return nil, r.error(stoppedCanceled, 0, err)
		}
		req, err2 := r.copy(n + 1)
		if err2 != nil {
			return nil, r.error(stoppedBody, 0, err2)
		}
		r.begin = time.Now()
		resp, err = r.send(req)
		if resp != nil && resp.Request == req {
			resp.Request = r.req
		}
		again = r.transient(req, resp, err)
	}
}

// next returns how long to wait before another attempt, or why there is none. again says
// that the outcome is transient. The budget is asked last: what it gives is used.
func (r *retries) next(a Attempt, again bool) (wait time.Duration, stopped string) {
	ctx := r.req.Context()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return 0, stoppedDeadline
	case ctx.Err() != nil:
		return 0, stoppedCanceled
	case !again:
		return 0, stoppedPermanent
	case a.N > r.retries:
		return 0, stoppedRetries
	case a.Sent && !r.unsafe && !Repeatable(r.req):
		return 0, stoppedMethod
	case !rewindable(r.req):
		return 0, stoppedBody
	}
	wait = r.wait.delay(a.N-1, &r.prev)
	if r.asked(a) {
		wait = a.RetryAfter
	}
	if deadline, has := ctx.Deadline(); has {
		if r.left = time.Until(deadline); wait >= r.left {
			return wait, stoppedDeadline
		}
	}
	if !r.budget.take() {
		return 0, stoppedBudget
	}
	return wait, ""
}

// asked says that the wait after an attempt is the server's, not the backoff's.
func (r *retries) asked(a Attempt) bool { return a.RetryAfter >= 0 && !r.ignore }

// sleep waits, and returns what ended the wait before its time.
func (r *retries) sleep(d time.Duration, asked bool) error {
	ctx, cancel := r.req.Context(), legacyCancel(r.req)
	if d > 0 {
		begin := time.Now()
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-cancel:
		}
		timer.Stop()
		waited := time.Since(begin)
		r.waited += waited
		why := "backoff"
		if asked {
			why = "retry-after"
		}
		r.trace.wait(WaitInfo{Endpoint: endpointOf(r.req), Strategy: "retry", Waited: waited, Why: why})
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-cancel:
		return berth.ErrRequestCanceled
	default:
		return nil
	}
}

// copy makes the request of the nth attempt. It shares everything with the first but the
// body.
func (r *retries) copy(n int) (*http.Request, error) {
	req := r.req.WithContext(withAttempt(r.req.Context(), n))
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	req.Body = body
	return req, nil
}

// ended returns the cause of the context's end, or nil.
func (r *retries) ended() error { return context.Cause(r.req.Context()) }

func (r *retries) error(stopped string, wait time.Duration, cause error) *AttemptsError {
	e := &AttemptsError{Method: methodOf(r.req), Endpoint: endpointOf(r.req), Path: pathOf(r.req), Strategy: "retry",
		Attempts: r.attempts, Elapsed: time.Since(r.start), Waited: r.waited, Stopped: stopped, cause: cause, wait: wait, left: r.left}
	if r.budget != nil {
		e.ratio = r.budget.ratio
	}
	return e
}

// legacyCancel returns the request's deprecated Cancel channel. http.Client sets it for a
// RoundTripper that it does not know.
func legacyCancel(req *http.Request) <-chan struct{} {
	//lint:ignore SA1019 see above
	return req.Cancel
}
