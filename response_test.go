package berth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// Row 7: httptrace's events in net/http's order, and none after the request.
func TestTraceEvents(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(103)
				io.WriteString(w, "hello")
			})
			srv := httptest.NewServer(h)
			cfg := berth.Config{}
			if scheme == "https" {
				srv.Close()
				srv = httptest.NewTLSServer(h)
				cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
			}
			defer srv.Close()
			tr, err := berth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			var mu sync.Mutex
			var events []string
			add := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, fmt.Sprintf(format, args...))
			}
			trace := &httptrace.ClientTrace{
				GetConn:              func(string) { add("GetConn") },
				GotConn:              func(i httptrace.GotConnInfo) { add("GotConn reused=%v", i.Reused) },
				ConnectStart:         func(string, string) { add("ConnectStart") },
				ConnectDone:          func(_, _ string, err error) { add("ConnectDone %v", err) },
				TLSHandshakeStart:    func() { add("TLSHandshakeStart") },
				TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { add("TLSHandshakeDone %v", err) },
				WroteHeaderField:     func(k string, _ []string) { add("field %s", k) },
				WroteHeaders:         func() { add("WroteHeaders") },
				WroteRequest:         func(i httptrace.WroteRequestInfo) { add("WroteRequest %v", i.Err) },
				GotFirstResponseByte: func() { add("GotFirstResponseByte") },
				Got1xxResponse:       func(code int, _ textproto.MIMEHeader) error { add("1xx %d", code); return nil },
				PutIdleConn:          func(err error) { add("PutIdleConn %v", err) },
			}
			get := func() []string {
				events = nil
				req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", srv.URL, nil)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(events)
			}
			request := []string{"field Host", "field User-Agent", "field Accept-Encoding", "WroteHeaders", "WroteRequest <nil>", "GotFirstResponseByte", "1xx 103", "PutIdleConn <nil>"}
			fresh := []string{"GetConn", "ConnectStart", "ConnectDone <nil>"}
			if scheme == "https" {
				fresh = append(fresh, "TLSHandshakeStart", "TLSHandshakeDone <nil>")
			}
			fresh = append(fresh, "GotConn reused=false")
			if got, want := get(), append(fresh, request...); !slices.Equal(got, want) {
				t.Errorf("on a new connection\n%q\nwant\n%q", got, want)
			}
			if got, want := get(), append([]string{"GetConn", "GotConn reused=true"}, request...); !slices.Equal(got, want) {
				t.Errorf("on a reused connection\n%q\nwant\n%q", got, want)
			}
		})
	}
}

// Row 13: interim responses are passed over, within the limit of all heads
// together; a hook may end the request.
func TestInterimResponses(t *testing.T) {
	hints := "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 100) + "\r\n\r\n"
	bubble(t, berth.Policy{}, origin.Serve(hints+hints+"HTTP/1.1 102 Processing\r\n\r\n"+ok("a")), func(r *rig) {
		if got := r.get("/"); got != "a" {
			r.Errorf("body %q", got)
		}
	})
	flood := func(c *origin.Conn) {
		c.ReadHead()
		for c.Write(hints) == nil {
		}
	}
	bubble(t, berth.Policy{MaxResponseHeaderBytes: 10_000}, flood, func(r *rig) {
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if _, is := errors.AsType[*berth.ProtocolError](err); !is || !strings.Contains(err.Error(), "response headers exceeded 10000 bytes") {
			r.Errorf("a flood of hints: %v", err)
		}
	})
	bubble(t, berth.Policy{}, origin.Serve(hints+ok("a")), func(r *rig) {
		enough := errors.New("no hints, please")
		ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { return enough }})
		if _, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil)); !errors.Is(err, enough) {
			r.Errorf("the hook's error: %v", err)
		}
	})
}

// Row 26: a head has a bound, whether it ends or not.
func TestHeadIsBounded(t *testing.T) {
	for name, h := range map[string]origin.Handler{
		"long":    origin.Serve("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2000) + "\r\nContent-Length: 0\r\n\r\n"),
		"endless": func(c *origin.Conn) { c.ReadHead(); c.Write("HTTP/1.1 200 OK\r\nX: "); flood(c) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{MaxResponseHeaderBytes: 1000}, h, func(r *rig) {
				_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if _, is := errors.AsType[*berth.ProtocolError](err); !is {
					r.Errorf("error %v", err)
				}
			})
		})
	}
}

func flood(c *origin.Conn) {
	for c.Write(strings.Repeat("x", 4096)) == nil {
	}
}

// Row 25: trailers in both directions.
func TestTrailers(t *testing.T) {
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got = r.Trailer.Clone()
		w.Header().Set("Trailer", "X-Declared")
		w.(http.Flusher).Flush()
		io.WriteString(w, "body")
		w.Header().Set("X-Declared", "a")
		w.Header().Set(http.TrailerPrefix+"X-Other", "b")
	}))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	req, _ := http.NewRequest("POST", srv.URL, struct{ io.Reader }{strings.NewReader("abc")})
	req.Trailer = http.Header{"X-Sum": nil}
	req.Body = &atEnd{req.Body, func() { req.Trailer.Set("X-Sum", "6") }}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if v, has := resp.Trailer["X-Declared"]; !has || v != nil {
		t.Errorf("before the end the trailer is %v", resp.Trailer)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.Trailer.Get("X-Declared") != "a" || resp.Trailer.Get("X-Other") != "b" {
		t.Errorf("response trailer %v", resp.Trailer)
	}
	if got.Get("X-Sum") != "6" {
		t.Errorf("request trailer %v", got)
	}
}

// atEnd calls f when its body ends.
type atEnd struct {
	io.ReadCloser
	f func()
}

func (a *atEnd) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err == io.EOF {
		a.f()
	}
	return n, err
}

// Row 24 and 28: bodies that end short, are read after Close, or are closed while
// they are read.
func TestBodyEnds(t *testing.T) {
	short := func(c *origin.Conn) { c.ReadRequest(); c.Write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") }
	cut := func(c *origin.Conn) {
		c.ReadRequest()
		c.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
	}
	for name, h := range map[string]origin.Handler{"length": short, "chunked": cut} {
		t.Run(name+" cut short", func(t *testing.T) {
			bubble(t, berth.Policy{}, h, func(r *rig) {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if err != nil {
					r.Fatal(err)
				}
				if _, err := io.ReadAll(resp.Body); err != io.ErrUnexpectedEOF {
					r.Errorf("error %v", err)
				}
				if _, err := resp.Body.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
					r.Errorf("a further Read says %v", err)
				}
			})
		})
	}
	t.Run("read after close", func(t *testing.T) {
		bubble(t, berth.Policy{}, origin.Serve(ok("abc")), func(r *rig) {
			resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
			if err != nil {
				r.Fatal(err)
			}
			for range 2 {
				if err := resp.Body.Close(); err != nil {
					r.Error(err)
				}
			}
			if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err.Error() != "http: read on closed response body" {
				r.Errorf("error %v", err)
			}
		})
	})
	t.Run("close ends a read", func(t *testing.T) {
		h := func(c *origin.Conn) {
			c.ReadRequest()
			c.Write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
			c.Stall()
		}
		bubble(t, berth.Policy{}, h, func(r *rig) {
			resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
			if err != nil {
				r.Fatal(err)
			}
			done := make(chan error)
			go func() { _, err := io.ReadAll(resp.Body); done <- err }()
			time.Sleep(time.Second)
			start := time.Now()
			resp.Body.Close()
			if err := <-done; err == nil || time.Since(start) != 0 {
				r.Errorf("the Read ended with %v, the Close after %v", err, time.Since(start))
			}
			if s := r.stats(); s.Leased+s.Idle != 0 {
				r.Errorf("the connection is still there: %+v", s)
			}
		})
	})
}

// Row 29: the header timeout counts from the end of the request.
func TestResponseHeaderTimeout(t *testing.T) {
	bubble(t, berth.Policy{ResponseHeaderTimeout: 3 * time.Second}, (*origin.Conn).Stall, func(r *rig) {
		start := time.Now()
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		e, is := errors.AsType[*berth.ResponseHeaderTimeoutError](err)
		if !is || !e.Timeout() || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "timeout awaiting response headers") {
			r.Errorf("error %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			r.Errorf("after %v", d)
		}
	})
	h := func(c *origin.Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil {
				return
			}
			c.Sleep(2 * time.Second)
			c.Write(ok("late"))
		}
	}
	bubble(t, berth.Policy{ResponseHeaderTimeout: 3 * time.Second}, h, func(r *rig) {
		pr, pw := io.Pipe()
		go func() { time.Sleep(5 * time.Second); pw.Close() }()
		for _, body := range []io.Reader{pr, nil} {
			resp, err := r.tr.RoundTrip(r.request(r.Context(), "POST", "/", body))
			if err != nil {
				r.Fatal(err)
			}
			time.Sleep(10 * time.Second) // the timeout is over with the head
			if b, err := io.ReadAll(resp.Body); string(b) != "late" || err != nil {
				r.Errorf("body %q, %v", b, err)
			}
		}
		r.wantDials(1)
	})
}

// Row 31: TLS shows in the response, and http.Client recognises a server that
// speaks HTTP on a TLS port.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }))
	defer srv.Close()
	tr, err := berth.New(berth.Config{TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	client := &http.Client{Transport: tr}
	for i := range 2 {
		resp, err := client.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.TLS == nil || !resp.TLS.HandshakeComplete || resp.TLS.DidResume != (i > 0) {
			t.Errorf("request %d: TLS state %v", i, resp.TLS)
		}
		tr.CloseIdleConnections() // the next request resumes the session
	}

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	_, err = client.Get("https" + strings.TrimPrefix(plain.URL, "http"))
	if err == nil || !strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		t.Errorf("HTTP on a TLS port: %v", err)
	}
	_, err = (&http.Client{Transport: &berth.Transport{}}).Get(srv.URL)
	if _, is := errors.AsType[*berth.DialError](err); !is || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
}

// Row 42: http.Client's own timeout is named as such, before and after the head.
func TestClientTimeoutIsNamed(t *testing.T) {
	for name, h := range map[string]origin.Handler{
		"head": (*origin.Conn).Stall,
		"body": func(c *origin.Conn) {
			c.ReadRequest()
			c.Write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
			c.Stall()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{}, h, func(r *rig) {
				r.c.Timeout = time.Second
				resp, err := r.c.Get(rigURL)
				if name == "body" && err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				var timeout interface{ Timeout() bool }
				if err == nil || !strings.Contains(err.Error(), "Client.Timeout") || !errors.As(err, &timeout) || !timeout.Timeout() {
					r.Errorf("error %v", err)
				}
			})
		})
	}
}

// Bodies closed unread cost no connection: net/http dials for every request.
func TestBodiesClosedUnreadKeepTheirConnections(t *testing.T) {
	const workers, requests = 64, 10
	for _, size := range []int{128, 100 << 10} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o := origin.Fast(ln, []byte(ok(strings.Repeat("x", size))), 0)
		tr := &berth.Transport{}
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range requests {
					req, _ := http.NewRequest("GET", "http://"+ln.Addr().String(), nil)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		ep, _ := tr.Endpoint("http://" + ln.Addr().String())
		if s := ep.Stats(); s.Dials.OK > workers || s.Requests != workers*requests {
			t.Errorf("bodies of %d bytes: %d dials for %d requests by %d workers", size, s.Dials.OK, s.Requests, workers)
		}
		tr.Close()
		o.Close()
	}
}

// An idle connection has no goroutine.
func TestIdleConnectionsHaveNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{}, origin.Latency(time.Second, ok("a")))
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { r.get("/") })
		}
		wg.Wait()
		synctest.Wait()
		if s := r.stats(); s.Idle != 10 {
			t.Fatalf("idle %d", s.Idle)
		}
		buf := make([]byte, 1<<20)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			// Pools of other tests are outside this bubble.
			if strings.Contains(g, "synctest bubble") && (strings.Contains(g, "berth/internal/h1") || strings.Contains(g, "berth/internal/pool")) {
				t.Errorf("a goroutine while all is idle:\n%s", g)
			}
		}
		r.close()
	})
}

// 101 hands the connection over, with the bytes that came behind the head, and
// frees its slot.
func TestUpgrade(t *testing.T) {
	h := func(c *origin.Conn) {
		c.ReadRequest()
		c.Write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst")
		buf := make([]byte, 4)
		io.ReadFull(readerOf{c}, buf)
		c.Write("<" + string(buf) + ">")
	}
	bubble(t, berth.Policy{MaxConns: 1}, h, func(r *rig) {
		req := r.request(r.Context(), "GET", "/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := r.tr.RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		rw, is := resp.Body.(io.ReadWriteCloser)
		if !is {
			r.Fatalf("body is %T", resp.Body)
		}
		io.WriteString(rw, "ping")
		b, err := io.ReadAll(rw)
		if string(b) != "first<ping>" || err != nil {
			r.Errorf("read %q, %v", b, err)
		}
		if s := r.stats(); s.Leased+s.Draining != 0 || s.Closes["upgrade"] != 1 {
			r.Errorf("stats %+v", s)
		}
		rw.Close()
	})
}
