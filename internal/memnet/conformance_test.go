// The same cases on this network and on loopback TCP: what a memnet connection
// promises is what a real one does.

package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// tcpLike is what a test of HTTP uses of a *net.TCPConn.
type tcpLike interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error
}

var past = time.Unix(1, 0)

var conformance = []struct {
	name string
	run  func(t *testing.T, client, server tcpLike)
}{
	{"bytes go both ways", func(t *testing.T, client, server tcpLike) {
		mustWrite(t, client, "up")
		mustWrite(t, server, "down")
		wantRead(t, server, "up")
		wantRead(t, client, "down")
	}},
	{"close is drained, then EOF", func(t *testing.T, client, server tcpLike) {
		mustWrite(t, client, "last")
		client.Close()
		if got, err := io.ReadAll(server); string(got) != "last" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read again: %v, want EOF", err)
		}
	}},
	{"half close", func(t *testing.T, client, server tcpLike) {
		for range 2 {
			if err := client.CloseWrite(); err != nil {
				t.Errorf("CloseWrite: %v", err)
			}
		}
		_, err := client.Write([]byte("x"))
		wantOpError(t, err, "write", syscall.EPIPE, false)
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read: %v, want EOF", err)
		}
		mustWrite(t, server, "answer")
		wantRead(t, client, "answer")
	}},
	{"linger zero resets", func(t *testing.T, client, server tcpLike) {
		client.SetLinger(0)
		client.Close()
		_, err := server.Read(make([]byte, 1))
		wantOpError(t, err, "read", syscall.ECONNRESET, false)
		if want := "read tcp " + server.LocalAddr().String() + "->" + server.RemoteAddr().String() +
			": read: connection reset by peer"; err.Error() != want {
			t.Errorf("error is %q, want %q", err, want)
		}
	}},
	{"writes to a closed peer fail in the end", func(t *testing.T, client, server tcpLike) {
		server.Close()
		client.SetDeadline(time.Now().Add(time.Minute))
		for {
			if _, err := client.Write([]byte("x")); err != nil {
				if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("Write: %v, want EPIPE or ECONNRESET", err)
				}
				return
			}
		}
	}},
	{"past deadline wins over bytes", func(t *testing.T, client, server tcpLike) {
		mustWrite(t, client, "here")
		wantRead(t, server, "here")
		mustWrite(t, client, "more")
		server.SetDeadline(past)
		_, err := server.Read(make([]byte, 1))
		wantOpError(t, err, "read", os.ErrDeadlineExceeded, true)
		_, err = server.Write([]byte("x"))
		wantOpError(t, err, "write", os.ErrDeadlineExceeded, true)
		server.SetDeadline(time.Time{})
		wantRead(t, server, "more")
	}},
	{"past deadline wakes a reader", func(t *testing.T, client, server tcpLike) {
		errs := make(chan error, 1)
		go func() {
			_, err := server.Read(make([]byte, 1))
			errs <- err
		}()
		server.SetReadDeadline(past)
		wantOpError(t, <-errs, "read", os.ErrDeadlineExceeded, true)
	}},
	{"write deadline ends a full write", func(t *testing.T, client, server tcpLike) {
		client.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		data := make([]byte, 64<<20)
		n, err := client.Write(data)
		wantOpError(t, err, "write", os.ErrDeadlineExceeded, true)
		client.Close()
		if got, _ := io.Copy(io.Discard, server); got != int64(n) {
			t.Errorf("Write returned %d, the peer got %d", n, got)
		}
	}},
	{"close wakes a reader", func(t *testing.T, client, server tcpLike) {
		errs := make(chan error, 1)
		go func() {
			_, err := client.Read(make([]byte, 1))
			errs <- err
		}()
		client.Close()
		wantOpError(t, <-errs, "read", net.ErrClosed, false)
	}},
	{"closed end", func(t *testing.T, client, server tcpLike) {
		client.SetDeadline(past)
		client.Close()
		_, err := client.Read(make([]byte, 1))
		wantOpError(t, err, "read", net.ErrClosed, false)
		_, err = client.Write(nil)
		wantOpError(t, err, "write", net.ErrClosed, false)
		wantOpError(t, client.Close(), "close", net.ErrClosed, false)
		wantOpError(t, client.CloseWrite(), "close", net.ErrClosed, false)
		wantOpError(t, client.SetDeadline(past), "set", net.ErrClosed, false)
	}},
	{"empty read", func(t *testing.T, client, server tcpLike) {
		client.SetReadDeadline(past)
		if n, err := client.Read(nil); n != 0 || err != nil {
			t.Errorf("Read(nil): %d, %v", n, err)
		}
		server.Close()
		if n, err := client.Read(nil); n != 0 || err != nil {
			t.Errorf("Read(nil) at the end: %d, %v", n, err)
		}
	}},
	{"addresses", func(t *testing.T, client, server tcpLike) {
		if client.LocalAddr().String() != server.RemoteAddr().String() ||
			client.RemoteAddr().String() != server.LocalAddr().String() {
			t.Errorf("client %v→%v, server %v→%v", client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr())
		}
		if got := client.RemoteAddr().Network(); got != "tcp" {
			t.Errorf("network is %q", got)
		}
	}},
}

func TestConnConformsToTCP(t *testing.T) {
	for _, tc := range conformance {
		t.Run(tc.name+"/memnet", func(t *testing.T) {
			client, server := pair(t, new(Network))
			tc.run(t, client, server)
		})
		t.Run(tc.name+"/tcp", func(t *testing.T) {
			client, server := pairTCP(t)
			tc.run(t, client, server)
		})
	}
}

func pairTCP(t *testing.T) (client, server tcpLike) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}
