package resilience

import (
	"context"
	"net/http"
	"time"
)

type forward struct{ next http.RoundTripper }

func (f forward) CloseIdleConnections()     {}
func (f forward) Unwrap() http.RoundTripper { return f.next }

type Budget struct {
	Ratio        float64 `json:"ratio"`
	MinPerSecond float64 `json:"min_per_second"`
}

type Retry struct {
	MaxRetries       int                                       `json:"max_retries"`
	Backoff          string                                    `json:"backoff"`
	Delay            time.Duration                             `json:"delay"`
	MaxDelay         time.Duration                             `json:"max_delay"`
	NoJitter         bool                                      `json:"no_jitter"`
	IgnoreRetryAfter bool                                      `json:"ignore_retry_after"`
	Unsafe           bool                                      `json:"unsafe"`
	Budget           Budget                                    `json:"budget"`
	Retryable        func(resp *http.Response, err error) bool `json:"-"`
	Trace            *Trace                                    `json:"-"`
}
type Breaker struct {
	FailureRatio float64                                   `json:"failure_ratio"`
	MinRequests  int                                       `json:"min_requests"`
	Window       time.Duration                             `json:"window"`
	Break        time.Duration                             `json:"break"`
	Failure      func(resp *http.Response, err error) bool `json:"-"`
	Trace        *Trace                                    `json:"-"`
}
type Concurrency struct {
	Max         int    `json:"max"`
	MaxQueue    int    `json:"max_queue"`
	PerEndpoint bool   `json:"per_endpoint"`
	Trace       *Trace `json:"-"`
}
type Rate struct {
	PerSecond   float64       `json:"per_second"`
	Burst       int           `json:"burst"`
	MaxWait     time.Duration `json:"max_wait"`
	PerEndpoint bool          `json:"per_endpoint"`
	Trace       *Trace        `json:"-"`
}
type Hedge struct {
	MaxHedges int           `json:"max_hedges"`
	Delay     time.Duration `json:"delay"`
	Quantile  float64       `json:"quantile"`
	Budget    Budget        `json:"budget"`
	Unsafe    bool          `json:"unsafe"`
	Trace     *Trace        `json:"-"`
}

func none(rt http.RoundTripper) http.RoundTripper { return rt }

func (Retry) Handler() (Handler, error)       { return none, nil }
func (Breaker) Handler() (Handler, error)     { return none, nil }
func (Concurrency) Handler() (Handler, error) { return none, nil }
func (Rate) Handler() (Handler, error)        { return none, nil }
func (Hedge) Handler() (Handler, error)       { return none, nil }
func (*Breaker) window() time.Duration        { return time.Hour }
func (*Hedge) longest() time.Duration         { return 0 }
func AttemptOf(context.Context) int           { return 1 }
