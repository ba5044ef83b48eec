// What the tests of this package share: a connected pair, and checks for the
// three things every network error has (type, cause, Timeout).

package memnet

import (
	"errors"
	"net"
	"testing"
	"time"
)

// listen announces addr and closes it when the test ends.
func listen(t *testing.T, n *Network, addr string) net.Listener {
	t.Helper()
	ln, err := n.Listen(addr)
	if err != nil {
		t.Fatalf("Listen(%q): %v", addr, err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dial connects to addr and closes the connection when the test ends.
func dial(t *testing.T, n *Network, addr string) *Conn {
	t.Helper()
	c, err := n.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatalf("DialContext(%q): %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*Conn)
}

func accept(t *testing.T, ln net.Listener) *Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*Conn)
}

// pair returns both ends of a connection on a network of its own.
func pair(t *testing.T, n *Network) (client, server *Conn) {
	t.Helper()
	ln := listen(t, n, "origin.test:80")
	client = dial(t, n, "origin.test:80")
	return client, accept(t, ln)
}

// wantOpError checks that err is a *net.OpError for op with the cause, and that
// it is a timeout exactly when asked for.
func wantOpError(t *testing.T, err error, op string, cause error, timeout bool) {
	t.Helper()
	var oe *net.OpError
	if !errors.As(err, &oe) {
		t.Fatalf("error is %T (%v), want *net.OpError", err, err)
	}
	if oe.Op != op || !errors.Is(err, cause) {
		t.Errorf("error is %q (op %q), want op %q wrapping %v", err, oe.Op, op, cause)
	}
	if oe.Timeout() != timeout {
		t.Errorf("Timeout() of %q is %v, want %v", err, oe.Timeout(), timeout)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want)+1)
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("Read: %q, %v, want %q", buf[:n], err, want)
	}
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("Write(%q): %d, %v", s, n, err)
	}
}

// wantElapsed checks the bubble's clock, which is exact.
func wantElapsed(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Errorf("took %v, want %v", got, want)
	}
}
