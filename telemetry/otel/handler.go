package otelberth

import (
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Handler returns what goes around a transport to record http.client.request.duration, up to
// the response head: for programs without otelhttp, which records it too. Unless
// Config.RequestDuration asks for that, it returns its argument.
func (t *Telemetry) Handler() func(http.RoundTripper) http.RoundTripper {
	if t.m == nil || t.m.requestDuration == nil {
		return func(next http.RoundTripper) http.RoundTripper { return next }
	}
	return func(next http.RoundTripper) http.RoundTripper { return &timed{t: t, next: next} }
}

// timed records the duration of requests.
type timed struct {
	t    *Telemetry
	next http.RoundTripper

	mu    sync.RWMutex // guards known
	known map[outcome]metric.MeasurementOption
}

// outcome is what the attributes of a response are made of.
type outcome struct {
	scheme, host, method string
	status, major, minor int
}

// maxOutcomes bounds those whose attributes are remembered.
const maxOutcomes = 2000

// RoundTrip sends the request.
func (d *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := d.next.RoundTrip(req)
	took := time.Since(start).Seconds()
	if req.URL != nil {
		d.t.m.requestDuration.Record(req.Context(), took, d.attributes(req, resp, err))
	}
	return resp, err
}

// CloseIdleConnections reaches what the handler goes around.
func (d *timed) CloseIdleConnections() {
	if c, ok := d.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (d *timed) attributes(req *http.Request, resp *http.Response, err error) metric.MeasurementOption {
	if err != nil {
		return d.describe(req.URL, method(req.Method), nil, err)
	}
	o := outcome{req.URL.Scheme, req.URL.Host, method(req.Method), resp.StatusCode, resp.ProtoMajor, resp.ProtoMinor}
	d.mu.RLock()
	attrs, known := d.known[o]
	d.mu.RUnlock()
	if known {
		return attrs
	}
	attrs = d.describe(req.URL, o.method, resp, nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[outcome]metric.MeasurementOption{}
	}
	if len(d.known) < maxOutcomes {
		d.known[o] = attrs
	}
	return attrs
}

func (d *timed) describe(u *url.URL, method string, resp *http.Response, err error) metric.MeasurementOption {
	attrs := []attribute.KeyValue{keyMethod.String(method)}
	if resp != nil {
		version := strconv.Itoa(resp.ProtoMajor)
		if resp.ProtoMajor < 2 {
			version += "." + strconv.Itoa(resp.ProtoMinor)
		}
		attrs = append(attrs, keyStatus.Int(resp.StatusCode), keyVersion.String(version))
	}
	if kind := errorType(resp, err); kind != "" {
		attrs = append(attrs, keyError.String(kind))
	}
	return d.t.servers.of(serverOf(u.Scheme, u)).with(attrs...)
}

// method is one that the semantic conventions know, or "_OTHER".
func method(m string) string {
	switch m {
	case "":
		return http.MethodGet
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut, "QUERY", http.MethodTrace:
		return m
	}
	return "_OTHER"
}
