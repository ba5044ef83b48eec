package pool

import (
	"sync/atomic"
	"time"
)

// Phase is what a lease's exchange is doing, for diagnosis.
type Phase uint32

const (
	PhaseSending  Phase = iota // the request is being written
	PhaseAwaiting              // the response head is awaited
	PhaseBody                  // the response body is the caller's to read, and no Read is under way
	PhaseDraining              // the rest of an unread body is being read away
	PhaseReading               // as PhaseBody, and a Read is under way; see Lease.BeginRead
	numPhases
)

func (p Phase) String() string {
	return [numPhases]string{"sending request", "awaiting response", "body unread", "draining body", "reading body"}[p]
}

// Lease is one request's hold on a connection, from the grant to Release.
// Until then it belongs to the request; afterwards it must not be touched.
type Lease struct {
	slot       *Slot
	prev, next *Lease

	method, path string
	acquired     int64
	idle         time.Duration
	before       uint32
	active       bool
	flags        leaseFlags

	phase    atomic.Uint32
	reads    atomic.Uint32 // Reads of the body that began and that ended: odd while one is under way
	lastByte atomic.Int64  // when the response last brought something; 0 before that

	known atomic.Pointer[Known] // nil while there is nothing
}

// leaseFlags are what the methods of their names tell.
type leaseFlags uint8

const (
	leaseReused leaseFlags = 1 << iota
	leaseShared
	leaseWaited
	leaseLast
	leaseSampled
)

func (l *Lease) set(f leaseFlags, on bool) {
	if on {
		l.flags |= f
	} else {
		l.flags &^= f
	}
}

// Known is what few leases have: connections that are idle need no room for it.
type Known struct {
	site  *Site  // where the request was made; nil when that was not asked. It does not change
	body  Body   // until it is watched; set before PhaseBody
	watch *Watch // of the body, once the lease is old enough
}

// site returns where the request was made; nil when that is not known.
func (l *Lease) site() *Site {
	if k := l.known.Load(); k != nil {
		return k.site
	}
	return nil
}

// watch returns the watch over the body; nil when there is none. The pool's lock is held.
func (l *Lease) watch() *Watch {
	if k := l.known.Load(); k != nil {
		return k.watch
	}
	return nil
}

// Conn returns the leased connection.
func (l *Lease) Conn() Conn { return l.slot.conn }

// Slot returns the connection's slot, for SetCapacity and PeerClosed.
func (l *Lease) Slot() *Slot { return l.slot }

// Reused reports whether the connection has carried a request before.
func (l *Lease) Reused() bool { return l.flags&leaseReused != 0 }

// Idle returns how long the connection sat unused before this lease.
func (l *Lease) Idle() time.Duration { return l.idle }

// Before returns how many requests the connection carried before this one.
func (l *Lease) Before() uint64 { return uint64(l.before) }

// Shared reports whether others were in flight on the connection.
func (l *Lease) Shared() bool { return l.flags&leaseShared != 0 }

// Waited reports whether the request stood in the queue for it.
func (l *Lease) Waited() bool { return l.flags&leaseWaited != 0 }

// Last reports that the connection will carry no further request, as far as is known
// now. It is computed if Config.MarkLast says so.
func (l *Lease) Last() bool { return l.flags&leaseLast != 0 }

// Sampled says that the request's call site should be told by SetSite: the lease is of the
// sample, or its pool starved, or lost a body, of late.
func (l *Lease) Sampled() bool { return l.flags&leaseSampled != 0 }

// SetSite tells where the request was made.
func (l *Lease) SetSite(s *Site) { l.known.Store(&Known{site: s}) }

// Lend tells of the body that the caller is about to have; SetPhase(PhaseBody) follows. The
// lease refers to it until it is watched, which costs too much for one that is read at once.
// room is part of what the body is part of, so that nothing has to be made for it.
func (l *Lease) Lend(b Body, room *Known) {
	if k := l.known.Load(); k != nil {
		k.body = b
		return
	}
	room.body = b
	l.known.Store(room)
}

// BeginRead tells that a Read of the body begins, EndRead that it has ended; they come in
// pairs, and none is under way at Release.
func (l *Lease) BeginRead() { l.reads.Add(1) }

// EndRead tells that a Read of the body has ended.
func (l *Lease) EndRead() { l.reads.Add(1) }

// SetPhase tells what the exchange is doing now. Safe for concurrent use.
func (l *Lease) SetPhase(p Phase) { l.phase.Store(uint32(p)) }

// Touch tells that a byte of the response arrived. Safe for concurrent use.
func (l *Lease) Touch(now int64) { l.lastByte.Store(now) }

// Fate is what becomes of a connection at the end of an exchange.
type Fate struct {
	// Keep says that the exchange ended cleanly: both messages are complete and
	// nothing forbids another request.
	Keep bool
	// Reason says why not, when Keep is false.
	Reason Reason
	// IdleFor is how long the peer keeps an idle connection, a margin taken off;
	// 0 means that it did not say.
	IdleFor time.Duration
	// MaxLeft is the number of requests that the peer still allows; negative
	// means that it did not say.
	MaxLeft int
	// Unanswered says that nothing has come from the peer. A connection that is
	// kept has not shown by this exchange that it is of use.
	Unanswered bool
}

// Release ends the lease. It must be called exactly once; a second call panics.
// It does not block, but for the close of a connection that is not kept.
func (l *Lease) Release(now int64, f Fate) {
	const twice = "pool: lease released twice"
	s := l.slot
	if s == nil {
		panic(twice)
	}
	p := s.pool
	p.mu.Lock()
	if !l.active {
		p.mu.Unlock() // whoever recovers must not find the pool locked
		panic(twice)
	}
	site := l.site()
	p.core.release(l, p.core.at(now), f)
	p.flush()
	if site != nil && p.shared.SiteDone != nil {
		p.shared.SiteDone(site)
	}
}

// leaseList is an intrusive list, oldest first.
type leaseList struct {
	front, back *Lease
	len         int
}

func (ll *leaseList) pushBack(l *Lease) {
	l.prev, l.next = ll.back, nil
	if ll.back != nil {
		ll.back.next = l
	} else {
		ll.front = l
	}
	ll.back = l
	ll.len++
}

func (ll *leaseList) remove(l *Lease) {
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		ll.front = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		ll.back = l.prev
	}
	l.prev, l.next = nil, nil
	ll.len--
}
