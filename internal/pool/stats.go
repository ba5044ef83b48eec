package pool

import (
	"context"
	"math/bits"
	"time"
)

// Buckets is the number of buckets of a Histogram.
const Buckets = 32

// Histogram counts durations: bucket 0 those below 1.024 µs, bucket i those from
// 2^(i-1) to 2^i times 1.024 µs, the last everything longer.
type Histogram [Buckets]uint64

// UpperBound returns the exclusive upper end of bucket i.
func UpperBound(i int) time.Duration { return 1024 << i }

// histogram is a Histogram that takes memory for the buckets that have a value,
// and those between them: an endpoint's values lie close together.
type histogram struct{ of *bucketRange }

type bucketRange struct {
	first int // bucket of n[0]
	n     []uint64
}

func (h *histogram) add(d int64) {
	b := min(bits.Len64(uint64(max(d, 0))>>10), Buckets-1)
	if r := h.of; r == nil || uint(b-r.first) >= uint(len(r.n)) {
		h.widen(b)
	}
	h.of.n[b-h.of.first]++
}

// widen makes room for bucket b.
func (h *histogram) widen(b int) {
	old := h.of
	if old == nil {
		h.of = &bucketRange{b, make([]uint64, 1)}
		return
	}
	first := min(b, old.first)
	n := make([]uint64, max(b+1, old.first+len(old.n))-first)
	copy(n[old.first-first:], old.n)
	h.of = &bucketRange{first, n}
}

func (h *histogram) get() (v Histogram) {
	if h.of != nil {
		copy(v[h.of.first:], h.of.n)
	}
	return v
}

// counters is what a pool counts as it goes.
type counters struct {
	requests, reused uint64
	dialsOK          uint64
	of               *events

	peakConns, peakLeased, peakWaiting int

	wait, hold histogram
}

// events counts what an endpoint that is well does not see at first.
type events struct {
	dialsFailed, dialsCancelled, dialsExhausted, dialsRefused           uint64
	rejectedFull, rejectedBackoff, rejectedClosed, timedOut, wouldQueue uint64

	closed             [NumReasons]uint64
	weFirst, peerFirst uint64
}

// events returns the counters to add to.
func (k *counters) events() *events {
	if k.of == nil {
		k.of = new(events)
	}
	return k.of
}

// seen returns them to read.
func (k *counters) seen() events {
	if k.of == nil {
		return events{}
	}
	return *k.of
}

// Stats is a pool's state at one moment, and its counts since it was made. The
// states add up: Dialing + Leased + Idle + Draining are all the connections that
// count against the limit.
type Stats struct {
	Dialing, Leased, Idle, Draining int // Draining: taking no new request, or being closed
	InFlight                        int // leases; more than Leased when connections carry several
	Waiting                         int
	OldestWait                      time.Duration // of the requests that wait now; 0 when none does

	PeakConns, PeakLeased, PeakWaiting int

	Requests, Reused uint64 // leases granted; those on a connection that had carried a request

	DialsOK, DialsFailed, DialsCancelled, DialsExhausted, DialsRefused  uint64
	RejectedFull, RejectedBackoff, RejectedClosed, TimedOut, WouldQueue uint64

	Closed             [NumReasons]uint64
	WeFirst, PeerFirst uint64 // who closed first

	Suspects             int    // leases whose body looks forgotten now
	Suspected, Reclaimed uint64 // leases that looked so; whose body was found to be forgotten

	Wait, Hold Histogram // of requests that waited; from grant to release
}

func (c *core) getStats(now int64) Stats {
	k, e := &c.stats, c.stats.seen()
	s := Stats{
		Dialing: c.n[StateDialing], Leased: c.n[StateLeased], Idle: c.n[StateIdle],
		Draining: c.n[StateDraining] + c.n[StateClosing],
		InFlight: c.leases.len, Waiting: c.waiters.len,
		PeakConns: k.peakConns, PeakLeased: k.peakLeased, PeakWaiting: k.peakWaiting,
		Requests: k.requests, Reused: k.reused,
		DialsOK: k.dialsOK, DialsFailed: e.dialsFailed, DialsCancelled: e.dialsCancelled, DialsExhausted: e.dialsExhausted, DialsRefused: e.dialsRefused,
		RejectedFull: e.rejectedFull, RejectedBackoff: e.rejectedBackoff, RejectedClosed: e.rejectedClosed, TimedOut: e.timedOut, WouldQueue: e.wouldQueue,
		Closed: e.closed, WeFirst: e.weFirst, PeerFirst: e.peerFirst,
		Wait: k.wait.get(), Hold: k.hold.get(),
	}
	if w := c.waiters.front; w != nil {
		s.OldestWait = durationBetween(w.since, now)
	}
	if d := c.diag; d != nil {
		s.Suspects, s.Suspected, s.Reclaimed = d.suspects, d.suspected, d.reclaimed
	}
	return s
}

// Binding is the limit that keeps a request waiting.
type Binding uint8

const (
	BindingDial      Binding = iota // none: its connection is being dialled
	BindingConns                    // MaxConns
	BindingDials                    // MaxDials
	BindingBackoff                  // dials failed; the next one is not due yet
	BindingExhausted                // the kernel refused a port, a descriptor or memory
	BindingAdmission                // a limit over several pools, or a budget of ports
	BindingPaused                   // the owner has paused the pool
)

// LeaseInfo describes a lease for people.
type LeaseInfo struct {
	Method, Path string // the path without the query
	Phase        Phase
	Held         time.Duration
	SinceByte    time.Duration   // since the response last brought something; negative when it has not
	Unread       time.Duration   // since the caller last read of the body; 0 in other phases than PhaseBody
	Suspect      bool            // for so long that it looks forgotten
	Site         *Site           // nil when it is not known
	Context      context.Context // the request's, once its body is watched; nil when it is not known
	Conn         Conn
}

// Snapshot is what a starved request is told.
type Snapshot struct {
	Stats
	Config    Config
	Binding   Binding
	Ahead     int             // requests that were before it in the queue
	Oldest    []LeaseInfo     // the leases held longest, at most three
	Unread    []time.Duration // of the oldest leases, at most unreadLeases, how long bodies are unread
	Demand    Demand
	DialErr   error // of the last dial, if it failed
	Exhausted error // why the kernel refused the last dial, if it did
}

const (
	oldestLeases = 3
	unreadLeases = 256
)

// snapshot describes the pool; w is the waiter it is for, or nil.
func (c *core) snapshot(w *Waiter, now int64) *Snapshot {
	snap := &Snapshot{Stats: c.getStats(now), Config: *c.cfg, DialErr: c.dialErr, Exhausted: c.exhaustedErr}
	if w != nil && w.state == waiterQueued {
		for v := w.prev; v != nil; v = v.prev {
			snap.Ahead++
		}
	}
	switch {
	case c.paused:
		snap.Binding = BindingPaused
	case w != nil && w.dial != nil && w.dial.dial.pending, w == nil && c.dials.back != nil && c.dials.back.dial.pending:
		snap.Binding = BindingAdmission
	case w != nil && w.dial != nil && c.total >= c.cfg.MaxConns && 2*(now-w.dial.dial.begun) < now-w.since:
		snap.Binding = BindingConns // most of the time went by before there was room for its dial
	case w != nil && w.dial != nil:
	case c.exhaustedErr != nil && c.live() > 0:
		snap.Binding = BindingExhausted
	case c.total >= c.cfg.MaxConns:
		snap.Binding = BindingConns
	case c.fails > 0:
		snap.Binding = BindingBackoff
	case c.n[StateDialing] >= c.cfg.MaxDials:
		snap.Binding = BindingDials
	}
	n := 0
	for l := c.leases.front; l != nil && n < unreadLeases; l = l.next {
		i := l.info(now)
		if n++; n <= oldestLeases {
			snap.Oldest = append(snap.Oldest, i)
		}
		if i.Unread > 0 {
			snap.Unread = append(snap.Unread, i.Unread)
		}
	}
	if c.diag != nil {
		snap.Demand = c.diag.demand(now)
	}
	return snap
}

// info describes the lease. The pool's lock is held.
func (l *Lease) info(now int64) LeaseInfo {
	i := LeaseInfo{Method: l.method, Path: l.path, Phase: Phase(l.phase.Load()), Held: durationBetween(l.acquired, now),
		SinceByte: -1, Site: l.site(), Conn: l.slot.conn}
	if w := l.watch(); w != nil {
		i.Context = w.ctx
	}
	b := l.lastByte.Load()
	if b != 0 {
		i.SinceByte = durationBetween(b, now)
	}
	if i.Phase == PhaseBody {
		if l.reads.Load()%2 == 1 {
			i.Phase = PhaseReading
			return i
		}
		last := max(b, l.acquired)
		if w := l.watch(); w != nil {
			last, i.Suspect = max(last, w.active), w.suspect
		}
		i.Unread = durationBetween(last, now)
	}
	return i
}
