// Connections as a script sees them: write these bytes, close this way. Handlers
// call it; request.go has the reading of requests.

package origin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Conn is an accepted connection in the hands of its script. A handler may read
// on one goroutine and write on another; two readers at once are not safe.
type Conn struct {
	origin *Origin
	nc     net.Conn
	n      int
	br     *bufio.Reader // made by the first read
	closed bool          // guarded by origin.mu
}

// N returns the connection's ordinal among those the origin accepted, from 0.
func (c *Conn) N() int { return c.n }

// Local returns this side's address, which the client dialled.
func (c *Conn) Local() net.Addr { return c.nc.LocalAddr() }

// Remote returns the client's address.
func (c *Conn) Remote() net.Addr { return c.nc.RemoteAddr() }

// NetConn returns the connection as the listener gave it, a *tls.Conn under TLS.
// What Read, ReadHead or ReadRequest have buffered is not on it any more.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Read reads bytes as they are. It blocks until there are some, the client ends
// the connection or the origin is closed.
func (c *Conn) Read(p []byte) (int, error) { return c.reader().Read(p) }

func (c *Conn) reader() *bufio.Reader {
	if c.br == nil {
		c.br = bufio.NewReader(c.nc)
	}
	return c.br
}

// Write sends s in one write. It blocks while the client does not read.
func (c *Conn) Write(s string) error {
	_, err := io.WriteString(c.nc, s)
	return err
}

// Writef sends what fmt.Sprintf makes of its arguments, in one write.
func (c *Conn) Writef(format string, args ...any) error {
	return c.Write(fmt.Sprintf(format, args...))
}

// WriteBytewise sends s one byte a write. A real network may join the bytes
// again; a test that needs them apart sleeps between its writes in a bubble.
func (c *Conn) WriteBytewise(s string) error {
	for i := range len(s) {
		if err := c.Write(s[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// Sleep waits for d and reports true, or false as soon as the origin is closed.
func (c *Conn) Sleep(d time.Duration) bool { return c.origin.sleep(d) }

// Stall waits until the origin is closed, whatever the client does. As a method
// expression, (*Conn).Stall, it is the handler that accepts and says nothing.
func (c *Conn) Stall() { <-c.origin.done }

// Close closes the connection. On TCP the kernel makes a reset of it when there
// are bytes the script has not read. Only the first Close or Reset acts; later
// ones return nil.
func (c *Conn) Close() error { return c.end(c.nc.Close) }

// Reset ends the connection with a TCP RST, or with what the connection has for
// one (a method Reset, as internal/memnet's). Under TLS it acts on the connection
// below, so that no close_notify is sent. A connection that can do neither is
// closed, and the error is errors.ErrUnsupported.
func (c *Conn) Reset() error {
	return c.end(func() error {
		nc := lowest(c.nc)
		switch r := nc.(type) {
		case interface{ Reset() error }:
			return r.Reset()
		case interface{ SetLinger(sec int) error }:
			return errors.Join(r.SetLinger(0), nc.Close())
		}
		return errors.Join(fmt.Errorf("origin: reset %T: %w", nc, errors.ErrUnsupported), nc.Close())
	})
}

// end closes by the given means, unless the connection was closed before.
func (c *Conn) end(by func() error) error {
	if !c.origin.leave(c) {
		return nil
	}
	defer c.origin.forget(c)
	return by()
}

// CloseWrite ends our direction and leaves the client's open: a FIN on TCP, a
// close_notify without one under TLS. A connection that cannot returns
// errors.ErrUnsupported.
func (c *Conn) CloseWrite() error {
	if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return fmt.Errorf("origin: half close %T: %w", c.nc, errors.ErrUnsupported)
}

// lowest returns the connection below TLS and whatever else has a NetConn.
func lowest(nc net.Conn) net.Conn {
	for {
		over, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = over.NetConn()
	}
}
