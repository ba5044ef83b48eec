package otelberth

import (
	"context"
	"slices"
	"weak"

	"go.opentelemetry.io/otel/metric"

	"github.com/berth-go/berth"
)

// Observe has the transport's statistics be read at each collection, until stop is called.
// Those of several transports are added up. It does not keep a transport from being
// collected that nobody else has any more.
func (t *Telemetry) Observe(tr *berth.Transport) (stop func()) {
	w := weak.Make(tr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.observed, w) {
		t.observed = append(t.observed, w)
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.observed = slices.DeleteFunc(t.observed, func(v weak.Pointer[berth.Transport]) bool { return v == w })
	}
}

// transports returns those that are observed, and forgets those that are gone.
func (t *Telemetry) transports() (list []*berth.Transport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.observed = slices.DeleteFunc(t.observed, func(w weak.Pointer[berth.Transport]) bool {
		tr := w.Value()
		if tr != nil {
			list = append(list, tr)
		}
		return tr == nil
	})
	return list
}

// series is what endpoints have in common that are added up.
type series struct {
	server  *server
	version string
}

// levels are the values of a series.
type levels struct{ active, idle int64 }

// totals are the values of a server.
type totals struct {
	requests, waiting, limit int64
	limited                  bool
}

// collect observes the statistics. Each series is observed once, however many endpoints
// share it: groups of proxies, and servers beyond Config.MaxServers, do.
func (t *Telemetry) collect(_ context.Context, o metric.Observer) error {
	conns := map[series]levels{}
	servers := map[*server]totals{}
	used := map[bool]float64{}
	for _, tr := range t.transports() {
		for _, ep := range tr.Endpoints() {
			s, server := ep.Stats(), t.servers.of(ep.Server())
			at := series{server, t.protocols.of(ep.String())}
			l := conns[at]
			l.active += int64(s.Leased + s.Draining)
			l.idle += int64(s.Idle)
			conns[at] = l
			sum := servers[server]
			sum.requests += int64(s.Waiting) + int64(s.Requests) - int64(s.Hold.Count())
			sum.waiting += int64(s.Waiting)
			if limit := ep.Policy().Policy.MaxConns; limit > 0 {
				sum.limit += int64(limit)
				sum.limited = true
			}
			servers[server] = sum
		}
		for _, u := range tr.Ports() {
			used[u.Budget] = max(used[u.Budget], u.Used())
		}
	}
	for at, l := range conns {
		attrs := at.server.attrs
		if at.version != "" {
			attrs = append(slices.Clip(attrs), keyVersion.String(at.version))
		}
		s := server{attrs}
		o.ObserveInt64(t.m.open, l.active, s.with(keyState.String("active")))
		o.ObserveInt64(t.m.open, l.idle, s.with(keyState.String("idle")))
	}
	for s, sum := range servers {
		attrs := s.with()
		o.ObserveInt64(t.m.active, sum.requests, attrs)
		o.ObserveInt64(t.m.waiting, sum.waiting, attrs)
		if sum.limited {
			o.ObserveInt64(t.m.limit, sum.limit, attrs)
		}
	}
	for budget, share := range used {
		of := "host"
		if budget {
			of = "budget"
		}
		o.ObserveFloat64(t.m.ports, share, metric.WithAttributes(keyPortsOf.String(of)))
	}
	return nil
}
