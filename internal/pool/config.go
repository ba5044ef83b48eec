package pool

import (
	"math"
	"time"
)

// Unlimited is the value of a limit that does not bind.
const Unlimited = math.MaxInt

// Never is the value of a duration that does not end.
const Never = time.Duration(math.MaxInt64)

// Unsettled is the capacity of a connection that does not know its own yet: it
// carries one exchange until [Pool.SetCapacity] tells, and the requests that it
// may be able to take besides wait for that instead of causing further dials.
const Unsettled = -1

// Config holds the limits of a pool. All values are explicit: defaults belong
// to the caller. It may be replaced while the pool runs ([Pool.SetConfig]).
type Config struct {
	MaxConns    int // connections, those being dialled and closed included; ≥ 1
	MaxIdle     int // connections kept without a request; 0 keeps none
	MinIdle     int // connections kept ready while the pool is in use; ≤ MaxIdle counts
	MaxWaiters  int // requests in the queue; 0 fails at once when none is free
	MaxDials    int // dials in flight; ≥ 1
	MaxRequests int // requests on one connection; ≥ 1
	Expect      int // requests that a connection will carry at once as long as it has not told: 1 for HTTP/1.1; ≤ 1<<20

	Order    Order // which connection a request gets
	MarkLast bool  // Lease.Last is computed

	IdleTimeout time.Duration // an idle connection is closed exactly then
	Lifetime    time.Duration // no request starts on a connection older than this
	Sweep       time.Duration // idle connections are probed this often; > 0
	OrphanGrace time.Duration // how long a dial may go on that no request waits for
	WarnAfter   time.Duration // Owner.Starved is called once, when a request has waited for this long
	Forget      time.Duration // Owner.Empty is called when the pool has held nothing for this long
}

// Order says which of several connections with room a request gets.
type Order uint8

const (
	LIFO   Order = iota // the one used last: few are hot, the others age and go
	FIFO                // the one unused for longest: all stay in use
	Spread              // of two places drawn at random the less loaded; there, FIFO
)

func (o Order) String() string { return [...]string{"lifo", "fifo", "spread"}[o] }

// Back-off after failed dials: doubling from backoffMin, at most backoffMax.
// Requests fail at once after backoffFails failures in a row.
const (
	backoffMin   = int64(50 * time.Millisecond)
	backoffMax   = int64(time.Second)
	backoffFails = 3

	// exhaustedWait is how long no dial is tried after the kernel refused one
	// for want of a port, a descriptor or memory. Linux recycles loopback
	// TIME_WAIT sockets after a second (tcp_tw_reuse_delay).
	exhaustedWait = int64(time.Second)

	// relyOnDial is how long a dial is relied upon whose request got another
	// connection: a second attempt for the next request would mostly be one too
	// many. A dial that is slower may hang: TCP sends its SYN again after a second.
	relyOnDial = time.Second

	// minIdleFor is how long after the last request MinIdle is kept: an endpoint that
	// nobody uses is given up at last.
	minIdleFor = 10 * time.Minute

	// topUpPause is how long MinIdle waits when there was no room for its dial.
	topUpPause = int64(time.Second)

	// sweepBatch bounds how many idle connections are out for a probe at once.
	sweepBatch = 128
)

// lead is how long before its retirement a busy connection's successor is dialled.
func lead(lifetime time.Duration) int64 {
	return int64(min(lifetime/10, time.Second))
}
