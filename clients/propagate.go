package clients

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
)

// Propagation is what ties the requests together that one request to this program causes.
type Propagation struct {
	// CorrelationID is sent as X-Correlation-ID. "" sends none.
	CorrelationID string

	// TraceParent and TraceState are those of W3C Trace Context. A TraceParent that is not
	// well-formed is not sent on, nor is its state.
	TraceParent, TraceState string
}

const (
	correlationHeader = "X-Correlation-Id" // in its canonical form
	traceParentHeader = "Traceparent"
	traceStateHeader  = "Tracestate"
)

// maxIdentifier bounds a correlation identifier that comes from outside.
const maxIdentifier = 128

// maxTraceState is what a participant must propagate at least (W3C Trace Context §3.3.1.5).
const maxTraceState = 512

type propagationKey struct{}

// WithPropagation returns a context whose requests [Propagate] marks.
func WithPropagation(ctx context.Context, p Propagation) context.Context {
	return context.WithValue(ctx, propagationKey{}, &p)
}

// PropagationOf returns what requests of ctx are marked by; the zero Propagation for
// nothing.
func PropagationOf(ctx context.Context) Propagation {
	if p, _ := ctx.Value(propagationKey{}).(*Propagation); p != nil {
		return *p
	}
	return Propagation{}
}

// Receive wraps a server's handler: what comes with a request in X-Correlation-ID,
// traceparent and tracestate is put into its context, for the requests that it causes. A
// request without a correlation identifier, or with one that is longer than 128 bytes or
// has other than visible ASCII characters, gets a new one.
func Receive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := Propagation{
			CorrelationID: r.Header.Get(correlationHeader),
			TraceParent:   r.Header.Get(traceParentHeader),
			TraceState:    r.Header.Get(traceStateHeader),
		}
		if !visible(p.CorrelationID, maxIdentifier) {
			p.CorrelationID = random()
		}
		next.ServeHTTP(w, r.WithContext(WithPropagation(r.Context(), p)))
	})
}

// Propagate sends the identifiers of the request's context, unless the request has such
// fields already, as it has within otelhttp. They go on as they came: a program that records
// no span of its own must not name one as the parent.
func Propagate() Handler {
	return func(next http.RoundTripper) http.RoundTripper { return &propagator{forward{next}} }
}

type propagator struct{ forward }

func (p *propagator) RoundTrip(req *http.Request) (*http.Response, error) {
	of, _ := req.Context().Value(propagationKey{}).(*Propagation)
	if of == nil {
		return p.next.RoundTrip(req)
	}
	if of.CorrelationID != "" && req.Header[correlationHeader] == nil && visible(of.CorrelationID, maxIdentifier) {
		req = with(req, correlationHeader, of.CorrelationID)
	}
	if wellFormed(of.TraceParent) && req.Header[traceParentHeader] == nil {
		req = with(req, traceParentHeader, of.TraceParent)
		if s := of.TraceState; len(s) <= maxTraceState && visible(s, maxTraceState) {
			req.Header[traceStateHeader] = []string{s}
		}
	}
	return p.next.RoundTrip(req)
}

// wellFormed says that a traceparent is one (W3C Trace Context §3.2.2), of whatever version.
func wellFormed(parent string) bool {
	const trace, span, flags = 3, 36, 53 // where the parts begin
	if len(parent) < flags+2 || len(parent) > maxIdentifier || parent[2] != '-' || parent[span-1] != '-' || parent[flags-1] != '-' {
		return false
	}
	version, rest := parent[:2], parent[flags+2:]
	switch {
	case version == "ff", version == "00" && rest != "", rest != "" && rest[0] != '-', !visible(parent, maxIdentifier):
		return false
	}
	id, of := parent[trace:span-1], parent[span:flags-1]
	return lowerHex(version) && lowerHex(id) && !zeros(id) && lowerHex(of) && !zeros(of) && lowerHex(parent[flags:flags+2])
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return false
		}
	}
	return true
}

// visible says that s has between 1 and most characters, all of them visible ASCII or
// spaces between.
func visible(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// random returns 128 random bits in hexadecimal.
func random() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
