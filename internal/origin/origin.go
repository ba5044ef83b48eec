// Package origin provides scripted HTTP/1.1 origins that misbehave on purpose, for
// tests and for the lab (design §3). An origin works on any net.Listener: TCP,
// internal/memnet, or either under TLS.
//
// A script is a function that runs once for each connection and reads top to
// bottom:
//
//	o := origin.New(ln)
//	defer o.Close()
//	o.Handle(func(c *origin.Conn) {
//		c.ReadRequest()
//		c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhal")
//		c.Reset()
//	})
//
// behaviours.go has scripts ready-made, fast.go a server for measurements.
package origin

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// acceptPause is how long the origin waits after a failed Accept (descriptors
// used up, say) before it tries again.
const acceptPause = 10 * time.Millisecond

// Handler is the script of a connection. The connection is closed when it
// returns. It runs on a goroutine of its own and must return once the connection
// fails; c.Stall and c.Sleep end when the origin is closed.
type Handler func(c *Conn)

// Stats counts an origin's connections and requests.
type Stats struct {
	Accepted int // connections accepted so far
	Open     int // those that this side has not closed
	MaxOpen  int // the highest Open so far
	Requests int // request heads read so far, by ReadHead, ReadRequest and Fast
}

// Origin owns a listener, the loop that accepts from it, and a goroutine for each
// connection. Its methods are safe for concurrent use.
type Origin struct {
	ln       net.Listener
	done     chan struct{} // closed by Close
	wg       sync.WaitGroup
	requests atomic.Int64

	// mu guards what follows. No connection is read, written or closed and no
	// handler runs while it is held.
	mu       sync.Mutex
	handler  Handler
	conns    map[*Conn]bool // handler has not ended, or the close is under way
	closed   bool
	closeErr error
	accepted int
	open     int
	maxOpen  int
}

// New takes ln over. Nothing is accepted before Handle; Close closes ln.
func New(ln net.Listener) *Origin {
	return &Origin{
		ln:    ln,
		done:  make(chan struct{}),
		conns: make(map[*Conn]bool),
	}
}

// Handle sets the script for connections accepted from now on, and starts to
// accept with the first call. It returns the origin. After Close it does nothing.
func (o *Origin) Handle(h Handler) *Origin {
	if h == nil {
		panic("origin: handle with no handler")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.handler == nil && !o.closed {
		o.wg.Go(o.accept)
	}
	o.handler = h
	return o
}

// Addr returns the listener's address, host:port on TCP and memnet.
func (o *Origin) Addr() string { return o.ln.Addr().String() }

// Done is closed when Close begins.
func (o *Origin) Done() <-chan struct{} { return o.done }

// Stats returns the counts of this moment.
func (o *Origin) Stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Stats{
		Accepted: o.accepted,
		Open:     o.open,
		MaxOpen:  o.maxOpen,
		Requests: int(o.requests.Load()),
	}
}

// Close closes the listener and every connection, ends every Stall and Sleep, and
// waits until each handler has returned. Further calls wait as well and return
// the same. A handler must not call it. The error is the listener's.
func (o *Origin) Close() error {
	first, conns := o.shut()
	if first {
		err := o.ln.Close()
		for _, c := range conns {
			// Below TLS: a close_notify could block on a peer that does not read.
			_ = lowest(c.nc).Close()
		}
		o.mu.Lock()
		o.closeErr = err
		o.mu.Unlock()
	}
	o.wg.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closeErr
}

// shut lets no connection in any more and returns those that are there.
func (o *Origin) shut() (first bool, conns []*Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, nil
	}
	o.closed = true
	close(o.done)
	for c := range o.conns {
		conns = append(conns, c)
	}
	return true, conns
}

// accept is the loop that New's listener is for; Close ends it and waits for it.
func (o *Origin) accept() {
	for {
		nc, err := o.ln.Accept()
		switch {
		case err == nil:
			o.serve(nc)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if !o.sleep(acceptPause) {
				return
			}
		}
	}
}

// serve starts the script on nc, on a goroutine that Close waits for.
func (o *Origin) serve(nc net.Conn) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		_ = lowest(nc).Close()
		return
	}
	c := &Conn{origin: o, nc: nc, n: o.accepted}
	o.accepted++
	o.open++
	o.maxOpen = max(o.maxOpen, o.open)
	o.conns[c] = true
	h := o.handler
	o.wg.Go(func() {
		// Deferred, because a test's Fatal ends the goroutine inside h.
		defer c.Close()
		h(c)
	})
	o.mu.Unlock()
}

// leave counts a connection as closed, once: it reports whether this call did.
func (o *Origin) leave(c *Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.closed {
		return false
	}
	c.closed = true
	o.open--
	return true
}

// forget drops a connection that is closed. Until then Close must find it, because
// closing can itself wait for the peer.
func (o *Origin) forget(c *Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, c)
}

// sleep waits for d and reports true, or false if the origin was closed first.
func (o *Origin) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-o.done:
		return false
	}
}
