package h1

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// Owner is told what a connection's exchange does. Its methods do not block and
// are called with no lock of the connection held.
type Owner interface {
	// SetPhase tells what the exchange does now.
	SetPhase(pool.Phase)
	// Touch tells that bytes of the response body arrived.
	Touch()
	// Lend tells of the body that the caller is about to have, when its rest has still to be
	// read from the connection. BeginRead and EndRead tell of each Read of it.
	Lend(b pool.Body, room *pool.Known)
	BeginRead()
	EndRead()
	// Context returns that of the request whose body was lent; nil when nobody wants to know.
	// It is called on any goroutine, while its lease lasts.
	Context() context.Context
	// Done tells that the exchange no longer uses the connection. It is called
	// exactly once for each RoundTrip, on whatever goroutine came last: before
	// RoundTrip returns, in a Read or Close of the response body, or on the
	// goroutine that sends the request body. The next exchange may start at once.
	Done(pool.Fate)
	// BodyError makes the caller's error of a response body that breaks the protocol.
	BodyError(*ProtocolError) error
}

// Options bound an exchange. All values are explicit: defaults belong to the caller.
type Options struct {
	MaxHeadBytes    int64         // response heads of one exchange, 1xx included
	MaxFields       int           // fields of one head; 0 is the parser's own bound
	Strict          bool          // reject what RFC 9112 merely lets a recipient tolerate
	HeaderTimeout   time.Duration // from the end of the request to the end of the response head; ≤ 0 is none
	ContinueTimeout time.Duration // how long Expect: 100-continue holds the body back; ≤ 0 sends it at once
	DrainBytes      int64         // how much of an unread body Close reads away; ≤ 0 is nothing
	DrainTimeout    time.Duration // how long it may take
	LivenessAfter   time.Duration // a connection unused for longer is looked at before its next use
}

// Conn is the client's end of one HTTP/1.1 connection (RFC 9112). It carries one
// exchange at a time, on the goroutine of the caller; it has no goroutine and no
// buffer while it is idle. Between exchanges it may be probed and closed, by one
// goroutine at a time.
type Conn struct {
	nc    net.Conn // the socket, or TLS above it
	raw   raw      // the socket; how to look at it without blocking
	tls   bool     // nc is TLS over raw, and not anybody else's
	state *tls.ConnectionState
	owner Owner

	unseen bool // the last exchange ended without looking for bytes behind it
	stale  bool // a deadline is set that means nothing any more; see patience

	x *exchange // nil between exchanges, but after the last

	// mu guards what other goroutines do to an exchange: the context's end, and
	// the sender of the request body. No I/O happens while it is held but
	// setting a deadline.
	mu       sync.Mutex
	seq      uint64 // of the exchange: interrupting one that is over does nothing
	cause    error  // why the exchange was interrupted; nil while it was not
	deadline bool   // a read deadline is set
}

// exchange is the state of one request and its response. An idle connection has
// none, so that it is small and refers to no request.
type exchange struct {
	ctx     context.Context
	cancel  <-chan struct{} // Request.Cancel
	stop    func() bool     // ends the watch over ctx
	legacy  *legacyCancel   // the watch over cancel
	until   time.Time       // the read deadline to be set when the watch is armed
	sender  *sender         // nil when the request went out on the caller's goroutine
	trace   *httptrace.ClientTrace
	opts    *Options
	start   int64  // what sent counted before it began
	early   []byte // what came before the first request
	readErr error  // of the read that went with the request
	gotByte bool   // of the response
	close   bool   // the request said Connection: close
	excess  bool   // bytes came that nobody asked for

	framing Framing
	left    int64 // of a body of known length
	filled  uint8 // reads that were filled, modulo 256
	chunked Chunked

	// The read buffer: buf[r:w] is unread. nil when there is nothing to keep.
	buf   []byte
	r, w  int
	swap  swap
	reads int32 // of TLS that took a whole record each

	// Guarded by Conn.mu.
	headRead  bool  // the final head has arrived: the header timeout is off
	sending   bool  // the sender is at work
	sendErr   error // how it ended
	over      bool  // the response side has ended and left the rest to the sender
	fate      pool.Fate
	lateTimer *time.Timer
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// Init makes c a connection over a socket. It is part of what its owner has, so
// that a connection is one piece of memory. own says that nobody else has the
// socket: its deadlines are the engine's then, and it may be used past package net.
func (c *Conn) Init(socket net.Conn, own bool, owner Owner) {
	c.nc, c.owner = socket, owner
	c.raw.init(socket, own)
	c.raw.conn = c
}

// Raw returns the socket for TLS to run over.
func (c *Conn) Raw() net.Conn { return &c.raw }

// UseTLS has exchanges read and write nc, which is TLS over [Conn.Raw].
func (c *Conn) UseTLS(nc net.Conn, state *tls.ConnectionState) {
	c.nc, c.tls, c.state = nc, true, state
}

// SetState has responses tell of the TLS that a socket brought along.
func (c *Conn) SetState(state *tls.ConnectionState) { c.state = state }

// State returns the state of TLS; nil without TLS.
func (c *Conn) State() *tls.ConnectionState { return c.state }

// NetConn returns what exchanges read and write.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Socket returns what Init was given.
func (c *Conn) Socket() net.Conn { return c.raw.Conn }

// AwaitPeer waits until the peer has closed its side of a connection that carries nothing
// any more, at most for d.
func (c *Conn) AwaitPeer(d time.Duration) {
	c.clearPatience()
	c.nc.SetDeadline(time.Now().Add(d))
	var scrap [512]byte
	for _, nc := range [...]net.Conn{c.nc, c.raw.Conn} { // the end of TLS comes before the socket's
		for read := 0; read < maxScrap; {
			n, err := nc.Read(scrap[:])
			if read += n; err != nil {
				break
			}
		}
	}
}

// maxScrap bounds what is read of a peer that goes on talking.
const maxScrap = 64 << 10

// Close closes the connection. It does not wait for the peer: a TLS closing alert
// is sent only if there is room for it at once. It reports whether the peer had
// closed its side before.
func (c *Conn) Close() (peerFirst bool) {
	c.clearPatience()
	peerFirst = c.raw.peerClosed()
	c.HangUp()
	return peerFirst
}

// HangUp closes the connection without looking whether the peer has. It may be
// called while others read and write, once.
func (c *Conn) HangUp() error {
	if c.tls {
		// crypto/tls allows its alert five seconds. What cannot be sent at once
		// is not worth a wait: the peer is not reading.
		c.nc.SetDeadline(time.Now().Add(alertTimeout))
		c.raw.closing = true
	}
	return c.nc.Close()
}

// alertTimeout bounds the write of the TLS closing alert.
const alertTimeout = 10 * time.Millisecond

// Usable reports whether a connection that sat idle may carry a request. It looks
// at the socket without blocking: a byte or an end of stream means that it may
// not. A connection used a moment ago is trusted.
func (c *Conn) Usable(idle, trust time.Duration) bool {
	if idle < trust && !c.unseen {
		return true
	}
	return c.Probe(idle)
}

// Probe looks at the socket of an idle connection without blocking and reports
// whether it is still silent and open.
func (c *Conn) Probe(idle time.Duration) bool {
	c.unseen = false
	c.clearPatience()
	return c.silent(lookSocket, idle)
}

// Unsolicited returns what the peer sent on the idle connection, at most its
// first bytes, when Probe found some.
func (c *Conn) Unsolicited() string { return c.raw.junk }

// silent reports that a non-blocking read finds nothing. Under TLS the read goes
// through TLS, which consumes session tickets and key updates on the way.
func (c *Conn) silent(look lookMode, idle time.Duration) bool {
	if !c.tls {
		if look == lookBuffered {
			return true // there is no layer that could hold bytes back
		}
		_, err := c.raw.tryRead(idle)
		return isWouldBlock(err)
	}
	if look == lookBuffered && c.raw.records.taken(c.x.reads) {
		return true
	}
	c.raw.look(look, idle)
	var one [1]byte
	n, err := c.nc.Read(one[:])
	c.raw.look(lookNormal, 0)
	if n > 0 {
		c.raw.junk = string(one[:])
	}
	if n > 0 || !isWouldBlock(err) {
		return false
	}
	c.raw.records.settle()
	return true
}

// sent counts the bytes that may have left: those that the kernel took.
func (c *Conn) sent() int64 { return c.raw.written.Load() }

// read reads what is there, or waits for it.
func (c *Conn) read(p []byte) (int, error) {
	if !c.tls {
		return c.raw.read(p)
	}
	n, err := c.nc.Read(p)
	switch n {
	case 0:
	case len(p):
		c.x.reads = manyReads // TLS may have the rest of a record
	default:
		c.x.reads++
	}
	return n, err
}

// write writes all of p.
func (c *Conn) write(p []byte) (err error) {
	if !c.tls {
		_, err = c.raw.Write(p)
	} else {
		_, err = c.nc.Write(p)
	}
	return err
}

// finish ends the response side. If the request is still being sent, the sender
// is given a moment, and ends the exchange if the connection is to be kept. It is
// not waited for otherwise: the caller's body may block it for ever.
func (c *Conn) finish(f pool.Fate) {
	c.releaseBuffer()
	if s := c.x.sender; s != nil {
		s.await(sendGrace)
		c.mu.Lock()
		if c.x.sending && f.Keep {
			c.x.over, c.x.fate = true, f
			seq := c.seq
			c.x.lateTimer = time.AfterFunc(lateSend, func() { c.leaveSender(seq, s) })
			c.mu.Unlock()
			return
		}
		if c.x.sending {
			c.mu.Unlock()
			s.body.Close() // it may be what the sender waits for
			c.end(f)
			return
		}
		failed := c.x.sendErr != nil
		c.mu.Unlock()
		if failed && f.Keep {
			f.Keep, f.Reason = false, pool.ReasonError
		}
	}
	c.end(f)
}

// sendGrace is how long the end of a response waits for the end of its request.
// Nearly always the sender has written everything and needs a moment to close the
// caller's body; a caller that sees the response end expects that to be done.
const sendGrace = 5 * time.Millisecond

// lateSend is how long a request body may go on after its response has ended
// before the connection is given up, as with net/http.
const lateSend = 50 * time.Millisecond

// leaveSender ends an exchange whose sender is late, unless it is over. The
// connection is closed, which ends a write; a body that goes on blocking in Read
// keeps the sender's goroutine, but no place in the pool.
func (c *Conn) leaveSender(seq uint64, s *sender) {
	c.mu.Lock()
	if c.seq != seq || !c.x.over {
		c.mu.Unlock()
		return
	}
	c.x.over = false
	c.mu.Unlock()
	s.body.Close()
	c.end(pool.Fate{Reason: pool.ReasonError, MaxLeft: -1})
}

// end is the last act of an exchange.
func (c *Conn) end(f pool.Fate) {
	if !c.unwatch() && f.Keep {
		f.Keep, f.Reason = false, pool.ReasonCanceled
	}
	c.mu.Lock()
	c.seq++
	switch {
	case !f.Keep:
	case c.cause != nil:
		f.Keep, f.Reason = false, pool.ReasonCanceled
	case c.deadline:
		c.deadline = false
		c.nc.SetDeadline(time.Time{})
	}
	c.mu.Unlock()
	if f.Keep && !c.silent(lookBuffered, 0) {
		f.Keep, f.Reason = false, pool.ReasonProtocol
	}
	trace := c.x.trace
	closing := c.x.close
	if f.Keep { // else somebody may still look at it
		x := c.x
		c.x = nil
		*x = exchange{}
		exchanges.Put(x)
	}
	c.owner.Done(f)
	if trace != nil && trace.PutIdleConn != nil && (f.Keep || !closing) {
		if f.Keep {
			trace.PutIdleConn(nil)
		} else {
			trace.PutIdleConn(errNotKept{f.Reason})
		}
	}
}

// errNotKept is what httptrace's PutIdleConn is told.
type errNotKept struct{ reason pool.Reason }

func (e errNotKept) Error() string { return "connection not kept: " + e.reason.String() }
