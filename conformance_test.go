package berth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// The rows of the conformance table that are the engine's. Where ours differs from
// .NET's, the test says so; docs/dotnet.md lists them.

func TestC02ServerClosesBetweenRequests(t *testing.T) {
	bubble(t, berth.Policy{}, origin.CloseAfter(1, ok("a")), func(r *rig) {
		r.get("/")
		time.Sleep(100 * time.Millisecond)
		r.get("/")
		r.wantDials(2)
		if s := r.stats(); s.ClosedByPeer != 1 || s.Closes["peer"] != 1 {
			r.Errorf("closes %v, by the peer %d; want one by the peer", s.Closes, s.ClosedByPeer)
		}
	})
}

func TestC03BytesBehindAResponseAreNeverParsed(t *testing.T) {
	for name, h := range map[string]origin.Handler{
		"at once": origin.Garbage(ok("a"), 0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"),
		"later":   origin.Garbage(ok("a"), 50*time.Millisecond, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{}, h, func(r *rig) {
				for range 2 {
					if got := r.get("/"); got != "a" {
						r.Errorf("body %q", got)
					}
					time.Sleep(100 * time.Millisecond)
				}
				r.wantDials(2)
			})
		})
	}
}

func TestC04ConnectionClose(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve("HTTP/1.1 200 OK\r\nConnection: foo, CLOSE\r\nContent-Length: 1\r\n\r\na"), func(r *rig) {
		r.get("/")
		r.get("/")
		r.wantDials(2)
		if s := r.stats(); s.Closes["close"] != 2 {
			r.Errorf("closes %v", s.Closes)
		}
	})
}

// closeUnread sends a GET and closes its body after n bytes.
func (r *rig) closeUnread(n int) {
	r.Helper()
	resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
	if err != nil {
		r.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, int64(n)); err != nil {
		r.Fatal(err)
	}
	for range 2 { // C16: closing twice drains once
		if err := resp.Body.Close(); err != nil {
			r.Errorf("Close: %v", err)
		}
	}
}

// Ours reads away at most 256 KiB, .NET 1 MiB.
func TestC10C12UnreadBodyIsReadAwayUpToDrainBytes(t *testing.T) {
	for _, tc := range []struct{ size, drain, dials int }{
		{200 << 10, 0, 1},
		{257 << 10, 0, 2},
		{100 << 10, -1, 2},
		{100 << 10, 50 << 10, 2},
		{100 << 10, 100 << 10, 1},
	} {
		t.Run(fmt.Sprintf("%d of %d", tc.size, tc.drain), func(t *testing.T) {
			bubble(t, berth.Policy{DrainBytes: int64(tc.drain)}, origin.Serve(ok(strings.Repeat("x", tc.size))), func(r *rig) {
				r.closeUnread(10)
				r.closeUnread(0)
				r.wantDials(tc.dials)
			})
		})
	}
}

// Ours reads away a chunked rest only when it is there already.
func TestC11ChunkedRestIsReadAwayWhenItIsThere(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	body := strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 20)
	for _, tc := range []struct {
		name  string
		late  time.Duration
		dials int
	}{{"there", 0, 1}, {"late", time.Millisecond, 2}} {
		t.Run(tc.name, func(t *testing.T) {
			h := func(c *origin.Conn) {
				for {
					if _, err := c.ReadRequest(); err != nil {
						return
					}
					c.Write(head + body)
					if tc.late > 0 {
						c.Sleep(tc.late)
					}
					if c.Write("0\r\n\r\n") != nil {
						return
					}
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				for range 2 {
					resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
					if err != nil {
						r.Fatal(err)
					}
					synctest.Wait()
					io.CopyN(io.Discard, resp.Body, 10)
					resp.Body.Close()
				}
				r.wantDials(tc.dials)
			})
		})
	}
}

func TestC13DrainEndsWithItsTimeout(t *testing.T) {
	h := func(c *origin.Conn) {
		c.ReadRequest()
		c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		c.Stall()
	}
	bubble(t, berth.Policy{}, h, func(r *rig) {
		resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if err != nil {
			r.Fatal(err)
		}
		start := time.Now()
		resp.Body.Close()
		if d := time.Since(start); d != 50*time.Millisecond {
			r.Errorf("Close took %v, want 50ms", d)
		}
		if s := r.stats(); s.Closes["unread"] != 1 || s.Leased != 0 {
			r.Errorf("closes %v, leased %d", s.Closes, s.Leased)
		}
	})
}

func TestC14ResponsesWithoutABodyFreeTheirConnectionAtOnce(t *testing.T) {
	for _, tc := range []struct{ method, answer string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"},
	} {
		t.Run(tc.method+" "+tc.answer[9:12], func(t *testing.T) {
			bubble(t, berth.Policy{}, origin.Serve(tc.answer), func(r *rig) {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), tc.method, "/", nil))
				if err != nil {
					r.Fatal(err)
				}
				if resp.Body != http.NoBody {
					r.Errorf("body is %T, want http.NoBody", resp.Body)
				}
				if s := r.stats(); s.Idle != 1 || s.Leased != 0 {
					r.Errorf("idle %d, leased %d; want the connection back before the body is touched", s.Idle, s.Leased)
				}
			})
		})
	}
}

func TestC15BodyReadToItsEndFreesTheConnectionBeforeClose(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, answer := range map[string]string{
		"length":  ok(long),
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n19000\r\n" + long + "\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{}, origin.Serve(answer), func(r *rig) {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if err != nil {
					r.Fatal(err)
				}
				if s := r.stats(); s.Leased != 1 {
					r.Errorf("leased %d during the body", s.Leased)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(long)) || err != nil {
					r.Fatalf("read %d, %v", n, err)
				}
				if s := r.stats(); s.Idle != 1 {
					r.Errorf("idle %d after the last byte", s.Idle)
				}
				resp.Body.Close()
				if s := r.stats(); s.Idle != 1 {
					r.Errorf("idle %d after Close", s.Idle)
				}
			})
		})
	}
}

// net/http's rule: a fresh connection that closes without a byte is the server's
// answer. .NET tries again.
func TestC17C19FreshConnectionThatClosesIsNotTriedAgain(t *testing.T) {
	h := func(c *origin.Conn) { c.ReadRequest() }
	bubble(t, berth.Policy{}, h, func(r *rig) {
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if err != io.EOF {
			r.Errorf("error %v, want io.EOF", err)
		}
		r.wantDials(1)
	})
}

// afterOne answers one request and closes when the head of the second is there.
func afterOne(c *origin.Conn) {
	if c.N() == 0 {
		c.ReadRequest()
		c.Write(ok("one"))
		c.ReadHead()
		return
	}
	origin.Serve(ok("two"))(c)
}

func TestC18ReusedConnectionThatClosesIsTriedAgain(t *testing.T) {
	bubble(t, berth.Policy{}, afterOne, func(r *rig) {
		if a, b := r.get("/"), r.get("/"); a != "one" || b != "two" {
			r.Errorf("bodies %q, %q", a, b)
		}
		r.wantDials(2)
	})
}

// .NET's C20; with net/http's words for it, and an idempotency key undoes it.
func TestC20PostOnAConnectionThatClosesIsNotTriedAgain(t *testing.T) {
	bubble(t, berth.Policy{}, afterOne, func(r *rig) {
		r.get("/")
		_, err := r.tr.RoundTrip(r.request(r.Context(), "POST", "/", strings.NewReader("x")))
		if _, is := errors.AsType[*berth.ServerClosedError](err); !is || berth.NotSent(err) {
			r.Errorf("error %v (%T)", err, err)
		}
		r.wantDials(1)
	})
	bubble(t, berth.Policy{}, afterOne, func(r *rig) {
		r.get("/")
		req := r.request(r.Context(), "POST", "/", strings.NewReader("x"))
		req.Header["Idempotency-Key"] = nil
		if _, err := r.tr.RoundTrip(req); err != nil {
			r.Errorf("with an idempotency key: %v", err)
		}
		r.wantDials(2)
	})
}

// expecting makes a request whose body waits for 100 Continue.
func (r *rig) expecting(body io.Reader) *http.Request {
	req := r.request(r.Context(), "POST", "/", body)
	req.Header.Set("Expect", "100-continue")
	return req
}

// .NET tries again when the body has not started (C21); ours, as net/http, does not
// send twice what is not idempotent: the head has arrived (C22 follows).
func TestC21C22ExpectOnAConnectionThatCloses(t *testing.T) {
	bubble(t, berth.Policy{}, afterOne, func(r *rig) {
		r.get("/")
		_, err := r.tr.RoundTrip(r.expecting(strings.NewReader("body")))
		if _, is := errors.AsType[*berth.ServerClosedError](err); !is {
			r.Errorf("error %v", err)
		}
		r.wantDials(1)
	})
}

func TestC23PartOfAStatusLineIsAnErrorWithoutARetry(t *testing.T) {
	h := func(c *origin.Conn) {
		c.ReadRequest()
		c.Write(ok("one"))
		c.ReadRequest()
		c.Write("HTTP/1.")
	}
	bubble(t, berth.Policy{}, h, func(r *rig) {
		r.get("/")
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			r.Errorf("error %v", err)
		}
		if _, is := errors.AsType[*berth.ConnError](err); !is {
			r.Errorf("error type %T", err)
		}
		r.wantDials(1)
	})
}

func TestC29C30DialAndHandshakeHaveTheirTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Policy: berth.Policy{DialTimeout: 3 * time.Second}}, (*origin.Conn).Stall)
		r.net.OnDial = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		e, is := errors.AsType[*berth.DialError](err)
		if !is || !e.Timeout() || !berth.NotSent(err) || time.Since(start) != 3*time.Second {
			r.Errorf("after %v: %v (%T)", time.Since(start), err, err)
		}
		r.close()
	})
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		ln, _ := n.Listen("origin.test:443")
		o := origin.New(ln).Handle((*origin.Conn).Stall)
		tr, _ := berth.New(berth.Config{DialContext: n.DialContext, Policy: berth.Policy{TLSTimeout: 2 * time.Second}})
		start := time.Now()
		req, _ := http.NewRequest("GET", "https://origin.test/", nil)
		_, err := tr.RoundTrip(req)
		e, is := errors.AsType[*berth.DialError](err)
		if !is || !e.Timeout() || !strings.Contains(err.Error(), "TLS handshake timeout") || time.Since(start) != 2*time.Second {
			t.Errorf("after %v: %v (%T)", time.Since(start), err, err)
		}
		tr.Close()
		o.Close()
	})
}

func TestC39C40KeepAliveOfTheServerIsHonoured(t *testing.T) {
	for _, tc := range []struct {
		field string
		wait  time.Duration
		dials int
	}{
		{"timeout=1", 2 * time.Second, 2},
		{"timeout=1", 400 * time.Millisecond, 1},
		{"timeout=5", 2900 * time.Millisecond, 1},
		{"timeout=5", 3 * time.Second, 2}, // a margin of two seconds
		{"timeout=0", 0, 2},
		{"max=0", 0, 2},
		{"timeout=-1", 10 * time.Second, 1},
		{"abc", 10 * time.Second, 1},
		{"foo, timeout=30", 10 * time.Second, 1},
		{"timeout=30, max=1", 0, 1}, // one more is allowed, a third is not
	} {
		t.Run(tc.field, func(t *testing.T) {
			h := origin.Serve("HTTP/1.1 200 OK\r\nKeep-Alive: " + tc.field + "\r\nContent-Length: 1\r\n\r\na")
			bubble(t, berth.Policy{}, h, func(r *rig) {
				r.get("/")
				time.Sleep(tc.wait)
				r.get("/")
				r.wantDials(tc.dials)
			})
		})
	}
}

func TestC41HTTP10(t *testing.T) {
	for _, tc := range []struct {
		answer string
		dials  int
	}{
		{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 1},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 2}, // as net/http; .NET keeps it
		{"HTTP/1.0 200 OK\r\n\r\na", 2},
	} {
		bubble(t, berth.Policy{}, origin.Serve(tc.answer), func(r *rig) {
			if a, b := r.get("/"), r.get("/"); a != "a" || b != "a" {
				r.Errorf("bodies %q, %q", a, b)
			}
			r.wantDials(tc.dials)
		})
	}
}

// A transport that is dropped without Close is collected, and its idle connection
// with it. The collector decides when: real time, not a bubble.
func TestC43DroppedTransportIsCollected(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	o := origin.New(ln).Handle(func(c *origin.Conn) {
		c.ReadRequest()
		c.Write(ok("a"))
		c.ReadRequest() // returns when the client's end is gone
		close(ended)
	})
	defer o.Close()
	func() {
		tr := &berth.Transport{}
		req, _ := http.NewRequest("GET", "http://"+ln.Addr().String(), nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for {
		runtime.GC()
		select {
		case <-ended:
			return
		case <-deadline.C:
			t.Fatal("the idle connection of a dropped transport is still open")
		default:
			runtime.Gosched()
		}
	}
}

func TestC62CancelledBodyClosesItsConnection(t *testing.T) {
	h := func(c *origin.Conn) {
		c.ReadRequest()
		c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		c.Stall()
	}
	bubble(t, berth.Policy{}, h, func(r *rig) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(r.Context())
		resp, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		if err != nil {
			r.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { cancel(cause) })
		b, err := io.ReadAll(resp.Body)
		if string(b) != "half" || err != cause {
			r.Errorf("read %q, %v; want the context's cause", b, err)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err != cause {
			r.Errorf("a further Read says %v", err)
		}
		if s := r.stats(); s.Closes["canceled"] != 1 || s.Idle != 0 {
			r.Errorf("closes %v, idle %d", s.Closes, s.Idle)
		}
	})
}
