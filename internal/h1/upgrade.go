package h1

import (
	"errors"
	"net"
	"net/http"

	"github.com/berth-go/berth/internal/pool"
)

// upgrade hands the connection over to the caller after 101 Switching Protocols
// (RFC 9110 §15.2.2): the body is the connection, what has arrived behind the
// head first. The slot is free at once. A 101 that names no protocol switches to
// nothing: its connection is closed.
func (c *Conn) upgrade(res *response) {
	if res.Header.Get("Upgrade") == "" || !HasToken(res.Header["Connection"], "Upgrade") || c.x.sender != nil {
		res.Body = http.NoBody
		c.finish(pool.Fate{Reason: pool.ReasonClose, MaxLeft: -1})
		return
	}
	c.clearPatience()
	u := &upgraded{nc: c.nc}
	if c.x.r < c.x.w {
		u.rest = append(u.rest, c.x.buf[c.x.r:c.x.w]...)
	}
	res.Body = u
	c.finish(pool.Fate{Reason: pool.ReasonUpgrade, MaxLeft: -1})
}

// upgraded is the body of a 101 response: an io.ReadWriteCloser.
type upgraded struct {
	nc   net.Conn
	rest []byte
}

func (u *upgraded) Read(p []byte) (int, error) {
	if len(u.rest) > 0 {
		n := copy(p, u.rest)
		u.rest = u.rest[n:]
		return n, nil
	}
	return u.nc.Read(p)
}

func (u *upgraded) Write(p []byte) (int, error) { return u.nc.Write(p) }

func (u *upgraded) Close() error { return u.nc.Close() }

// CloseWrite ends the sending direction where the connection can do that.
func (u *upgraded) CloseWrite() error {
	if w, ok := u.nc.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errHalfClose
}

var errHalfClose = errors.New("h1: connection cannot close its sending side alone")
