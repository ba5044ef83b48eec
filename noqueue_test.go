package berth_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// hasty sends a GET that does not queue, whose body is read and closed.
func (r *rig) hasty(rt http.RoundTripper) error { return r.hastyTo(rt, rigURL) }

func (r *rig) hastyTo(rt http.RoundTripper, url string) error {
	r.Helper()
	req, err := http.NewRequestWithContext(berth.WithoutQueue(r.Context()), "GET", url, nil)
	if err != nil {
		r.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// wouldQueue fails the test unless the error says so, and no time has passed.
func (r *rig) wouldQueue(err error, since time.Time) {
	r.Helper()
	e, is := errors.AsType[*berth.WouldQueueError](err)
	if !is || !berth.NotSent(err) || e.Code() != "BERTH1024" || time.Since(since) != 0 || !strings.Contains(err.Error(), "origin.test") {
		r.Errorf("after %v: %v", time.Since(since), err)
	}
}

// A request that does not queue takes what is free or can be opened, and nothing more; its
// refusal leaves no trace but its count.
func TestWithoutQueue(t *testing.T) {
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Policy: berth.Policy{MaxConns: 2}, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			origin.Latency(time.Second, ok("a")))
		r.dialsTake(100 * time.Millisecond)
		start := time.Now()
		if err := r.hasty(r.tr); err != nil || time.Since(start) != 1100*time.Millisecond {
			t.Errorf("it waits for its dial: %v after %v", err, time.Since(start))
		}
		busy := r.send(1, "/")
		synctest.Wait()
		start = time.Now()
		if err := r.hasty(r.tr); err != nil || time.Since(start) != 1100*time.Millisecond {
			t.Errorf("the limit allows another: %v after %v", err, time.Since(start))
		}
		r.none(busy)
		busy = r.send(2, "/")
		time.Sleep(10 * time.Millisecond)
		for range 50 {
			now := time.Now()
			r.wouldQueue(r.hasty(r.tr), now)
		}
		body := &closing{Reader: strings.NewReader("body")}
		req := r.request(berth.WithoutQueue(r.Context()), "POST", "/", body)
		if _, err := r.tr.RoundTrip(req); err == nil || body.closed != 1 {
			t.Errorf("%v; its body was closed %d times", err, body.closed)
		}
		s := r.stats()
		if s.Rejected != (berth.RejectStats{WouldQueue: 51}) || s.PeakWaiting > 1 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
		if d := r.tr.Report().Endpoints[0].Demand; d.Rate != 0 {
			t.Errorf("those that were turned away count as a demand: %+v", d)
		}
		r.none(busy)
		r.wantDials(2)
		r.close()
	})
	if log.Len() > 0 {
		t.Errorf("the log has %s", log.String())
	}
}

// The wish holds in groups, however they are named, and those that come after without it
// may queue.
func TestWithoutQueueInGroups(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		g := r.tr.Group("g")
		busy := r.sendTo(g, 1, rigURL)
		time.Sleep(time.Millisecond)
		now := time.Now()
		r.wouldQueue(r.hasty(g), now)
		for name, ctx := range map[string]context.Context{
			"group first": berth.WithoutQueue(berth.WithGroup(r.Context(), "g")),
			"group last":  berth.WithGroup(berth.WithoutQueue(r.Context()), "g"),
		} {
			_, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
			if e, is := errors.AsType[*berth.WouldQueueError](err); !is || !strings.Contains(e.Endpoint, "in group g") {
				r.Errorf("%s: %v", name, err)
			}
		}
		queued := r.sendTo(g, 1, rigURL)
		r.none(busy)
		r.none(queued)
		if err := r.hasty(r.tr); err != nil { // the default group is another one
			r.Error(err)
		}
	})
}

func TestWithoutQueueWaitsForNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		policy  berth.Policy
		prepare func(*rig)
	}{
		"a pause": {berth.Policy{}, func(r *rig) {
			r.get("/")
			if err := r.endpoint().Pause(r.Context()); err != nil {
				r.Fatal(err)
			}
		}},
		"back-off": {berth.Policy{}, func(r *rig) {
			r.net.OnDial = func(context.Context, string) error { return errors.New("refused") }
			r.send(1, "/")()
		}},
		"its turn": {berth.Policy{MaxConns: 1}, func(r *rig) {
			busy := r.send(3, "/")
			r.Cleanup(func() { busy() })
			synctest.Wait()
		}},
		"a limit over all endpoints": {berth.Policy{}, func(r *rig) {
			cfg := r.tr.Config()
			cfg.MaxConns = 1
			if _, err := r.tr.Apply(cfg); err != nil {
				r.Fatal(err)
			}
			if err := r.getIn("other", "/"); err != nil { // idle: it is not closed for it
				r.Fatal(err)
			}
		}},
		"a limit over the groups of the host": {berth.Policy{MaxConnsPerHost: 1}, func(r *rig) {
			busy := r.sendTo(r.tr.Group("other"), 1, rigURL)
			r.Cleanup(func() { busy() })
			synctest.Wait()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, berth.Config{Policy: tc.policy}, origin.Latency(time.Second, ok("a")))
				tc.prepare(r)
				now, dials := time.Now(), r.dials()
				r.wouldQueue(r.hasty(r.tr), now)
				if s := r.stats(); s.Rejected.WouldQueue != 1 || r.dials() != dials {
					t.Errorf("%+v, %d dials", s.Rejected, r.dials()-dials)
				}
				r.endpoint().Resume()
				r.tr.Close()
				r.o.Close()
			})
		})
	}
}

// Nor for a port: the dial that has none is somebody else's from then on.
func TestWithoutQueueWaitsForNoPort(t *testing.T) {
	inZone(t, berth.Policy{MaxRequestsPerConn: 1, PortBudget: berth.PortBudget{Ports: 1, HoldAfterFIN: time.Minute}}, 1, origin.Serve(ok("a")), func(n *named) {
		n.zone.set(time.Hour, nil, address(0))
		n.get("/")
		n.wouldQueue(n.hasty(n.tr), time.Now())
		waits := n.send(1, "/")
		time.Sleep(time.Second)
		n.wouldQueue(n.hasty(n.tr), time.Now())
		n.none(waits)
	})
}

// What the caller's functions ask for while they open a connection may queue.
func TestWithoutQueueIsNotTheDials(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		inner := r.tr
		cfg := berth.Config{Proxy: berth.NoProxy}
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			req := r.request(ctx, "GET", "/", nil)
			resp, err := inner.RoundTrip(req)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			return r.net.DialContext(ctx, network, addr)
		}
		outer := mustNew(r.T, cfg)
		defer outer.Close()
		busy := r.send(1, "/")
		synctest.Wait()
		if err := r.hasty(outer); err != nil {
			r.Error(err)
		}
		r.none(busy)
	})
}

// Over HTTP/2 it shares a connection that has room for another stream.
func TestWithoutQueueSharesAConnection(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	srv, client := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-leave
		}
	}, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 2}
	})
	tr := mustNew(t, berth.Config{TLS: client, Proxy: berth.NoProxy, Policy: berth.Policy{MaxConns: 1}})
	wantGet(t, tr, srv.URL, "") // the server has told its limit
	hasty := func(path string) error {
		req := newRequest(t, "GET", srv.URL+path, nil)
		resp, err := tr.RoundTrip(req.WithContext(berth.WithoutQueue(t.Context())))
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- hasty("/slow") }()
		<-entered
	}
	if err := hasty("/"); !errors.As(err, new(*berth.WouldQueueError)) {
		t.Errorf("no stream is left: %v", err)
	}
	close(leave)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := srv.opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
