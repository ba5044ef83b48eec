package resilience

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/berth-go/berth"
)

// Rate bounds how many requests begin in a second. It is a bucket of Burst tokens that
// fills at PerSecond; each request takes one. When there is none the request waits for it,
// in the order of arrival; when that would take longer than MaxWait or reach the deadline
// of the request's context, the wait is not begun, no token is taken, and the request is
// refused with a [*LimitError] that says when a token would have been there. A wait that
// the context ends after all returns its cause.
//
// A request that is cancelled while it waits gives its token back as far as nobody has
// been promised a later one.
//
// .NET's standard pipeline bounds concurrency alone ([Concurrency]); this is its
// TokenBucketRateLimiter, filled continuously instead of once a period.
type Rate struct {
	// PerSecond is how many requests begin in a second in the long run. Required, above 0.
	PerSecond float64 `json:"per_second"`

	// Burst is how many begin at once after a rest. At least 1; default PerSecond, rounded
	// up.
	Burst int `json:"burst"`

	// MaxWait bounds the wait for a token. Default 0: what has none is refused at once.
	// Negative: as long as the request's context allows.
	MaxWait time.Duration `json:"max_wait"`

	// PerEndpoint has a bucket for each endpoint (scheme, host and port) instead of one for
	// all, for 4,096 at most: one that has been forgotten is full again.
	PerEndpoint bool `json:"per_endpoint"`

	// Trace is told of waits, and of refusals.
	Trace *Trace `json:"-"`
}

// Handler returns what wraps a RoundTripper. The error is a *berth.ConfigError.
func (r Rate) Handler() (Handler, error) {
	if !(r.PerSecond > 0) || math.IsInf(r.PerSecond, 0) {
		return nil, &berth.ConfigError{Field: "Rate.PerSecond", Reason: "must be above 0"}
	}
	if r.Burst < 0 {
		return nil, &berth.ConfigError{Field: "Rate.Burst", Reason: "must be at least 1"}
	}
	if r.Burst == 0 {
		r.Burst = int(min(math.Ceil(r.PerSecond), math.MaxInt32))
	}
	fill := func(endpointKey) *bucket { return &bucket{tokens: rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)} }
	all := fill(endpointKey{})
	each := newPerEndpoint(fill, nil)
	return func(next http.RoundTripper) http.RoundTripper {
		return &rated{forward: forward{next}, Rate: r, all: all, each: each}
	}, nil
}

// rated is a RoundTripper behind buckets.
type rated struct {
	forward
	Rate
	all  *bucket
	each *perEndpoint[bucket] // instead, with PerEndpoint
}

// RoundTrip sends the request when it may. It blocks for a token, and then as long as the
// RoundTripper below. The error is a *LimitError, the cause of the context's end, or what
// that returns.
func (r *rated) RoundTrip(req *http.Request) (*http.Response, error) {
	if ctx := req.Context(); ctx.Err() != nil {
		closeRequestBody(req)
		return nil, context.Cause(ctx)
	}
	b := r.all
	if r.PerEndpoint && req.URL != nil {
		b = r.each.of(canonical(req.URL))
	}
	if !b.tokens.Allow() {
		if err := r.wait(b, req); err != nil {
			closeRequestBody(req)
			return nil, err
		}
	}
	return r.next.RoundTrip(req)
}

// wait waits for a token.
func (r *rated) wait(b *bucket, req *http.Request) error {
	ctx := req.Context()
	longest := r.MaxWait
	if longest < 0 {
		longest = math.MaxInt64
	}
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(deadline)-1) // a token at the deadline is too late
	}
	start := time.Now()
	promise, in := b.promise(longest)
	e := &LimitError{Strategy: "rate", Endpoint: endpointOf(req), RetryAfter: in}
	if promise == nil {
		e.Limit = fmt.Sprintf("%v a second, burst %d", r.PerSecond, r.Burst)
		r.Trace.reject(RejectInfo{Endpoint: e.Endpoint, Strategy: e.Strategy, Why: "limit"})
		return e
	}
	t := time.NewTimer(in)
	defer t.Stop()
	var err error
	select {
	case <-t.C:
	case <-ctx.Done():
		promise.Cancel()
		err = context.Cause(ctx)
	}
	r.Trace.wait(WaitInfo{Endpoint: e.Endpoint, Strategy: e.Strategy, Waited: time.Since(start), Why: "limit"})
	return err
}

// bucket has the tokens.
type bucket struct {
	tokens *rate.Limiter

	// mu is held while a token is promised. A promise that comes too late is taken back
	// before there is a later one, and so leaves no gap.
	mu sync.Mutex
}

// promise reserves the next token if it is there within longest, and says in what time
// it is.
func (b *bucket) promise(longest time.Duration) (*rate.Reservation, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	p := b.tokens.ReserveN(now, 1)
	in := p.DelayFrom(now)
	if in > max(longest, 0) {
		p.CancelAt(now)
		return nil, in
	}
	return p, in
}
