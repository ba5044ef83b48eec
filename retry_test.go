package berth_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// Row 17: which requests are sent again when their used connection turns out to
// be closed, and with which body.
func TestWhichRequestsAreSentAgain(t *testing.T) {
	stream := func() io.Reader { return struct{ io.Reader }{strings.NewReader("abc")} }
	again := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("abc")), nil }
	for _, tc := range []struct {
		name, method string
		body         io.Reader
		change       func(*http.Request)
		again        bool
	}{
		{"GET", "GET", nil, nil, true},
		{"HEAD", "HEAD", nil, nil, true},
		{"OPTIONS", "OPTIONS", nil, nil, true},
		{"DELETE", "DELETE", nil, nil, false}, // net/http's list is shorter than RFC 9110's
		{"PUT", "PUT", strings.NewReader("abc"), nil, false},
		{"POST", "POST", strings.NewReader("abc"), nil, false},
		{"POST without a body", "POST", nil, nil, false},
		{"GET with a body in memory", "GET", strings.NewReader("abc"), nil, true},
		{"GET with a stream", "GET", stream(), nil, false},
		{"GET with a stream that can be had again", "GET", stream(), func(r *http.Request) { r.GetBody = again }, true},
		{"POST with a key", "POST", strings.NewReader("abc"), func(r *http.Request) { r.Header["X-Idempotency-Key"] = []string{"k"} }, true},
		{"POST with a key and a stream", "POST", stream(), func(r *http.Request) { r.Header["Idempotency-Key"] = []string{"k"} }, false},
		{"GET whose body cannot be had again", "GET", stream(), func(r *http.Request) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, errFailing }
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			h := func(c *origin.Conn) {
				if c.N() == 0 {
					c.ReadRequest()
					c.Write(ok("one"))
					c.ReadRequest()
					return
				}
				if r, err := c.ReadRequest(); err == nil {
					got = string(r.Content)
					c.Write("HTTP/1.1 204 No Content\r\n\r\n")
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				r.get("/")
				req := r.request(r.Context(), tc.method, "/", tc.body)
				if tc.change != nil {
					tc.change(req)
				}
				resp, err := r.tr.RoundTrip(req)
				if !tc.again {
					if err == nil || berth.NotSent(err) {
						r.Errorf("error %v, want one that says that the request may have arrived", err)
					}
					r.wantDials(1)
					return
				}
				if err != nil {
					r.Fatal(err)
				}
				resp.Body.Close()
				r.wantDials(2)
				if req.Body != nil && got != "abc" {
					r.Errorf("the second attempt's body: %q", got)
				}
				if resp.Request != req {
					r.Error("the response is another request's")
				}
			})
		})
	}
}

// brokenAfter fails every Write after the first n, without sending a byte.
type brokenAfter struct {
	net.Conn
	left atomic.Int32
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	if b.left.Add(-1) < 0 {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return b.Conn.Write(p)
}

// Row 17: a request of which nothing was sent goes out again whatever its method,
// as often as used connections fail; on a fresh connection it does not, and its
// error says that nothing was sent.
func TestRequestOfWhichNothingWasSent(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"in memory": func() io.Reader { return strings.NewReader("abc") },
		"stream":    func() io.Reader { return struct{ io.Reader }{strings.NewReader("abc")} },
	} {
		for _, used := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", used", false: ", fresh"}[used], func(t *testing.T) {
				n := &memnet.Network{}
				conns := []int32{0}
				if used {
					conns = []int32{1, 100}
				}
				bubbleOn(t, berth.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := n.DialContext(ctx, network, addr)
					b := &brokenAfter{Conn: c}
					b.left.Store(conns[0])
					conns = conns[1:]
					return b, err
				}}, n, origin.Echo(), func(r *rig) {
					if used {
						r.get("/")
					}
					tracked := &trackedBody{Reader: body()}
					req := r.request(r.Context(), "POST", "/", tracked)
					if name == "in memory" {
						req = r.request(r.Context(), "POST", "/", body())
					}
					resp, err := r.tr.RoundTrip(req)
					if !used {
						if err == nil || !berth.NotSent(err) || !errors.Is(err, syscall.EPIPE) {
							r.Errorf("error %v", err)
						}
						r.wantDials(1)
						return
					}
					if err != nil {
						r.Fatal(err)
					}
					b, _ := io.ReadAll(resp.Body)
					if string(b) != "abc" {
						r.Errorf("the second attempt's body: %q", b)
					}
					r.wantDials(2)
				})
			})
		}
	}
}
