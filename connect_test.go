package berth_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// Row 15: a CONNECT request names host and port only; after a 2xx its body and the
// response's are the two directions of a connection, and what is written leaves at
// once. Another status is a response like any other.
func TestCONNECTRequests(t *testing.T) {
	p := newProxy(t, "http", func(p *proxyServer) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go io.Copy(c, c)
			}
		}()
		p.loopback = ln.Addr().String()
	})
	tr := mustNew(t, berth.Config{Policy: berth.Policy{MaxConns: 1}})
	for range 2 {
		pr, pw := io.Pipe()
		req := newRequest(t, "CONNECT", "http://"+p.ln.Addr().String(), pr)
		req.URL.Host, req.Host = p.ln.Addr().String(), "target.test:22"
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(resp.Body)
		for i := range 3 {
			line := fmt.Sprintf("line %d\n", i)
			io.WriteString(pw, line)
			if got, err := r.ReadString('\n'); got != line {
				t.Errorf("%q, %v", got, err)
			}
		}
		pw.Close()
		resp.Body.Close()
	}
	if asked, _, conns := p.seen(); fmt.Sprint(asked) != "[CONNECT target.test:22 CONNECT target.test:22]" || conns != 2 {
		t.Errorf("asked for %q over %d connections", asked, conns)
	}
	waitFor(t, func() bool {
		ep, _ := tr.Endpoint("http://" + p.ln.Addr().String())
		s := ep.Stats()
		return s.Leased+s.Idle+s.Draining == 0
	})

	denied := newProxy(t, "http", func(p *proxyServer) { p.answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno" })
	resp, err := tr.RoundTrip(newRequest(t, "CONNECT", "http://"+denied.ln.Addr().String(), nil))
	if err != nil || resp.StatusCode != 403 {
		t.Fatalf("%v, %v", resp, err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "no" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	resp.Body.Close()
}

// Row 14, C63: an upgraded connection's slot is free at once: with room for one, the
// next request runs while the first connection is still open.
func TestUpgradedConnectionHoldsNoSlot(t *testing.T) {
	h := func(c *origin.Conn) {
		req, err := c.ReadRequest()
		if err != nil {
			return
		}
		if req.Header.Get("Upgrade") == "" {
			c.Write(ok("plain"))
			return
		}
		c.Write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		c.Stall()
	}
	bubble(t, berth.Policy{MaxConns: 1}, h, func(r *rig) {
		req := r.request(r.Context(), "GET", "/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := r.tr.RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		if got := r.get("/"); got != "plain" {
			r.Errorf("%q", got)
		}
		if s := r.stats(); s.Leased+s.Draining != 0 {
			r.Errorf("%+v", s)
		}
		resp.Body.Close()
	})
	// 101 without Upgrade hands over nothing: no body, and the connection is closed.
	bubble(t, berth.Policy{}, origin.Serve("HTTP/1.1 101 Switching Protocols\r\n\r\nbytes"), func(r *rig) {
		resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if err != nil {
			r.Fatal(err)
		}
		if _, is := resp.Body.(io.Writer); is {
			r.Error("body can be written")
		}
		if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil {
			r.Errorf("read %q, %v", b, err)
		}
		resp.Body.Close()
		synctest.Wait()
		if s := r.stats(); s.Idle+s.Leased != 0 {
			r.Errorf("%+v", s)
		}
	})
}

// Row 35, C61: a dial function that returns nothing, fails, returns a TLS connection
// or what is no socket; it is told network, host and port in their canonical form.
func TestDialFunctions(t *testing.T) {
	mine := errors.New("mine")
	for name, c := range map[string]struct {
		dial func(context.Context, string, string) (net.Conn, error)
		is   error
		says string
	}{
		"nothing": {func(context.Context, string, string) (net.Conn, error) { return nil, nil }, nil, "neither a connection nor an error"},
		"fails":   {func(context.Context, string, string) (net.Conn, error) { return nil, mine }, mine, "mine"},
	} {
		for _, scheme := range []string{"http", "https"} {
			tr := mustNew(t, berth.Config{DialContext: c.dial})
			_, err := fetch(tr, scheme+"://origin.test")
			if _, is := errors.AsType[*berth.DialError](err); !is || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s %s: %v", name, scheme, err)
			}
			tr = mustNew(t, berth.Config{DialTLSContext: c.dial})
			if _, err = fetch(tr, "https://origin.test"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s TLS: %v", name, err)
			}
		}
	}

	srv, cfg := newTLSServer(t, proto, h2Too)
	plain := httptest.NewServer(http.HandlerFunc(proto))
	defer plain.Close()
	var mu sync.Mutex
	var told []string
	note := func(s ...string) { mu.Lock(); told = append(told, strings.Join(s, " ")); mu.Unlock() }
	withProtos := func(protos ...string) *tls.Config {
		c := cfg.Clone()
		c.ServerName, c.NextProtos = "example.com", protos
		return c
	}
	socket := func(ctx context.Context, network, addr string) (net.Conn, error) {
		note(network, addr)
		return net.Dial("tcp", plain.Listener.Addr().String())
	}
	handshaken := func(protos ...string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			note("tls", network, addr)
			return tls.Dial("tcp", srv.Listener.Addr().String(), withProtos(protos...))
		}
	}
	raw := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		return tls.Client(c, withProtos("h2")), err
	}
	hidden := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := tls.Dial("tcp", srv.Listener.Addr().String(), withProtos("http/1.1"))
		return struct{ net.Conn }{c}, err
	}
	for _, c := range []struct {
		name, url, want, told string
		cfg                   berth.Config
	}{
		{"plain", "http://BÜCHER.test", "HTTP/1.1", "tcp xn--bcher-kva.test:80", berth.Config{DialContext: socket}},
		{"IPv6", "http://[2001:DB8::1]:81", "HTTP/1.1", "tcp [2001:db8::1]:81", berth.Config{DialContext: socket}},
		{"not TLS", "http://origin.test", "HTTP/1.1", "tcp origin.test:80", berth.Config{DialContext: socket, DialTLSContext: handshaken()}},
		{"TLS", "https://origin.test", "HTTP/1.1", "tls tcp origin.test:443", berth.Config{DialTLSContext: handshaken("http/1.1")}},
		{"TLS with HTTP/2", "https://origin.test", "HTTP/2.0", "tls tcp origin.test:443", berth.Config{DialTLSContext: handshaken("h2")}},
		{"TLS before its handshake", "https://origin.test", "HTTP/2.0", "", berth.Config{DialTLSContext: raw}},
		{"TLS within something else", "https://origin.test", "HTTP/1.1", "", berth.Config{DialTLSContext: hidden}},
	} {
		t.Run(c.name, func(t *testing.T) {
			told = nil
			wantGet(t, mustNew(t, c.cfg), c.url, c.want)
			if got := strings.Join(told, ";"); got != c.told {
				t.Errorf("told %q, want %q", got, c.told)
			}
		})
	}
}

// Row 23: what a response's framing may not be. The answer to the next request is
// never a part of this one.
func TestResponseFraming(t *testing.T) {
	const second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"
	for _, c := range []struct {
		name, first string
		body        string // "" is an error
		kept        bool
	}{
		{"length", "Content-Length: 5\r\n\r\nfirst", "first", true},
		{"same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nfirst", "first", false},
		{"lengths that differ", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nfirst", "", false},
		{"list of lengths", "Content-Length: 5, 6\r\n\r\nfirst", "", false},
		{"sign", "Content-Length: +5\r\n\r\nfirst", "", false},
		{"negative", "Content-Length: -5\r\n\r\nfirst", "", false},
		{"hexadecimal", "Content-Length: 0x5\r\n\r\nfirst", "", false},
		{"empty length", "Content-Length: \r\n\r\n", "", false},
		{"overflow", "Content-Length: 99999999999999999999\r\n\r\nfirst", "", false},
		{"chunked", "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "first", true},
		{"chunked with a length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "first", false},
		{"another coding", "Transfer-Encoding: gzip\r\n\r\nfirst", "", false},
		{"chunked after another", "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "", false},
		{"chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "", false},
		{"chunked, misspelt", "Transfer-Encoding: xchunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "", false},
		{"vertical tab", "Transfer-Encoding: \vchunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "", false},
		{"folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", "first", false},
		{"blank before the colon", "Content-Length : 5\r\n\r\nfirst", "first", false},
		{"chunk size with a sign", "Transfer-Encoding: chunked\r\n\r\n+5\r\nfirst\r\n0\r\n\r\n", "", false},
		{"chunk size too large", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff5\r\nfirst\r\n0\r\n\r\n", "", false},
		{"chunk longer than it says", "Transfer-Encoding: chunked\r\n\r\n3\r\nfirst\r\n0\r\n\r\n", "", false},
		{"no length", "\r\nfirst", "first", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			h := func(conn *origin.Conn) {
				for {
					if _, err := conn.ReadRequest(); err != nil {
						return
					}
					if n++; n > 1 {
						conn.Write(second)
						continue
					}
					conn.Write("HTTP/1.1 200 OK\r\n" + c.first)
					if c.name == "no length" {
						return
					}
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				var got []byte
				if err == nil {
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err == nil && string(got) != c.body || err != nil && c.body != "" {
					r.Errorf("%q, %v", got, err)
				}
				if _, is := errors.AsType[*berth.ProtocolError](err); err != nil && !is {
					r.Errorf("%T %v", err, err)
				}
				if got := r.get("/"); got != "second" {
					r.Errorf("the next request got %q", got)
				}
				r.wantDials(map[bool]int{true: 1, false: 2}[c.kept])
			})
		})
	}
}

// Row 41: what errors unwrap to is what net/http's callers look for.
func TestErrorsUnwrapToWhatCallersLookFor(t *testing.T) {
	bubble(t, berth.Policy{}, func(c *origin.Conn) { c.ReadRequest() }, func(r *rig) {
		if _, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil)); !errors.Is(err, io.EOF) {
			r.Errorf("closed without a byte: %v", err)
		}
	})
	bubble(t, berth.Policy{}, origin.Serve("hello\r\n\r\n"), func(r *rig) {
		_, err := r.c.Get(rigURL + "/?token=secret")
		perr, is := errors.AsType[*berth.ProtocolError](err)
		if !is || strings.Contains(perr.Error(), "secret") {
			r.Errorf("junk: %v", err)
		}
	})
	closed := httptest.NewServer(nil)
	closed.Close()
	tr := mustNew(t, berth.Config{})
	_, err := fetch(tr, closed.URL)
	if op, is := errors.AsType[*net.OpError](err); !is || op.Op != "dial" {
		t.Errorf("nobody listens: %v", err)
	}
	_, err = fetch(tr, "http://does-not-exist.invalid")
	if dns, is := errors.AsType[*net.DNSError](err); !is {
		t.Errorf("no such name: %v, %v", dns, err)
	}
}

// Row 36: CloseIdleConnections closes what is idle, and what falls idle before the
// next request; none is cut.
func TestCloseIdleConnections(t *testing.T) {
	h := func(c *origin.Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil {
				return
			}
			time.Sleep(time.Second)
			c.Write(ok("x"))
		}
	}
	bubble(t, berth.Policy{}, h, func(r *rig) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.get("/") })
		}
		time.Sleep(500 * time.Millisecond)
		r.tr.CloseIdleConnections()
		wg.Wait()
		synctest.Wait()
		if s := r.stats(); s.Idle != 0 || s.Requests != 3 {
			r.Errorf("%+v", s)
		}
		r.get("/")
		if s := r.stats(); s.Idle != 1 {
			r.Errorf("after the next request: %+v", s)
		}
	})
}

// Row 37: dials, requests and idle connections all count against MaxConns; a waiter
// whose context ends is passed over, and a slot that turns free starts the next dial.
func TestMaxConnsCountsEverything(t *testing.T) {
	n := &memnet.Network{}
	var dialled atomic.Int32
	n.OnDial = func(context.Context, string) error { dialled.Add(1); time.Sleep(time.Second); return nil }
	h := func(c *origin.Conn) {
		if _, err := c.ReadRequest(); err == nil {
			time.Sleep(time.Second)
			c.Write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	}
	bubbleOn(t, berth.Config{Policy: berth.Policy{MaxConns: 2}}, n, h, func(r *rig) {
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 6 {
			wg.Go(func() {
				ctx := r.Context()
				if i == 3 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 1500*time.Millisecond)
					defer cancel()
				}
				resp, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
				if err == nil {
					resp.Body.Close()
				}
				if (err == nil) != (i != 3) {
					r.Errorf("request %d: %v", i, err)
				}
			})
			synctest.Wait()
			if s := r.stats(); s.Dialing+s.Leased > 2 {
				r.Errorf("%+v", s)
			}
		}
		wg.Wait()
		if took := time.Since(start); took != 6*time.Second {
			r.Errorf("five requests of two seconds, two at once: %v", took)
		}
		if n := dialled.Load(); n != 5 {
			r.Errorf("%d dials", n)
		}
	})
}
