package otelberth

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/berth-go/berth/resilience"
)

// Resilience returns hooks that count what strategies do, for resilience.Config.Trace or that
// of a strategy. Without metrics they do nothing.
func (t *Telemetry) Resilience() *resilience.Trace {
	m := t.m
	if m == nil {
		return &resilience.Trace{}
	}
	ctx := context.Background()
	return &resilience.Trace{
		Attempt: func(i resilience.AttemptInfo) {
			attrs := []attribute.KeyValue{keyStrategy.String(i.Strategy), keyFinal.Bool(i.Final)}
			switch {
			case i.Err != nil:
				attrs = append(attrs, keyError.String(errorType(nil, i.Err)))
			case i.Status != 0:
				attrs = append(attrs, keyStatus.Int(i.Status))
			}
			m.attempts.Add(ctx, 1, t.servers.ofURL(i.Endpoint).with(attrs...))
		},
		Wait: func(i resilience.WaitInfo) {
			attrs := t.servers.ofURL(i.Endpoint).with(keyStrategy.String(i.Strategy), keyReason.String(i.Why))
			m.waits.Add(ctx, 1, attrs)
			m.waited.Add(ctx, i.Waited.Seconds(), attrs)
		},
		Breaker: func(i resilience.BreakerInfo) {
			if i.To == "open" {
				m.opens.Add(ctx, 1, t.servers.ofURL(i.Endpoint).with())
			}
		},
		Reject: func(i resilience.RejectInfo) {
			m.rejections.Add(ctx, 1, t.servers.ofURL(i.Endpoint).with(keyStrategy.String(i.Strategy), keyReason.String(i.Why)))
		},
	}
}
