package berth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"testing"

	"github.com/berth-go/berth/internal/pool"
)

// A hundred thousand endpoints, each with the bookkeeping of one idle connection:
// what each weighs without the socket, and how long a request looks for its own.
func BenchmarkEndpoints(b *testing.B) {
	const n = 100_000
	socket, other := net.Pipe()
	defer other.Close()
	tr, err := New(Config{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return socket, nil },
		Policy:      Policy{IdleTimeout: -1, Lifetime: -1},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	requests := make([]*http.Request, n)
	for i := range requests {
		requests[i] = &http.Request{URL: &url.URL{Scheme: "http", Host: fmt.Sprintf("tenant-%d.example:8080", i)}}
	}
	tr.init()
	before := live()
	for _, req := range requests {
		ep, err := tr.endpointFor(req, nil)
		if err != nil {
			b.Fatal(err)
		}
		c, err := ep.acquire(b.Context(), ep.now.Load(), req, nil, false)
		if err != nil {
			b.Fatal(err)
		}
		c.Release(tr.now(), pool.Fate{Keep: true, MaxLeft: -1})
	}
	each := float64(live()-before) / n
	i := 0
	for b.Loop() {
		if _, err := tr.endpointFor(requests[i%n], nil); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(each, "B/endpoint")
}

// live returns the bytes of the heap that are in use.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a request spends to find its endpoint and what holds for it: no lock, no
// allocation, however many rules there are.
func BenchmarkPolicyLookup(b *testing.B) {
	var rules []Rule
	for i := range 100 {
		rules = append(rules, Rule{Match: fmt.Sprintf("*.host%d.example", i), Policy: Policy{MaxConns: i}})
	}
	tr, err := New(Config{Rules: rules, Proxy: NoProxy})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	tr.init()
	for _, group := range []*Group{nil, tr.Group("group")} {
		b.Run("group="+group.Name(), func(b *testing.B) {
			var requests []*http.Request
			for i := range 100 {
				requests = append(requests, &http.Request{URL: &url.URL{Scheme: "https", Host: fmt.Sprintf("a.host%d.example", i)}})
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				ep, err := tr.endpointFor(requests[i%len(requests)], group)
				if err != nil || ep.now.Load().policy.MaxConns != i%100 {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
