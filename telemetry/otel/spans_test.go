package otelberth_test

import (
	"context"
	"crypto/tls"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

const (
	waitSpan  = "HTTP wait_for_connection origin.test:80"
	setupSpan = "HTTP connection_setup origin.test:80"
)

// A request that waits has a span for that, in its own trace, for exactly as long; one that
// finds a connection has none.
func TestWaitSpan(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{Policy: berth.Policy{MaxConns: 1}}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		r.get("/") // in no trace: its wait for the dial has no span
		if n := len(r.named(waitSpan)); n != 0 {
			r.Fatalf("%d waits of a request in no trace", n)
		}
		begin := time.Now()
		first, err := r.traced(r.Context(), rigURL)
		if err != nil {
			r.Fatal(err)
		}
		if n := len(r.named(waitSpan)); n != 0 {
			r.Fatalf("%d waits; the connection was free", n)
		}
		go r.get("/")
		time.Sleep(300 * ms)
		second, err := r.traced(r.Context(), rigURL)
		if err != nil {
			r.Fatal(err)
		}
		s := r.only(waitSpan)
		if s.Parent.SpanID() != second.SpanID() || s.SpanContext.TraceID() != second.TraceID() || second.TraceID() == first.TraceID() ||
			s.SpanKind != trace.SpanKindInternal {
			r.Errorf("the wait's parent is %v, the requests %v and %v", s.Parent, first, second)
		}
		if from := begin.Add(1300 * ms); !s.StartTime.Equal(from) || s.EndTime.Sub(s.StartTime) != 700*ms {
			r.Errorf("the wait was from %v for %v, want from %v", s.StartTime, s.EndTime.Sub(s.StartTime), from)
		}
		if attr(s, "server.address") != "origin.test" || attr(s, "server.port") != "80" || s.Status.Code != codes.Unset {
			r.Errorf("%v, %v", s.Attributes, s.Status)
		}
	})
}

// A wait that ends without a connection has a span that says so.
func TestWaitSpanOfARequestThatGaveUp(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{Policy: berth.Policy{MaxConns: 1, MaxWaiters: 1}}, origin.Latency(10*time.Second, ok("a")), func(r *rig) {
		go r.get("/")
		time.Sleep(ms)
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		sc, err := r.traced(ctx, rigURL)
		if err == nil {
			r.Fatal("no error")
		}
		s := r.only(waitSpan)
		if s.Parent.SpanID() != sc.SpanID() || s.EndTime.Sub(s.StartTime) != 2*time.Second || s.Status.Code != codes.Error ||
			s.Status.Description != "berth.AcquireTimeoutError" || attr(s, "error.type") != "berth.AcquireTimeoutError" {
			r.Errorf("%+v", s)
		}
		if _, err := r.traced(berth.WithoutQueue(r.Context()), rigURL); err == nil {
			r.Error("no error")
		}
		r.only(waitSpan) // who is turned away at once did not wait
		time.Sleep(10 * time.Second)
	})
}

// A dial is a trace of its own, with its parts in it at exact times; the requests that its
// connection serves are linked with it, all of them.
func TestConnectionSetupSpan(t *testing.T) {
	_, roots := origin.Cert()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, otelberth.Config{}, berth.Config{
			TLS: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", VerifyConnection: func(tls.ConnectionState) error { time.Sleep(50 * ms); return nil }},
			Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
				time.Sleep(10 * ms)
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Hour, nil
			}})
		r.net.OnDial = func(context.Context, string) error { time.Sleep(20 * ms); return nil }
		ln, err := r.net.Listen("127.0.0.1:443")
		if err != nil {
			t.Fatal(err)
		}
		r.origins = append(r.origins, origin.New(origin.TLS(ln)).Handle(origin.Serve(ok("a"))))
		begin := time.Now()
		var requests []trace.SpanContext
		for range 3 {
			sc, err := r.traced(t.Context(), "https://named.test/")
			if err != nil {
				t.Fatal(err)
			}
			requests = append(requests, sc)
		}
		s := r.only("HTTP connection_setup named.test:443")
		if s.Parent.IsValid() || s.SpanContext.TraceID() == requests[0].TraceID() || s.SpanKind != trace.SpanKindInternal {
			t.Errorf("the setup has the parent %v", s.Parent)
		}
		if !s.StartTime.Equal(begin) || s.EndTime.Sub(begin) != 80*ms || attr(s, "network.protocol.version") != "1.1" ||
			attr(s, "berth.dial.reason") != "demand" || attr(s, "server.port") != "443" {
			t.Errorf("the setup took %v: %v", s.EndTime.Sub(s.StartTime), s.Attributes)
		}
		for name, when := range map[string][2]time.Duration{"DNS lookup": {0, 10 * ms}, "TCP connect": {10 * ms, 30 * ms}, "TLS handshake": {30 * ms, 80 * ms}} {
			c := r.only(name)
			if c.Parent.SpanID() != s.SpanContext.SpanID() || c.StartTime.Sub(begin) != when[0] || c.EndTime.Sub(begin) != when[1] {
				t.Errorf("%s was from %v to %v, want %v", name, c.StartTime.Sub(begin), c.EndTime.Sub(begin), when)
			}
		}
		if n := len(r.named("proxy")); n != 0 {
			t.Errorf("%d spans of a proxy that there is not", n)
		}
		if all := r.named("GET"); len(all) != 3 {
			t.Errorf("%d requests", len(all))
		} else {
			for _, q := range all {
				wantLink(t, q, s)
			}
		}
		r.close()
	})
}

// wantLink checks that a request is linked with the setup of its connection, and nothing else.
func wantLink(t *testing.T, request, setup tracetest.SpanStub) {
	t.Helper()
	if len(request.Links) != 1 || request.Links[0].SpanContext.SpanID() != setup.SpanContext.SpanID() ||
		request.Links[0].SpanContext.TraceID() != setup.SpanContext.TraceID() {
		t.Errorf("links %+v, want one to %v", request.Links, setup.SpanContext)
	}
}

// A dial whose request is gone ends its span when it ends, and serves the next request,
// which is linked with it.
func TestSetupSpanOfADialWhoseRequestIsGone(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		r.net.OnDial = func(context.Context, string) error { time.Sleep(2 * time.Second); return nil }
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := r.traced(ctx, rigURL); err == nil {
			r.Fatal("no error")
		}
		if n := len(r.named(setupSpan)); n != 0 {
			r.Fatal("the dial has ended already")
		}
		time.Sleep(2 * time.Second)
		s := r.only(setupSpan)
		if s.EndTime.Sub(begin) != 2*time.Second || s.Status.Code != codes.Unset {
			r.Errorf("ended after %v, %v", s.EndTime.Sub(begin), s.Status)
		}
		if _, err := r.traced(r.Context(), rigURL); err != nil {
			r.Fatal(err)
		}
		requests := r.named("GET")
		if len(requests[0].Links) != 0 {
			r.Errorf("the request that got no connection is linked: %v", requests[0].Links)
		}
		wantLink(r.T, requests[1], s)
	})
}

// A dial that fails has a span with its error, and the part that failed too; nobody is linked
// with it.
func TestSetupSpanOfADialThatFails(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		if _, err := r.traced(r.Context(), "http://nowhere.test/"); err == nil {
			r.Fatal("no error")
		}
		s, c := r.only("HTTP connection_setup nowhere.test:80"), r.only("TCP connect")
		for _, s := range []tracetest.SpanStub{s, c} {
			if s.Status.Code != codes.Error || attr(s, "error.type") == "" || s.Status.Description != attr(s, "error.type") {
				r.Errorf("%s: %v, %v", s.Name, s.Status, s.Attributes)
			}
		}
		if q := r.only("GET"); len(q.Links) != 0 {
			r.Errorf("linked: %v", q.Links)
		}
	})
}

// Without a tracer provider there are metrics, without a meter provider spans, and Next is
// told in every case.
func TestHalves(t *testing.T) {
	for _, half := range []string{"none", "metrics", "spans"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, otelberth.Config{}, berth.Config{})
			dialed, closed := 0, 0
			cfg := otelberth.Config{Next: &berth.Trace{Dialed: func(berth.DialInfo) { dialed++ }, Closed: func(berth.CloseInfo) { closed++ }}}
			exporter := tracetest.NewInMemoryExporter()
			switch half {
			case "metrics":
				cfg.MeterProvider = r.meters()
			case "spans":
				cfg.TracerProvider = tracers(exporter)
			}
			tel, err := otelberth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := berth.New(berth.Config{DialContext: r.net.DialContext, Proxy: berth.NoProxy, Trace: tel.Trace()})
			if err != nil {
				t.Fatal(err)
			}
			tel.Observe(tr)
			r.listen("origin.test:80", origin.Serve(ok("a")))
			r.c.Transport = tel.Handler()(tr)
			if _, err := r.traced(t.Context(), rigURL); err != nil {
				t.Fatal(err)
			}
			tr.Close()
			synctest.Wait()
			n, _ := r.sumOf("berth.pool.connections.closed")
			if spans := len(exporter.GetSpans()); (spans > 0) != (half == "spans") || (n > 0) != (half == "metrics") || dialed != 1 || closed != 1 {
				t.Errorf("%s: %d spans, %d closes counted, %d and %d told", half, spans, n, dialed, closed)
			}
			if err := tel.Close(); err != nil {
				t.Error(err)
			}
			r.close()
		})
	}
}

// A setup that is not sampled is nothing to be linked with.
func TestSetupThatIsNotSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, otelberth.Config{}, berth.Config{})
		exporter := tracetest.NewInMemoryExporter()
		tel, err := otelberth.New(otelberth.Config{TracerProvider: tracers(exporter, sdktrace.WithSampler(sdktrace.NeverSample()))})
		if err != nil {
			t.Fatal(err)
		}
		tr, err := berth.New(berth.Config{DialContext: r.net.DialContext, Proxy: berth.NoProxy, Trace: tel.Trace()})
		if err != nil {
			t.Fatal(err)
		}
		r.listen("origin.test:80", origin.Serve(ok("a")))
		r.c.Transport = tr
		if _, err := r.traced(t.Context(), rigURL); err != nil {
			t.Fatal(err)
		}
		if q := r.only("GET"); len(q.Links) != 0 || len(exporter.GetSpans()) != 0 {
			t.Errorf("links %v, spans %v", q.Links, exporter.GetSpans())
		}
		tr.Close()
		r.close()
	})
}
