package pool

import (
	"context"
	"fmt"
	"time"
)

// State is where a slot stands; see the diagram in the package comment.
type State uint8

const (
	stateNew State = iota
	StateDialing
	StateIdle
	StateLeased
	StateDraining
	StateClosing
	stateGone
	numStates
)

func (s State) String() string {
	return [numStates]string{"new", "dialing", "idle", "leased", "draining", "closing", "gone"}[s]
}

// legal lists the moves that exist.
var legal = [numStates][numStates]bool{
	stateNew:      {StateDialing: true},
	StateDialing:  {StateIdle: true, StateClosing: true, stateGone: true},
	StateIdle:     {StateLeased: true, StateClosing: true},
	StateLeased:   {StateIdle: true, StateDraining: true, StateClosing: true},
	StateDraining: {StateClosing: true},
	StateClosing:  {stateGone: true},
}

// Conn is what the pool needs of a connection. No method is called while the
// pool's lock is held.
type Conn interface {
	// Reserve claims room for one exchange for the request that was just
	// granted the connection; idle is how long it sat unused. HTTP/1.1 looks
	// whether the peer has closed it, HTTP/2 takes a stream. It must not block.
	Reserve(idle time.Duration) Verdict

	// Probe reports whether an idle connection is still usable. It must not block.
	Probe() bool

	// Place names what is at the other end, where pools tell several apart; else "". It is
	// asked once, before the connection is lent.
	Place() string

	// Close closes the connection and reports whether the peer had closed it
	// first. It is called once. It must not block for long.
	Close(reason Reason) (peerFirst bool)
}

// Lingerer is a Conn whose Close may take a while: it is called on a goroutine of its own
// then, which Close and Shutdown wait for.
type Lingerer interface{ Lingers(Reason) bool }

// Verdict is the answer of Conn.Reserve.
type Verdict uint8

const (
	Ready Verdict = iota // the exchange may begin
	Full                 // no room now; the connection lives
	Dead                 // the peer has closed it, or sent what nobody asked for
)

// Slot is one connection's place in the pool. Its fields belong to the pool's
// lock, but for conn, which is set before the slot is first idle and never changes.
type Slot struct {
	pool *Pool
	conn Conn
	dial *dialing // nil once the dial has ended

	state     State
	probing   bool   // out for a probe, still in the idle list
	inRoom    bool   // in core.room
	heralded  bool   // its successor has been considered
	useful    bool   // an exchange has ended well on it
	modest    bool   // others are not to give anything up for its dial, nor is it to wait for them
	unsettled bool   // its capacity is not known yet; it is 1 meanwhile
	reason    Reason // why it is draining or closing
	doom      Reason // why it is closed when its probe returns
	why       Why    // it was opened
	capacity  int32  // exchanges that it may carry at once
	inFlight  int32
	maxLeft   int32  // requests that the peer still allows; -1 when it did not say
	heapPos   int32  // place in core.due, -1 when not there
	sweep     uint32 // the last sweep that looked at it

	requests  uint64
	born      int64
	epoch     uint32 // core.epoch when it was begun
	ordinal   uint32 // spreads retirements; see core.setRetirement
	idleSince int64
	idleUntil int64 // while idle: the end of the peer's announced idle timeout; never when not told
	retireAt  int64
	due       int64 // key in core.due: the next of retirement, its successor's dial, and idleUntil

	prev, next *Slot // in one of core's lists: dialing, idle, room
	at         *spot // where it leads to; nil when that makes no difference
	successor  *Slot // being dialled to replace this one

	lease Lease // the first exchange; HTTP/1.1 needs no other
}

// dialing is what a slot knows only until its dial ends.
type dialing struct {
	ctx         context.Context // values of the request that caused it
	cancel      context.CancelFunc
	begun       int64   // when it was decided
	initiator   *Waiter // still waiting for this dial; nil when it left
	orphanUntil int64   // the dial is given up then; never while a request waits
	reliedUntil int64   // an orphan is doubtful from then on; never while a request waits
	replaces    *Slot   // the connection that this one succeeds
	trial       bool    // tries whether the endpoint can be dialled again
	cancelled   bool
	pending     bool // waits for admission
	stalled     bool // waits for what others have to give up: a place under a limit, a port
	stale       bool // the owner wants connections that were begun later
	doubtful    bool // its request lost patience with it

	// What the connection has told before the dial returned it.
	told bool  // its capacity, which is in the slot
	gone bool  // that the peer has ended it
	dud  error // and with what for a reason; see peerClosed
}

// Why is what a connection was opened for.
type Why uint8

const (
	WhyDemand    Why = iota // a request had to wait
	WhySuccessor            // a busy connection nears the end of its lifetime
	WhyTrial                // a request had to wait, and dials had failed before
	WhyReady                // to be there before a request wants it: MinIdle, Warm
)

func (w Why) String() string { return [...]string{"demand", "successor", "trial", "ready"}[w] }

// Why returns what the connection was opened for.
func (s *Slot) Why() Why { return s.why }

// Conn returns the connection; nil while it is being dialled.
func (s *Slot) Conn() Conn { return s.conn }

func (c *core) setState(s *Slot, to State) {
	if !legal[s.state][to] {
		panic(fmt.Sprintf("pool: slot moves from %v to %v", s.state, to))
	}
	c.n[s.state]--
	c.n[to]++
	s.state = to
}

// slotList is an intrusive list; the front is the newest.
type slotList struct {
	front, back *Slot
	len         int
}

func (l *slotList) pushFront(s *Slot) {
	s.prev, s.next = nil, l.front
	if l.front != nil {
		l.front.prev = s
	} else {
		l.back = s
	}
	l.front = s
	l.len++
}

func (l *slotList) remove(s *Slot) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.front = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.back = s.prev
	}
	s.prev, s.next = nil, nil
	l.len--
}
