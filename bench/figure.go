package main

import (
	"fmt"
	"strconv"
)

// figure is one line of the table: what is compared, and how good it has to be.
type figure struct {
	name     string
	scenario string  // or the name of a go benchmark, with value "ns" or a metric
	value    string  // field of the sample
	of       string  // the client that is measured; "" is berth
	over     string  // the client that it is divided by; "" for the value itself
	inverse  bool    // larger is better
	scale    float64 // the value is divided by it; 0 is 1
	minus    float64 // taken off after that
	reach    float64
	aim      float64
	format   string
	repeats  bool // a gate
	floor    bool // shows what no client can be below; nothing is promised
}

// figures are the table. The reach is what is promised, the aim is what is wanted.
func figures() []figure {
	const ratio, whole = "%.2f", "%.0f"
	ideal := float64(wallRequests/wallConns) * float64(wallLatency)
	list := []figure{
		{name: "small GET, 64 workers, one core: CPU / net/http", scenario: "get", value: "cpu", over: "net/http", reach: 0.40, aim: 0.33, format: ratio},
		{name: "small GET: CPU / fasthttp", scenario: "get", value: "cpu", over: "fasthttp", reach: 1.15, aim: 0.95, format: ratio},
		{name: "small GET: CPU / raw loop", scenario: "get", value: "cpu", over: "raw", reach: 2.0, aim: 1.65, format: ratio},
		{name: "small GET, raw loop: CPU / net/http", scenario: "get", value: "cpu", of: "raw", over: "net/http", floor: true, format: ratio},
		{name: "requests per second / net/http, both cores", scenario: "get-both-cores", value: "rate", over: "net/http", inverse: true, reach: 2.1, aim: 2.5, format: ratio},
		{name: "requests per second of the raw loop / net/http, both cores", scenario: "get-both-cores", value: "rate", of: "raw", over: "net/http", inverse: true, floor: true, format: ratio},
		{name: "allocations a GET", scenario: "get", value: "allocs", reach: 6, aim: 4, format: "%.1f", repeats: true},
		{name: "bytes a GET", scenario: "get", value: "bytes", reach: 1100, aim: 950, format: whole, repeats: true},
		{name: "12 header fields, 1 KiB: CPU / net/http", scenario: "get-12-headers", value: "cpu", over: "net/http", reach: 0.42, aim: 0.35, format: ratio},
		{name: "12 header fields, raw loop: CPU / net/http", scenario: "get-12-headers", value: "cpu", of: "raw", over: "net/http", floor: true, format: ratio},
		{name: "POST 64 KiB from memory: CPU / net/http", scenario: "post-64k", value: "cpu", over: "net/http", reach: 0.30, aim: 0.25, format: ratio},
		{name: "POST 64 KiB, raw loop: CPU / net/http", scenario: "post-64k", value: "cpu", of: "raw", over: "net/http", floor: true, format: ratio},
		{name: "1 MiB bodies: CPU / raw loop", scenario: "get-1m", value: "cpu", over: "raw", reach: 1.10, aim: 1.05, format: ratio},
		{name: "TLS 1.3 GET, kept connection: CPU / net/http", scenario: "tls-get", value: "cpu", over: "net/http", reach: 0.45, aim: 0.42, format: ratio},
		{name: "TLS 1.3 GET, raw loop: CPU / net/http", scenario: "tls-get", value: "cpu", of: "raw", over: "net/http", floor: true, format: ratio},
		{name: "10,000 idle connections: RSS each / net/http", scenario: "idle", value: "rss", over: "net/http", reach: 0.12, aim: 0.10, format: "%.3f", repeats: true},
		{name: "10,000 idle TLS connections: RSS each / net/http", scenario: "idle-tls", value: "rss", over: "net/http", reach: 0.35, aim: 0.31, format: "%.3f", repeats: true},
		{name: "goroutines an idle connection", scenario: "idle", value: "goroutines", reach: 0, aim: 0, format: "%.3f", repeats: true},
		{name: "goroutines an idle TLS connection", scenario: "idle-tls", value: "goroutines", reach: 0, aim: 0, format: "%.3f", repeats: true},
		{name: "pool: acquire and release, ns", scenario: "BenchmarkAcquireRelease", value: "ns/op", reach: 60, aim: 35, format: whole},
		{name: "pool: the same from 64 goroutines, ns", scenario: "BenchmarkAcquireRelease64", value: "ns/op", reach: 400, aim: 300, format: whole},
		{name: "hand-over with 10,000 waiters, ns", scenario: "BenchmarkHandOverBlocked", value: "ns/op", reach: 2000, aim: 1300, format: whole},
		{name: "cancel of one of 10,000 waiters, ns", scenario: "BenchmarkCancelQueued/waiters=10000", value: "ns/op", reach: 150, aim: 80, format: whole},
		{name: "200 requests, 80 ms, 10 connections: % over the ideal", scenario: "wall", value: "wall", scale: ideal / 100, minus: 100, reach: 1.5, aim: 1, format: ratio},
		{name: "dials of 64 workers, 10,000 requests", scenario: "dials", value: "dials", reach: 64, aim: 64, format: whole, repeats: true},
		{name: "dials of the same with bodies closed unread", scenario: "dials-unread", value: "dials", reach: 64, aim: 64, format: whole, repeats: true},
		{name: "100,000 endpoints: bytes each", scenario: "BenchmarkEndpoints", value: "B/endpoint", reach: 2000, aim: 1000, format: whole, repeats: true},
		{name: "100,000 endpoints: lookup, ns", scenario: "BenchmarkEndpoints", value: "ns/op", reach: 100, aim: 30, format: whole},
	}
	for _, b := range bursts {
		what := fmt.Sprintf("HTTP/2, %d at once, %d streams a connection: ", b.workers, b.streams)
		need := float64((b.workers + b.streams - 1) / b.streams)
		list = append(list,
			figure{name: what + "connections", scenario: b.name(), value: "dials", reach: need, aim: need, format: whole, repeats: true},
			figure{name: what + "connections of net/http", scenario: b.name(), value: "dials", of: "net/http", floor: true, format: whole},
			figure{name: what + "failed", scenario: b.name(), value: "failed", format: whole, repeats: true},
			figure{name: what + "failed, net/http", scenario: b.name(), value: "failed", of: "net/http", floor: true, format: whole},
			figure{name: what + "failed, net/http strict", scenario: b.name(), value: "failed", of: strict, floor: true, format: whole},
			figure{name: what + "99th percentile / net/http", scenario: b.name(), value: "p99", over: "net/http", reach: 1, aim: 0.9, format: ratio})
	}
	for _, m := range muxed {
		list = append(list, figure{name: fmt.Sprintf("HTTP/2 GET, %d workers over %d connections: CPU / net/http", m.workers, m.conns),
			scenario: m.name(), value: "cpu", over: "net/http", reach: 1.1, aim: 1, format: ratio})
	}
	return list
}

// field returns the figure's field of a sample.
func (f *figure) field(s sample) float64 {
	switch f.value {
	case "cpu":
		return s.CPU
	case "rate":
		return float64(s.Requests) / s.Wall
	case "wall":
		return s.Wall
	case "allocs":
		return s.Allocs
	case "bytes":
		return s.Bytes
	case "rss":
		return s.RSS
	case "goroutines":
		return s.Goroutines
	case "p99":
		return s.P99
	case "failed":
		return float64(s.Failed)
	case "dials":
		return float64(s.Dials)
	}
	panic(fmt.Sprintf("bench: figure %q of no field %q", f.name, f.value))
}

// scaled applies scale and minus.
func (f *figure) scaled(v float64) float64 {
	if f.scale != 0 {
		v /= f.scale
	}
	return v - f.minus
}

// verdict says which of the two bounds v meets.
func (f *figure) verdict(v float64) string {
	if f.floor {
		return "floor"
	}
	// What is printed is what counts.
	v, _ = strconv.ParseFloat(fmt.Sprintf(f.format, v), 64)
	meets := func(bound float64) bool {
		if f.inverse {
			return v >= bound
		}
		return v <= bound
	}
	switch {
	case meets(f.aim):
		return "aim"
	case meets(f.reach):
		return "reach"
	}
	return "MISSED"
}
