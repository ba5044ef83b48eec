// Package otelberth tells OpenTelemetry of a berth.Transport: metrics of its pools, spans of
// its dials and waits. It uses OpenTelemetry's API alone; the providers are the program's,
// and are passed in. docs/telemetry.md lists every metric and span.
//
//	tel, err := otelberth.New(otelberth.Config{MeterProvider: mp, TracerProvider: tp})
//	...
//	tr, err := berth.New(berth.Config{Trace: tel.Trace()})
//	...
//	defer tel.Observe(tr)()
//	client := &http.Client{Transport: berth.Wrap(otelhttp.NewTransport(tr), tr)}
//
// Spans and durations of requests are otelhttp's, which goes around the transport. What is
// here are the connections below it, which otelhttp does not see. No attribute has a peer's
// address, a URL, a path or a query.
package otelberth
