package prom_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/telemetry/prom"
)

// What a scrape costs: the collector's own part, and all that /metrics does, text included.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		r := newRig(b, berth.Config{}, prom.Config{}, origin.Serve(answer))
		for i := range n {
			for range 3 {
				r.get(fmt.Sprintf("http://h%d.test/", i))
			}
		}
		c, err := prom.New(r.tr, prom.Config{})
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, f func()) {
			b.Run(fmt.Sprintf("%s/endpoints=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/endpoint")
			})
		}
		run("collect", func() {
			ch := make(chan prometheus.Metric, 1000)
			go func() { c.Collect(ch); close(ch) }()
			for range ch {
			}
		})
		reg := prometheus.NewRegistry()
		reg.MustRegister(c)
		h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
		req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		run("handler", func() { h.ServeHTTP(discard{http.Header{}}, req) })
		r.close()
	}
}

// discard is a response that nobody reads.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (d discard) WriteHeader(int)             {}
