package berth

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/berth-go/berth/internal/pool"
)

// body is a handle that nobody forgets.
type body struct{ known pool.Known }

func (*body) WhenForgotten(func(*pool.Watch), *pool.Watch) {}
func (*body) Abandon(*pool.Lease) func()                   { return func() {} }
func (*body) Context() context.Context                     { return context.Background() }

// BenchmarkDiagnosis is what diagnosis adds to a request that has a body to read, all of
// it: "off" is the way to a connection and back, "on" the same with a body lent and read
// once. What sampling costs is in both, and in BenchmarkCallSite.
func BenchmarkDiagnosis(b *testing.B) {
	for _, on := range []bool{false, true} {
		name := "body=no"
		if on {
			name = "body=lent"
		}
		b.Run(name, func(b *testing.B) {
			socket, other := net.Pipe()
			defer other.Close()
			tr, err := New(Config{DialContext: func(context.Context, string, string) (net.Conn, error) { return socket, nil }, Proxy: NoProxy})
			if err != nil {
				b.Fatal(err)
			}
			defer tr.Close()
			tr.init()
			req, err := http.NewRequest("GET", "http://origin.example/path", nil)
			if err != nil {
				b.Fatal(err)
			}
			handle := new(body)
			b.ReportAllocs()
			for b.Loop() {
				ep, err := tr.endpointFor(req, nil)
				if err != nil {
					b.Fatal(err)
				}
				l, err := ep.acquire(b.Context(), ep.now.Load(), req, nil, false)
				if err != nil {
					b.Fatal(err)
				}
				if on {
					c := l.Conn().(*conn)
					c.lease = l
					c.Lend(handle, &handle.known)
					l.SetPhase(pool.PhaseBody)
					c.BeginRead()
					c.EndRead()
				}
				l.Release(tr.now(), pool.Fate{Keep: true, MaxLeft: -1})
			}
		})
	}
}

// BenchmarkCallSite is what one call site costs: 20 a second of an endpoint pay it.
func BenchmarkCallSite(b *testing.B) {
	tr := &Transport{}
	tr.init()
	b.ReportAllocs()
	for b.Loop() {
		l := new(pool.Lease)
		s := tr.callSite(l)
		tr.inUse.Remove(s.Tag)
	}
}
