package resilience

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoffs of a Retry.
const (
	backoffExponential = "exponential"
	backoffLinear      = "linear"
	backoffConstant    = "constant"
)

// longestWait bounds every wait between attempts, and is .NET's limit for a delay.
const longestWait = 24 * time.Hour

// backoff computes the waits between attempts. It is not changed after it is made; what
// a request's waits depend on is the request's own.
type backoff struct {
	kind   string
	base   time.Duration // 0 waits for nothing
	max    time.Duration // at most longestWait
	jitter bool
	random func() float64 // in [0, 1); nil is math/rand/v2's
}

// delay returns the wait before the nth retry, from 0. prev is the request's, and 0 at
// first.
//
// With jitter, exponential waits are Polly's, which decorrelate: with t = n + random and
// f(t) = 2^t · tanh(√(4t)), the wait is (f(t) - the last f) / 1.4 · base. The sum of a
// request's waits so stays on the curve f, and requests that failed together come back
// spread without a gap; the median of the first wait is 0.9 times the base. Linear and
// constant waits are spread by 25 % either way.
func (b *backoff) delay(n int, prev *float64) time.Duration {
	if b.base <= 0 {
		return 0
	}
	base := float64(b.base)
	var d float64
	switch b.kind {
	case backoffLinear:
		d = float64(n+1) * base
	case backoffConstant:
		d = base
	default:
		if b.jitter {
			t := float64(n) + b.rand()
			f := math.Exp2(t) * math.Tanh(math.Sqrt(4*t))
			d = (f - *prev) / 1.4 * base
			*prev = f
			return b.capped(d)
		}
		return b.capped(math.Ldexp(base, n))
	}
	if b.jitter {
		d *= 0.75 + 0.5*b.rand()
	}
	return b.capped(d)
}

func (b *backoff) rand() float64 {
	if b.random != nil {
		return b.random()
	}
	return rand.Float64()
}

func (b *backoff) capped(d float64) time.Duration {
	return time.Duration(min(d, float64(b.max)))
}
