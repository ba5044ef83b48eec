package otelberth

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/berth-go/berth"
)

// instruments are all metrics, by OpenTelemetry's semantic conventions 1.44 and .NET's names
// where these have one.
type instruments struct {
	// Recorded as it happens.
	connDuration    metric.Float64Histogram
	timeInQueue     metric.Float64Histogram
	lookupDuration  metric.Float64Histogram
	requestDuration metric.Float64Histogram // nil unless it was asked for
	rejected        metric.Int64Counter
	closed          metric.Int64Counter
	leaks           metric.Int64Counter
	attempts        metric.Int64Counter
	waits           metric.Int64Counter
	waited          metric.Float64Counter
	opens           metric.Int64Counter
	rejections      metric.Int64Counter

	// Read off the statistics at each collection.
	open    metric.Int64ObservableUpDownCounter
	active  metric.Int64ObservableUpDownCounter
	limit   metric.Int64ObservableUpDownCounter
	waiting metric.Int64ObservableUpDownCounter
	ports   metric.Float64ObservableGauge
}

// Boundaries of histograms in seconds, as the semantic conventions advise them.
var (
	requestBounds    = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	connectionBounds = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}
)

func newInstruments(meter metric.Meter, requests bool) (*instruments, error) {
	b := builder{meter: meter}
	m := &instruments{
		connDuration: b.histogram("http.client.connection.duration", "How long connections were open that have been closed.", connectionBounds),
		timeInQueue: b.histogram("http.client.request.time_in_queue",
			"How long requests waited for a connection that had to, whether they got one or not.", requestBounds),
		lookupDuration: b.histogram("dns.lookup.duration", "How long a resolver took, for each time that it was asked.", requestBounds),
		rejected:       b.counter("berth.pool.rejected", "{request}", "Requests that were turned away, or gave up waiting, without a connection."),
		closed:         b.counter("berth.pool.connections.closed", "{connection}", "Connections that were closed, by reason and by who was first."),
		leaks:          b.counter("berth.pool.leaks", "{response}", "Response bodies that looked forgotten, were read again, or were found to be forgotten."),
		attempts:       b.counter("berth.resilience.attempts", "{attempt}", "Attempts of retries and hedges that have ended."),
		waits:          b.counter("berth.resilience.waits", "{wait}", "Waits of resilience strategies."),
		opens:          b.counter("berth.resilience.opens", "{open}", "Circuit breakers that have opened."),
		rejections:     b.counter("berth.resilience.rejections", "{rejection}", "Requests and attempts that a resilience strategy has refused."),
		open:           b.observed("http.client.open_connections", "{connection}", "Connections that are open, in use or idle."),
		active:         b.observed("http.client.active_requests", "{request}", "Requests that wait for a connection or have one."),
		limit:          b.observed("berth.pool.connections.max", "{connection}", "How many connections there may be, where that is limited."),
		waiting:        b.observed("berth.pool.waiting", "{request}", "Requests that wait for a connection."),
	}
	if requests {
		m.requestDuration = b.histogram("http.client.request.duration", "How long requests took up to the head of their response.", requestBounds)
	}
	var err error
	m.waited, err = meter.Float64Counter("berth.resilience.waited", metric.WithUnit("s"), metric.WithDescription("How long resilience strategies have waited, in all."))
	b.errs = append(b.errs, err)
	m.ports, err = meter.Float64ObservableGauge("berth.pool.ports.used_ratio", metric.WithUnit("1"),
		metric.WithDescription("The share of the ports that is taken, of the destination and of the budget that have least left."))
	b.errs = append(b.errs, err)
	return m, errors.Join(b.errs...)
}

// builder collects the errors of making instruments.
type builder struct {
	meter metric.Meter
	errs  []error
}

func (b *builder) histogram(name, description string, bounds []float64) metric.Float64Histogram {
	h, err := b.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
	b.errs = append(b.errs, err)
	return h
}

func (b *builder) counter(name, unit, description string) metric.Int64Counter {
	c, err := b.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.errs = append(b.errs, err)
	return c
}

func (b *builder) observed(name, unit, description string) metric.Int64ObservableUpDownCounter {
	c, err := b.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.errs = append(b.errs, err)
	return c
}

// ---- what happens ----

// queued records a request that had to wait; version and err are what it got.
func (m *instruments) queued(ctx context.Context, s *server, waited time.Duration, version string, err error) {
	var more []attribute.KeyValue
	if version != "" {
		more = append(more, keyVersion.String(version))
	}
	if err != nil {
		more = append(more, keyError.String(errorType(nil, err)))
	}
	m.timeInQueue.Record(ctx, waited.Seconds(), s.with(more...))
}

// turnedAway counts a request without a connection, by the words of berth.RejectStats. What
// failed with its dial, or was cancelled, is none.
func (m *instruments) turnedAway(ctx context.Context, s *server, err error) {
	var (
		timeout *berth.AcquireTimeoutError
		full    *berth.QueueFullError
		hasty   *berth.WouldQueueError
		failed  *berth.DialError
		closed  *berth.ClosedError
	)
	reason := ""
	switch {
	case errors.As(err, &timeout):
		reason = "timeout"
	case errors.As(err, &full):
		reason = "queue_full"
	case errors.As(err, &hasty):
		reason = "would_queue"
	case errors.As(err, &failed) && failed.Backoff > 0:
		reason = "backoff"
	case errors.As(err, &closed):
		reason = "closed"
	default:
		return
	}
	m.rejected.Add(ctx, 1, s.with(keyReason.String(reason)))
}

// ended records a connection that was closed.
func (m *instruments) ended(s *server, i *berth.CloseInfo) {
	by := "us"
	if i.ByPeer {
		by = "peer"
	}
	ctx := context.Background()
	m.connDuration.Record(ctx, i.Age.Seconds(), s.with(keyVersion.String(version(i.HTTP2))))
	m.closed.Add(ctx, 1, s.with(keyReason.String(i.Reason), keyClosedBy.String(by)))
}

func (m *instruments) leaked(s *server, state string) {
	m.leaks.Add(context.Background(), 1, s.with(keyLeak.String(state)))
}

// resolved records what resolvers say.
func (m *instruments) resolved(names *names) func(berth.ResolveInfo) {
	return func(i berth.ResolveInfo) {
		attrs := []attribute.KeyValue{keyQuestion.String(names.of(i.Name))}
		if i.Err != nil {
			attrs = append(attrs, keyError.String(lookupError(i.Err)))
		}
		m.lookupDuration.Record(context.Background(), i.Duration.Seconds(), metric.WithAttributes(attrs...))
	}
}
