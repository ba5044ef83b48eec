package main

import (
	"fmt"
	"time"
)

// kind says how a scenario's sample is taken.
type kind int

const (
	kindLoad  kind = iota // requests in steady state: CPU, wall, allocations
	kindDials             // from nothing: connections opened
	kindIdle              // memory of idle connections
	kindWall              // wall time of a burst over few connections
	kindBurst             // from nothing: connections opened, failures, latency
)

// scenario is one thing that several clients do.
type scenario struct {
	name     string
	kind     kind
	load     load
	workers  int
	requests int // a sample
	clients  []string
	spread   bool // over all cores; else client and server share one
	repeats  bool // its figures repeat nearly exactly: they are a gate, and one round does
	latency  time.Duration
	streams  int // at once, that an HTTP/2 server allows on a connection
}

const (
	steadyWorkers = 64
	idleConns     = 10_000
	wallRequests  = 200
	wallConns     = 10
	wallLatency   = 80 * time.Millisecond

	// A burst's requests take so long, and each worker sends so many.
	burstLatency  = 20 * time.Millisecond
	burstEach     = 20
	burstDeadline = 3 * time.Second
)

func scenarios() []scenario {
	all := clientNames
	trippers := []string{"berth", "net/http"}
	list := []scenario{
		{name: "get", load: load{path: pathSmall}, requests: 60_000, clients: all},
		{name: "ablation", load: load{path: pathSmall}, requests: 60_000, clients: []string{"berth", berthDialed, "raw", rawParked, callerAlone}},
		{name: "get-both-cores", load: load{path: pathSmall}, requests: 120_000, clients: all, spread: true},
		{name: "get-12-headers", load: load{path: pathHeaders}, requests: 50_000, clients: all},
		{name: "post-64k", load: load{path: pathPost, body: postBody}, requests: 15_000, clients: all},
		{name: "get-1m", load: load{path: pathLarge}, workers: 8, requests: 1_500, clients: []string{"berth", "net/http", "raw"}},
		{name: "tls-get", load: load{path: pathSmall, tls: true}, requests: 30_000, clients: all},
		{name: "idle", kind: kindIdle, load: load{path: pathHold}, requests: idleConns, clients: []string{"berth", "net/http", "fasthttp"}, repeats: true},
		{name: "idle-tls", kind: kindIdle, load: load{path: pathHold, tls: true}, requests: idleConns, clients: []string{"berth", "net/http", "fasthttp"}, repeats: true},
		{name: "dials", kind: kindDials, load: load{path: pathSmall}, requests: 10_000, clients: trippers, spread: true, repeats: true},
		{name: "dials-unread", kind: kindDials, load: load{path: pathSmall, unread: true}, requests: 10_000, clients: trippers, spread: true, repeats: true},
		{name: "wall", kind: kindWall, load: load{path: pathSmall, conns: wallConns}, workers: wallRequests, requests: wallRequests, latency: wallLatency, clients: all, spread: true},
	}
	for _, b := range bursts {
		list = append(list, scenario{name: b.name(), kind: kindBurst, load: load{path: pathSmall, tls: true, http2: true, deadline: burstDeadline},
			workers: b.workers, requests: b.workers * burstEach, latency: burstLatency, streams: b.streams,
			clients: []string{"berth", "net/http", strict}, spread: true, repeats: true})
	}
	for _, m := range muxed {
		list = append(list, scenario{name: m.name(), load: load{path: pathSmall, tls: true, http2: true}, workers: m.workers,
			requests: 30_000, streams: m.workers / m.conns, clients: trippers})
	}
	return list
}

// burst is so many requests at once at an HTTP/2 server that allows so many streams.
type burst struct{ workers, streams int }

var bursts = []burst{{20, 2}, {20, 100}, {500, 2}, {500, 100}}

func (b burst) name() string { return fmt.Sprintf("h2-burst-%d-of-%d", b.workers, b.streams) }

// mux is so many workers over so many HTTP/2 connections, which the server brings
// about by the streams that it allows.
type mux struct{ workers, conns int }

var muxed = []mux{{64, 1}, {64, 2}, {64, 4}, {512, 1}, {512, 2}, {512, 4}}

func (m mux) name() string { return fmt.Sprintf("h2-get-%d-over-%d", m.workers, m.conns) }

// server returns what the scenario's server must be.
func (s scenario) server() serverOptions {
	return serverOptions{tls: s.load.tls, hold: s.requests, latency: s.latency, streams: s.streams}
}

// sampleOf takes one sample in this process.
func (s scenario) sampleOf(name, addr string, requests int) (sample, error) {
	l := s.load
	l.addr = addr
	l.keep, l.buffer = max(s.workers, steadyWorkers), 32<<10
	if s.kind == kindIdle {
		l.keep, l.buffer = requests, 512 // each of ten thousand has one
	}
	l.count = s.kind == kindDials || s.kind == kindWall || s.kind == kindBurst
	workers := s.workers
	if workers == 0 {
		workers = steadyWorkers
	}
	if name == "raw" && l.conns > 0 {
		workers = l.conns
	}
	c, err := newClient(name, l)
	if err != nil {
		return sample{}, err
	}
	defer c.close()
	switch s.kind {
	case kindIdle:
		return measureIdle(c, requests)
	case kindDials, kindWall:
		return measureDials(c, workers, requests)
	case kindBurst:
		return measureBurst(c, workers, requests)
	}
	return measure(c, l, workers, requests)
}
