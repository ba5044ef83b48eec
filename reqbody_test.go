package berth_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// deaf is a body whose Read blocks until end is closed, whatever Close says: what
// http.NewRequest makes of a reader that is no closer.
type deaf struct{ end chan struct{} }

func (d deaf) Read([]byte) (int, error) { <-d.end; return 0, io.EOF }

// A body that blocks in Read and does not hear its Close keeps a goroutine, which
// nobody can help, but no connection: the next request gets its slot.
func TestBodyThatIgnoresItsCloseHoldsNoSlot(t *testing.T) {
	for _, tc := range []struct {
		name   string
		h      origin.Handler
		cancel bool
	}{
		{"cancelled", (*origin.Conn).Stall, true},
		{"answered early", origin.Early(ok("early")), false},
		{"answered early, to be closed", origin.Early("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first := func(c *origin.Conn) {
				if c.N() == 0 {
					tc.h(c)
					return
				}
				origin.Serve(ok("next"))(c)
			}
			bubble(t, berth.Policy{MaxConns: 1}, first, func(r *rig) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				if tc.cancel {
					time.AfterFunc(time.Second, cancel)
				}
				body := deaf{make(chan struct{})}
				defer close(body.end)
				req := r.request(ctx, "POST", "/", io.MultiReader(strings.NewReader("a"), body))
				resp, err := r.tr.RoundTrip(req)
				if (err != nil) != tc.cancel {
					r.Errorf("error %v", err)
				}
				if resp != nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Second)
				if s := r.stats(); s.Leased+s.Draining != 0 {
					r.Errorf("%d leased, %d draining while the body still blocks", s.Leased, s.Draining)
				}
				wait, end := context.WithTimeout(r.Context(), time.Minute)
				defer end()
				if resp, err := r.tr.RoundTrip(r.request(wait, "GET", "/", nil)); err != nil {
					r.Errorf("the next request: %.60v", err)
				} else if b, _ := io.ReadAll(resp.Body); string(b) != "next" {
					r.Errorf("the next request's body: %q", b)
				}
			})
		})
	}
}

// Row 2: the body is closed as well when the request never gets a connection.
func TestBodyIsClosedWithoutAConnection(t *testing.T) {
	cause := errors.New("the user left")
	for _, tc := range []struct {
		name string
		run  func(r *rig, send func(context.Context) error)
	}{
		{"cancelled before", func(r *rig, send func(context.Context) error) {
			ctx, cancel := context.WithCancelCause(r.Context())
			cancel(cause)
			if err := send(ctx); err != cause {
				r.Errorf("error %v", err)
			}
		}},
		{"refused", func(r *rig, send func(context.Context) error) {
			r.net.OnDial = func(context.Context, string) error { return cause }
			if err := send(r.Context()); !errors.Is(err, cause) {
				r.Errorf("error %v", err)
			}
		}},
		{"queue full", func(r *rig, send func(context.Context) error) {
			r.hold("/")
			if _, is := errors.AsType[*berth.QueueFullError](send(r.Context())); !is {
				r.Error("no QueueFullError")
			}
		}},
		{"transport closed", func(r *rig, send func(context.Context) error) {
			r.tr.Close()
			if err := send(r.Context()); !errors.Is(err, berth.ErrClosed) {
				r.Errorf("error %v", err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, berth.Policy{MaxConns: 1, MaxWaiters: -1}, halfAnswer, func(r *rig) {
				tc.run(r, func(ctx context.Context) error {
					body := &trackedBody{Reader: strings.NewReader("x")}
					_, err := r.tr.RoundTrip(r.request(ctx, "POST", "/", body))
					if n := body.closes.Load(); n != 1 {
						r.Errorf("body closed %d times", n)
					}
					return err
				})
			})
		})
	}
}

// A body that ends in the very moment in which its connection is given up leaves
// the books in order, whichever was first.
func TestBodyEndsAsItsConnectionIsGivenUp(t *testing.T) {
	for range 50 {
		bubble(t, berth.Policy{MaxConns: 1}, origin.Early(ok("early")), func(r *rig) {
			for range 4 {
				pr, pw := io.Pipe()
				body := &trackedBody{Reader: pr}
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "POST", "/", body))
				if err != nil {
					r.Fatal(err)
				}
				go func() { time.Sleep(55 * time.Millisecond); pw.Close() }() // 5 ms grace, then 50 ms
				io.Copy(io.Discard, resp.Body)
				time.Sleep(time.Second)
				if s := r.stats(); s.Leased+s.Draining != 0 || body.closes.Load() != 1 {
					r.Errorf("leased %d, draining %d, body closed %d times", s.Leased, s.Draining, body.closes.Load())
				}
			}
		})
	}
}
