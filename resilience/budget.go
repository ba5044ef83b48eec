package resilience

import (
	"fmt"
	"sync"
	"time"

	"github.com/berth-go/berth"
)

// Budget bounds the attempts that a strategy adds to a share of the requests, so that a
// server that fails most of them meets little more load than one that is well. .NET has
// none: its three retries make four times the load then.
//
// It is one for all endpoints of a handler. Of any span of time, the attempts added are at
// most Ratio times its requests and those of the 10 s before, plus MinPerSecond times the
// span and 10 s.
type Budget struct {
	// Ratio is what every request adds to the budget, of which another attempt takes 1.
	// What is not taken within 5 to 10 s is lost. Default 0.2 for [Retry]; negative: no
	// budget, and MinPerSecond means nothing. At most 10.
	Ratio float64 `json:"ratio"`

	// MinPerSecond is how many attempts a second may be added whatever the ratio: without
	// it a program with few requests would hardly ever send one again. What is not taken
	// is kept for 10 s, and one in any case. Default 10; negative: none. At most 1e6.
	MinPerSecond float64 `json:"min_per_second"`
}

// validate names the field within the strategy, as in "Retry.Budget".
func (b Budget) validate(field string) error {
	switch {
	case b.Ratio != b.Ratio || b.Ratio > 10:
		return &berth.ConfigError{Field: field + ".Ratio", Reason: fmt.Sprintf("is %v, and at most 10 is allowed", b.Ratio)}
	case b.MinPerSecond != b.MinPerSecond || b.MinPerSecond > 1e6:
		return &berth.ConfigError{Field: field + ".MinPerSecond", Reason: fmt.Sprintf("is %v, and at most 1e6 is allowed", b.MinPerSecond)}
	}
	return nil
}

const (
	budgetWindow = 5 * time.Second  // what requests earned lasts for this one and the next
	budgetKept   = 10 * time.Second // worth of MinPerSecond is kept
	budgetSlack  = 1e-9             // five fifths are a whole
)

// budget is a Budget at work. nil is none: everything is granted. Safe for concurrent use.
type budget struct {
	ratio, rate float64
	most        float64 // of reserve
	start       time.Time

	// mu is held for some additions; nothing is called.
	mu      sync.Mutex
	window  int64         // number of the budgetWindow since start that earned is of
	earned  [2]float64    // by requests: in this window, in the one before
	reserve float64       // by time
	at      time.Duration // since start, of reserve
}

// newBudget returns the budget that b asks for, with the strategy's defaults for what is
// zero; nil for none.
func newBudget(b, defaults Budget) *budget {
	if b.Ratio == 0 {
		b.Ratio = defaults.Ratio
	}
	if b.MinPerSecond == 0 {
		b.MinPerSecond = defaults.MinPerSecond
	}
	if b.Ratio < 0 {
		return nil
	}
	most := 0.0
	if b.MinPerSecond > 0 {
		most = max(b.MinPerSecond*budgetKept.Seconds(), 1)
	}
	return &budget{ratio: b.Ratio, rate: max(b.MinPerSecond, 0), most: most, start: time.Now(), reserve: most}
}

// request adds what a request earns.
func (b *budget) request() {
	if b == nil {
		return
	}
	now := time.Since(b.start)
	b.mu.Lock()
	b.turnLocked(now)
	b.earned[0] += b.ratio
	b.mu.Unlock()
}

// take takes 1 for another attempt, what is lost first first, and reports whether it was
// there.
func (b *budget) take() bool {
	if b == nil {
		return true
	}
	now := time.Since(b.start)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turnLocked(now)
	b.reserve = min(b.reserve+b.rate*max(now-b.at, 0).Seconds(), b.most)
	b.at = max(now, b.at)
	if b.earned[0]+b.earned[1]+b.reserve < 1-budgetSlack {
		return false
	}
	left := 1.0
	for _, from := range []*float64{&b.earned[1], &b.earned[0], &b.reserve} {
		part := min(*from, left)
		*from -= part
		left -= part
	}
	return true
}

// turnLocked drops what was earned too long ago. A goroutine that read the clock before
// another and comes after it turns nothing back.
func (b *budget) turnLocked(now time.Duration) {
	w := int64(now / budgetWindow)
	switch {
	case w <= b.window:
		return
	case w == b.window+1:
		b.earned = [2]float64{0, b.earned[0]}
	default:
		b.earned = [2]float64{}
	}
	b.window = w
}
