package resilience

import "time"

// Timeout bounds a request.
type Timeout struct {
	After time.Duration `json:"after"`
	Body  bool          `json:"body"`
	Trace *Trace        `json:"-"`
	scope string
}
