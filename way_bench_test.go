package berth

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/berth-go/berth/internal/pool"
)

// What a request spends beside its exchange: its group, its endpoint, what holds for it, a
// connection and giving that back.
func BenchmarkWayToAConnection(b *testing.B) { wayToAConnection(b, nil) }

// BenchmarkWayToAConnectionTraced is the same with a Trace that does nothing.
func BenchmarkWayToAConnectionTraced(b *testing.B) {
	wayToAConnection(b, &Trace{Acquired: func(AcquireInfo) {}, GaveUp: func(GiveUpInfo) {}})
}

func wayToAConnection(b *testing.B, trace *Trace) {
	socket, other := net.Pipe()
	defer other.Close()
	tr, err := New(Config{DialContext: func(context.Context, string, string) (net.Conn, error) { return socket, nil }, Proxy: NoProxy, Trace: trace})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	tr.init()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://origin.example/path", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		group := groupOf(ctx)
		ep, err := tr.endpointFor(req, group)
		if err != nil {
			b.Fatal(err)
		}
		l, err := ep.acquire(ctx, ep.now.Load(), req, nil, group.isHasty())
		if err != nil {
			b.Fatal(err)
		}
		_ = l.Last()
		l.Release(tr.now(), pool.Fate{Keep: true, MaxLeft: -1})
	}
}
