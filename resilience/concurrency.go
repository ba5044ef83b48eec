package resilience

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/berth-go/berth"
)

// Concurrency bounds the requests that are on their way at the same time: from here to
// their response head, as in .NET. A body that is still read does not count; how many of
// those there are is bounded by the connections (berth.Policy.MaxConns).
//
// What exceeds Max waits, oldest first, up to MaxQueue; what exceeds that is refused with a
// [*LimitError]. A wait ends with the request's context: at its deadline with a *LimitError
// that unwraps to the context's cause, when it is cancelled with the bare cause.
type Concurrency struct {
	// Max is how many run at the same time. Default 1,000, which is .NET's; negative does not
	// bound them.
	Max int `json:"max"`

	// MaxQueue is how many wait. Default 0: what exceeds Max is refused at once.
	MaxQueue int `json:"max_queue"`

	// PerEndpoint has Max and MaxQueue hold for each endpoint (scheme, host and port) by
	// itself instead of for all together.
	PerEndpoint bool `json:"per_endpoint"`

	// Trace is told of waits, and of refusals.
	Trace *Trace `json:"-"`
}

const defaultConcurrency = 1000

// Handler returns what wraps a RoundTripper. The error is a *berth.ConfigError.
func (c Concurrency) Handler() (Handler, error) {
	if c.Max == 0 {
		c.Max = defaultConcurrency
	}
	if c.MaxQueue < 0 {
		return nil, &berth.ConfigError{Field: "Concurrency.MaxQueue", Reason: "must not be negative"}
	}
	if c.Max < 0 {
		return func(next http.RoundTripper) http.RoundTripper { return next }, nil
	}
	room := func(endpointKey) *permits { return &permits{sem: semaphore.NewWeighted(int64(c.Max))} }
	all := room(endpointKey{})
	each := newPerEndpoint(room, func(p *permits) bool { return p.taken.Load() > 0 })
	return func(next http.RoundTripper) http.RoundTripper {
		return &concurrency{forward: forward{next}, Concurrency: c, all: all, each: each}
	}, nil
}

// concurrency is a RoundTripper behind permits.
type concurrency struct {
	forward
	Concurrency
	all  *permits
	each *perEndpoint[permits] // instead, with PerEndpoint
}

// permits are what requests hold while they run.
type permits struct {
	sem     *semaphore.Weighted
	taken   atomic.Int64 // and waited for: what it counts for must not be forgotten
	waiting atomic.Int64
}

// enqueue takes a place in the queue if there is one.
func (p *permits) enqueue(places int64) bool {
	for {
		n := p.waiting.Load()
		if n >= places {
			return false
		}
		if p.waiting.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// RoundTrip sends the request when it may. It blocks for its turn, and then as long as the
// RoundTripper below. The error is a *LimitError, the cause of the context's end, or what
// that returns.
func (c *concurrency) RoundTrip(req *http.Request) (*http.Response, error) {
	p := c.all
	if c.PerEndpoint && req.URL != nil {
		p = c.each.of(canonical(req.URL))
	}
	p.taken.Add(1)
	defer p.taken.Add(-1)
	if !p.sem.TryAcquire(1) {
		if err := c.queue(p, req); err != nil {
			closeRequestBody(req)
			return nil, err
		}
	}
	defer p.sem.Release(1)
	return c.next.RoundTrip(req)
}

// queue waits for a permit.
func (c *concurrency) queue(p *permits, req *http.Request) error {
	e := &LimitError{Strategy: "concurrency", Endpoint: endpointOf(req), Limit: fmt.Sprintf("%d at once", c.Max)}
	if c.MaxQueue > 0 {
		e.Limit += fmt.Sprintf(", %d waiting", c.MaxQueue)
	}
	if !p.enqueue(int64(c.MaxQueue)) {
		c.Trace.reject(RejectInfo{Endpoint: e.Endpoint, Strategy: e.Strategy, Why: "limit"})
		return e
	}
	defer p.waiting.Add(-1)
	start := time.Now()
	err := p.sem.Acquire(req.Context(), 1)
	e.Waited = time.Since(start)
	c.Trace.wait(WaitInfo{Endpoint: e.Endpoint, Strategy: e.Strategy, Waited: e.Waited, Why: "limit"})
	if err == nil {
		return nil
	}
	return c.Trace.gaveUp(req.Context(), e)
}

// gaveUp makes the error of a wait that the context has ended.
func (t *Trace) gaveUp(ctx context.Context, e *LimitError) error {
	e.cause = context.Cause(ctx)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return e.cause
	}
	t.reject(RejectInfo{Endpoint: e.Endpoint, Strategy: e.Strategy, Why: "limit"})
	return e
}

// closeRequestBody ends a request that is not sent.
func closeRequestBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// LimitError: [Rate] or [Concurrency] refused the request, at once or when its deadline
// passed while it waited. Nothing was sent. Code BERTH1022.
type LimitError struct {
	Strategy   string // "rate" or "concurrency"
	Endpoint   string
	Limit      string        // for people: "20 a second, burst 20"
	RetryAfter time.Duration // rate: until a request is allowed; concurrency: 0, nobody knows
	Waited     time.Duration // before its deadline passed
	cause      error
}

func (e *LimitError) Error() string {
	what, when := "refused", ""
	if e.cause != nil {
		what = fmt.Sprintf("given up after %v", brief(e.Waited))
	}
	if e.RetryAfter > 0 {
		when = fmt.Sprintf("; the next is allowed in %v", brief(e.RetryAfter))
	}
	return fmt.Sprintf("berth: request to %s %s by the limit of %s (%s)%s [BERTH1022]", e.Endpoint, what, e.Strategy, e.Limit, when)
}

// Unwrap returns the cause of the context's end, when that ended a wait; else nil.
func (e *LimitError) Unwrap() error { return e.cause }

// Is reports true for context.DeadlineExceeded when a deadline ended the wait.
func (e *LimitError) Is(target error) bool {
	return e.cause != nil && target == context.DeadlineExceeded
}

// Code returns BERTH1022.
func (e *LimitError) Code() string { return "BERTH1022" }

// NotSent reports true.
func (e *LimitError) NotSent() bool { return true }

// Timeout reports whether a deadline ended the wait.
func (e *LimitError) Timeout() bool { return e.cause != nil }

// Temporary reports true; net.Error asks for it.
func (e *LimitError) Temporary() bool { return true }
