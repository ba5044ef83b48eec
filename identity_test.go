package berth_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

// Connections of another identity are not used again: a change of TLS closes idle ones at
// once and busy ones after their response.
func TestChangeOfTLSRetiresConnections(t *testing.T) {
	for _, mux := range []bool{false, true} {
		name := "HTTP/1.1"
		if mux {
			name = "HTTP/2"
		}
		t.Run(name, func(t *testing.T) {
			hold := make(chan struct{})
			started := make(chan struct{}, 1)
			srv, client := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/held" {
					started <- struct{}{}
					<-hold
				}
				if len(r.TLS.PeerCertificates) > 0 {
					io.WriteString(w, "certified")
				} else {
					io.WriteString(w, "anonymous")
				}
			}, func(s *httptest.Server) {
				s.EnableHTTP2 = mux
				s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
			})
			tr := mustNew(t, berth.Config{TLS: client, Proxy: berth.NoProxy})
			wantGet(t, tr, srv.URL, "anonymous")
			var wg sync.WaitGroup
			wg.Go(func() { wantGet(t, tr, srv.URL+"/held", "anonymous") })
			<-started
			certified := client.Clone()
			certified.Certificates = srv.TLS.Certificates
			cfg := tr.Config()
			cfg.TLS = certified
			d, err := tr.Apply(cfg)
			if err != nil || len(d.Endpoints) != 1 || !d.Endpoints[0].Reconnects {
				t.Errorf("%v, %v", d, err)
			}
			for range 5 {
				wantGet(t, tr, srv.URL, "certified")
			}
			close(hold)
			wg.Wait()
			waitFor(t, func() bool {
				s := mustEndpoint(t, tr, srv.URL).Stats()
				return s.Draining == 0 && s.Idle == 1 && s.Closes["reconnect"] >= 1
			})
			cfg = tr.Config()
			cfg.Policy.MaxConns = 9
			if d, err := tr.Apply(cfg); err != nil || d.Endpoints[0].Reconnects {
				t.Errorf("a change of a limit: %v, %v", d, err)
			}
			wantGet(t, tr, srv.URL, "certified")
			if s := mustEndpoint(t, tr, srv.URL).Stats(); s.Dials.OK > 3 {
				t.Errorf("%d dials", s.Dials.OK)
			}
		})
	}
}

// After a change of the proxy requests go through the new one, and nothing stays open to
// the old.
func TestChangeOfTheProxy(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") }))
	defer srv.Close()
	tlsSrv, client := newTLSServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") }, func(*httptest.Server) {})
	old, other := newProxy(t, "http", nil), newProxy(t, "http", nil)
	tr := mustNew(t, berth.Config{Proxy: old.use(), TLS: client})
	for step, by := range []func(*berth.Config){
		func(*berth.Config) {},
		func(c *berth.Config) { c.Proxy = other.use() },
		func(c *berth.Config) { c.Rules = []berth.Rule{{Match: "127.0.0.1", Proxy: "direct"}} },
		func(c *berth.Config) { c.Rules[0].Proxy = old.url().String() },
		func(c *berth.Config) { c.Rules = nil },
	} {
		cfg := tr.Config()
		by(&cfg)
		d, err := tr.Apply(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if step > 0 && len(d.Changes) == 0 {
			t.Errorf("step %d: nothing is said to change", step)
		}
		_, _, oldBefore := old.seen()
		_, _, otherBefore := other.seen()
		for range 2 {
			wantGet(t, tr, srv.URL, "a")
			wantGet(t, tr, tlsSrv.URL, "a")
		}
		_, _, oldAfter := old.seen()
		_, _, otherAfter := other.seen()
		open := 0
		for _, ep := range tr.Endpoints() {
			s := ep.Stats()
			open += s.Idle + s.Leased
		}
		if a, b := oldAfter-oldBefore, otherAfter-otherBefore; a+b > 2 || a > 0 && b > 0 || open != 2 {
			t.Errorf("step %d: %d and %d connections to the proxies, %d open", step, a, b, open)
		}
	}
	_, _, toOld := old.seen()
	_, _, toOther := other.seen()
	if toOld != 4 || toOther != 4 { // plain and tunnel, twice each
		t.Errorf("%d connections to the one proxy, %d to the other; want 4 and 4", toOld, toOther)
	}
}

// What is fixed when an HTTP/2 connection opens is changed by opening another; streams
// that run are not cut.
func TestHTTP2FollowsAChangedPolicy(t *testing.T) {
	h2bubble(t, berth.Policy{}, &h2peer{limit: 100, serve: slowly(time.Second)}, func(r *h2rig) {
		r.burst(10)
		r.wantConns(1)
		done := make(chan struct{})
		go func() { r.burst(10); close(done) }()
		time.Sleep(500 * time.Millisecond)
		ep := r.tr.Endpoints()[0]
		if err := ep.SetPolicy(berth.Policy{MaxStreamsPerConn: 5}); err != nil {
			r.Fatal(err)
		}
		r.burst(10)
		<-done
		synctest.Wait()
		r.wantConns(3)
		if s := r.stats(); s.Closes["reconnect"] != 1 || s.Idle != 2 {
			r.Errorf("%d idle, closes %v", s.Idle, s.Closes)
		}
		go func() { r.get("/") }()
		time.Sleep(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := ep.Drain(ctx); err != nil || time.Since(start) != 900*time.Millisecond {
			r.Errorf("drained after %v: %v", time.Since(start), err)
		}
	})
}

// Protocols that are allowed later are spoken by the next connections.
func TestChangeOfProtocols(t *testing.T) {
	srv, client := newTLSServer(t, proto, h2Too)
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	tr := mustNew(t, berth.Config{TLS: client, Protocols: http1, Proxy: berth.NoProxy})
	wantGet(t, tr, srv.URL, "HTTP/1.1")
	cfg := tr.Config()
	cfg.Protocols = nil
	if _, err := tr.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	before := srv.opened.Load()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { wantGet(t, tr, srv.URL, "HTTP/2.0") })
	}
	wg.Wait()
	if n := srv.opened.Load() - before; n != 1 {
		t.Errorf("%d connections for a burst", n)
	}
	cfg = tr.Config()
	cfg.Protocols = http1
	if _, err := tr.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	wantGet(t, tr, srv.URL, "HTTP/1.1")
}
