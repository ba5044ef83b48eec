package origin

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/internal/memnet"
)

func TestScriptReadsTopToBottom(t *testing.T) {
	script := func(c *Conn) {
		r, err := c.ReadRequest()
		if err != nil {
			t.Errorf("ReadRequest: %v", err)
			return
		}
		c.Writef("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
		c.CloseWrite()
		if n, err := io.Copy(io.Discard, c); n != 4 || err != nil {
			t.Errorf("after the half close came %d bytes, %v, want 4", n, err)
		}
	}
	bubble(t, script, func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, "GET /path HTTP/1.1\r\nHost: origin.test\r\n\r\n")
		if _, body := c.response(t, "GET"); body != "/path" {
			t.Errorf("body is %q", body)
		}
		c.wantRest(t, "")
		c.send(t, "more")
		c.CloseWrite()
		synctest.Wait()
	})
}

func TestConnKnowsItsOrdinalAndAddresses(t *testing.T) {
	script := func(c *Conn) { c.Writef("%d %v %v", c.N(), c.Local(), c.Remote()) }
	bubble(t, script, func(t *testing.T, n *memnet.Network, o *Origin) {
		for _, ordinal := range []string{"0", "1", "2"} {
			c := connect(t, n)
			c.wantRest(t, ordinal+" origin.test:80 "+c.LocalAddr().String())
		}
	})
}

func TestWriteBytewiseWritesOneByteAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		ln := &counting{Listener: listen(t, n)}
		o := New(ln).Handle(func(c *Conn) { c.WriteBytewise(okResponse) })
		defer o.Close()
		connect(t, n).wantRest(t, okResponse)
		if len(ln.sizes) != len(okResponse) {
			t.Fatalf("%d writes for %d bytes", len(ln.sizes), len(okResponse))
		}
		for _, size := range ln.sizes {
			if size != 1 {
				t.Errorf("a write of %d bytes", size)
			}
		}
	})
}

// counting is a listener for one connection, whose writes it measures. It hides
// everything that is not in net.Conn.
type counting struct {
	net.Listener
	sizes []int
}

type countingConn struct {
	net.Conn
	ln *counting
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c, l}, nil
}

func (c countingConn) Write(p []byte) (int, error) {
	c.ln.sizes = append(c.ln.sizes, len(p))
	return c.Conn.Write(p)
}

func TestConnWithoutResetOrHalfCloseSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		o := New(&counting{Listener: listen(t, n)}).Handle(func(c *Conn) {
			if err := c.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("CloseWrite: %v, want ErrUnsupported", err)
			}
			if err := c.Reset(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Reset: %v, want ErrUnsupported", err)
			}
		})
		defer o.Close()
		connect(t, n).wantRest(t, "")
	})
}

func TestOnlyTheFirstCloseActs(t *testing.T) {
	for name, first := range map[string]func(*Conn) error{"Close": (*Conn).Close, "Reset": (*Conn).Reset} {
		t.Run(name, func(t *testing.T) {
			script := func(c *Conn) {
				for _, end := range []func(*Conn) error{first, (*Conn).Close, (*Conn).Reset} {
					if err := end(c); err != nil {
						t.Errorf("%v", err)
					}
				}
			}
			bubble(t, script, func(t *testing.T, n *memnet.Network, o *Origin) {
				_, err := connect(t, n).Read(make([]byte, 1))
				if name == "Close" && err != io.EOF || name == "Reset" && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client sees %v", err)
				}
			})
		})
	}
}

// Reset is tried on everything an origin runs on. The client has sent nothing,
// so that an ordinary close could not be taken for a reset.
func TestResetIsSeenAsConnectionReset(t *testing.T) {
	for _, tc := range []struct {
		name string
		tcp  bool
		tls  bool
	}{
		{"memnet", false, false},
		{"memnet under TLS", false, true},
		{"TCP", true, false},
		{"TCP under TLS", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := func(t *testing.T) {
				n := new(memnet.Network)
				dial := n.DialContext
				var ln net.Listener
				if tc.tcp {
					ln, dial = listenTCP(t), new(net.Dialer).DialContext
				} else {
					ln = listen(t, n)
				}
				addr := ln.Addr().String()
				if tc.tls {
					ln = TLS(ln)
				}
				o := New(ln).Handle(func(c *Conn) {
					if err := c.Write("x"); err != nil {
						t.Errorf("Write: %v", err)
					}
					if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
						t.Errorf("Read: %v", err)
					}
					if err := c.Reset(); err != nil {
						t.Errorf("Reset: %v", err)
					}
				})
				defer o.Close()
				c, err := dial(t.Context(), "tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if tc.tls {
					_, pool := Cert()
					c = tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "localhost"})
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatalf("Read before the reset: %v", err)
				}
				if _, err := c.Write([]byte("y")); err != nil {
					t.Fatalf("Write before the reset: %v", err)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("Read after the reset: %v, want ECONNRESET", err)
				}
			}
			if tc.tcp {
				run(t)
			} else {
				synctest.Test(t, run)
			}
		})
	}
}

func TestServesOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		o := New(TLS(listen(t, n))).Handle(Serve(okResponse))
		defer o.Close()
		_, pool := Cert()
		tr := &http.Transport{DialContext: n.DialContext, TLSClientConfig: &tls.Config{RootCAs: pool}}
		defer tr.CloseIdleConnections()
		for range 2 {
			res, err := (&http.Client{Transport: tr}).Get("https://origin.test:80/")
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil {
				t.Errorf("body is %q, %v", body, err)
			}
			res.Body.Close()
		}
		if got := o.Stats(); got.Accepted != 1 || got.Requests != 2 {
			t.Errorf("%+v, want two requests on one connection", got)
		}
	})
}

// A TLS connection whose client reads nothing must not hold up Close, which would
// otherwise wait for the close_notify to be written.
func TestCloseDoesNotWaitForATLSClient(t *testing.T) {
	for name, wait := range map[string]func(*Conn){
		"stalling": (*Conn).Stall,
		"closing":  func(c *Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{Buffer: 4 << 10}
				filled := make(chan struct{})
				o := New(TLS(listen(t, n))).Handle(func(c *Conn) {
					if err := c.NetConn().(*tls.Conn).HandshakeContext(t.Context()); err != nil {
						t.Errorf("handshake: %v", err)
					}
					raw := lowest(c.NetConn())
					raw.SetWriteDeadline(time.Now().Add(time.Second))
					if _, err := raw.Write(make([]byte, 64<<10)); err == nil {
						t.Error("the client's buffer is not full")
					}
					raw.SetWriteDeadline(time.Time{})
					close(filled)
					wait(c)
				})
				_, pool := Cert()
				c := tls.Client(connect(t, n), &tls.Config{RootCAs: pool, ServerName: "origin.test"})
				if err := c.HandshakeContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				<-filled
				synctest.Wait()
				start := time.Now()
				o.Close()
				wantElapsed(t, start, 0)
			})
		})
	}
}
