package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// boundsExperiment sets one thing at a time, and counts what it bounds or spreads.
func boundsExperiment() Experiment {
	return Experiment{
		Name:    "bounds",
		Source:  "settings that bound or spread: all hosts together, the idle set, ports, addresses, decompression, what a wrapper hides",
		Summary: "one setting at a time: connections to 20 hosts, idle ones after a burst, ports a destination, shares of three addresses, a bomb of gzip, the wait as a metric",
		run:     runBounds,
	}
}

const (
	manyHosts   = 20
	hostWorkers = 5
	manyLimit   = 10
	burstConns  = 50
	burstIdle   = 200 * time.Millisecond // until an idle connection goes
	boundPorts  = 20
	spreadAddrs = 3
	metricConns = 10
	metricCalls = 40
	metricWork  = 50 * time.Millisecond
)

// bound is one setting, and what it is measured by.
type bound struct {
	name string
	run  func(context.Context, byte) (Variant, error)
	want map[string]any
}

func runBounds(ctx context.Context, s *session) error {
	bomb := 64 << 20
	if s.scale == Quick {
		bomb = 32 << 20
	}
	z, err := zeros(bomb)
	if err != nil {
		return err
	}
	s.result.Note = fmt.Sprintf("%d hosts are asked by %d workers each; the bomb is %s of zeros; net/http's dialer takes the first address of a name that answers", manyHosts, hostWorkers, bytesText(bomb))
	trusted := berth.Policy{MaxInflateRatio: 2000}
	all := []bound{
		{"berth, MaxConns 10 over 20 hosts", hostsTogether(true, manyLimit), map[string]any{"requests": manyHosts * hostWorkers * 2, "failed": 0, "most_connections": "≤ 10"}},
		{"berth, MaxConns 40 over 20 hosts", hostsTogether(true, 2*manyHosts), map[string]any{"requests": manyHosts * hostWorkers * 2, "failed": 0, "most_connections": "≤ 40"}},
		{"net/http, MaxConnsPerHost 10 over 20 hosts", hostsTogether(false, manyLimit), map[string]any{"failed": 0, "most_connections": "> 10"}},

		{"berth, IdleTimeout 200 ms after a burst", idleAfterBurst(true, &http.Transport{}), map[string]any{"failed": 0, "left": "≤ 2"}},
		{"net/http, no IdleConnTimeout after a burst", idleAfterBurst(false, &http.Transport{MaxIdleConnsPerHost: burstConns}), map[string]any{"failed": 0, "left": burstConns}},
		{"net/http, IdleConnTimeout 200 ms after a burst", idleAfterBurst(false, &http.Transport{MaxIdleConnsPerHost: burstConns, IdleConnTimeout: burstIdle}), map[string]any{"failed": 0, "left": "≤ 2"}},

		{"berth, Order spread over three addresses", addresses(berth.Spread), map[string]any{"failed": 0, "least_share_%": "≥ 20"}},
		{"net/http, a name of three addresses", addresses(""), map[string]any{"failed": 0, "least_share_%": 0}},

		{"berth, one source address, two destinations", oursBound, map[string]any{"connections": 2 * boundPorts}},
		{"net.Dialer, bound without IP_BIND_ADDRESS_NO_PORT", boundFirst, map[string]any{"connections": boundPorts}},

		{"berth, forwarded by its wrapper", closedIdle(true, true), map[string]any{"left": 0}},
		{"berth, swallowed by its wrapper, called on the transport", closedBelow, map[string]any{"left": 0}},
		{"net/http, swallowed by its wrapper", closedIdle(false, false), map[string]any{"left": 1}},
		{"net/http, forwarded by its wrapper", closedIdle(false, true), map[string]any{"left": 0}},

		{"berth, a bomb of gzip", inflated(z, berth.Policy{}, true), map[string]any{"bytes_in": len(z), "bytes_out": fmt.Sprintf("≤ %d", 9<<20), "heap_mb": "≤ 24", "error": "contains MaxInflateRatio"}},
		{"berth, a bomb of gzip, the limit raised for its host", inflated(z, trusted, true), map[string]any{"bytes_out": bomb}},
		{"net/http, a bomb of gzip", inflated(z, berth.Policy{}, false), map[string]any{"bytes_out": bomb, "heap_mb": fmt.Sprintf("≥ %d", bomb>>20)}},

		{"berth, Trace.Acquired", oursMetric, map[string]any{"requests": metricCalls, "waited": metricCalls - metricConns, "wait_p99_ms": "≥ 100"}},
		{"net/http, httptrace", theirsMetric, map[string]any{"requests": metricCalls, "wait_p99_ms": "≥ 100"}},
	}
	for i, b := range all {
		s.progress("%s", b.name)
		row, err := b.run(ctx, byte(i+1))
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		row.Name, row.Expected = b.name, b.want
		row.OK = row.meets()
		s.add(row)
	}
	return nil
}

// dialCount counts connections from the beginning of their dial to the end of their
// close. The kernel's table does for a number that stands still: it is not read at one
// moment, and these come and go.
type dialCount struct {
	start time.Time

	mu         sync.Mutex // of what follows, for a moment
	open, most int
	opened     int
	series     Series
}

func (d *dialCount) add(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open += n
	d.most = max(d.most, d.open)
	d.opened += max(n, 0)
	d.series.Points = append(d.series.Points, [2]float64{round3(time.Since(d.start).Seconds()), float64(d.open)})
}

func (d *dialCount) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.add(1)
	var nd net.Dialer
	c, err := nd.DialContext(ctx, network, addr)
	if err != nil {
		d.add(-1)
		return nil, err
	}
	return &countedConn{Conn: c, count: d}, nil
}

type countedConn struct {
	net.Conn
	count *dialCount
	once  sync.Once
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.count.add(-1) })
	return err
}

// hostsTogether asks many hosts at once: many ports of one address.
func hostsTogether(ours bool, limit int) func(context.Context, byte) (Variant, error) {
	return func(ctx context.Context, variant byte) (Variant, error) {
		var urls []string
		for range manyHosts {
			srv, err := serve(45, variant, 30*time.Millisecond)
			if err != nil {
				return Variant{}, err
			}
			defer srv.Close()
			urls = append(urls, srv.url())
		}
		count := &dialCount{start: time.Now(), series: Series{Name: "connections", Unit: "s"}}
		rt, end, err := oursOr(ours, berth.Config{MaxConns: limit, DialContext: count.dial}, &http.Transport{MaxConnsPerHost: limit, DialContext: count.dial})
		if err != nil {
			return Variant{}, err
		}
		defer end()
		var (
			wg     sync.WaitGroup
			failed atomic.Int64
		)
		for _, url := range urls {
			for range hostWorkers {
				wg.Go(func() {
					for range 2 {
						if get(ctx, rt, url) != nil {
							failed.Add(1)
						}
					}
				})
			}
		}
		wg.Wait()
		count.mu.Lock()
		defer count.mu.Unlock()
		return Variant{Series: []Series{count.series}, Measured: map[string]any{"hosts": manyHosts, "requests": manyHosts * hostWorkers * 2, "failed": int(failed.Load()),
			"connections": count.opened, "most_connections": count.most}}, nil
	}
}

// idleAfterBurst has a burst and then one request at a time.
func idleAfterBurst(ours bool, theirs *http.Transport) func(context.Context, byte) (Variant, error) {
	return func(ctx context.Context, variant byte) (Variant, error) {
		srv, err := serve(45, variant, 100*time.Millisecond)
		if err != nil {
			return Variant{}, err
		}
		defer srv.Close()
		rt, end, err := oursOr(ours, berth.Config{Policy: berth.Policy{IdleTimeout: burstIdle}}, theirs)
		if err != nil {
			return Variant{}, err
		}
		defer end()
		stop := follow(ctx, srv, 10*time.Millisecond)
		all := burstOf(ctx, rt, srv.url(), srv, true, burstConns)
		for range 8 {
			all = append(all, sample{err: get(ctx, rt, srv.url())})
		}
		series, seen := stop()
		row := Variant{Series: []Series{series}, Measured: map[string]any{"requests": len(all), "failed": failures(all), "connections": srv.Stats().Accepted,
			"left": NotObserved}}
		if left, err := clientSockets(ctx, srv.addr, sockets.Established); err == nil && seen {
			row.Measured["left"] = len(left)
		}
		return row, nil
	}
}

// addresses has a name with three of them. Without an order it is net/http's turn.
func addresses(order berth.Order) func(context.Context, byte) (Variant, error) {
	return func(ctx context.Context, variant byte) (Variant, error) {
		const burst, workers, requests = 24, 2, 300
		var servers []*server
		for i := range spreadAddrs {
			address := fmt.Sprintf("127.72.%d.%d:0", variant, i+1)
			if i > 0 {
				address = fmt.Sprintf("127.72.%d.%d:%d", variant, i+1, servers[0].addr.Port())
			}
			ln, err := net.Listen("tcp", address)
			if err != nil { // only Linux has all of 127/8
				for _, s := range servers {
					s.Close()
				}
				return Variant{Note: err.Error(), Measured: map[string]any{"requests": 0, "failed": NotObserved, "least_share_%": NotObserved}}, nil
			}
			srv := &server{origin.Fast(ln, answer, 3*time.Millisecond), addrOf(ln)}
			defer srv.Close()
			servers = append(servers, srv)
		}
		var addrs []netip.Addr
		for _, s := range servers {
			addrs = append(addrs, s.addr.Addr())
		}
		port := fmt.Sprint(servers[0].addr.Port())
		cfg := berth.Config{Policy: berth.Policy{Order: order}, Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
			return addrs, time.Minute, nil
		}}
		rt, end, err := oursOr(order != "", cfg, &http.Transport{MaxIdleConnsPerHost: burst, DialContext: inOrder(addrs, port)})
		if err != nil {
			return Variant{}, err
		}
		defer end()
		var failed atomic.Int64
		ask := func(workers, each int) {
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range each {
						if get(ctx, rt, "http://name.test:"+port+"/") != nil {
							failed.Add(1)
						}
					}
				})
			}
			wg.Wait()
		}
		ask(burst, 1) // a burst opens the connections, and what follows is spread over them
		var before []int
		for _, s := range servers {
			before = append(before, s.Stats().Requests)
		}
		ask(workers, requests/workers)
		row := Variant{Measured: map[string]any{"requests": requests, "failed": int(failed.Load())}}
		least := 100
		for i, s := range servers {
			share := (s.Stats().Requests - before[i]) * 100 / requests
			row.Measured[fmt.Sprintf("share_%d_%%", i+1)] = share
			least = min(least, share)
		}
		row.Measured["least_share_%"] = least
		return row, nil
	}
}

// inOrder dials a name's addresses as net.Dialer does: the next when one does not answer.
func inOrder(addrs []netip.Addr, port string) dialFunc {
	return func(ctx context.Context, network, _ string) (c net.Conn, err error) {
		var d net.Dialer
		for _, a := range addrs {
			if c, err = d.DialContext(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
				return c, nil
			}
		}
		return nil, err
	}
}

// forwarding is a wrapper that forwards CloseIdleConnections; roundTripFunc is one that
// does not.
type forwarding struct{ http.RoundTripper }

func (f forwarding) CloseIdleConnections() {
	if c, ok := f.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// closedIdle calls http.Client.CloseIdleConnections over a wrapper.
func closedIdle(ours, forwards bool) func(context.Context, byte) (Variant, error) {
	return func(ctx context.Context, variant byte) (Variant, error) {
		rt, end, err := oursOr(ours, berth.Config{}, &http.Transport{})
		if err != nil {
			return Variant{}, err
		}
		defer end()
		c := &http.Client{Transport: roundTripFunc(rt.RoundTrip)}
		if forwards {
			c.Transport = forwarding{rt}
		}
		return leftIdle(ctx, variant, c.Transport, c.CloseIdleConnections)
	}
}

// closedBelow calls it on the transport itself.
func closedBelow(ctx context.Context, variant byte) (Variant, error) {
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		return Variant{}, err
	}
	defer tr.Close()
	return leftIdle(ctx, variant, roundTripFunc(tr.RoundTrip), tr.CloseIdleConnections)
}

// leftIdle counts the connections that a call leaves, as soon as there are none, or after
// a while.
func leftIdle(ctx context.Context, variant byte, rt http.RoundTripper, closeIdle func()) (Variant, error) {
	srv, err := serve(45, variant, 0)
	if err != nil {
		return Variant{}, err
	}
	defer srv.Close()
	if err := get(ctx, rt, srv.url()); err != nil {
		return Variant{}, err
	}
	if err := pause(ctx, 20*time.Millisecond); err != nil { // it is idle now
		return Variant{}, err
	}
	closeIdle()
	row := Variant{Measured: map[string]any{"connections": srv.Stats().Accepted, "left": NotObserved}}
	for range 20 {
		left, err := clientSockets(ctx, srv.addr, sockets.Established)
		if err != nil {
			break
		}
		row.Measured["left"] = len(left)
		if len(left) == 0 || pause(ctx, 10*time.Millisecond) != nil {
			break
		}
	}
	return row, nil
}

// zeros is the gzip of so many of them.
func zeros(n int) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.CopyN(w, endlessZeros{}, int64(n)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type endlessZeros struct{}

func (endlessZeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// inflated reads a response as most programs do: all of it into memory.
func inflated(z []byte, p berth.Policy, ours bool) func(context.Context, byte) (Variant, error) {
	return func(ctx context.Context, variant byte) (Variant, error) {
		response := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(z)), z...)
		srv, err := serveBytes(45, variant, response)
		if err != nil {
			return Variant{}, err
		}
		defer srv.Close()
		rt, end, err := oursOr(ours, berth.Config{Policy: p}, &http.Transport{})
		if err != nil {
			return Variant{}, err
		}
		defer end()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.url(), nil)
		if err != nil {
			return Variant{}, err
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return Variant{}, err
		}
		defer resp.Body.Close()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b, err := io.ReadAll(resp.Body)
		runtime.GC()
		runtime.ReadMemStats(&after)
		row := Variant{Measured: map[string]any{"bytes_in": len(z), "bytes_out": len(b), "heap_mb": max(int(after.HeapAlloc>>20)-int(before.HeapAlloc>>20), 0)}}
		if err != nil {
			row.Measured["error"] = anonymous(err.Error(), srv)
		}
		runtime.KeepAlive(b)
		return row, nil
	}
}

// waits collects what each request waited.
type waits struct {
	mu     sync.Mutex
	all    []time.Duration
	waited int // for a connection that another request had
}

func (w *waits) note(d time.Duration, queued bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, d)
	if queued {
		w.waited++
	}
}

// metric sends more than there are connections, all at once.
func (w *waits) metric(ctx context.Context, variant byte, rt http.RoundTripper) (Variant, error) {
	srv, err := serve(45, variant, metricWork)
	if err != nil {
		return Variant{}, err
	}
	defer srv.Close()
	all := burstOf(ctx, rt, srv.url(), srv, true, metricCalls)
	w.mu.Lock()
	defer w.mu.Unlock()
	return Variant{Series: []Series{latencies(w.all)}, Measured: map[string]any{"requests": len(all), "failed": failures(all), "waited": w.waited,
		"wait_p50_ms": ms(quantile(w.all, 0.5)), "wait_p99_ms": ms(quantile(w.all, 0.99)), "request_p99_ms": ms(quantile(durations(all), 0.99))}}, nil
}

func oursMetric(ctx context.Context, variant byte) (Variant, error) {
	w := &waits{}
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, Policy: berth.Policy{MaxConns: metricConns},
		Trace: &berth.Trace{Acquired: func(i berth.AcquireInfo) { w.note(i.Waited, i.Chosen == "released") }}})
	if err != nil {
		return Variant{}, err
	}
	defer tr.Close()
	return w.metric(ctx, variant, tr)
}

func theirsMetric(ctx context.Context, variant byte) (Variant, error) {
	w := &waits{}
	t := &http.Transport{MaxConnsPerHost: metricConns, MaxIdleConnsPerHost: metricConns}
	defer t.CloseIdleConnections()
	return w.metric(ctx, variant, roundTripFunc(func(req *http.Request) (*http.Response, error) {
		start := time.Now()
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { w.note(time.Since(start), i.Reused) }}
		return t.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	}))
}
