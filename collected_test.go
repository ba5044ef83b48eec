package berth_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/berth-go/berth"
)

// Row 38: when its response has ended, nothing of an idle connection refers to a
// request, to its context, or to its response.
func TestEndedRequestsAreCollected(t *testing.T) {
	for name, size := range map[string]int{"in one piece": 10, "in pieces": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Write(make([]byte, size))
			}))
			defer srv.Close()
			tr := &berth.Transport{}
			defer tr.Close()
			type value struct{ _ [100]byte }
			type key struct{}
			do := func(body io.Reader) (weak.Pointer[http.Request], weak.Pointer[value], weak.Pointer[http.Response]) {
				v := &value{}
				ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, v))
				defer cancel()
				var h heard
				req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, h.trace()), "POST", srv.URL, body)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return weak.Make(req), weak.Make(v), weak.Make(resp)
			}
			for _, body := range []io.Reader{nil, struct{ io.Reader }{strings.NewReader("stream")}} {
				req, v, resp := do(body)
				deadline := time.NewTimer(10 * time.Second)
				defer deadline.Stop()
				for req.Value() != nil || v.Value() != nil || resp.Value() != nil {
					runtime.GC()
					select {
					case <-deadline.C:
						t.Fatalf("still there: request %v, context %v, response %v", req.Value() != nil, v.Value() != nil, resp.Value() != nil)
					default:
						runtime.Gosched()
					}
				}
			}
			ep, _ := tr.Endpoint(srv.URL)
			if s := ep.Stats(); s.Idle != 1 {
				t.Errorf("idle %d; want the connection still there", s.Idle)
			}
		})
	}
}
