package berth

import (
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// Stats is an endpoint's state at one moment, and its counts since its first
// request. Dialing + Leased + Idle + Draining are all its connections.
type Stats struct {
	// Life is another number when the endpoint was forgotten and has come back, with counts
	// that begin anew. 0: it holds nothing and has no counts.
	Life uint32 `json:"life"`

	Dialing  int `json:"dialing"`
	Leased   int `json:"leased"`   // in use
	Idle     int `json:"idle"`     // kept for the next request
	Draining int `json:"draining"` // finishing their last exchange, or being closed

	Waiting    int           `json:"waiting"`     // requests without a connection
	OldestWait time.Duration `json:"oldest_wait"` // of those that wait now; 0 when none does

	PeakConns   int `json:"peak_conns"`
	PeakLeased  int `json:"peak_leased"`
	PeakWaiting int `json:"peak_waiting"`

	Requests uint64 `json:"requests"` // that got a connection, retries included
	Reused   uint64 `json:"reused"`   // on a connection that had carried one before

	Dials    DialStats   `json:"dials"`
	Rejected RejectStats `json:"rejected"`

	// Closes counts closed connections by reason: idle, lifetime, requests,
	// surplus, limit, evict, reconnect, address, stolen, shutdown, peer, close, unread, leaked,
	// canceled, error, protocol, upgrade, refused. Reasons that did not occur are absent.
	Closes       map[string]uint64 `json:"closes"`
	ClosedByUs   uint64            `json:"closed_by_us"`   // we closed first: TIME_WAIT is ours
	ClosedByPeer uint64            `json:"closed_by_peer"` // the server had closed first

	Leaks LeakStats `json:"leaks"`

	Wait Histogram `json:"wait"` // of requests that had to wait for a connection
	Hold Histogram `json:"hold"` // how long requests held one
}

// DialStats counts dials by their end.
type DialStats struct {
	OK        uint64 `json:"ok"`
	Failed    uint64 `json:"failed"`
	Cancelled uint64 `json:"cancelled"`
	Exhausted uint64 `json:"exhausted"` // this host had no port, descriptor or memory left
	Refused   uint64 `json:"refused"`   // AllowAddr did not allow them
}

// RejectStats counts requests that got no connection.
type RejectStats struct {
	QueueFull  uint64 `json:"queue_full"`
	WouldQueue uint64 `json:"would_queue"` // with WithoutQueue
	Backoff    uint64 `json:"backoff"`
	Timeout    uint64 `json:"timeout"`
	Closed     uint64 `json:"closed"`
}

// Histogram counts durations in buckets whose bounds double.
type Histogram []Bucket

// Bucket counts the durations below Below and not below the bucket before.
type Bucket struct {
	Below time.Duration `json:"below"`
	Count uint64        `json:"count"`
}

// Count returns the number of durations.
func (h Histogram) Count() (n uint64) {
	for _, b := range h {
		n += b.Count
	}
	return n
}

// Quantile returns an upper bound of the q-quantile, 0 ≤ q ≤ 1; 0 when nothing
// was counted.
func (h Histogram) Quantile(q float64) time.Duration {
	rank := q * float64(h.Count())
	var seen uint64
	for _, b := range h {
		if seen += b.Count; b.Count > 0 && float64(seen) >= rank {
			return b.Below
		}
	}
	return 0
}

// ReuseRatio is the share of requests that found a connection already open.
func (s Stats) ReuseRatio() float64 {
	if s.Requests == 0 {
		return 0
	}
	return float64(s.Reused) / float64(s.Requests)
}

func newStats(p pool.Stats) Stats {
	s := Stats{
		Dialing: p.Dialing, Leased: p.Leased, Idle: p.Idle, Draining: p.Draining,
		Waiting: p.Waiting, OldestWait: p.OldestWait,
		PeakConns: p.PeakConns, PeakLeased: p.PeakLeased, PeakWaiting: p.PeakWaiting,
		Requests: p.Requests, Reused: p.Reused,
		Dials:      DialStats{OK: p.DialsOK, Failed: p.DialsFailed, Cancelled: p.DialsCancelled, Exhausted: p.DialsExhausted, Refused: p.DialsRefused},
		Rejected:   RejectStats{QueueFull: p.RejectedFull, WouldQueue: p.WouldQueue, Backoff: p.RejectedBackoff, Timeout: p.TimedOut, Closed: p.RejectedClosed},
		Closes:     map[string]uint64{},
		ClosedByUs: p.WeFirst, ClosedByPeer: p.PeerFirst,
		Leaks: LeakStats{Suspect: p.Suspects, Suspected: p.Suspected, Reclaimed: p.Reclaimed},
		Wait:  newHistogram(p.Wait), Hold: newHistogram(p.Hold),
	}
	for r, n := range p.Closed {
		if n > 0 {
			s.Closes[pool.Reason(r).String()] = n
		}
	}
	return s
}

// newHistogram leaves out what is empty below the first and above the last value.
func newHistogram(p pool.Histogram) Histogram {
	first, last := -1, -1
	for i, n := range p {
		if n > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return nil
	}
	h := make(Histogram, 0, last-first+1)
	for i := first; i <= last; i++ {
		h = append(h, Bucket{Below: pool.UpperBound(i), Count: p[i]})
	}
	return h
}
