package prom

import (
	"time"

	"github.com/berth-go/berth"
)

// counts is what of an endpoint's statistics only grows, flat, so that it adds up in one
// loop. The closes by reason are last: there may be new ones.
type counts []uint64

// Where things are in counts.
const (
	atRequests = iota
	atReused
	atDials
	atRejected = atDials + 5
	atBy       = atRejected + 5
	atLeaks    = atBy + 2
	atWait     = atLeaks + 2
	atHold     = atWait + numBuckets
	atClosed   = atHold + numBuckets
)

// The values of labels, in the order that counts has.
var (
	dialResults   = []string{"ok", "failed", "cancelled", "exhausted", "refused"}
	rejectReasons = []string{"queue_full", "would_queue", "backoff", "timeout", "closed"}
	closedBy      = []string{"us", "peer"}
	leakStates    = []string{"suspected", "reclaimed"}
	connStates    = []string{"dialing", "leased", "idle", "draining"}
)

// Buckets end at 65.536 µs and 4, 16, … times that, the last at 275 s: every second end of
// those that a transport counts in, so that nothing is guessed. All histograms have the
// same, or sums of them would be wrong.
const (
	firstBound = 1024 << 6 * time.Nanosecond
	numBounds  = 12
	numBuckets = numBounds + 1 // one for what lies beyond
)

// bound is the upper end of bucket i. A transport counts what is below it, Prometheus what
// is at it too: they differ in a duration that is exactly that, to the nanosecond.
func bound(i int) time.Duration { return firstBound << (2 * i) }

// addHistogram adds h to the buckets in to.
func addHistogram(to counts, h berth.Histogram) {
	i := 0
	for _, b := range h {
		for i < numBounds && bound(i) < b.Below {
			i++
		}
		to[i] += b.Count
	}
}

// count appends s to list, which is empty. c.mu is held.
func (c *Collector) count(s *berth.Stats, list counts) counts {
	list = append(list, s.Requests, s.Reused,
		s.Dials.OK, s.Dials.Failed, s.Dials.Cancelled, s.Dials.Exhausted, s.Dials.Refused,
		s.Rejected.QueueFull, s.Rejected.WouldQueue, s.Rejected.Backoff, s.Rejected.Timeout, s.Rejected.Closed,
		s.ClosedByUs, s.ClosedByPeer,
		s.Leaks.Suspected, s.Leaks.Reclaimed)
	list = list.grown(atClosed + len(c.reasons))
	addHistogram(list[atWait:atHold], s.Wait)
	addHistogram(list[atHold:atClosed], s.Hold)
	for name, n := range s.Closes {
		i, known := c.reason[name]
		if !known {
			i = len(c.reasons)
			c.reasons = append(c.reasons, name)
			c.reason[name] = i
		}
		list = list.grown(atClosed + i + 1)
		list[atClosed+i] = n
	}
	return list
}

// grown returns k with zeros up to n values at least.
func (k counts) grown(n int) counts {
	for len(k) < n {
		k = append(k, 0)
	}
	return k
}

// plus adds o to k.
func (k counts) plus(o counts) counts {
	k = k.grown(len(o))
	for i, n := range o {
		k[i] += n
	}
	return k
}

// at returns value i, which may be beyond the end.
func (k counts) at(i int) uint64 {
	if i < len(k) {
		return k[i]
	}
	return 0
}
