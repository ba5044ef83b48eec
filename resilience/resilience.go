package resilience

import (
	"net/http"
	"time"
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
