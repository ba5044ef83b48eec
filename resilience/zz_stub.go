package resilience

import (
	"net/http"
	"time"
)

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

func (Breaker) Handler() (Handler, error)     { return none, nil }
func (Concurrency) Handler() (Handler, error) { return none, nil }
func (Rate) Handler() (Handler, error)        { return none, nil }
func (Hedge) Handler() (Handler, error)       { return none, nil }
func (*Breaker) window() time.Duration        { return time.Hour }
func (*Hedge) longest() time.Duration         { return 0 }
