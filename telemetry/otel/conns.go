package otelberth

import (
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// connection is what is remembered of one that is open.
type connection struct {
	endpoint string
	http2    bool
	span     trace.SpanContext // of its setup; zero when that is not exported
}

func (c *connection) version() string { return version(c.http2) }

func version(http2 bool) string {
	if http2 {
		return "2"
	}
	return "1.1"
}

// maxConns bounds the connections of one transport that are remembered. More than that are
// rarely open; and one whose end nobody has told, since another Trace was applied meanwhile,
// is not remembered for ever.
const maxConns = 100_000

// conns are the connections of one transport. The zero conns is ready to use.
type conns struct {
	mu sync.RWMutex
	m  map[uint64]connection
}

// put remembers a connection. When there are too many it forgets another, which it returns.
func (cs *conns) put(id uint64, c connection) (lost connection, was bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.m == nil {
		cs.m = map[uint64]connection{}
	}
	if len(cs.m) >= maxConns {
		for other := range cs.m {
			lost, was = cs.m[other], true
			delete(cs.m, other)
			break
		}
	}
	cs.m[id] = c
	return lost, was
}

func (cs *conns) get(id uint64) (connection, bool) {
	cs.mu.RLock()
	defer cs.mu.RUnlock()
	c, known := cs.m[id]
	return c, known
}

// take forgets a connection and returns it.
func (cs *conns) take(id uint64) (connection, bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, known := cs.m[id]
	delete(cs.m, id)
	return c, known
}

// protocols counts what the open connections of endpoints speak. It has no more entries than
// there are connections.
type protocols struct {
	mu sync.Mutex
	m  map[string][2]int // by endpoint: those that speak HTTP/1.1, and HTTP/2
}

func (p *protocols) add(endpoint string, http2 bool, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[string][2]int{}
	}
	c := p.m[endpoint]
	if http2 {
		c[1] += n
	} else {
		c[0] += n
	}
	if p.m[endpoint] = c; c == [2]int{} {
		delete(p.m, endpoint)
	}
}

// of returns the version that all connections of an endpoint speak; "" when they differ, or
// none is known.
func (p *protocols) of(endpoint string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch c := p.m[endpoint]; {
	case c[0] > 0 && c[1] == 0:
		return version(false)
	case c[1] > 0 && c[0] == 0:
		return version(true)
	}
	return ""
}
