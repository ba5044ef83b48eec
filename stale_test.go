package berth_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// blind is a connection that says nothing about itself: no descriptor, and no way
// to ask whether there is something to read.
type blind struct{ net.Conn }

// A connection that the server closed while it was idle carries no further
// request, with or without a descriptor: a POST, which is not sent twice, reaches
// a new one.
func TestClosedIdleConnectionIsNotUsed(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"one that can be asked": func(c net.Conn) net.Conn { return c },
		"one that cannot":       func(c net.Conn) net.Conn { return blind{c} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r *rig
				r = newRig(t, berth.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := r.net.DialContext(ctx, network, addr)
					if err != nil {
						return nil, err
					}
					return wrap(c), nil
				}}, origin.CloseAfter(1, ok("a")))
				for i := range 3 {
					resp, err := r.tr.RoundTrip(r.request(r.Context(), "POST", "/", strings.NewReader("x")))
					if err != nil {
						t.Fatalf("request %d: %v", i, err)
					}
					io.Copy(io.Discard, resp.Body)
					time.Sleep(1500 * time.Millisecond) // before the sweep
				}
				r.wantDials(3)
				time.Sleep(10 * time.Second)
				if s := r.stats(); s.Idle != 0 || s.Closes["peer"] != 3 {
					t.Errorf("idle %d, closes %v", s.Idle, s.Closes)
				}
				r.close()
			})
		})
	}
}

// The same over net.Pipe, on which nothing is buffered: the look shows the end at
// once.
func TestClosedIdlePipeIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		tr, err := berth.New(berth.Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
			dials++
			c, s := net.Pipe()
			go func() { // ends with its one request
				defer s.Close()
				buf := make([]byte, 4096)
				for got := ""; !strings.HasSuffix(got, "\r\n\r\nx"); {
					n, err := s.Read(buf)
					if err != nil {
						return
					}
					got += string(buf[:n])
				}
				io.WriteString(s, ok("a"))
			}()
			return c, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			req, _ := http.NewRequest("POST", "http://origin.test/", strings.NewReader("x"))
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			synctest.Wait()
			time.Sleep(2 * time.Millisecond)
		}
		if dials != 3 {
			t.Errorf("%d dials", dials)
		}
		tr.Close()
	})
}
