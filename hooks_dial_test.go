package berth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// What Trace is told, in order.
type told struct {
	mu       sync.Mutex
	dials    []berth.DialInfo
	lookups  []berth.ResolveInfo
	acquired []berth.AcquireInfo
	gaveUp   []berth.GiveUpInfo
}

func (l *told) trace() *berth.Trace {
	return &berth.Trace{
		Dialed:   func(i berth.DialInfo) { l.mu.Lock(); defer l.mu.Unlock(); l.dials = append(l.dials, i) },
		Resolved: func(i berth.ResolveInfo) { l.mu.Lock(); defer l.mu.Unlock(); l.lookups = append(l.lookups, i) },
		Acquired: func(i berth.AcquireInfo) { l.mu.Lock(); defer l.mu.Unlock(); l.acquired = append(l.acquired, i) },
		GaveUp:   func(i berth.GiveUpInfo) { l.mu.Lock(); defer l.mu.Unlock(); l.gaveUp = append(l.gaveUp, i) },
	}
}

// A dial tells when each of its parts took place, exactly; a name that is remembered, and
// what an endpoint does not need, are no part.
func TestTraceTellsThePartsOfADial(t *testing.T) {
	_, roots := origin.Cert()
	synctest.Test(t, func(t *testing.T) {
		var l told
		n := &memnet.Network{OnDial: func(context.Context, string) error { time.Sleep(20 * time.Millisecond); return nil }}
		ln, err := n.Listen("127.0.0.1:443")
		if err != nil {
			t.Fatal(err)
		}
		o := origin.New(origin.TLS(ln)).Handle(origin.Serve(ok("a")))
		cfg := tlsConfig(roots)
		cfg.ServerName = "127.0.0.1"
		cfg.VerifyConnection = func(tls.ConnectionState) error { time.Sleep(50 * time.Millisecond); return nil }
		tr := mustNew(t, berth.Config{DialContext: n.DialContext, Proxy: berth.NoProxy, TLS: cfg, Trace: l.trace(),
			Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
				time.Sleep(10 * time.Millisecond)
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Hour, nil
			}})
		begin := time.Now()
		wantGet(t, tr, "https://named.test/", "a")
		tr.CloseIdleConnections()
		again := time.Now()
		wantGet(t, tr, "https://named.test/", "a")
		tr.Close()
		o.Close()
		synctest.Wait()

		ms := time.Millisecond
		at := func(start time.Time, after, took time.Duration) berth.DialPhase {
			return berth.DialPhase{Start: start.Add(after), Duration: took}
		}
		if len(l.dials) != 2 || len(l.lookups) != 1 {
			t.Fatalf("%d dials, %d lookups", len(l.dials), len(l.lookups))
		}
		for i, want := range []berth.DialInfo{
			{Start: begin, Duration: 80 * ms, Name: at(begin, 0, 10*ms), Connect: at(begin, 10*ms, 20*ms), TLS: at(begin, 30*ms, 50*ms)},
			{Start: again, Duration: 70 * ms, Connect: at(again, 0, 20*ms), TLS: at(again, 20*ms, 50*ms)},
		} {
			got := l.dials[i]
			for part, p := range map[string][2]berth.DialPhase{"name": {got.Name, want.Name}, "connect": {got.Connect, want.Connect},
				"proxy": {got.Proxy, want.Proxy}, "TLS": {got.TLS, want.TLS}, "all": {{Start: got.Start, Duration: got.Duration}, {Start: want.Start, Duration: want.Duration}}} {
				if !p[0].Start.Equal(p[1].Start) || p[0].Duration != p[1].Duration {
					t.Errorf("dial %d, %s: %v for %v, want %v for %v", i, part, p[0].Start, p[0].Duration, p[1].Start, p[1].Duration)
				}
			}
		}
		if q := l.lookups[0]; q.Name != "named.test" || q.Addrs != 1 || q.TTL != time.Hour || q.Duration != 10*ms || q.Err != nil || q.Server.Host != "named.test" {
			t.Errorf("lookup %+v", q)
		}
	})
}

// The way through a proxy is a part of a dial, and one that fails is told too.
func TestTraceTellsOfTheProxy(t *testing.T) {
	proxy := newProxy(t, "http", nil)
	srv, client := newTLSServer(t, proto, h2Too)
	var l told
	tr := mustNew(t, berth.Config{Proxy: proxy.use(), TLS: client, Trace: l.trace()})
	wantGet(t, tr, srv.URL, "HTTP/2.0")
	client = client.Clone()
	client.RootCAs = nil
	bad := mustNew(t, berth.Config{Proxy: proxy.use(), TLS: client, Trace: l.trace()})
	if _, err := fetch(bad, srv.URL); err == nil {
		t.Fatal("no error")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.dials) != 2 {
		t.Fatalf("%d dials", len(l.dials))
	}
	for i, d := range l.dials {
		if d.Connect.Start.Before(d.Start) || d.Proxy.Start.Before(d.Connect.Start.Add(d.Connect.Duration)) || d.TLS.Start.Before(d.Proxy.Start.Add(d.Proxy.Duration)) ||
			d.TLS.Start.Add(d.TLS.Duration).After(d.Start.Add(d.Duration)) || !d.Name.Start.IsZero() || d.TLS.Duration <= 0 || (d.Err != nil) != (i == 1) ||
			d.TLS.Failed != (i == 1) || d.Connect.Failed || d.Proxy.Failed {
			t.Errorf("%+v", d)
		}
	}
}

// Questions that nobody waits for are told too, and those that fail.
func TestTraceTellsOfEveryLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l told
		n := &memnet.Network{}
		ln, err := n.Listen("127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		o := origin.New(ln).Handle(origin.Serve(ok("a")))
		asked := 0
		gone := &net.DNSError{Err: "gone", IsTemporary: true}
		tr := mustNew(t, berth.Config{DialContext: n.DialContext, Proxy: berth.NoProxy, Trace: l.trace(),
			Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
				if asked++; asked == 2 {
					return nil, 0, gone
				}
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 20 * time.Second, nil
			}})
		wantGet(t, tr, "http://named.test/", "a")
		time.Sleep(22 * time.Second)
		tr.Close()
		o.Close()
		synctest.Wait()
		if len(l.lookups) != 3 || asked != 3 || l.lookups[0].Err != nil || l.lookups[1].Err != gone || l.lookups[1].TTL != 0 || l.lookups[2].Err != nil {
			t.Errorf("asked %d times, told %+v", asked, l.lookups)
		}
	})
}

// A request that gets no connection is told once, and for how long it waited if it did.
func TestTraceTellsWhoGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l told
		r := newRig(t, berth.Config{Trace: l.trace(), Policy: berth.Policy{MaxConns: 1, MaxWaiters: 1, AcquireTimeout: 2 * time.Second}},
			origin.Latency(10*time.Second, ok("a")))
		busy := r.send(1, "/")
		synctest.Wait()
		waits := r.send(1, "/")
		synctest.Wait()
		if _, err := r.tr.RoundTrip(r.request(t.Context(), "GET", "/", nil)); !errors.As(err, new(*berth.QueueFullError)) {
			t.Errorf("%v", err)
		}
		time.Sleep(5 * time.Second)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), traceKey{}, "canceled"))
		time.AfterFunc(time.Second, cancel)
		if _, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil)); err != context.Canceled {
			t.Errorf("%v", err)
		}
		r.none(busy)
		if n, err := waits(); n != 1 || !errors.As(err, new(*berth.AcquireTimeoutError)) {
			t.Errorf("%d failed: %v", n, err)
		}
		r.close()
		if _, err := r.tr.RoundTrip(r.request(t.Context(), "GET", "/", nil)); !errors.Is(err, berth.ErrClosed) {
			t.Errorf("%v", err)
		}
		if len(l.gaveUp) < 3 || len(l.acquired) != 1 || !l.acquired[0].Queued {
			t.Fatalf("%+v, %+v", l.gaveUp, l.acquired)
		}
		full, timeout, canceled := l.gaveUp[0], l.gaveUp[1], l.gaveUp[2]
		if full.Queued || full.Waited != 0 || !errors.As(full.Err, new(*berth.QueueFullError)) || full.Server.Host != "origin.test" {
			t.Errorf("queue full: %+v", full)
		}
		if !timeout.Queued || timeout.Waited != 2*time.Second || !errors.As(timeout.Err, new(*berth.AcquireTimeoutError)) {
			t.Errorf("timeout: %+v", timeout)
		}
		if !canceled.Queued || canceled.Waited != time.Second || canceled.Err != context.Canceled || canceled.Context.Value(traceKey{}) != "canceled" {
			t.Errorf("canceled: %+v", canceled)
		}
	})
}

// A leak tells the context of its request, over both protocols, and the server; what was
// remembered for that goes with the exchange.
func TestLeakTellsTheContext(t *testing.T) {
	for _, mux := range []bool{false, true} {
		srv, client := newTLSServer(t, longServer, func(s *httptest.Server) { s.EnableHTTP2 = mux })
		leaks := make(chan berth.LeakInfo, 1)
		tr := mustNew(t, berth.Config{TLS: client, Proxy: berth.NoProxy, Policy: berth.Policy{LeakAfter: time.Second},
			Trace: &berth.Trace{Leak: func(i berth.LeakInfo) { leaks <- i }}})
		wantGet(t, tr, srv.URL+"/short", "short") // the connection has carried another request
		ctx := context.WithValue(t.Context(), traceKey{}, "leaking")
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/length", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if i := <-leaks; i.State != "suspect" || i.Context == nil || i.Context.Value(traceKey{}) != "leaking" || i.Server.Host != "127.0.0.1" {
			t.Errorf("http2=%v: %+v", mux, i)
		}
		resp.Body.Close()
	}
}
