package resilience

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// quantile estimates a quantile of recent durations, at most a sixteenth too high. Recent
// are the last 1,000 to 2,000; nothing is known before there are 100.
type quantile struct {
	q     float64
	value atomic.Int64 // in nanoseconds; 0 when nothing is known

	// mu guards the rest; nothing is called while it is held.
	mu          sync.Mutex
	n, nBefore  int
	now, before [quantileBuckets]uint16 // counts; before is the thousand before now's
}

const (
	quantileGeneration = 1000 // durations that are forgotten together
	quantileKnown      = 100  // below it, nothing is known
	quantileEvery      = 16   // durations between two looks at the counts

	// Buckets are sixteenths of a power of two, from about 1 µs to 2 hours.
	quantileLo      = 10
	quantileHi      = 42
	quantileBuckets = (quantileHi - quantileLo + 1) * 16
)

// add tells of one more.
func (e *quantile) add(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now[quantileBucket(d)]++
	e.n++
	if n := e.n + e.nBefore; n == quantileKnown || n > quantileKnown && n%quantileEvery == 0 {
		e.value.Store(int64(e.estimateLocked()))
	}
	if e.n == quantileGeneration {
		e.before, e.nBefore = e.now, e.n
		e.now, e.n = [quantileBuckets]uint16{}, 0
	}
}

// get returns the quantile, or 0 when nothing is known.
func (e *quantile) get() time.Duration { return time.Duration(e.value.Load()) }

func (e *quantile) estimateLocked() time.Duration {
	rank := e.q * float64(e.n+e.nBefore)
	below := 0
	for i := range e.now {
		if below += int(e.now[i]) + int(e.before[i]); float64(below) >= rank {
			return quantileTop(i)
		}
	}
	return quantileTop(quantileBuckets - 1)
}

func quantileBucket(d time.Duration) int {
	ns := uint64(max(d, 1<<quantileLo))
	e := min(bits.Len64(ns)-1, quantileHi)
	return (e-quantileLo)*16 + int(min(ns>>(e-4)-16, 15))
}

// quantileTop is where a bucket ends.
func quantileTop(i int) time.Duration {
	return time.Duration(16+i%16+1) << (i/16 + quantileLo - 4)
}
