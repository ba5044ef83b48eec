package otelberth_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/berth-go/berth"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// Over HTTP/2 one connection is in use however many requests it carries; each of them is
// counted, and linked with its setup.
func TestHTTP2(t *testing.T) {
	const requests = 5
	arrived, hold := make(chan bool, requests), make(chan bool)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- true
		<-hold
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	r := &rig{T: t, spans: tracetest.NewInMemoryExporter()}
	tp := tracers(r.spans)
	r.tracer = tp.Tracer("test")
	var err error
	if r.tel, err = otelberth.New(otelberth.Config{MeterProvider: r.meters(), TracerProvider: tp}); err != nil {
		t.Fatal(err)
	}
	defer r.tel.Close()
	r.tr, err = berth.New(berth.Config{Proxy: berth.NoProxy, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig, Trace: r.tel.Trace()})
	if err != nil {
		t.Fatal(err)
	}
	r.tel.Observe(r.tr)
	r.c = &http.Client{Transport: r.tr}
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if _, err := r.traced(t.Context(), srv.URL); err != nil {
				t.Error(err)
			}
		})
	}
	for range requests {
		<-arrived
	}
	r.want(1, "http.client.open_connections", "http.connection.state=active", "network.protocol.version=2")
	r.want(1, "http.client.open_connections")
	r.want(requests, "http.client.active_requests", "server.address=127.0.0.1")
	r.want(requests, "http.client.request.time_in_queue", "network.protocol.version=2")
	close(hold)
	wg.Wait()
	r.want(0, "http.client.active_requests")
	r.tr.Close()
	r.want(1, "http.client.connection.duration", "network.protocol.version=2")
	s := r.only("HTTP connection_setup " + srv.Listener.Addr().String())
	if attr(s, "network.protocol.version") != "2" {
		t.Errorf("%v", s.Attributes)
	}
	all := r.named("GET")
	if len(all) != requests {
		t.Errorf("%d requests", len(all))
	}
	for _, q := range all {
		wantLink(t, q, s)
	}
}
