package lab

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// http2Experiment sends more requests at once than one HTTP/2 connection takes.
func http2Experiment() Experiment {
	return Experiment{
		Name:    "http2",
		Source:  "RFC 9113 §5.1.2 and JDK-8225647: more requests at once than a connection may have streams",
		Summary: "twenty requests at once at two streams a connection: berth, net/http, StrictMaxConcurrentRequests, larger limits of the pool",
		run:     runHTTP2,
	}
}

const (
	h2Workers  = 20
	h2Streams  = 2
	h2Latency  = 20 * time.Millisecond
	h2Deadline = 2 * time.Second // of a request
)

func runHTTP2(ctx context.Context, s *session) error {
	each, few := 20, 2
	if s.scale == Quick {
		each, few = 5, 1
	}
	const room = 100 // streams, where they are not what is scarce
	s.result.Note = "the server takes 20 ms for an answer, over TLS; a request is given two seconds. Twenty workers begin at once, after a first request; those that wait for a stream send fewer"
	strict := func(most int) func(*tls.Config) (http.RoundTripper, func(), error) {
		return theirsOverTLS(most, true)
	}
	// So many connections carry all at once.
	const needed = h2Workers / h2Streams
	all := []struct {
		name    string
		each    int // requests of a worker
		streams int
		make    func(*tls.Config) (http.RoundTripper, func(), error)
		want    map[string]any
	}{
		{"berth, 2 streams a connection", each, h2Streams, oursOverTLS(berth.Policy{}), map[string]any{"failed": 0, "connections": needed, "most_streams": h2Streams}},
		{"net/http, 2 streams a connection", each, h2Streams, theirsOverTLS(0, false), map[string]any{"connections": "≥ 10"}},
		{"net/http, StrictMaxConcurrentRequests, 2 streams a connection", few, h2Streams, strict(0), map[string]any{"connections": 1}},
		{"net/http, StrictMaxConcurrentRequests, MaxConnsPerHost 100, 2 streams a connection", few, h2Streams, strict(100), map[string]any{"connections": 1}},
		{"berth, 100 streams a connection", each, room, oursOverTLS(berth.Policy{}), map[string]any{"failed": 0, "connections": 1}},
		{"berth, MaxConns 100, 100 streams a connection", each, room, oursOverTLS(berth.Policy{MaxConns: 100}), map[string]any{"failed": 0, "connections": 1}},
		{"berth, MaxStreamsPerConn 5, 100 streams a connection", each, room, oursOverTLS(berth.Policy{MaxStreamsPerConn: 5}), map[string]any{"failed": 0, "connections": h2Workers / 5, "most_streams": 5}},
		{"net/http, 100 streams a connection", each, room, theirsOverTLS(0, false), map[string]any{"failed": 0, "connections": 1}},
	}
	rows := make([]Variant, len(all))
	errs := make([]error, len(all))
	take := func(i int) {
		v := all[i]
		s.progress("%s, %d requests", v.name, h2Workers*v.each)
		if rows[i], errs[i] = h2Row(ctx, byte(i+1), v.streams, v.each, v.make); errs[i] == nil {
			rows[i].Name, rows[i].Expected = v.name, v.want
			rows[i].OK = rows[i].meets()
		}
	}
	var waiting sync.WaitGroup
	for i := range all {
		if all[i].each == few { // they wait for most of their time
			waiting.Go(func() { take(i) })
		}
	}
	for i := range all {
		if all[i].each == each {
			take(i)
		}
	}
	waiting.Wait()
	for i, row := range rows {
		if errs[i] != nil {
			return errs[i]
		}
		s.add(row)
	}
	return nil
}

func oursOverTLS(p berth.Policy) func(*tls.Config) (http.RoundTripper, func(), error) {
	return func(c *tls.Config) (http.RoundTripper, func(), error) {
		return newOurs(berth.Config{Policy: p, TLS: c})
	}
}

func theirsOverTLS(most int, strict bool) func(*tls.Config) (http.RoundTripper, func(), error) {
	return func(c *tls.Config) (http.RoundTripper, func(), error) {
		p := new(http.Protocols)
		p.SetHTTP2(true)
		t := &http.Transport{TLSClientConfig: c, Protocols: p, MaxConnsPerHost: most, MaxIdleConnsPerHost: h2Workers,
			HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: strict}}
		return t, t.CloseIdleConnections, nil
	}
}

// h2Server counts, for each connection, the requests at once.
type h2Server struct {
	mu   sync.Mutex // of what follows, for a moment
	open map[string]int
	most int
}

func (h *h2Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.open[r.RemoteAddr]++
	h.most = max(h.most, h.open[r.RemoteAddr])
	h.mu.Unlock()
	time.Sleep(h2Latency)
	h.mu.Lock()
	h.open[r.RemoteAddr]--
	h.mu.Unlock()
	io.WriteString(w, "ok")
}

func (h *h2Server) atOnce() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.most
}

func h2Row(ctx context.Context, variant byte, streams, each int, make func(*tls.Config) (http.RoundTripper, func(), error)) (Variant, error) {
	ln, err := listen(42, variant)
	if err != nil {
		return Variant{}, err
	}
	addr := ln.Addr().String()
	cert, roots := origin.Cert()
	var accepted atomic.Int64
	h := &h2Server{open: map[string]int{}}
	srv := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: streams},
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler:   h,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				accepted.Add(1)
			}
		},
	}
	var serving sync.WaitGroup
	serving.Go(func() { srv.ServeTLS(ln, "", "") })
	defer serving.Wait()
	defer srv.Close()
	rt, end, err := make(&tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		return Variant{}, err
	}
	defer end()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		all  []time.Duration
		errs []error
	)
	if err := fetchWithin(ctx, rt, "https://"+addr+"/", h2Deadline); err != nil { // the limit is known from here on
		return Variant{}, err
	}
	start := time.Now()
	for range h2Workers {
		wg.Go(func() {
			for range each {
				begun := time.Now()
				err := fetchWithin(ctx, rt, "https://"+addr+"/", h2Deadline)
				mu.Lock()
				all = append(all, time.Since(begun))
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	wall := time.Since(start)
	if ctx.Err() != nil {
		return Variant{}, errInterrupted
	}
	row := Variant{Series: []Series{latencies(all)}, Measured: map[string]any{"requests": len(all), "failed": len(errs), "connections": int(accepted.Load()),
		"most_streams": h.atOnce(), "p99_ms": ms(quantile(all, 0.99)), "wall_ms": ms(wall)}}
	if len(errs) > 0 {
		row.Measured["error"] = errs[0].Error()
	}
	return row, nil
}
