package otelberth_test

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// loopback is an origin over a real socket, and what sends a GET to it.
func loopback(tb testing.TB, trace *berth.Trace) (tr *berth.Transport, get func(context.Context)) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	o := origin.Fast(ln, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n"+strings.Repeat("x", 128)), 0)
	tb.Cleanup(func() { o.Close() })
	if tr, err = berth.New(berth.Config{Proxy: berth.NoProxy, Trace: trace}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { tr.Close() })
	template, err := http.NewRequest("GET", "http://"+ln.Addr().String()+"/path", nil)
	if err != nil {
		tb.Fatal(err)
	}
	buf := make([]byte, 1024)
	var rt http.RoundTripper = tr
	return tr, func(ctx context.Context) {
		resp, err := rt.RoundTrip(template.WithContext(ctx))
		if err != nil {
			tb.Fatal(err)
		}
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		if err != io.EOF {
			tb.Fatal(err)
		}
		resp.Body.Close()
	}
}

func telemetry(tb testing.TB, tp trace.TracerProvider) *otelberth.Telemetry {
	tel, err := otelberth.New(otelberth.Config{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())), TracerProvider: tp})
	if err != nil {
		tb.Fatal(err)
	}
	return tel
}

// A request on a connection that is open allocates nothing more with metrics and traces,
// unless its span is recorded.
func TestAllocationsOfAGetWithTelemetry(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items under the race detector; .ci/run has a pass without it")
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	ctx, span := tp.Tracer("test").Start(t.Context(), "GET")
	defer span.End()
	least := func(tr *berth.Trace) float64 {
		_, get := loopback(t, tr)
		get(ctx)
		n := math.Inf(1)
		for range 5 {
			n = min(n, testing.AllocsPerRun(100, func() { get(ctx) }))
		}
		return n
	}
	without, with := least(nil), least(telemetry(t, tp).Trace())
	if with > without || without == 0 {
		t.Errorf("%v allocations a request, %v without telemetry", with, without)
	}
}

// BenchmarkGet is a GET over loopback: each kind of span with and without telemetry. What a
// span itself costs is in both.
func BenchmarkGet(b *testing.B) {
	for name, sampler := range map[string]sdktrace.Sampler{"none": nil, "dropped": sdktrace.NeverSample(), "recording": sdktrace.AlwaysSample()} {
		for _, on := range []bool{false, true} {
			title := "span=" + name + "/telemetry=off"
			if on {
				title = "span=" + name + "/telemetry=on"
			}
			b.Run(title, func(b *testing.B) {
				tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))
				var hooks *berth.Trace
				tel := telemetry(b, tp)
				if on {
					hooks = tel.Trace()
				}
				tr, get := loopback(b, hooks)
				defer tel.Observe(tr)()
				tracer := tp.Tracer("test")
				b.ReportAllocs()
				for b.Loop() {
					if sampler == nil {
						get(b.Context())
						continue
					}
					ctx, span := tracer.Start(b.Context(), "GET")
					get(ctx)
					span.End()
				}
			})
		}
	}
}

// BenchmarkAcquired is what telemetry does for a request that found a connection at once, by
// what becomes of its span.
func BenchmarkAcquired(b *testing.B) {
	for name, sampler := range map[string]sdktrace.Sampler{"none": nil, "dropped": sdktrace.NeverSample(), "recording": sdktrace.AlwaysSample()} {
		b.Run("span="+name, func(b *testing.B) {
			tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))
			hooks := telemetry(b, tp).Trace()
			conn := berth.ConnInfo{ID: 1}
			hooks.Dialed(berth.DialInfo{Conn: conn})
			tracer := tp.Tracer("test")
			i := berth.AcquireInfo{Context: b.Context(), Conn: conn}
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				if n++; sampler != nil && n%100 == 1 { // a span has room for 128 links
					i.Context, _ = tracer.Start(b.Context(), "GET")
				}
				hooks.Acquired(i)
			}
		})
	}
}

// BenchmarkDuration is what http.client.request.duration costs, where it was asked for.
func BenchmarkDuration(b *testing.B) {
	tel, err := otelberth.New(otelberth.Config{RequestDuration: true, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))})
	if err != nil {
		b.Fatal(err)
	}
	resp := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1}
	rt := tel.Handler()(fixed{resp})
	req, err := http.NewRequest("GET", "http://origin.test/path", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		rt.RoundTrip(req)
	}
}

type fixed struct{ resp *http.Response }

func (f fixed) RoundTrip(*http.Request) (*http.Response, error) { return f.resp, nil }
