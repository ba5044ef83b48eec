package realclients

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collecttrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/berth-go/berth"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// collector receives OTLP over HTTP, as OpenTelemetry's own does.
type collector struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []*v1.Span
	metrics map[string]int // points by metric
}

func newCollector(t *testing.T) *collector {
	c := &collector{metrics: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := c.receive(r)
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(body)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) receive(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		if b, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/v1/traces" {
		var req collecttrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &req); err != nil {
			return nil, err
		}
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
		return proto.Marshal(&collecttrace.ExportTraceServiceResponse{})
	}
	var req collectmetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(b, &req); err != nil {
		return nil, err
	}
	for _, rm := range req.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.metrics[m.Name] += len(m.GetSum().GetDataPoints()) + len(m.GetHistogram().GetDataPoints()) + len(m.GetGauge().GetDataPoints())
			}
		}
	}
	return proto.Marshal(&collectmetrics.ExportMetricsServiceResponse{})
}

func (c *collector) named(name string) (list []*v1.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name {
			list = append(list, s)
		}
	}
	return list
}

// What a collector gets of two requests over one connection, through OpenTelemetry's own
// exporters: the request that waited has its wait, both are linked with the dial, which is a
// trace of its own, and the metrics are there once.
func TestOTLP(t *testing.T) {
	c := newCollector(t)
	ctx := t.Context()
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.URL+"/v1/traces"))
	if err != nil {
		t.Fatal(err)
	}
	points, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(c.URL+"/v1/metrics"), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans))
	mp := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points)))
	tel, err := otelberth.New(otelberth.Config{MeterProvider: mp, TracerProvider: tp})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, Policy: berth.Policy{MaxConns: 1}, Trace: tel.Trace()})
	if err != nil {
		t.Fatal(err)
	}
	tel.Observe(tr)
	client := &http.Client{Transport: berth.Wrap(otelhttp.NewTransport(tr, otelhttp.WithTracerProvider(tp), otelhttp.WithMeterProvider(mp)), tr)}

	ep, begun := make(chan *berth.Endpoint, 1), make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" { // until the other one waits
			begun <- true
			e := <-ep
			for e.Stats().Waiting == 0 && r.Context().Err() == nil {
				runtime.Gosched()
			}
		}
		io.WriteString(w, "a")
	}))
	defer srv.Close()
	get := func(path string) {
		req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+path, nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	e, err := tr.Endpoint(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { get("/first") })
	ep <- e
	<-begun
	wg.Go(func() { get("/second") })
	wg.Wait()
	if err := mp.ForceFlush(context.Background()); err != nil {
		t.Fatal(err)
	}
	tr.Close()
	for _, shutdown := range []func(context.Context) error{tp.Shutdown, mp.Shutdown} {
		if err := shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
	}

	host := srv.Listener.Addr().String()
	requests, waits, setups := c.named("HTTP GET"), c.named("HTTP wait_for_connection "+host), c.named("HTTP connection_setup "+host)
	if len(requests) != 2 || len(waits) != 2 || len(setups) != 1 {
		t.Fatalf("%d requests, %d waits, %d setups in %v", len(requests), len(waits), len(setups), c.spans)
	}
	if len(setups[0].ParentSpanId) != 0 {
		t.Errorf("the dial has a parent: %v", setups[0])
	}
	waited := map[string]bool{}
	for _, w := range waits {
		waited[string(w.ParentSpanId)] = true
	}
	for _, r := range requests {
		if !waited[string(r.SpanId)] || bytes.Equal(r.TraceId, setups[0].TraceId) {
			t.Errorf("request %x has no wait", r.SpanId)
		}
		if len(r.Links) != 1 || !bytes.Equal(r.Links[0].SpanId, setups[0].SpanId) || !bytes.Equal(r.Links[0].TraceId, setups[0].TraceId) {
			t.Errorf("request %x has the links %v", r.SpanId, r.Links)
		}
	}
	connects := c.named("TCP connect")
	if len(connects) != 1 || !bytes.Equal(connects[0].ParentSpanId, setups[0].SpanId) || connects[0].StartTimeUnixNano < setups[0].StartTimeUnixNano ||
		connects[0].EndTimeUnixNano > setups[0].EndTimeUnixNano {
		t.Errorf("connects %v", connects)
	}
	for name, n := range map[string]int{"http.client.open_connections": 2, "http.client.active_requests": 1, "http.client.request.time_in_queue": 1,
		"berth.pool.waiting": 1, "berth.pool.connections.max": 1, "http.client.request.duration": 1} {
		if got := c.metrics[name]; got < n {
			t.Errorf("%d points of %s, want %d", got, name, n)
		}
	}
	if n := c.metrics["http.client.connection.duration"]; n < 1 { // with the last export
		t.Errorf("%d points of the connection's duration", n)
	}
}
