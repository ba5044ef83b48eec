package realclients

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/resilience"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// traced is a transport whose spans, and those of otelhttp, can be looked at.
type traced struct {
	tr       *berth.Transport
	tp       *sdktrace.TracerProvider
	exporter *tracetest.InMemoryExporter
}

func newTraced(t *testing.T, cfg berth.Config) *traced {
	t.Helper()
	x := &traced{exporter: tracetest.NewInMemoryExporter()}
	x.tp = sdktrace.NewTracerProvider(sdktrace.WithSyncer(x.exporter))
	tel, err := otelberth.New(otelberth.Config{TracerProvider: x.tp})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Proxy, cfg.Trace = berth.NoProxy, tel.Trace()
	if x.tr, err = berth.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.tr.Close() })
	return x
}

// otelhttp goes around a RoundTripper.
func (x *traced) otelhttp(next http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(x.tp))
}

func (x *traced) named(name string) (list tracetest.SpanStubs) {
	for _, s := range x.exporter.GetSpans() {
		if s.Name == name {
			list = append(list, s)
		}
	}
	return list
}

// Outside of retries otelhttp has one span for all attempts, inside one for each; the waits
// and links are those of the span that is nearest.
func TestOrderOfOtelhttpAndRetries(t *testing.T) {
	for _, inside := range []bool{false, true} {
		t.Run(fmt.Sprint("inside=", inside), func(t *testing.T) {
			var n atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) < 3 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			defer srv.Close()
			x := newTraced(t, berth.Config{})
			retry, err := resilience.Retry{Delay: time.Millisecond}.Handler()
			if err != nil {
				t.Fatal(err)
			}
			rt, spans := x.otelhttp(retry(x.tr)), 1
			if inside {
				rt, spans = retry(x.otelhttp(x.tr)), 3
			}
			resp, err := (&http.Client{Transport: rt}).Get(srv.URL)
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			resp.Body.Close()
			requests, waits := x.named("HTTP GET"), x.named("HTTP wait_for_connection "+srv.Listener.Addr().String())
			if len(requests) != spans || len(waits) != 1 {
				t.Fatalf("%d spans of requests, want %d; %d waits", len(requests), spans, len(waits))
			}
			links := 0
			for _, s := range requests {
				links += len(s.Links)
			}
			if links != 3 {
				t.Errorf("%d links, want one an attempt", links)
			}
			if waits[0].Parent.SpanID() != requests[0].SpanContext.SpanID() {
				t.Errorf("the wait's parent is %v, not the first attempt", waits[0].Parent)
			}
		})
	}
}

// otelhttp hides CloseIdleConnections, which Wrap brings back.
func TestCloseIdleConnectionsThroughOtelhttp(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	for _, wrapped := range []bool{false, true} {
		x := newTraced(t, berth.Config{})
		client := &http.Client{Transport: x.otelhttp(x.tr)}
		if wrapped {
			client.Transport = berth.Wrap(client.Transport, x.tr)
		}
		resp, err := client.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		client.CloseIdleConnections()
		ep, err := x.tr.Endpoint(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if idle := ep.Stats().Idle; (idle == 0) != wrapped {
			t.Errorf("wrapped %v: %d idle connections", wrapped, idle)
		}
	}
}

// A response that is forgotten, body and all, has a span of otelhttp's that nobody ends: it
// ends when the body is found. A span of the program's around the request is left alone.
func TestSpanOfAForgottenBodyEnds(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2=", http2), func(t *testing.T) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "begin")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}))
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			defer srv.Close()
			x := newTraced(t, berth.Config{TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
			ctx, own := x.tp.Tracer("test").Start(context.Background(), "own", trace.WithSpanKind(trace.SpanKindClient),
				trace.WithAttributes(attribute.String("rpc.system", "other")))
			forget(t, ctx, x.otelhttp(x.tr), srv.URL)
			forget(t, ctx, x.tr, srv.URL) // without otelhttp
			deadline := time.NewTimer(20 * time.Second)
			defer deadline.Stop()
			ep, err := x.tr.Endpoint(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			for ep.Stats().Leaks.Reclaimed < 2 {
				runtime.GC()
				select {
				case <-deadline.C:
					t.Fatalf("%+v", ep.Stats().Leaks)
				default:
					runtime.Gosched()
				}
			}
			for len(x.named("HTTP GET")) == 0 {
				select {
				case <-deadline.C:
					t.Fatal("the span has not ended")
				default:
					runtime.Gosched()
				}
			}
			spans := x.named("HTTP GET")
			if len(spans) != 1 || spans[0].Status.Code != codes.Error || len(spans[0].Events) != 1 || spans[0].Events[0].Name != "berth.response.forgotten" {
				t.Errorf("%+v", spans)
			}
			if !own.IsRecording() || len(x.named("own")) != 0 {
				t.Error("the program's own span has ended")
			}
			own.End()
		})
	}
}

// forget sends a GET and drops the response.
//
//go:noinline
func forget(t *testing.T, ctx context.Context, rt http.RoundTripper, url string) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp
}
