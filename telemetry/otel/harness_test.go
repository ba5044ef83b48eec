package otelberth_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// rig is a transport with telemetry and a scripted origin, over the in-memory network.
type rig struct {
	*testing.T
	net *memnet.Network
	tel *otelberth.Telemetry
	tr  *berth.Transport
	c   *http.Client // over the handler

	reader *sdkmetric.ManualReader
	spans  *tracetest.InMemoryExporter
	tracer trace.Tracer // the program's own

	origins []*origin.Origin
}

const rigURL = "http://origin.test"

// bubble runs f in a bubble where time is exact.
func bubble(t *testing.T, tel otelberth.Config, cfg berth.Config, h origin.Handler, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, tel, cfg)
		r.listen("origin.test:80", h)
		f(r)
		r.close()
	})
}

func newRig(t *testing.T, tel otelberth.Config, cfg berth.Config) *rig {
	t.Helper()
	r := &rig{T: t, net: &memnet.Network{}, spans: tracetest.NewInMemoryExporter()}
	tp := tracers(r.spans)
	r.tracer = tp.Tracer("test")
	tel.MeterProvider = r.meters()
	tel.TracerProvider = tp
	var err error
	if r.tel, err = otelberth.New(tel); err != nil {
		t.Fatal(err)
	}
	cfg.DialContext, cfg.Proxy, cfg.Trace = r.net.DialContext, berth.NoProxy, r.tel.Trace()
	if r.tr, err = berth.New(cfg); err != nil {
		t.Fatal(err)
	}
	r.tel.Observe(r.tr)
	r.c = &http.Client{Transport: r.tel.Handler()(r.tr)}
	return r
}

// meters returns a provider that collect reads, and the last one only.
func (r *rig) meters() *sdkmetric.MeterProvider {
	r.reader = sdkmetric.NewManualReader()
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
}

func tracers(e sdktrace.SpanExporter, options ...sdktrace.TracerProviderOption) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(append(options, sdktrace.WithSyncer(e))...)
}

// listen serves at an address.
func (r *rig) listen(addr string, h origin.Handler) {
	r.Helper()
	ln, err := r.net.Listen(addr)
	if err != nil {
		r.Fatal(err)
	}
	r.origins = append(r.origins, origin.New(ln).Handle(h))
}

func (r *rig) close() {
	r.Helper()
	r.tr.Close()
	for _, o := range r.origins {
		o.Close()
	}
	synctest.Wait()
	if err := r.tel.Close(); err != nil {
		r.Error(err)
	}
}

// do sends a GET and reads its body.
func (r *rig) do(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := r.c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (r *rig) get(path string) {
	r.Helper()
	if err := r.do(r.Context(), rigURL+path); err != nil {
		r.Errorf("GET %s: %v", path, err)
	}
}

// traced is do within a span, which it returns the context of.
func (r *rig) traced(ctx context.Context, url string) (trace.SpanContext, error) {
	ctx, span := r.tracer.Start(ctx, "GET", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	return span.SpanContext(), r.do(ctx, url)
}

// ---- metrics ----

// collect returns all metrics by name.
func (r *rig) collect() map[string]metricdata.Metrics {
	r.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.reader.Collect(context.Background(), &rm); err != nil {
		r.Fatal(err)
	}
	all := map[string]metricdata.Metrics{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			all[m.Name] = m
		}
	}
	return all
}

// point is a value with its attributes; of a histogram, the count and the sum.
type point struct {
	attrs attribute.Set
	n     int64
	sum   float64
}

func points(m metricdata.Metrics) (list []point) {
	switch d := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			list = append(list, point{p.Attributes, p.Value, float64(p.Value)})
		}
	case metricdata.Sum[float64]:
		for _, p := range d.DataPoints {
			list = append(list, point{p.Attributes, 1, p.Value})
		}
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			list = append(list, point{p.Attributes, 1, p.Value})
		}
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			list = append(list, point{p.Attributes, int64(p.Count), p.Sum})
		}
	}
	return list
}

// sumOf adds up the points of a metric that have these attributes, "key=value" each.
func (r *rig) sumOf(name string, attrs ...string) (n int64, sum float64) {
	r.Helper()
	for _, p := range points(r.collect()[name]) {
		if has(p.attrs, attrs) {
			n += p.n
			sum += p.sum
		}
	}
	return n, sum
}

func has(set attribute.Set, attrs []string) bool {
	for _, a := range attrs {
		key, value, _ := strings.Cut(a, "=")
		v, ok := set.Value(attribute.Key(key))
		if !ok || v.String() != value {
			return false
		}
	}
	return true
}

// want checks sums of a metric.
func (r *rig) want(want int64, name string, attrs ...string) {
	r.Helper()
	if n, _ := r.sumOf(name, attrs...); n != want {
		r.Errorf("%s %v is %d, want %d", name, attrs, n, want)
	}
}

// ---- spans ----

// named returns the spans of a name that have ended.
func (r *rig) named(name string) (list tracetest.SpanStubs) {
	for _, s := range r.spans.GetSpans() {
		if s.Name == name {
			list = append(list, s)
		}
	}
	return list
}

// only returns the only span of a name.
func (r *rig) only(name string) tracetest.SpanStub {
	r.Helper()
	list := r.named(name)
	if len(list) != 1 {
		r.Fatalf("%d spans %q, want one; there are %v", len(list), name, r.names())
	}
	return list[0]
}

func (r *rig) names() (list []string) {
	for _, s := range r.spans.GetSpans() {
		list = append(list, s.Name)
	}
	return list
}

// attr returns an attribute of a span as text; "" without it.
func attr(s tracetest.SpanStub, key string) string {
	set := attribute.NewSet(s.Attributes...)
	v, ok := set.Value(attribute.Key(key))
	if !ok {
		return ""
	}
	return v.String()
}

// ok answers with a body.
func ok(body string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body }

const ms = time.Millisecond
