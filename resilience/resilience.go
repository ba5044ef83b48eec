package resilience

import (
	"cmp"
	"fmt"
	"net/http"
	"time"

	"github.com/berth-go/berth"
)

// Handler wraps a RoundTripper.
type Handler = func(http.RoundTripper) http.RoundTripper

// Config is a pipeline of strategies; nil leaves one out. Outermost first:
//
//	rate → concurrency → total timeout → retry → breaker → attempt timeout
//
// which is .NET's order for its standard pipeline. With Hedge the limits stand around each
// attempt, per endpoint, as in .NET's standard hedging:
//
//	total timeout → retry → hedge → rate → concurrency → breaker → attempt timeout
//
// The attempt timeout is next to the transport in both: what a retry discards has had its
// time, and a wait for a limit is not part of it.
type Config struct {
	// Preset is "standard" or "hedging": what is nil is that of [Standard] or
	// [StandardHedging]. "" leaves it out.
	Preset string `json:"preset"`

	Rate        *Rate        `json:"rate"`
	Concurrency *Concurrency `json:"concurrency"`
	Total       *Timeout     `json:"total"` // default 30 s
	Retry       *Retry       `json:"retry"`
	Hedge       *Hedge       `json:"hedge"`
	Breaker     *Breaker     `json:"breaker"`
	Attempt     *Timeout     `json:"attempt"` // default 10 s

	// Trace is told what the strategies do that have none of their own.
	Trace *Trace `json:"-"`
}

// Defaults of the timeouts in a Config.
const (
	defaultTotal   = 30 * time.Second
	defaultAttempt = 10 * time.Second
)

// Standard is .NET's standard pipeline (AddStandardResilienceHandler): at most 1,000
// requests at once, 30 s for all attempts, 3 retries that begin at 2 s, a breaker that
// opens for 5 s at 10 % of failures, 10 s for an attempt. It differs in three points:
// methods that are not idempotent are sent again only when nothing of them had left;
// retries have a budget; and a wait that would outlast the request's time is not begun.
func Standard() Config {
	return Config{Concurrency: &Concurrency{}, Total: &Timeout{}, Retry: &Retry{}, Breaker: &Breaker{}, Attempt: &Timeout{}}
}

// StandardHedging is .NET's standard hedging pipeline (AddStandardHedgingHandler): 30 s for
// all attempts, a second attempt after 2 s, and for each endpoint at most 1,000 at once, a
// breaker as in [Standard], 10 s for an attempt. It differs in two points: a hedge neither
// queues nor is made of a request that may not be received twice, and hedges have a budget.
func StandardHedging() Config {
	return Config{Total: &Timeout{}, Hedge: &Hedge{}, Concurrency: &Concurrency{PerEndpoint: true}, Breaker: &Breaker{}, Attempt: &Timeout{}}
}

// Handler returns the function that wraps a RoundTripper in the pipeline. The error is a
// *berth.ConfigError.
func (c Config) Handler() (Handler, error) {
	if err := c.preset(); err != nil {
		return nil, err
	}
	c.fill()
	if err := c.validate(); err != nil {
		return nil, err
	}
	var (
		inner []Handler // the outermost last
		first error
	)
	add := func(h Handler, err error) {
		if first == nil {
			first = err
		}
		inner = append(inner, h)
	}
	limits := func() {
		if c.Concurrency != nil {
			add(c.Concurrency.Handler())
		}
		if c.Rate != nil {
			add(c.Rate.Handler())
		}
	}
	if c.Attempt != nil {
		add(c.Attempt.Handler())
	}
	if c.Breaker != nil {
		add(c.Breaker.Handler())
	}
	if c.Hedge != nil {
		limits()
		add(c.Hedge.Handler())
	}
	if c.Retry != nil {
		add(c.Retry.Handler())
	}
	if c.Total != nil {
		add(c.Total.Handler())
	}
	if c.Hedge == nil {
		limits()
	}
	if first != nil {
		return nil, first
	}
	return func(rt http.RoundTripper) http.RoundTripper {
		for _, h := range inner {
			rt = h(rt)
		}
		return rt
	}, nil
}

// preset fills in what the preset has and c leaves out.
func (c *Config) preset() error {
	var p Config
	switch c.Preset {
	case "":
	case "standard":
		p = Standard()
	case "hedging":
		p = StandardHedging()
	default:
		return &berth.ConfigError{Field: "Preset", Reason: fmt.Sprintf("%q is none of standard, hedging", c.Preset)}
	}
	c.Rate = cmp.Or(c.Rate, p.Rate)
	c.Concurrency = cmp.Or(c.Concurrency, p.Concurrency)
	c.Total = cmp.Or(c.Total, p.Total)
	c.Retry = cmp.Or(c.Retry, p.Retry)
	c.Hedge = cmp.Or(c.Hedge, p.Hedge)
	c.Breaker = cmp.Or(c.Breaker, p.Breaker)
	c.Attempt = cmp.Or(c.Attempt, p.Attempt)
	return nil
}

// fill makes copies of the strategies, with what is theirs by their place in the pipeline.
func (c *Config) fill() {
	c.Total = timeoutIn(c.Total, "total", defaultTotal, c.Trace)
	c.Attempt = timeoutIn(c.Attempt, "attempt", defaultAttempt, c.Trace)
	c.Rate = traced(c.Rate, func(r *Rate) **Trace { return &r.Trace }, c.Trace)
	c.Concurrency = traced(c.Concurrency, func(s *Concurrency) **Trace { return &s.Trace }, c.Trace)
	c.Retry = traced(c.Retry, func(r *Retry) **Trace { return &r.Trace }, c.Trace)
	c.Hedge = traced(c.Hedge, func(h *Hedge) **Trace { return &h.Trace }, c.Trace)
	c.Breaker = traced(c.Breaker, func(b *Breaker) **Trace { return &b.Trace }, c.Trace)
}

func timeoutIn(t *Timeout, scope string, def time.Duration, trace *Trace) *Timeout {
	if t = traced(t, func(t *Timeout) **Trace { return &t.Trace }, trace); t != nil {
		t.scope = scope
		t.After = cmp.Or(t.After, def)
	}
	return t
}

// traced returns a copy of a strategy that has a trace; nil for nil.
func traced[S any](s *S, field func(*S) **Trace, trace *Trace) *S {
	if s == nil {
		return nil
	}
	own := *s
	f := field(&own)
	*f = cmp.Or(*f, trace)
	return &own
}

// validate compares the strategies with each other, by .NET's rules.
func (c *Config) validate() error {
	total, attempt := c.Total.length(), c.Attempt.length()
	if attempt > total && total > 0 {
		return &berth.ConfigError{Field: "Attempt.After", Reason: fmt.Sprintf("%v is more than Total.After, which is %v", attempt, total)}
	}
	if b := c.Breaker; b != nil && b.FailureRatio >= 0 && attempt > 0 && cmp.Or(b.Window, defaultWindow) < 2*attempt {
		return &berth.ConfigError{Field: "Breaker.Window", Reason: fmt.Sprintf("%v is less than twice Attempt.After, which is %v: slow attempts would not be counted",
			cmp.Or(b.Window, defaultWindow), attempt)}
	}
	if h := c.Hedge; h != nil && total > 0 {
		hedges, delay := max(cmp.Or(h.MaxHedges, defaultHedges), 0), max(cmp.Or(h.Delay, defaultHedgeDelay), 0)
		if last := time.Duration(hedges) * delay; last > total {
			return &berth.ConfigError{Field: "Hedge.Delay", Reason: fmt.Sprintf("the last hedge would begin after %v, and Total.After is %v", last, total)}
		}
	}
	return nil
}

// length returns the time that t allows; 0 for no bound.
func (t *Timeout) length() time.Duration {
	if t == nil {
		return 0
	}
	return max(t.After, 0)
}
