package otelberth

import (
	"sync"
	"weak"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-go/berth"
)

// scope is the name of the instrumentation.
const scope = "github.com/berth-go/berth/telemetry/otel"

// Config configures a [Telemetry].
type Config struct {
	// MeterProvider takes the metrics. nil: there are none.
	MeterProvider metric.MeterProvider

	// TracerProvider takes the spans. nil: there are none.
	TracerProvider trace.TracerProvider

	// RequestDuration has Handler record http.client.request.duration. Default: it does not,
	// since otelhttp records it.
	RequestDuration bool

	// URLScheme adds url.scheme to metrics.
	URLScheme bool

	// MaxServers bounds the servers that attributes tell apart, by address, port and group,
	// and the names of DNS questions. All others share the address "_other". Default 1,000.
	// Negative: none is told apart.
	MaxServers int

	// Next is told of everything too. It may be nil.
	Next *berth.Trace
}

const defaultMaxServers = 1000

// Telemetry is what one configuration tells of any number of transports. It is safe for
// concurrent use.
type Telemetry struct {
	cfg       Config
	servers   servers
	names     names
	protocols protocols
	m         *instruments // nil without metrics
	tracer    trace.Tracer // nil without spans

	registered metric.Registration

	mu       sync.Mutex // guards observed; nothing is called while it is held
	observed []weak.Pointer[berth.Transport]
}

// New returns what tells the providers. The error is a provider's that has refused an
// instrument.
func New(cfg Config) (*Telemetry, error) {
	switch {
	case cfg.MaxServers == 0:
		cfg.MaxServers = defaultMaxServers
	case cfg.MaxServers < 0:
		cfg.MaxServers = 0
	}
	t := &Telemetry{cfg: cfg}
	t.servers.init(cfg.MaxServers, cfg.URLScheme)
	t.names.max = cfg.MaxServers
	if cfg.TracerProvider != nil {
		t.tracer = cfg.TracerProvider.Tracer(scope)
	}
	if cfg.MeterProvider == nil {
		return t, nil
	}
	var err error
	meter := cfg.MeterProvider.Meter(scope)
	if t.m, err = newInstruments(meter, cfg.RequestDuration); err != nil {
		return nil, err
	}
	t.registered, err = meter.RegisterCallback(t.collect, t.m.open, t.m.active, t.m.limit, t.m.waiting, t.m.ports)
	return t, err
}

// Close ends what Observe has begun, of all transports. The hooks of Trace go on.
func (t *Telemetry) Close() error {
	t.mu.Lock()
	t.observed = nil
	t.mu.Unlock()
	if t.registered == nil {
		return nil
	}
	return t.registered.Unregister()
}

// Trace returns the hooks for the berth.Config of one transport: each needs its own.
// Config.Next is told before.
func (t *Telemetry) Trace() *berth.Trace {
	var tr berth.Trace
	if t.cfg.Next != nil {
		tr = *t.cfg.Next
	}
	if t.m == nil && t.tracer == nil {
		return &tr
	}
	r := &recorder{t: t}
	tr.Dialed = both(tr.Dialed, r.dialed)
	tr.Acquired = both(tr.Acquired, r.acquired)
	tr.GaveUp = both(tr.GaveUp, r.gaveUp)
	tr.Closed = both(tr.Closed, r.closed)
	tr.Leak = both(tr.Leak, r.leak)
	if t.m != nil {
		tr.Resolved = both(tr.Resolved, t.m.resolved(&t.names))
	}
	return &tr
}

// both calls two functions, the first of which may be nil.
func both[T any](first, second func(T)) func(T) {
	if first == nil {
		return second
	}
	return func(i T) {
		first(i)
		second(i)
	}
}

// recorder is what hears the hooks of one transport.
type recorder struct {
	t     *Telemetry
	conns conns
}

func (r *recorder) dialed(i berth.DialInfo) {
	c := connection{endpoint: i.Endpoint, http2: i.HTTP2}
	if r.t.tracer != nil {
		c.span = r.t.setupSpan(&i)
	}
	if i.Err == nil {
		r.t.protocols.add(i.Endpoint, i.HTTP2, 1)
		if lost, was := r.conns.put(i.Conn.ID, c); was {
			r.t.protocols.add(lost.endpoint, lost.http2, -1)
		}
	}
}

func (r *recorder) acquired(i berth.AcquireInfo) {
	if r.t.tracer != nil {
		r.linkSpan(&i)
		if i.Queued {
			r.t.waitSpan(i.Context, i.Server, i.Waited, nil)
		}
	}
	if i.Queued && r.t.m != nil {
		c, known := r.conns.get(i.Conn.ID)
		version := ""
		if known {
			version = c.version()
		}
		r.t.m.queued(i.Context, r.t.servers.of(i.Server), i.Waited, version, nil)
	}
}

func (r *recorder) gaveUp(i berth.GiveUpInfo) {
	if i.Queued && r.t.tracer != nil {
		r.t.waitSpan(i.Context, i.Server, i.Waited, i.Err)
	}
	if r.t.m == nil {
		return
	}
	s := r.t.servers.of(i.Server)
	if i.Queued {
		r.t.m.queued(i.Context, s, i.Waited, "", i.Err)
	}
	r.t.m.turnedAway(i.Context, s, i.Err)
}

func (r *recorder) closed(i berth.CloseInfo) {
	if c, known := r.conns.take(i.Conn.ID); known {
		r.t.protocols.add(c.endpoint, c.http2, -1)
	}
	if r.t.m != nil {
		r.t.m.ended(r.t.servers.of(i.Server), &i)
	}
}

func (r *recorder) leak(i berth.LeakInfo) {
	if i.State == "reclaimed" && r.t.tracer != nil {
		endRequestSpan(i.Context)
	}
	if r.t.m != nil {
		r.t.m.leaked(r.t.servers.of(i.Server), i.State)
	}
}
