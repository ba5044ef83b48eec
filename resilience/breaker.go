package resilience

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/berth-go/berth"
)

// Breaker refuses requests to an endpoint (scheme, host and port) that fails too often.
//
//	closed ──FailureRatio of at least MinRequests in Window──▶ open
//	open ──Break──▶ half-open: one request is let through, the trial
//	half-open ──the trial succeeds──▶ closed, and counting begins anew
//	half-open ──the trial fails──▶ open
//
// What is refused has not been sent: [*CircuitOpenError]. The outcome of a request is its
// response head, or its error. Counted as neither failure nor success are requests that
// the caller cancelled or gave too little time, those that got no connection for want of
// one (*berth.AcquireTimeoutError, *berth.QueueFullError, *berth.WouldQueueError,
// *berth.PortsExhaustedError), and errors that are no failure: they say nothing of the
// server. When that befalls the trial, the next request is one.
//
// A request counts when it ends, for the tenth of the window in which it began: one that
// takes longer than Window does not count. Keep Window twice as long as the longest
// attempt, as .NET demands. A server that never answers is noticed by the timeout of
// an attempt below the breaker ([Config].Attempt or berth.Policy.ResponseHeaderTimeout),
// not by the deadline of the caller.
//
// Unlike .NET's it has a circuit for each endpoint, at most 4,096 (those unused the
// longest are forgotten), and lets a second trial through only when the first has ended.
type Breaker struct {
	// FailureRatio is the part of requests whose failure opens the circuit, at most 1.
	// Default 0.1; negative: it never opens.
	FailureRatio float64 `json:"failure_ratio"`

	// MinRequests is how many have to have ended within Window for it to open. At least 2;
	// default 100.
	MinRequests int `json:"min_requests"`

	// Window is how long a request counts, to a tenth of it. At least 500 ms; default 30 s.
	Window time.Duration `json:"window"`

	// Break is how long the circuit stays open. At least 500 ms; default 5 s.
	Break time.Duration `json:"break"`

	// Failure says whether what a request met is a failure of the server. By default what
	// [Transient] says: a response of status 408, 429 or 5xx, or an error that is not the
	// caller's own and not for good. A deadline of the caller that has passed is for it to
	// judge; it is not asked of the others that count as neither.
	Failure func(*http.Response, error) bool `json:"-"`

	// Trace is told of changes of state, and of refusals.
	Trace *Trace `json:"-"`
}

const (
	defaultFailureRatio = 0.1
	defaultMinRequests  = 100
	defaultWindow       = 30 * time.Second
	defaultBreak        = 5 * time.Second

	minBreakerTime = 500 * time.Millisecond // of Window and Break, as in .NET
	windowParts    = 10                     // as in .NET
)

// Handler returns what wraps a RoundTripper. The error is a *berth.ConfigError.
func (b Breaker) Handler() (Handler, error) {
	if b.FailureRatio == 0 {
		b.FailureRatio = defaultFailureRatio
	}
	if b.MinRequests == 0 {
		b.MinRequests = defaultMinRequests
	}
	if b.Window == 0 {
		b.Window = defaultWindow
	}
	if b.Break == 0 {
		b.Break = defaultBreak
	}
	switch {
	case !(b.FailureRatio <= 1):
		return nil, &berth.ConfigError{Field: "Breaker.FailureRatio", Reason: "must be at most 1"}
	case b.MinRequests < 2:
		return nil, &berth.ConfigError{Field: "Breaker.MinRequests", Reason: "must be at least 2"}
	case b.Window < minBreakerTime:
		return nil, &berth.ConfigError{Field: "Breaker.Window", Reason: "must be at least 500ms"}
	case b.Break < minBreakerTime:
		return nil, &berth.ConfigError{Field: "Breaker.Break", Reason: "must be at least 500ms"}
	}
	if b.FailureRatio < 0 {
		return func(next http.RoundTripper) http.RoundTripper { return next }, nil
	}
	circuits := newPerEndpoint(b.circuit, nil)
	return func(next http.RoundTripper) http.RoundTripper {
		return &breaker{forward: forward{next}, Breaker: b, circuits: circuits}
	}, nil
}

// breaker is a RoundTripper behind circuits.
type breaker struct {
	forward
	Breaker
	circuits *perEndpoint[circuit]
}

// RoundTrip sends the request if its endpoint's circuit lets it. It blocks as long as the
// RoundTripper below. The error is a *CircuitOpenError, or what that returns.
func (b *breaker) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		return b.next.RoundTrip(req) // which knows what to say
	}
	c := b.circuits.of(canonical(req.URL))
	done, err := c.gate.Allow()
	c.tell(b.Trace)
	if err != nil {
		closeRequestBody(req)
		e := c.refusal(err, b.Break)
		b.Trace.reject(RejectInfo{Endpoint: c.endpoint, Strategy: "breaker", Why: e.State})
		return nil, e
	}
	outcome := errNeither // also of a panic, which says nothing of the server
	defer func() {
		done(outcome)
		c.tell(b.Trace)
	}()
	resp, err := b.send(req)
	outcome = b.outcome(req.Context(), resp, err)
	return resp, err
}

// What a circuit is told, beside nil for success.
var (
	errFailed  = errors.New("failed")
	errNeither = errors.New("neither failed nor succeeded")
)

func (b *breaker) outcome(ctx context.Context, resp *http.Response, err error) error {
	if err == nil {
		failed := false
		if b.Failure != nil {
			failed = b.Failure(resp, nil)
		} else {
			failed = Transient(context.Background(), resp, nil) // whatever came of the caller since
		}
		if failed {
			return errFailed
		}
		return nil
	}
	switch {
	case ctx.Err() == context.Canceled, starved(err):
	case b.Failure != nil:
		if b.Failure(nil, err) {
			return errFailed
		}
	case Transient(ctx, nil, err):
		return errFailed
	}
	return errNeither
}

// starved says that no connection was to be had here, which is not the server's failure.
func starved(err error) bool {
	var (
		timeout *berth.AcquireTimeoutError
		full    *berth.QueueFullError
		queue   *berth.WouldQueueError
		ports   *berth.PortsExhaustedError
	)
	return errors.As(err, &timeout) || errors.As(err, &full) || errors.As(err, &queue) || errors.As(err, &ports)
}

// circuit is one endpoint's.
type circuit struct {
	endpoint string
	gate     *gobreaker.TwoStepCircuitBreaker[struct{}]
	untold   atomic.Bool // changes is not empty

	// mu is taken while the gate's lock is held: nothing is called under it.
	mu       sync.Mutex
	opened   time.Time
	failures int // of requests, in the window, when it opened
	requests int
	changes  []BreakerInfo // that Trace is still to be told of
}

// circuit makes an endpoint's.
func (b *Breaker) circuit(k endpointKey) *circuit {
	c := &circuit{endpoint: k.String()}
	c.gate = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     b.Window,
		BucketPeriod: (b.Window + windowParts - 1) / windowParts,
		Timeout:      b.Break - 1, // the gate opens after it, not at it
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return err == errNeither },
		ReadyToTrip: func(n gobreaker.Counts) bool {
			failures, ended := int(n.TotalFailures), int(n.TotalFailures+n.TotalSuccesses)
			if ended < b.MinRequests || float64(failures)/float64(ended) < b.FailureRatio {
				return false
			}
			c.mu.Lock()
			c.failures, c.requests = failures, ended
			c.mu.Unlock()
			return true
		},
		OnStateChange: func(_ string, from, to gobreaker.State) { c.changed(b, from, to) },
	})
	return c
}

// changed notes a change of state; the gate's lock is held.
func (c *circuit) changed(b *Breaker, from, to gobreaker.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := BreakerInfo{Endpoint: c.endpoint, From: from.String(), To: to.String()}
	if to == gobreaker.StateOpen {
		c.opened = time.Now()
		if from == gobreaker.StateHalfOpen {
			c.failures, c.requests = 1, 1 // the trial
		}
		i.Failures, i.Requests, i.Break = c.failures, c.requests, b.Break
	}
	if b.Trace != nil && b.Trace.Breaker != nil {
		c.changes = append(c.changes, i)
		c.untold.Store(true)
	}
}

// tell tells of the changes, with no lock held.
func (c *circuit) tell(t *Trace) {
	if !c.untold.Load() {
		return
	}
	c.mu.Lock()
	changes := c.changes
	c.changes = nil
	c.untold.Store(false)
	c.mu.Unlock()
	for _, i := range changes {
		t.breaker(i)
	}
}

// refusal makes the caller's error of the gate's.
func (c *circuit) refusal(err error, pause time.Duration) *CircuitOpenError {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &CircuitOpenError{Endpoint: c.endpoint, State: "open", Since: time.Since(c.opened), Failures: c.failures, Requests: c.requests}
	if err == gobreaker.ErrTooManyRequests {
		e.State = "half-open"
	} else {
		e.RetryAfter = max(pause-e.Since, 0)
	}
	return e
}

// CircuitOpenError: a [Breaker] did not let the request through, because others to its
// endpoint have failed. Nothing was sent. Code BERTH1021.
type CircuitOpenError struct {
	Endpoint   string
	State      string        // "open", or "half-open" while the trial runs
	Since      time.Duration // since the circuit opened
	RetryAfter time.Duration // until a trial is let through; 0 while one runs
	Failures   int           // of Requests within the window, when the circuit opened
	Requests   int
}

func (e *CircuitOpenError) Error() string {
	next := "a request on trial is under way"
	if e.State == "open" {
		next = fmt.Sprintf("the next is let through in %v", brief(e.RetryAfter))
	}
	return fmt.Sprintf("berth: circuit to %s is %s: %d of %d requests had failed when it opened %v ago, and %s [BERTH1021]",
		e.Endpoint, e.State, e.Failures, e.Requests, brief(e.Since), next)
}

// Code returns BERTH1021.
func (e *CircuitOpenError) Code() string { return "BERTH1021" }

// NotSent reports true.
func (e *CircuitOpenError) NotSent() bool { return true }

// Timeout reports false.
func (e *CircuitOpenError) Timeout() bool { return false }

// Temporary reports true; net.Error asks for it.
func (e *CircuitOpenError) Temporary() bool { return true }
