package berth

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkPageSecond is what open pages cost each second, however many: a look, and the
// event for a page when everything has changed.
func BenchmarkPageSecond(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
			defer srv.Close()
			t := &Transport{}
			defer t.Close()
			for i := range 3 * n {
				req, err := http.NewRequest("GET", srv.URL, nil)
				if err != nil {
					b.Fatal(err)
				}
				resp, err := t.Group(fmt.Sprint(i % n)).RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			var f feed
			f.init(t)
			var out bytes.Buffer
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				f.since(&out, t.look(f.last.Load()), 0)
			}
			b.ReportMetric(float64(out.Len()), "B/event")
		})
	}
}
