package resilience

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// Over a pool a hedge takes another connection if there is one, and leaves the queue alone
// if not; what was outrun gives its own back.
func TestHedgeOverAPool(t *testing.T) {
	for _, c := range []struct {
		name     string
		max      int
		body     string
		took     time.Duration
		requests int
		refused  []string
	}{
		{"room for both", 2, "second", 3 * time.Second, 2, nil},
		{"room for one", 1, "first", 5 * time.Second, 1, []string{"queue"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{}
				ln, err := n.Listen("origin.test:80")
				if err != nil {
					t.Fatal(err)
				}
				var mu sync.Mutex
				conns := 0
				o := origin.New(ln).Handle(func(conn *origin.Conn) {
					mu.Lock()
					conns++
					first := conns == 1
					mu.Unlock()
					for {
						if _, err := conn.ReadRequest(); err != nil {
							return
						}
						if first {
							conn.Sleep(5 * time.Second)
							conn.Write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
						} else {
							conn.Sleep(time.Second)
							conn.Write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
						}
					}
				})
				defer o.Close()
				tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: c.max}, DialContext: n.DialContext})
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				var refused []string
				rt := over(t, Hedge{Trace: &Trace{Reject: func(i RejectInfo) {
					mu.Lock()
					defer mu.Unlock()
					refused = append(refused, i.Why)
				}}}, tr)
				start := time.Now()
				resp, err := rt.RoundTrip(stubRequest(t, t.Context(), "GET", "http://origin.test/", strings.NewReader("")))
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(start)
				b, err := io.ReadAll(resp.Body)
				if err != nil || string(b) != c.body || took != c.took {
					t.Errorf("%q after %v: %v; want %q after %v", b, took, err, c.body, c.took)
				}
				synctest.Wait()
				if got := o.Stats().Requests; got != c.requests {
					t.Errorf("the origin read %d requests, want %d", got, c.requests)
				}
				mu.Lock()
				defer mu.Unlock()
				if !slices.Equal(refused, c.refused) {
					t.Errorf("refused %v, want %v", refused, c.refused)
				}
				ep, err := tr.Endpoint("http://origin.test")
				if err != nil {
					t.Fatal(err)
				}
				if s := ep.Stats(); s.Leased != 0 || s.Waiting != 0 || s.Idle != 1 {
					t.Errorf("the pool holds %d leased, %d waiting, %d idle; want one idle", s.Leased, s.Waiting, s.Idle)
				}
			})
		})
	}
}
