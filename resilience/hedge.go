package resilience

import (
	"net/http"
	"time"

	"github.com/berth-go/berth"
)

// Hedge sends a request once more when its response head is late, and takes what comes
// first: it cuts the slowest requests short at the price of a few more.
//
// The next attempt begins Delay after the last began, and at once when one has failed (by
// [Transient], or with *CircuitOpenError), up to MaxHedges of them and within Budget. The
// first outcome that is no failure is the request's; the other attempts are cancelled. When
// all have failed, the last response is returned if one is still held, else the error:
// that of the only attempt, or an [*AttemptsError]. A failed response is held as long as
// other attempts run, but not when another takes its place: it would keep the connection
// which that may need.
//
// An attempt that runs beside another never waits for a connection (berth.WithoutQueue):
// if it would have to, it is dropped, and costs no budget. So is one that a [*LimitError]
// refuses. An attempt that takes the place of a failed one, when nothing else runs, may
// wait like any. None takes the place of one that found no connection: it would stand in
// the same queue, at its end.
//
// Sent more than once are requests that are [Repeatable] and have either no body or a
// GetBody. All others are passed on as they are.
//
// The first attempt runs on the goroutine of the caller, and RoundTrip returns only when it
// has ended: the RoundTripper below must return soon after the context of its request has
// ended, as berth.Transport does. A response's context ends with its body.
//
// Unlike .NET's hedging it has a budget, does not queue, and sends no POST twice; a request
// that cannot be sent twice is sent once instead of refused.
type Hedge struct {
	// MaxHedges is how many attempts there may be beside the first. At most 10; default 1,
	// as in .NET; negative for none.
	MaxHedges int `json:"max_hedges"`

	// Delay is how long an attempt has time for its response head before the next begins. At
	// most 24 h; default 2 s, as in .NET. Negative has all begin at once.
	Delay time.Duration `json:"delay"`

	// Quantile, of 0.95 for example, has the next attempt begin when the last has taken longer
	// than that part of recent first attempts to the same endpoint did, once 100 of them are
	// known, but after Delay at the latest. Below 1; 0 is off.
	Quantile float64 `json:"quantile"`

	// Budget bounds the attempts beside the first, those that take the place of a failed one
	// included. By default a tenth of the requests, and one a second in any case.
	Budget Budget `json:"budget"`

	// Unsafe sends requests more than once that are not Repeatable.
	Unsafe bool `json:"unsafe"`

	// Trace is told of attempts, and of those that were not made.
	Trace *Trace `json:"-"`
}

const (
	defaultHedges     = 1
	maxHedges         = 10
	defaultHedgeDelay = 2 * time.Second
	maxHedgeDelay     = 24 * time.Hour
)

var defaultHedgeBudget = Budget{Ratio: 0.1, MinPerSecond: 1}

// Handler returns what wraps a RoundTripper. The error is a *berth.ConfigError.
func (h Hedge) Handler() (Handler, error) {
	if h.MaxHedges == 0 {
		h.MaxHedges = defaultHedges
	}
	if h.Delay == 0 {
		h.Delay = defaultHedgeDelay
	}
	switch {
	case h.MaxHedges > maxHedges:
		return nil, &berth.ConfigError{Field: "Hedge.MaxHedges", Reason: "must be at most 10"}
	case h.Delay > maxHedgeDelay:
		return nil, &berth.ConfigError{Field: "Hedge.Delay", Reason: "must be at most 24h"}
	case !(h.Quantile < 1):
		return nil, &berth.ConfigError{Field: "Hedge.Quantile", Reason: "must be below 1"}
	case h.Quantile > 0 && h.Delay < 0:
		return nil, &berth.ConfigError{Field: "Hedge.Quantile", Reason: "must be 0 when Delay is negative: all attempts begin at once"}
	}
	if err := h.Budget.validate("Hedge.Budget"); err != nil {
		return nil, err
	}
	if h.MaxHedges < 0 {
		return func(next http.RoundTripper) http.RoundTripper { return next }, nil
	}
	budget := newBudget(h.Budget, defaultHedgeBudget)
	var times *perEndpoint[quantile]
	if h.Quantile > 0 {
		times = newPerEndpoint(func(endpointKey) *quantile { return &quantile{q: h.Quantile} }, nil)
	}
	return func(next http.RoundTripper) http.RoundTripper {
		return &hedger{forward: forward{next}, Hedge: h, budget: budget, times: times}
	}, nil
}

// hedger is a RoundTripper that has attempts race.
type hedger struct {
	forward
	Hedge
	budget *budget                // not Hedge's, which is its settings
	times  *perEndpoint[quantile] // of first attempts' response heads; nil without Quantile
}

// RoundTrip sends the request, and once more when that takes long. It blocks until there
// is a response head or nothing is left to try; the request's context ends it. Errors are
// those of the RoundTripper below, *AttemptsError, and the cause of the context's end.
func (h *hedger) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || !rewindable(req) || !h.Unsafe && !Repeatable(req) {
		return h.next.RoundTrip(req)
	}
	h.budget.request()
	r := &race{hedger: h, req: req, start: time.Now(), delay: h.Delay}
	if h.times != nil {
		r.times = h.times.of(canonical(req.URL))
		if d := r.times.get(); d > 0 {
			r.delay = min(d, h.Delay)
		}
	}
	return r.run()
}

// give returns what a hedge took that came to nothing.
func (b *budget) give() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.earned[0]++
	b.mu.Unlock()
}
