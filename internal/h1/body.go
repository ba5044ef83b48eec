package h1

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// Body is the body of a response. Read and Close may be called at the same time;
// Close ends a Read that blocks. The connection is free, or closed, when Read has
// returned the last byte (together with io.EOF when its end is known) or Close
// has returned.
type Body struct {
	// conn is nil when the exchange is over: the body was complete from the
	// start, was read to its end, failed, or was closed.
	conn   atomic.Pointer[Conn]
	seq    uint64 // the exchange's number on conn
	closed atomic.Bool

	// mu is held during Read, blocking or not, and during the drain of Close. It
	// guards what follows.
	mu      sync.Mutex
	mem     []byte // the rest of a complete body, in buf
	buf     []byte
	err     error // of every further Read
	trailer http.Header
	res     *http.Response
}

// errReadClosed has the words of net/http.
var errReadClosed = errors.New("http: read on closed response body")

// keep makes b a body that is complete: data lies in buf, which b takes over.
func (b *Body) keep(buf, data []byte) { b.buf, b.mem = buf, data }

// attach makes b a body that is read from the connection.
func (b *Body) attach(c *Conn) {
	b.seq = c.seq
	b.conn.Store(c)
}

// Read reads the body. It returns io.ErrUnexpectedEOF when the connection ends
// before the body does, and the context's cause when the request was cancelled.
func (b *Body) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	switch c := b.conn.Load(); {
	case b.closed.Load():
		err = errReadClosed
	case b.err != nil:
		err = b.err
	case c == nil:
		n, err = b.readMem(p)
	default:
		c.owner.BeginRead()
		n, err = c.readBody(p)
		c.owner.EndRead()
		if err != nil {
			n, err = b.finish(c, n, err)
		}
	}
	b.mu.Unlock()
	return n, err
}

// finish ends the body with the error of its last read.
func (b *Body) finish(c *Conn, n int, err error) (int, error) {
	b.err = err
	if err == io.EOF {
		b.trailer = c.x.chunked.Trailer()
		MergeTrailer(b.res, b.trailer)
		b.end(c, c.fateOf(true))
		return n, err
	}
	f := pool.Fate{Reason: pool.ReasonError, MaxLeft: -1}
	if cause := c.interrupted(); cause != nil {
		f.Reason = pool.ReasonCanceled
		b.err = cause
		if cause == errReadClosed {
			f.Reason = pool.ReasonUnread
		}
		AwaitClientTimeout(b.res.Request, cause)
	} else if broken, ok := errors.AsType[*ProtocolError](err); ok {
		f.Reason = pool.ReasonProtocol
		b.err = c.owner.BodyError(broken)
	}
	b.end(c, f)
	return n, b.err
}

// readMem reads a body that is complete.
func (b *Body) readMem(p []byte) (int, error) {
	n := copy(p, b.mem)
	b.mem = b.mem[n:]
	if len(b.mem) > 0 {
		return n, nil
	}
	b.err = io.EOF
	MergeTrailer(b.res, b.trailer)
	b.dropBuffer()
	return n, io.EOF
}

func (b *Body) dropBuffer() {
	if b.buf != nil {
		putBuffer(b.buf)
		b.buf, b.mem = nil, nil
	}
}

// end lets go of the connection. The body may outlive it.
func (b *Body) end(c *Conn, f pool.Fate) {
	b.conn.Store(nil)
	c.finish(f)
}

// Close gives the connection back. A rest of the body that is short, or already
// there, is read away so that the connection can be kept; else it is closed.
// Close always returns nil.
func (b *Body) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	if !b.mu.TryLock() {
		if c := b.conn.Load(); c != nil {
			c.interruptExchange(b.seq, errReadClosed)
		}
		b.mu.Lock() // the Read under way returns soon
	}
	defer b.mu.Unlock()
	b.dropBuffer()
	if c := b.conn.Load(); c != nil {
		b.end(c, c.fateOf(c.drain()))
	}
	return nil
}

// WhenForgotten is pool.Body's. The caller may have no more than the body: both are one
// piece of memory.
func (r *response) WhenForgotten(f func(*pool.Watch), w *pool.Watch) {
	runtime.AddCleanup(r, f, w)
}

// Context is pool.Body's.
func (r *response) Context() context.Context {
	if c := r.body.conn.Load(); c != nil {
		return c.owner.Context()
	}
	return nil // it ends at this moment
}

// Abandon is pool.Body's: what Close would do, without reading anything away.
func (r *response) Abandon(*pool.Lease) func() {
	c := r.body.conn.Load()
	if c == nil {
		return func() {} // it ends at this moment
	}
	return func() { c.finish(pool.Fate{Reason: pool.ReasonLeaked, MaxLeft: -1}) }
}

// AwaitClientTimeout lets http.Client say "Client.Timeout exceeded". For a
// RoundTripper that it does not know, http.Client sets the request's deadline
// twice, as the context's and by a timer of its own that closes Request.Cancel,
// and names its timeout only if that timer has fired. The context's is often
// first: wait a moment for the other.
func AwaitClientTimeout(req *http.Request, err error) {
	if req == nil || !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	cancel := LegacyCancel(req)
	if cancel == nil {
		return
	}
	t := time.NewTimer(clientTimeoutGrace)
	defer t.Stop()
	select {
	case <-cancel:
	case <-t.C:
	}
}

const clientTimeoutGrace = 100 * time.Millisecond
