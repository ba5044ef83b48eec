package otelberth

import (
	"context"
	"net"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-go/berth"
)

// hostPort is a server as spans are named after it.
func hostPort(s berth.Server) string {
	if s.Port == "" {
		return s.Host
	}
	return net.JoinHostPort(s.Host, s.Port)
}

// setupSpan tells of a dial that has ended: a trace of its own, since it may serve other
// requests than the one that caused it. It returns what requests are linked with; zero when
// nobody takes it.
func (t *Telemetry) setupSpan(i *berth.DialInfo) trace.SpanContext {
	attrs := append(describe(i.Server), keyWhy.String(i.Why))
	if i.Err == nil {
		attrs = append(attrs, keyVersion.String(version(i.HTTP2)))
	}
	ctx, span := t.tracer.Start(context.Background(), "HTTP connection_setup "+hostPort(i.Server),
		trace.WithTimestamp(i.Start), trace.WithAttributes(attrs...))
	if span.IsRecording() {
		t.phaseSpan(ctx, "DNS lookup", i.Name, i.Err)
		t.phaseSpan(ctx, "TCP connect", i.Connect, i.Err)
		t.phaseSpan(ctx, "proxy", i.Proxy, i.Err)
		t.phaseSpan(ctx, "TLS handshake", i.TLS, i.Err)
	}
	failed(span, i.Err)
	span.End(trace.WithTimestamp(i.Start.Add(i.Duration)))
	if c := span.SpanContext(); c.IsSampled() {
		return c
	}
	return trace.SpanContext{}
}

// phaseSpan tells of a part of a dial. err is the dial's.
func (t *Telemetry) phaseSpan(ctx context.Context, name string, p berth.DialPhase, err error) {
	if p.Start.IsZero() {
		return
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(p.Start))
	if p.Failed {
		failed(span, err)
	}
	span.End(trace.WithTimestamp(p.Start.Add(p.Duration)))
}

// waitSpan tells of a request's wait for a connection that has just ended. Requests outside
// of any trace have none.
func (t *Telemetry) waitSpan(ctx context.Context, s berth.Server, waited time.Duration, err error) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	end := time.Now()
	_, span := t.tracer.Start(ctx, "HTTP wait_for_connection "+hostPort(s), trace.WithTimestamp(end.Add(-waited)), trace.WithAttributes(describe(s)...))
	failed(span, err)
	span.End(trace.WithTimestamp(end))
}

// failed notes an error's type, and no text: that has addresses.
func failed(span trace.Span, err error) {
	if err == nil {
		return
	}
	kind := errorType(nil, err)
	span.SetAttributes(keyError.String(kind))
	span.SetStatus(codes.Error, kind)
}

// linkSpan links the request's span with the setup of its connection.
func (r *recorder) linkSpan(i *berth.AcquireInfo) {
	span := trace.SpanFromContext(i.Context)
	if !span.IsRecording() {
		return
	}
	if c, known := r.conns.get(i.Conn.ID); known && c.span.IsValid() {
		span.AddLink(trace.Link{SpanContext: c.span})
	}
}

// forgotten is the event of a span whose response body was found to be forgotten.
const forgotten = "berth.response.forgotten"

// endRequestSpan ends the client span of a request whose response body nobody can end any
// more. A span that is not of that request alone is left to whoever has begun it.
func endRequestSpan(ctx context.Context) {
	if ctx == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	of, known := span.(interface {
		SpanKind() trace.SpanKind
		Attributes() []attribute.KeyValue
	})
	if !span.IsRecording() || !known || of.SpanKind() != trace.SpanKindClient {
		return
	}
	for _, a := range of.Attributes() {
		if a.Key == keyMethod {
			span.AddEvent(forgotten)
			span.SetStatus(codes.Error, "response body was forgotten")
			span.End()
			return
		}
	}
}
