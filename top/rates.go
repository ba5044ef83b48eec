package top

import (
	"time"

	"github.com/berth-go/berth"
)

// Rates are what happened between two reports. All come from differences of counters.
type Rates struct {
	Over     time.Duration        // between the reports; 0 when there are no rates yet
	Requests Maybe[float64]       // a second, that got a connection
	Failures Maybe[float64]       // a second: dials that failed, and requests that got no connection
	Reuse    Maybe[float64]       // share of the requests; none when there was no request
	WaitP99  Maybe[time.Duration] // upper bound, of the waits that ended; none when none did
}

// Maybe is a number, or none.
type Maybe[T float64 | time.Duration] struct {
	V  T
	OK bool
}

func some[T float64 | time.Duration](v T) Maybe[T] { return Maybe[T]{v, true} }

// Differences returns the rates of an endpoint between two reports of one process, over
// apart. was is nil when the endpoint was not in the first: then all that it has counted
// is of this time. So it is when its counters have begun again, since it was forgotten in
// between. Without a time between them there are no rates.
func Differences(was, now *berth.Stats, over time.Duration) Rates {
	if over <= 0 {
		return Rates{}
	}
	if was == nil || restarted(was, now) {
		was = &berth.Stats{}
	}
	seconds := over.Seconds()
	requests := now.Requests - was.Requests
	r := Rates{Over: over,
		Requests: some(float64(requests) / seconds),
		Failures: some(float64(failures(now)-failures(was)) / seconds)}
	if requests > 0 {
		// A report is no snapshot to the last request.
		r.Reuse = some(min(float64(now.Reused-was.Reused)/float64(requests), 1))
	}
	if h := minus(now.Wait, was.Wait); h.Count() > 0 {
		r.WaitP99 = some(h.Quantile(0.99))
	}
	return r
}

func failures(s *berth.Stats) uint64 {
	d, r := &s.Dials, &s.Rejected
	return d.Failed + d.Exhausted + d.Refused + r.QueueFull + r.WouldQueue + r.Backoff + r.Timeout + r.Closed
}

// restarted reports whether a counter has gone back.
func restarted(was, now *berth.Stats) bool {
	return now.Requests < was.Requests || now.Reused < was.Reused || now.Dials.OK < was.Dials.OK ||
		failures(now) < failures(was) || now.Wait.Count() < was.Wait.Count() ||
		now.ClosedByUs < was.ClosedByUs || now.ClosedByPeer < was.ClosedByPeer
}

// minus returns what was counted in h after was. Both leave out buckets that are empty.
func minus(h, was berth.Histogram) berth.Histogram {
	before := make(map[time.Duration]uint64, len(was))
	for _, b := range was {
		before[b.Below] = b.Count
	}
	out := make(berth.Histogram, 0, len(h))
	for _, b := range h {
		if n := before[b.Below]; n < b.Count {
			out = append(out, berth.Bucket{Below: b.Below, Count: b.Count - n})
		}
	}
	return out
}
