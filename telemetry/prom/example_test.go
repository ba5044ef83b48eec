package prom_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/telemetry/prom"
)

func ExampleNew() {
	tr := &berth.Transport{}
	defer tr.Close()
	c, err := prom.New(tr, prom.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})

	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for range 3 {
		resp, err := (&http.Client{Transport: tr}).Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}

	w := httptest.NewRecorder()
	metrics.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if name, labels, _ := strings.Cut(line, "{"); name == "berth_pool_requests_total" || name == "berth_pool_reused_total" {
			fmt.Print(name, " ", labels[strings.Index(labels, "} ")+2:])
		}
	}
	// Output:
	// berth_pool_requests_total 3
	// berth_pool_reused_total 2
}
