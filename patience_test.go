package berth_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

// On real sockets an exchange has no watch over its context in its first
// milliseconds, and no buffer while it waits. These tests are of what must not be
// noticed of that.

// guard is how long something may take before it is called a hang.
const guard = 20 * time.Second

// silentServer accepts requests and answers none until it is told to. The returned
// channel has each request's connection.
func silentServer(t *testing.T, secure bool) (url string, requests chan net.Conn, cfg berth.Config) {
	t.Helper()
	requests = make(chan net.Conn, 2000)
	var (
		mu   sync.Mutex
		held []net.Conn // one that nobody holds is closed by the collector
	)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if rw.Reader.Buffered() > 0 {
			t.Error("bytes behind the request")
		}
		mu.Lock()
		held = append(held, c)
		mu.Unlock()
		requests <- c
	}))
	if secure {
		srv.StartTLS()
		cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	} else {
		srv.Start()
	}
	t.Cleanup(func() {
		srv.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range held {
			c.Close()
		}
	})
	return srv.URL, requests, cfg
}

func bothSchemes(t *testing.T, f func(t *testing.T, secure bool)) {
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) { f(t, secure) })
	}
}

// A request that waits for its response ends with its context, whether the context
// ends before the watch is armed or long after.
func TestContextEndsAWaitingRequest(t *testing.T) {
	cause := errors.New("the user left")
	bothSchemes(t, func(t *testing.T, secure bool) {
		url, requests, cfg := silentServer(t, secure)
		tr, err := berth.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		for _, tc := range []struct {
			name string
			ctx  func() (context.Context, func())
			want error
		}{
			{"cancelled at once", func() (context.Context, func()) {
				ctx, cancel := context.WithCancelCause(t.Context())
				return ctx, func() { cancel(cause) }
			}, cause},
			{"cancelled later", func() (context.Context, func()) {
				ctx, cancel := context.WithCancelCause(t.Context())
				return ctx, func() { time.AfterFunc(50*time.Millisecond, func() { cancel(cause) }) }
			}, cause},
			{"a deadline of a millisecond", func() (context.Context, func()) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				return ctx, cancel
			}, nil}, // cancelled or late: the server may not see it before
			{"a deadline of 30 ms", func() (context.Context, func()) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				t.Cleanup(cancel)
				return ctx, func() {}
			}, context.DeadlineExceeded},
		} {
			t.Run(tc.name, func(t *testing.T) {
				ctx, seen := tc.ctx()
				req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
				done := make(chan error, 1)
				go func() { _, err := tr.RoundTrip(req); done <- err }()
				select {
				case <-requests:
					seen()
				case err := <-done:
					done <- err
				case <-time.After(guard):
					t.Fatal("the request never came")
				}
				select {
				case err := <-done:
					if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
						t.Errorf("error %v, want %v", err, tc.want)
					}
				case <-time.After(guard):
					t.Fatal("the request hangs")
				}
			})
		}
		// Nothing is left of them.
		waitFor(t, func() bool {
			ep, _ := tr.Endpoint(url)
			s := ep.Stats()
			return s.Leased+s.Dialing+s.Draining == 0 // a dial that outlived its request may be idle
		})
	})
}

// waitFor waits until cond holds.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	limit := time.After(guard)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it does not come about")
		}
	}
}

// A response that comes after the watch was armed is as good as any, and its
// connection is used again.
func TestSlowResponsesKeepTheirConnection(t *testing.T) {
	bothSchemes(t, func(t *testing.T, secure bool) {
		var pause time.Duration
		conns := map[string]bool{}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			conns[r.RemoteAddr] = true
			<-time.After(pause)
			io.WriteString(w, r.Header.Get("N"))
		}))
		var cfg berth.Config
		if secure {
			srv.StartTLS()
			cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		} else {
			srv.Start()
		}
		defer srv.Close()
		cfg.Policy.ResponseHeaderTimeout = guard
		tr, err := berth.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		for i, p := range []time.Duration{0, 4 * time.Millisecond, 5 * time.Millisecond, 6 * time.Millisecond, 30 * time.Millisecond, 0, 0} {
			pause = p
			for j, body := range []io.Reader{nil, strings.NewReader("small"), bytes.NewReader(make([]byte, 100<<10))} {
				ctx, cancel := context.WithCancel(t.Context())
				req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, body)
				req.Header.Set("N", fmt.Sprint(i, j))
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatalf("%d, %d: %v", i, j, err)
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != fmt.Sprint(i, j) {
					t.Errorf("%d, %d: %q, %v", i, j, b, err)
				}
				cancel()
			}
		}
		if len(conns) != 1 {
			t.Errorf("%d connections", len(conns))
		}
	})
}

// A large body from memory goes out although the server takes its time to read it,
// and an answer before its end is heard.
func TestLargeBodyOverASlowReader(t *testing.T) {
	for _, tc := range []struct {
		name          string
		early, traced bool // traced: without patience
	}{{"read late", false, false}, {"answered early", true, false}, {"read late, traced", false, true}, {"answered early, traced", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			early := tc.early
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			const size = 20 << 20 // more than the kernel's buffers take
			release := make(chan struct{})
			var server sync.WaitGroup
			server.Go(func() {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					t.Error(err)
					return
				}
				if early {
					io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
					<-release
					return
				}
				<-time.After(50 * time.Millisecond)
				n, err := io.Copy(io.Discard, req.Body)
				if n != size || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			})
			tr := &berth.Transport{}
			defer tr.Close()
			req := newRequest(t, "PUT", "http://"+ln.Addr().String()+"/", bytes.NewReader(make([]byte, size)))
			if tc.traced {
				req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{}))
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if want := map[bool]string{false: "ok", true: "large"}[early]; string(b) != want || err != nil {
				t.Errorf("body %q, %v", b, err)
			}
			close(release)
			server.Wait()
		})
	}
}

func newRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// An end of stream that came before the request was written, on a connection that
// is trusted because it was used a moment ago, is seen all the same: a GET goes to
// another connection.
func TestEndOfStreamBeforeTheRequestIsSeen(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the listener; each connection ends with its peer
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				// The response and the end come at once; requests are taken still.
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, r)
			}()
		}
	}()
	tr := &berth.Transport{}
	defer tr.Close()
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), guard)
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+ln.Addr().String()+"/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		io.Copy(io.Discard, resp.Body)
		cancel()
	}
}

// A record of TLS that comes right behind the response is nobody's: the connection
// is not used again.
func TestBytesBehindAResponseOverTLS(t *testing.T) {
	written := make(chan struct{}, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for {
			// Two records in one segment, as far as the kernel is concerned.
			sec := c.(*tls.Conn)
			if _, err := sec.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")); err != nil {
				return
			}
			if r.URL.Path == "/evil" {
				sec.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
				written <- struct{}{}
			}
			if r, err = http.ReadRequest(rw.Reader); err != nil {
				return
			}
		}
	}))
	srv.StartTLS()
	defer srv.Close()
	tr, err := berth.New(berth.Config{TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for i := range 51 { // a good one last: it is the next request that finds them
		path := "/good"
		if i%5 == 4 {
			path = "/evil"
		}
		resp, err := tr.RoundTrip(newRequest(t, "GET", srv.URL+path, nil))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "ok" {
			t.Fatalf("request %d got %q", i, b)
		}
		if path == "/evil" {
			<-written
			<-time.After(3 * time.Millisecond) // let it arrive: within a moment trust is blind
		}
	}
	ep, _ := tr.Endpoint(srv.URL)
	if s := ep.Stats(); s.Closes["protocol"]+s.Closes["peer"] != 10 {
		t.Errorf("closes %v; want one for each of ten answers too many", s.Closes)
	}
}

// A thousand requests that wait for their response hold no read buffer.
func TestWaitingRequestsHoldNoBuffer(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's own memory drowns the buffers; .ci/run has a pass without it")
	}
	const n = 1000
	url, requests, cfg := silentServer(t, false)
	cfg.Policy.MaxDials = -1
	tr, err := berth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			tr.RoundTrip(req)
		})
	}
	conns := make([]net.Conn, 0, n)
	for range n {
		conns = append(conns, <-requests)
	}
	var before, after runtime.MemStats
	profile := func(m *runtime.MemStats) { runtime.GC(); runtime.GC(); runtime.ReadMemStats(m) }
	// Whoever holds a buffer of 4 KiB is seen in the number of objects of that size.
	profile(&before)
	cancel()
	wg.Wait()
	profile(&after)
	size := func(m *runtime.MemStats) int {
		for _, b := range m.BySize {
			if b.Size == 4096 {
				return int(b.Mallocs - b.Frees)
			}
		}
		return 0
	}
	if held := size(&before) - size(&after); held > n/10 {
		t.Errorf("%d of %d waiting requests hold a buffer", held, n)
	}
	for _, c := range conns {
		c.Close()
	}
}

// A body that is read after its head is as good as one of which every byte was
// watched over: its context ends it, before a read and during one, and so does Close.
func TestBodyReadsEnd(t *testing.T) {
	cause := errors.New("the user left")
	bothSchemes(t, func(t *testing.T, secure bool) {
		url, requests, cfg := silentServer(t, secure)
		tr, err := berth.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		const part, whole = 10_000, 20_000
		// begin returns a response of which a part has been sent.
		begin := func(ctx context.Context) (*http.Response, net.Conn) {
			t.Helper()
			req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			server := make(chan net.Conn, 1)
			go func() {
				c := <-requests
				io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", whole, strings.Repeat("x", part)))
				server <- c
			}()
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			return resp, <-server
		}
		read := func(resp *http.Response, n int) error {
			done := make(chan error, 1)
			go func() { _, err := io.ReadFull(resp.Body, make([]byte, n)); done <- err }()
			select {
			case err := <-done:
				return err
			case <-time.After(guard):
				t.Fatal("a read hangs")
				return nil
			}
		}
		t.Run("cancelled before a read", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			resp, _ := begin(ctx)
			defer resp.Body.Close()
			cancel(cause)
			if err := read(resp, 1); !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
		})
		for name, wait := range map[string]time.Duration{"at once": 0, "later": 30 * time.Millisecond} {
			t.Run("cancelled during a read, "+name, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				resp, _ := begin(ctx)
				defer resp.Body.Close()
				if err := read(resp, part); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(wait, func() { cancel(cause) })
				if err := read(resp, 1); !errors.Is(err, cause) {
					t.Errorf("error %v", err)
				}
			})
			t.Run("closed during a read, "+name, func(t *testing.T) {
				resp, _ := begin(t.Context())
				if err := read(resp, part); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(wait, func() { resp.Body.Close() })
				if err := read(resp, 1); err == nil {
					t.Error("a read of a closed body succeeds")
				}
			})
		}
		t.Run("its own deadline", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			resp, _ := begin(ctx)
			defer resp.Body.Close()
			if err := read(resp, whole); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
		t.Run("read late", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, server := begin(ctx)
			defer resp.Body.Close()
			<-time.After(20 * time.Millisecond) // longer than the watch is patient
			io.WriteString(server, strings.Repeat("x", whole-part))
			if err := read(resp, whole); err != nil {
				t.Errorf("error %v", err)
			}
			ep, _ := tr.Endpoint(url)
			if s := ep.Stats(); s.Idle != 1 {
				t.Errorf("%d idle; the connection is good", s.Idle)
			}
		})
		waitFor(t, func() bool {
			ep, _ := tr.Endpoint(url)
			s := ep.Stats()
			return s.Leased+s.Dialing+s.Draining == 0
		})
	})
}

// A deadline that somebody else has set on a connection, where it is opened or in a
// hook, ends the request that runs into it: it is not taken for the engine's own.
func TestDeadlineOfTheCallersIsKept(t *testing.T) {
	bothSchemes(t, func(t *testing.T, secure bool) {
		url, _, cfg := silentServer(t, secure)
		const soon = 60 * time.Millisecond
		end := func(err error) {
			t.Helper()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("error %v, want the deadline's", err)
			}
		}
		try := func(tr *berth.Transport, ctx context.Context) error {
			defer tr.Close()
			done := make(chan error, 1)
			req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			go func() { _, err := tr.RoundTrip(req); done <- err }()
			select {
			case err := <-done:
				return err
			case <-time.After(guard):
				t.Fatal("the request hangs")
				return nil
			}
		}
		t.Run("set as it is dialled", func(t *testing.T) {
			cfg := cfg
			cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				var d net.Dialer
				c, err := d.DialContext(ctx, network, addr)
				if err == nil {
					c.SetDeadline(time.Now().Add(soon))
				}
				return c, err
			}
			tr, err := berth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			end(try(tr, t.Context()))
		})
		t.Run("set in a hook", func(t *testing.T) {
			tr, err := berth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			end(try(tr, httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(i httptrace.GotConnInfo) { i.Conn.SetDeadline(time.Now().Add(soon)) },
			})))
		})
	})
}
