// Connections: two streams, one each way, with the errors and the addresses of
// a TCP connection. DialContext and Accept return them.

package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is one end of a connection. Every method is safe for concurrent use; the
// bytes of one Write are never mixed with those of another. Every error except
// io.EOF is a *net.OpError.
type Conn struct {
	network       *Network
	link          *link
	dialled       bool // the end that DialContext returned
	in, out       *stream
	local, remote Addr
	closed        atomic.Bool
	abortive      atomic.Bool // Close is Reset
}

// link is what the two ends of a connection share; network.mu guards it.
type link struct {
	to   Addr   // the dialled address
	port uint16 // the ephemeral port, held until both ends are closed
	ends int    // ends not closed
}

// newPair makes both ends of a connection from one address to another; size
// bounds the bytes in each direction, negative for no bound.
func newPair(n *Network, from, to Addr, size int) (client, server *Conn) {
	up, down := newStream(size), newStream(size)
	lk := &link{to: to, port: from.Port, ends: 2}
	client = &Conn{network: n, link: lk, dialled: true, in: down, out: up, local: from, remote: to}
	server = &Conn{network: n, link: lk, in: up, out: down, local: to, remote: from}
	return client, server
}

// Read reads what has arrived, blocking until there is something, the peer
// closes, the deadline passes, or this end is closed. The error is io.EOF after
// the last byte of a closed peer; otherwise it wraps syscall.ECONNRESET after the
// peer's Reset, os.ErrDeadlineExceeded, or net.ErrClosed. As on a real connection
// a passed deadline wins over bytes that have arrived.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil && err != io.EOF {
		err = c.opError("read", err)
	}
	return n, err
}

// Write writes p, blocking while the direction's buffer is full until the peer
// reads or closes, the deadline passes, or this end is closed. With an error it
// returns how many bytes the peer can still get. The error wraps syscall.EPIPE
// after the peer's Close or our CloseWrite, syscall.ECONNRESET after the peer's
// Reset, os.ErrDeadlineExceeded, or net.ErrClosed.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

// Pending returns what a Read without a deadline would find now: how many bytes
// have arrived and, when there are none, the error it would return; 0 and nil
// when it would block. It takes nothing and never blocks: the look that a program
// takes at a socket with MSG_PEEK.
func (c *Conn) Pending() (int, error) {
	n, err := c.in.pending()
	if err != nil && err != io.EOF {
		err = c.opError("read", err)
	}
	return n, err
}

// Close closes this end: what waits in Read or Write wakes with net.ErrClosed,
// the peer reads what was written and then io.EOF, its Write fails with EPIPE.
// After SetLinger(0) it is Reset. It never blocks. The second Close returns an
// error that wraps net.ErrClosed.
func (c *Conn) Close() error {
	return c.end(c.abortive.Load())
}

// Reset closes this end as a TCP RST does: what the peer has not read is lost,
// its Read and Write fail with ECONNRESET. It never blocks. After a Close it
// returns an error that wraps net.ErrClosed.
func (c *Conn) Reset() error {
	return c.end(true)
}

// end closes both directions once. The count goes first, so that a peer that has
// seen the end also sees it counted.
func (c *Conn) end(reset bool) error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.opError("close", net.ErrClosed)
	}
	c.release()
	c.out.closeWriter(reset)
	c.in.closeReader(reset)
	return nil
}

func (c *Conn) release() {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.dialled {
		c.network.countClosedLocked(c.link.to)
	}
	c.link.ends--
	if c.link.ends == 0 {
		delete(c.network.ports, c.link.port)
	}
}

// CloseWrite ends this end's direction: the peer reads what was written and then
// io.EOF, our Write fails with EPIPE, Read goes on. It never blocks and may be
// repeated; after Close it returns an error that wraps net.ErrClosed.
func (c *Conn) CloseWrite() error {
	if c.closed.Load() {
		return c.opError("close", net.ErrClosed)
	}
	c.out.finish()
	return nil
}

// SetLinger decides what Close does, as for a net.TCPConn: with 0 it resets the
// connection; any other value restores the ordinary Close, which never waits.
func (c *Conn) SetLinger(sec int) error {
	if c.closed.Load() {
		return c.setError()
	}
	c.abortive.Store(sec == 0)
	return nil
}

// LocalAddr returns this end's Addr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's Addr; on the dialled end it is the address
// that was dialled, a name included.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines; see SetReadDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read fails with os.ErrDeadlineExceeded, those that
// wait included. A time in the past fails them now; the zero time means never. A
// new deadline replaces one that has passed. After Close the error wraps
// net.ErrClosed.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() || !c.in.setReadDeadline(t) {
		return c.setError()
	}
	return nil
}

// SetWriteDeadline is SetReadDeadline for Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.closed.Load() || !c.out.setWriteDeadline(t) {
		return c.setError()
	}
	return nil
}

func (c *Conn) setError() error {
	return &net.OpError{Op: "set", Net: "tcp", Addr: c.local, Err: net.ErrClosed}
}

// opError dresses an error as net does, an errno with the name of its call.
func (c *Conn) opError(op string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
