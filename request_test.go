package berth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// trackedBody counts what is done to a request body.
type trackedBody struct {
	io.Reader
	closes atomic.Int32
	after  atomic.Int32 // reads after the close
}

func (b *trackedBody) Read(p []byte) (int, error) {
	if b.closes.Load() > 0 {
		b.after.Add(1)
	}
	return b.Reader.Read(p)
}

func (b *trackedBody) Close() error {
	b.closes.Add(1)
	if c, ok := b.Reader.(io.Closer); ok {
		c.Close()
	}
	return nil
}

// Row 1: what cannot be sent is refused before the network is touched, in
// net/http's order, and the body is closed.
func TestInvalidRequestsTouchNoNetwork(t *testing.T) {
	good := func() *http.Request {
		return &http.Request{Method: "POST", URL: &url.URL{Scheme: "http", Host: "origin.test", Path: "/"}, Header: http.Header{}}
	}
	for _, tc := range []struct {
		name, want string
		spoil      func(*http.Request)
	}{
		{"no URL", "nil Request.URL", func(r *http.Request) { r.URL, r.Header = nil, nil }},
		{"no header", "nil Request.Header", func(r *http.Request) { r.Header = nil; r.URL.Scheme = "x" }},
		{"header name", "invalid header field name", func(r *http.Request) { r.Header["a b"] = nil; r.Method = "a b" }},
		{"header value", `invalid header field value for "X"`, func(r *http.Request) { r.Header["X"] = []string{"sec\nret"} }},
		{"trailer", "invalid trailer field", func(r *http.Request) { r.Trailer = http.Header{"a b": nil} }},
		{"scheme", "unsupported protocol scheme", func(r *http.Request) { r.URL.Scheme = "ftp"; r.Method = "a b" }},
		{"method", "invalid method", func(r *http.Request) { r.Method = "a b"; r.URL.Host = "" }},
		{"host", "no Host", func(r *http.Request) { r.URL.Host = "" }},
		{"length without body", "with nil Body", func(r *http.Request) { r.ContentLength = 5 }},
		{"control character in the path", "control character", func(r *http.Request) { r.URL.Opaque = "/a\x7f" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, berth.Policy{}, origin.Serve(ok("")), func(r *rig) {
				body := &trackedBody{Reader: strings.NewReader("x")}
				req := good()
				if tc.name != "length without body" {
					req.Body, req.ContentLength = body, 1
				} else {
					body.Close()
				}
				tc.spoil(req)
				_, err := r.tr.RoundTrip(req)
				if _, is := errors.AsType[*berth.RequestError](err); !is || !strings.Contains(err.Error(), tc.want) || !berth.NotSent(err) {
					r.Errorf("error %v (%T), want %q", err, err, tc.want)
				}
				if err != nil && strings.Contains(err.Error(), "ret") {
					r.Errorf("the error tells a header's value: %v", err)
				}
				if body.closes.Load() != 1 {
					r.Errorf("body closed %d times", body.closes.Load())
				}
				if tc.name != "control character in the path" {
					r.wantDials(0)
				}
			})
		})
	}
}

// Row 2: in whatever way a request ends, its body is closed once and not read
// afterwards. Row 3: the request is not changed, and is the response's.
func TestRequestBodyIsClosedOnce(t *testing.T) {
	stall := (*origin.Conn).Stall
	for _, tc := range []struct {
		name   string
		policy berth.Policy
		h      origin.Handler
		body   func(ctx context.Context) io.Reader
		cancel time.Duration
		fails  bool
	}{
		{"answered", berth.Policy{}, origin.Echo(), func(context.Context) io.Reader { return strings.NewReader("x") }, 0, false},
		{"streamed and answered", berth.Policy{}, origin.Echo(), func(context.Context) io.Reader { return io.LimitReader(zeros{}, 100<<10) }, 0, false},
		{"answered early", berth.Policy{}, origin.Early("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), func(context.Context) io.Reader { return io.LimitReader(zeros{}, 1<<20) }, 0, false},
		{"cancelled while the head is awaited", berth.Policy{}, stall, func(context.Context) io.Reader { return strings.NewReader("x") }, time.Second, true},
		{"cancelled while the peer does not read", berth.Policy{}, stall, func(context.Context) io.Reader { return io.LimitReader(zeros{}, 10<<20) }, time.Second, true},
		{"cancelled while the body blocks", berth.Policy{}, stall, func(context.Context) io.Reader { r, _ := io.Pipe(); return r }, time.Second, true},
		{"peer closes", berth.Policy{}, func(c *origin.Conn) { c.ReadHead() }, func(context.Context) io.Reader { return io.LimitReader(zeros{}, 10<<20) }, 0, true},
		{"body fails", berth.Policy{}, stall, func(context.Context) io.Reader { return io.MultiReader(strings.NewReader("x"), failing{}) }, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, tc.policy, tc.h, func(r *rig) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				if tc.cancel > 0 {
					time.AfterFunc(tc.cancel, cancel)
				}
				body := &trackedBody{Reader: tc.body(ctx)}
				req := r.request(ctx, "POST", "/", body)
				before := *req
				resp, err := r.tr.RoundTrip(req)
				if (err != nil) != tc.fails {
					r.Errorf("error %v", err)
				}
				if resp != nil {
					if resp.Request != req {
						r.Error("the response's request is another")
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				synctest.Wait()
				if body.closes.Load() != 1 || body.after.Load() != 0 {
					r.Errorf("closed %d times, read %d times afterwards", body.closes.Load(), body.after.Load())
				}
				if req.Body != before.Body || req.ContentLength != before.ContentLength || len(req.Header) != len(before.Header) {
					r.Error("the request was changed")
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var errFailing = errors.New("the caller's own body failed")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFailing }

// Row 4: the context ends a request in every phase, at once, with its cause.
func TestCancelInEveryPhase(t *testing.T) {
	cause := errors.New("the user left")
	for _, tc := range []struct {
		name   string
		h      origin.Handler
		dial   bool
		method string
		body   func() io.Reader
		full   bool
	}{
		{name: "dial", dial: true, h: (*origin.Conn).Stall, method: "GET"},
		{name: "queue", h: (*origin.Conn).Stall, method: "GET", full: true},
		{name: "awaiting the head", h: (*origin.Conn).Stall, method: "GET"},
		{name: "in the head", h: func(c *origin.Conn) { c.ReadHead(); c.Write("HTTP/1.1 200 OK\r\nX: "); c.Stall() }, method: "GET"},
		{name: "writing a stream", h: (*origin.Conn).Stall, method: "POST", body: func() io.Reader { return io.LimitReader(zeros{}, 1<<30) }},
		{name: "blocked in the body's Read", h: (*origin.Conn).Stall, method: "POST", body: func() io.Reader { r, _ := io.Pipe(); return r }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policy := berth.Policy{}
			if tc.full {
				policy.MaxConns = 1
			}
			bubble(t, policy, tc.h, func(r *rig) {
				if tc.dial {
					r.net.OnDial = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
				}
				if tc.full {
					other, end := context.WithCancel(r.Context())
					go r.tr.RoundTrip(r.request(other, "GET", "/", nil))
					synctest.Wait()
					defer end()
				}
				ctx, cancel := context.WithCancelCause(r.Context())
				time.AfterFunc(time.Second, func() { cancel(cause) })
				var body io.Reader
				if tc.body != nil {
					body = tc.body()
				}
				start := time.Now()
				_, err := r.tr.RoundTrip(r.request(ctx, tc.method, "/", body))
				if err != cause || time.Since(start) != time.Second {
					r.Errorf("after %v: %v; want the cause after 1s", time.Since(start), err)
				}
				synctest.Wait()
				if s := r.stats(); s.Idle != 0 || s.Waiting != 0 {
					r.Errorf("idle %d, waiting %d: a cancelled exchange must not give its connection back", s.Idle, s.Waiting)
				}
			})
		})
	}
	bubble(t, berth.Policy{}, origin.Serve(ok("")), func(r *rig) {
		ctx, cancel := context.WithCancelCause(r.Context())
		cancel(cause)
		if _, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil)); err != cause {
			r.Errorf("before anything: %v", err)
		}
		r.wantDials(0)
	})
}

// Row 5: the deprecated Cancel channel still works.
func TestLegacyCancel(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, (*origin.Conn).Stall, func(r *rig) {
		try := func() error {
			req := r.request(r.Context(), "GET", "/", nil)
			ch := make(chan struct{})
			req.Cancel = ch //lint:ignore SA1019 what is tested
			time.AfterFunc(time.Second, func() { close(ch) })
			_, err := r.tr.RoundTrip(req)
			return err
		}
		if err := try(); err != berth.ErrRequestCanceled {
			r.Errorf("in flight: %v", err)
		}
		ctx, end := context.WithCancel(r.Context())
		go r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		synctest.Wait()
		if err := try(); err != berth.ErrRequestCanceledWaiting {
			r.Errorf("in the queue: %v", err)
		}
		end()
		synctest.Wait()
	})
}

// Row 6: a dial outlives its request and serves another; values of the request's
// context reach it.
func TestDialOutlivesItsRequest(t *testing.T) {
	type key struct{}
	bubble(t, berth.Policy{}, origin.Serve(ok("a")), func(r *rig) {
		var value any
		r.net.OnDial = func(ctx context.Context, _ string) error {
			value = ctx.Value(key{})
			time.Sleep(2 * time.Second)
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), key{}, "v"), time.Second)
		defer cancel()
		_, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is || !errors.Is(err, context.DeadlineExceeded) || e.Waited != time.Second {
			r.Errorf("error %v", err)
		}
		time.Sleep(2 * time.Second)
		r.get("/")
		r.wantDials(1)
		if value != "v" {
			r.Errorf("the dial sees %v", value)
		}
	})
}

// writes records every Write of a connection.
type writes struct {
	net.Conn
	list *[]string
}

func (w writes) Write(p []byte) (int, error) {
	*w.list = append(*w.list, string(p))
	return w.Conn.Write(p)
}

// Row 8: what is on the wire, in how many writes. Row 10: which bodies are framed
// how.
func TestRequestsOnTheWire(t *testing.T) {
	const head = " / HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: Go-http-client/1.1\r\n"
	stream := func(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }
	for _, tc := range []struct {
		name, method string
		body         io.Reader
		change       func(*http.Request)
		want         []string
	}{
		{"GET", "GET", nil, nil, []string{"GET" + head + "\r\n"}},
		{"fields are sorted", "GET", nil, func(r *http.Request) {
			r.Header = http.Header{"B": {"2"}, "A": {"1", "1b"}, "User-Agent": {""}, "Host": {"no"}}
		}, []string{"GET / HTTP/1.1\r\nHost: origin.test\r\nA: 1\r\nA: 1b\r\nB: 2\r\n\r\n"}},
		{"body in memory", "POST", strings.NewReader("abc"), nil, []string{"POST" + head + "Content-Length: 3\r\n\r\nabc"}},
		{"buffer", "PUT", bytes.NewBufferString("abc"), nil, []string{"PUT" + head + "Content-Length: 3\r\n\r\nabc"}},
		{"no body", "POST", http.NoBody, nil, []string{"POST" + head + "Content-Length: 0\r\n\r\n"}},
		{"stream", "POST", stream("abc"), nil, []string{"POST" + head + "Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "0\r\n\r\n"}},
		{"stream of known length", "POST", stream("abc"), func(r *http.Request) { r.ContentLength = 3 },
			[]string{"POST" + head + "Content-Length: 3\r\n\r\n", "abc"}},
		{"GET with an empty stream", "GET", stream(""), nil, []string{"GET" + head + "\r\n"}},
		{"GET with a stream", "GET", stream("abc"), nil, []string{"GET" + head + "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", "2\r\nbc\r\n", "0\r\n\r\n"}},
		{"close", "GET", nil, func(r *http.Request) { r.Close = true }, []string{"GET" + head + "Connection: close\r\n\r\n"}},
		{"close by field", "GET", nil, func(r *http.Request) { r.Close = true; r.Header.Set("Connection", "close") },
			[]string{"GET" + head + "Connection: close\r\n\r\n"}},
		{"trailers", "POST", stream("abc"), func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"7"}} },
			[]string{"POST" + head + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n", "3\r\nabc\r\n", "0\r\nX-Sum: 7\r\n\r\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var list []string
				var r *rig
				r = newRig(t, berth.Config{DisableCompression: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := r.net.DialContext(ctx, network, addr)
					return writes{c, &list}, err
				}}, origin.Serve(ok("")))
				req := r.request(r.Context(), tc.method, "/", tc.body)
				if tc.change != nil {
					tc.change(req)
				}
				resp, err := r.tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				synctest.Wait()
				if got, want := fmt.Sprintf("%q", list), fmt.Sprintf("%q", tc.want); got != want {
					t.Errorf("writes\n%s\nwant\n%s", got, want)
				}
				r.close()
			})
		})
	}
}

// Row 11: a body that is not as long as it says, or fails, ends the exchange and
// the connection.
func TestBodyThatIsNotAsLongAsItSays(t *testing.T) {
	for _, tc := range []struct {
		name string
		body io.Reader
		want string
	}{
		{"short", struct{ io.Reader }{strings.NewReader("abc")}, "ContentLength=5 with Body length 3"},
		{"long", struct{ io.Reader }{strings.NewReader("abcdefg")}, "ContentLength=5 with Body length 7"},
		{"short in memory", strings.NewReader("abc"), "ContentLength=5 with Body length 3"},
		{"fails", io.MultiReader(strings.NewReader("ab"), failing{}), errFailing.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, berth.Policy{}, (*origin.Conn).Stall, func(r *rig) {
				req := r.request(r.Context(), "POST", "/", tc.body)
				req.ContentLength = 5
				_, err := r.tr.RoundTrip(req)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					r.Errorf("error %v, want %q", err, tc.want)
				}
				if tc.name == "fails" && err != errFailing {
					r.Errorf("the body's error arrives as %T", err)
				}
			})
		})
	}
}

// Row 12: Expect: 100-continue holds the body back for the server's word, a final
// answer, or a second.
func TestExpectContinue(t *testing.T) {
	final := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	refusal := "HTTP/1.1 417 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	for _, tc := range []struct {
		name     string
		policy   berth.Policy
		first    string // written when the head is there
		wait     time.Duration
		status   int
		bodySent bool
	}{
		{"100", berth.Policy{}, "HTTP/1.1 100 Continue\r\n\r\n", 0, 200, true},
		{"timeout", berth.Policy{}, "", time.Second, 200, true},
		{"other timeout", berth.Policy{ExpectContinueTimeout: 3 * time.Second}, "", 3 * time.Second, 200, true},
		{"off", berth.Policy{ExpectContinueTimeout: -1}, "", 0, 200, true},
		{"refused", berth.Policy{}, refusal, 0, 417, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			var waited time.Duration
			h := func(c *origin.Conn) {
				if _, err := c.ReadHead(); err != nil {
					return
				}
				start := time.Now()
				if tc.first != "" {
					c.Write(tc.first)
				}
				buf := make([]byte, 4)
				n, _ := io.ReadFull(readerOf{c}, buf)
				got, waited = string(buf[:n]), time.Since(start)
				if tc.bodySent {
					c.Write(final)
					c.Stall()
				}
			}
			bubble(t, tc.policy, h, func(r *rig) {
				resp, err := r.tr.RoundTrip(r.expecting(strings.NewReader("body")))
				if err != nil {
					r.Fatal(err)
				}
				resp.Body.Close()
				synctest.Wait()
				if resp.StatusCode != tc.status || tc.bodySent != (got == "body") || waited != tc.wait {
					r.Errorf("status %d, body %q after %v", resp.StatusCode, got, waited)
				}
			})
		})
	}
}

type readerOf struct{ c *origin.Conn }

func (r readerOf) Read(p []byte) (int, error) { return r.c.Read(p) }

// Row 16: an early answer is returned while the body is still being sent; the
// connection is used again only if the body ends soon.
func TestEarlyAnswer(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rest  time.Duration // when the body's rest comes, after the answer
		dials int
	}{{"body ends in time", 40 * time.Millisecond, 1}, {"body goes on", time.Minute, 2}} {
		t.Run(tc.name, func(t *testing.T) {
			h := func(c *origin.Conn) {
				for {
					if _, err := c.ReadHead(); err != nil {
						return
					}
					c.Write(ok("early"))
					if c.N() == 0 {
						io.ReadFull(readerOf{c}, make([]byte, len("1\r\na\r\n1\r\nb\r\n0\r\n\r\n")))
					}
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				pr, pw := io.Pipe()
				body := &trackedBody{Reader: pr}
				go func() {
					pw.Write([]byte("a"))
					time.Sleep(tc.rest)
					pw.Write([]byte("b"))
					pw.Close()
				}()
				start := time.Now()
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "POST", "/", body))
				if err != nil {
					r.Fatal(err)
				}
				if d := time.Since(start); d > 10*time.Millisecond {
					r.Errorf("the answer took %v", d)
				}
				io.Copy(io.Discard, resp.Body)
				time.Sleep(time.Second)
				if body.closes.Load() != 1 {
					r.Errorf("body closed %d times", body.closes.Load())
				}
				r.get("/")
				r.wantDials(tc.dials)
				time.Sleep(2 * time.Minute)
			})
		})
	}
}
