package berth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// Rows 19 and 20: what the response, or the request, says about the connection's
// end is obeyed, and told to the caller.
func TestWhoeverSaysCloseEndsTheConnection(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		change       func(*http.Request)
		dials        int
		close        bool // Response.Close
	}{
		{"nobody", ok("a"), nil, 1, false},
		{"response", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", nil, 2, true},
		{"no length", "HTTP/1.1 200 OK\r\n\r\na", nil, 2, true},
		{"Request.Close", ok("a"), func(r *http.Request) { r.Close = true }, 2, false},
		{"request's field", ok("a"), func(r *http.Request) { r.Header.Set("Connection", "close") }, 2, false},
		{"request's field among others", ok("a"), func(r *http.Request) { r.Header.Set("Connection", "x, Close") }, 2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var heads []string
			h := func(c *origin.Conn) {
				for {
					r, err := c.ReadRequest()
					if err != nil {
						return
					}
					heads = append(heads, string(r.Head))
					if c.Write(tc.answer) != nil || strings.HasPrefix(tc.name, "no length") {
						return
					}
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				for range 2 {
					req := r.request(r.Context(), "GET", "/", nil)
					if tc.change != nil {
						tc.change(req)
					}
					resp, err := r.tr.RoundTrip(req)
					if err != nil {
						r.Fatal(err)
					}
					if b, err := io.ReadAll(resp.Body); string(b) != "a" || err != nil {
						r.Errorf("body %q, %v", b, err)
					}
					if resp.Close != tc.close || resp.Header.Get("Connection") != "" {
						r.Errorf("Close %v, header %v", resp.Close, resp.Header)
					}
				}
				r.wantDials(tc.dials)
				for _, head := range heads {
					if n := strings.Count(strings.ToLower(head), "close"); n != 0 != (tc.change != nil) || n > 1 {
						r.Errorf("the request says close %d times:\n%s", n, head)
					}
				}
			})
		})
	}
}

// Row 21: without keep-alives every request says so, unless it upgrades, and has a
// connection of its own.
func TestDisableKeepAlives(t *testing.T) {
	for _, upgrade := range []bool{false, true} {
		var head string
		h := func(c *origin.Conn) {
			r, err := c.ReadRequest()
			if err != nil {
				return
			}
			head = string(r.Head)
			c.Write(ok("a"))
			c.Stall()
		}
		bubble(t, berth.Policy{DisableKeepAlives: true}, h, func(r *rig) {
			for range 2 {
				req := r.request(r.Context(), "GET", "/", nil)
				if upgrade {
					req.Header.Set("Connection", "Upgrade")
					req.Header.Set("Upgrade", "echo")
				}
				resp, err := r.tr.RoundTrip(req)
				if err != nil {
					r.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				if strings.Contains(head, "Connection: close\r\n") == upgrade {
					r.Errorf("upgrade %v:\n%s", upgrade, head)
				}
			}
			r.wantDials(2)
			if s := r.stats(); s.Idle != 0 {
				r.Errorf("%d idle", s.Idle)
			}
		})
	}
}

// Row 22: a response to HEAD keeps its length and has no body; so has a chunked 304.
func TestResponsesWithoutABodyKeepTheirFields(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX: y\r\n\r\n"), func(r *rig) {
		resp, err := r.tr.RoundTrip(r.request(r.Context(), "HEAD", "/", nil))
		if err != nil {
			r.Fatal(err)
		}
		if resp.ContentLength != 7 || resp.Header.Get("Content-Length") != "7" || resp.Body != http.NoBody || resp.Header.Get("X") != "y" {
			r.Errorf("length %d, header %v, body %T", resp.ContentLength, resp.Header, resp.Body)
		}
	})
	bubble(t, berth.Policy{}, origin.Serve("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"), func(r *rig) {
		for range 2 {
			resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
			if err != nil {
				r.Fatal(err)
			}
			if resp.Body != http.NoBody || !slices.Equal(resp.TransferEncoding, []string{"chunked"}) {
				r.Errorf("body %T, transfer encoding %v", resp.Body, resp.TransferEncoding)
			}
		}
		r.wantDials(1)
	})
}

// Row 24: io.EOF comes together with the last bytes of a body whose length is
// known, so that the connection is free before the caller asks once more.
func TestEndComesWithTheLastBytes(t *testing.T) {
	for name, size := range map[string]int{"in one piece": 5, "in pieces": 100_000} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{}, origin.Serve(ok(strings.Repeat("x", size))), func(r *rig) {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if err != nil {
					r.Fatal(err)
				}
				got := 0
				for buf := make([]byte, 700); err == nil; {
					var n int
					n, err = resp.Body.Read(buf)
					got += n
					if err == io.EOF && n == 0 {
						r.Error("the end came by itself")
					}
				}
				if s := r.stats(); got != size || err != io.EOF || s.Idle != 1 {
					r.Errorf("read %d, %v; idle %d", got, err, s.Idle)
				}
			})
		})
	}
}

// Row 6: a request takes what comes first, a connection that turns free or its own
// dial; the dial's connection is kept for the next.
func TestRequestTakesWhateverIsFirst(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.get("/") })
		synctest.Wait()
		r.net.OnDial = func(context.Context, string) error { time.Sleep(3 * time.Second); return nil }
		start := time.Now()
		r.get("/")
		if d := time.Since(start); d != 2*time.Second {
			r.Errorf("served after %v, want 1s for the connection and 1s for the answer", d)
		}
		wg.Wait()
		if s := r.stats(); s.Idle != 1 || s.Dialing != 1 {
			r.Errorf("idle %d, dialing %d", s.Idle, s.Dialing)
		}
		time.Sleep(2 * time.Second)
		if s := r.stats(); s.Idle != 2 || s.Dialing != 0 {
			r.Errorf("after the dial: idle %d, dialing %d", s.Idle, s.Dialing)
		}
		r.wantDials(2)
	})
}

// Row 4: a cancellation that comes after the whole response leaves it whole.
func TestCancelAfterTheWholeResponseHarmsNothing(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve(ok("whole")), func(r *rig) {
		for range 3 {
			ctx, cancel := context.WithCancelCause(r.Context())
			resp, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
			if err != nil {
				r.Fatal(err)
			}
			cancel(errors.New("too late"))
			synctest.Wait()
			if b, err := io.ReadAll(resp.Body); string(b) != "whole" || err != nil {
				r.Errorf("body %q, %v", b, err)
			}
			resp.Body.Close()
		}
		r.wantDials(1)
	})
}

// Row 16: an answer that came is preferred to the error of writing the request.
func TestAnswerIsPreferredToTheWriteError(t *testing.T) {
	const size = 10 << 20
	for name, length := range map[string]int64{"of known length": size, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			h := func(c *origin.Conn) {
				if _, err := c.ReadHead(); err == nil {
					c.Write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				} // and closes, the body unread
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				body := &trackedBody{Reader: io.LimitReader(zeros{}, size)}
				req := r.request(r.Context(), "POST", "/", body)
				req.ContentLength = length
				resp, err := r.tr.RoundTrip(req)
				if err != nil {
					r.Fatal(err)
				}
				if b, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(b) != "no" || err != nil {
					r.Errorf("status %d, body %q, %v", resp.StatusCode, b, err)
				}
				synctest.Wait()
				if s := r.stats(); s.Idle != 0 || body.closes.Load() != 1 {
					r.Errorf("idle %d, request body closed %d times", s.Idle, body.closes.Load())
				}
			})
		})
	}
}
