package berth_test

import (
	"context"
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
