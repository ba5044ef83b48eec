package lab

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/berth-go/berth"
)

// herdExperiment gives a hundred connections one lifetime: who reconnects when.
func herdExperiment() Experiment {
	return Experiment{
		Name:    "herd",
		Source:  "connections opened together that live equally long: reconnect storms",
		Summary: "100 connections with one lifetime: reconnects over time and p99, without jitter, with it, with the retirement gap",
		run:     runHerd,
	}
}

const (
	herdConns     = 100
	herdThink     = 30 * time.Millisecond
	herdLatency   = 10 * time.Millisecond
	herdHandshake = 20 * time.Millisecond // what TLS over some distance costs a dial
	herdBucket    = 100 * time.Millisecond
	herdMost      = herdConns * 4 / 10 // reconnects within one that are no herd yet
)

// aging is net/http with a lifetime of its connections, as an application adds it.
type aging struct {
	*http.Transport
	life func() time.Duration

	mu  sync.Mutex
	end map[net.Conn]time.Time
}

func (a *aging) RoundTrip(req *http.Request) (*http.Response, error) {
	var conn net.Conn
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }}
	resp, err := a.Transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	end, ok := a.end[conn]
	if !ok {
		end = time.Now().Add(a.life())
		a.end[conn] = end
	}
	a.mu.Unlock()
	if time.Now().After(end) {
		resp.Body = &lastBody{resp.Body, a, conn}
	}
	return resp, nil
}

// lastBody ends its connection when it is closed.
type lastBody struct {
	io.ReadCloser
	a    *aging
	conn net.Conn
}

func (b *lastBody) Close() error {
	err := b.ReadCloser.Close()
	b.a.mu.Lock()
	delete(b.a.end, b.conn)
	b.a.mu.Unlock()
	b.conn.Close()
	return err
}

func runHerd(ctx context.Context, s *session) error {
	lifetime := 2 * time.Second
	if s.scale == Quick {
		lifetime = time.Second
	}
	length := 3 * lifetime
	s.result.Note = fmt.Sprintf("lifetime %v, %d workers; a dial takes %v longer, as one with a handshake over some distance does; reconnects are counted in tenths of a second", lifetime, herdConns, herdHandshake)
	withLife := func(life func() time.Duration) func(dialFunc) (http.RoundTripper, func()) {
		return func(dial dialFunc) (http.RoundTripper, func()) {
			a := &aging{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: herdConns}, life: life, end: map[net.Conn]time.Time{}}
			return a, a.CloseIdleConnections
		}
	}
	for i, v := range []struct {
		name string
		make func(dialFunc) (http.RoundTripper, func())
		most int // reconnects in a tenth of a second; negative expects a herd
	}{
		{"berth, the retirement gap", func(dial dialFunc) (http.RoundTripper, func()) {
			tr, err := berth.New(berth.Config{DialContext: dial, Policy: berth.Policy{Lifetime: lifetime}})
			if err != nil {
				panic(err) // constants
			}
			return tr, func() { tr.Close() }
		}, herdMost},
		{"net/http with a lifetime, no jitter", withLife(func() time.Duration { return lifetime }), -1},
		{"net/http with a lifetime, 10 % jitter", withLife(func() time.Duration { return lifetime - rand.N(lifetime/10) }), 0},
	} {
		s.progress("%s, %v", v.name, length)
		row, err := measureHerd(ctx, byte(i+1), v.make, length)
		if err != nil {
			return err
		}
		row.Name = v.name
		most := row.Measured["most_reconnects"].(int)
		row.OK = row.Measured["failed"] == 0
		row.Expected = map[string]any{"failed": 0}
		switch {
		case v.most < 0:
			row.OK = row.OK && most > herdMost
			row.Expected["most_reconnects"] = fmt.Sprintf("> %d", herdMost)
		case v.most > 0:
			row.OK = row.OK && most <= v.most
			row.Expected["most_reconnects"] = fmt.Sprintf("≤ %d", v.most)
		}
		s.add(row)
	}
	return nil
}

func measureHerd(ctx context.Context, variant byte, makeTransport func(dialFunc) (http.RoundTripper, func()), length time.Duration) (Variant, error) {
	srv, err := serve(13, variant, herdLatency)
	if err != nil {
		return Variant{}, err
	}
	defer srv.Close()
	var (
		mu    sync.Mutex
		dials []time.Duration
	)
	start := time.Now()
	var d net.Dialer
	rt, done := makeTransport(func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dials = append(dials, time.Since(start))
		mu.Unlock()
		if err := pause(ctx, herdHandshake); err != nil {
			return nil, err
		}
		return d.DialContext(ctx, network, addr)
	})
	defer done()
	all := closedLoop(ctx, func() http.RoundTripper { return rt }, srv.url(), herdConns, length, herdThink)
	if ctx.Err() != nil {
		return Variant{}, errInterrupted
	}
	mu.Lock()
	defer mu.Unlock()
	counts := make([]int, length/herdBucket+2)
	const opening = 500 * time.Millisecond // the first connections are no reconnects
	for _, at := range dials {
		if at >= opening {
			counts[min(int(at/herdBucket), len(counts)-1)]++
		}
	}
	most := 0
	series := Series{Name: "reconnects in 100 ms", Unit: "s"}
	for i, n := range counts {
		most = max(most, n)
		series.Points = append(series.Points, [2]float64{round3((time.Duration(i) * herdBucket).Seconds()), float64(n)})
	}
	var later []sample
	for _, r := range all {
		if r.at >= opening {
			later = append(later, r)
		}
	}
	return Variant{Series: []Series{series}, Measured: map[string]any{"most_reconnects": most, "p99_ms": ms(quantile(durations(later), 0.99)),
		"requests": len(all), "failed": failures(all), "dials": len(dials)}}, nil
}
