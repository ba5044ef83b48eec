package otelberth

import (
	"testing"

	"github.com/berth-go/berth"
)

// What is remembered of connections ends with them, and has a bound.
func TestConnectionsAreForgotten(t *testing.T) {
	r := &recorder{t: &Telemetry{}}
	for id := range uint64(maxConns) {
		r.dialed(berth.DialInfo{Endpoint: "a", Conn: berth.ConnInfo{ID: id}, HTTP2: true})
	}
	if v := r.t.protocols.of("a"); v != "2" {
		t.Errorf("version %q", v)
	}
	for id := range uint64(10) {
		r.dialed(berth.DialInfo{Endpoint: "b", Conn: berth.ConnInfo{ID: maxConns + id}})
	}
	if n := len(r.conns.m); n != maxConns {
		t.Errorf("%d are remembered, at most %d", n, maxConns)
	}
	sum := 0
	for _, c := range r.t.protocols.m {
		sum += c[0] + c[1]
	}
	if sum != maxConns {
		t.Errorf("%d are counted by protocol", sum)
	}
	for id := range uint64(maxConns + 10) {
		r.closed(berth.CloseInfo{Conn: berth.ConnInfo{ID: id}})
	}
	if len(r.conns.m)+len(r.t.protocols.m) != 0 {
		t.Errorf("%d connections, %d endpoints are left", len(r.conns.m), len(r.t.protocols.m))
	}
}

// An endpoint whose connections speak different protocols has no version.
func TestVersionOfAnEndpoint(t *testing.T) {
	var p protocols
	for i, step := range []struct {
		http2 bool
		n     int
		want  string
	}{{false, 1, "1.1"}, {true, 1, ""}, {false, -1, "2"}, {true, -1, ""}} {
		p.add("a", step.http2, step.n)
		if got := p.of("a"); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}
