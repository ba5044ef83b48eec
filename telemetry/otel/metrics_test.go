package otelberth_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// Row C64: the values of one request, from its wait to the end of its connection.
func TestC64MetricsOfOneRequest(t *testing.T) {
	bubble(t, otelberth.Config{RequestDuration: true}, berth.Config{Policy: berth.Policy{IdleTimeout: time.Minute}}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		r.net.OnDial = func(context.Context, string) error { time.Sleep(100 * ms); return nil }
		type values struct{ requests, waiting, active, idle, queued, durations, closed int64 }
		now := func() (v values) {
			for name, at := range map[string]*int64{"http.client.active_requests": &v.requests, "berth.pool.waiting": &v.waiting,
				"http.client.request.time_in_queue": &v.queued, "http.client.request.duration": &v.durations, "http.client.connection.duration": &v.closed} {
				*at, _ = r.sumOf(name, "server.address=origin.test", "server.port=80")
			}
			v.active, _ = r.sumOf("http.client.open_connections", "http.connection.state=active")
			v.idle, _ = r.sumOf("http.client.open_connections", "http.connection.state=idle")
			return v
		}
		var got []values
		look := func() { synctest.Wait(); got = append(got, now()) }
		look()
		done := make(chan struct{})
		go func() { r.get("/"); close(done) }()
		time.Sleep(50 * ms)
		look()
		time.Sleep(100 * ms)
		look()
		<-done
		look()
		go r.get("/") // on the idle connection: it does not wait
		time.Sleep(500 * ms)
		look()
		time.Sleep(time.Second)
		look()
		time.Sleep(time.Minute)
		look()
		want := []values{
			{},
			{requests: 1, waiting: 1},
			{requests: 1, active: 1, queued: 1},
			{idle: 1, queued: 1, durations: 1},
			{requests: 1, active: 1, queued: 1, durations: 1},
			{idle: 1, queued: 1, durations: 2},
			{queued: 1, durations: 2, closed: 1},
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("step %d: %+v, want %+v", i, got[i], want[i])
			}
		}
		for name, seconds := range map[string]float64{"http.client.request.time_in_queue": 0.1, "http.client.request.duration": 2.1, "http.client.connection.duration": 62} {
			if _, sum := r.sumOf(name); sum < seconds-1e-6 || sum > seconds+1e-6 {
				t.Errorf("%s adds up to %v s, want %v", name, sum, seconds)
			}
		}
		r.want(1, "http.client.request.time_in_queue", "network.protocol.version=1.1")
		r.want(1, "http.client.connection.duration", "network.protocol.version=1.1")
	})
}

// Row C65: what becomes of a request is its error.type.
func TestC65ErrorTypes(t *testing.T) {
	bubble(t, otelberth.Config{RequestDuration: true}, berth.Config{Policy: berth.Policy{AcquireTimeout: time.Second, ResponseHeaderTimeout: time.Minute}},
		func(c *origin.Conn) {
			for {
				req, err := c.ReadRequest()
				if err != nil {
					return
				}
				switch req.URL.Path {
				case "/404":
					c.Write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
				case "/ended":
					c.Close()
				case "/garbage":
					c.Write("SMTP ready\r\n\r\n")
				case "/never":
					c.Stall()
				default:
					c.Write(ok("a"))
				}
			}
		}, func(r *rig) {
			plain := func() context.Context { return r.Context() }
			canceled := func() context.Context {
				ctx, cancel := context.WithCancel(r.Context())
				time.AfterFunc(time.Second, cancel)
				return ctx
			}
			late := func() context.Context {
				ctx, cancel := context.WithTimeout(r.Context(), time.Second)
				time.AfterFunc(time.Hour, cancel)
				return ctx
			}
			for _, tc := range []struct {
				ctx       func() context.Context
				url, kind string
			}{
				{plain, rigURL + "/404", "404"},
				{plain, "http://nowhere.test/", "berth.DialError"},
				{plain, rigURL + "/ended", "response_ended"},
				{plain, rigURL + "/garbage", "berth.ProtocolError"},
				{canceled, rigURL + "/never", "canceled"},
				{late, rigURL + "/never", "timeout"},
				{plain, rigURL + "/never", "berth.ResponseHeaderTimeoutError"},
			} {
				err := r.do(tc.ctx(), tc.url)
				if n, _ := r.sumOf("http.client.request.duration", "error.type="+tc.kind); n != 1 {
					t.Errorf("GET %s: %v; %d with error.type %s: %v", tc.url, err, n, tc.kind, points(r.collect()["http.client.request.duration"]))
				}
			}
			r.get("/")
			r.want(8, "http.client.request.duration", "http.request.method=GET")
			r.want(1, "http.client.request.duration", "http.response.status_code=200")
			for _, p := range points(r.collect()["http.client.request.duration"]) {
				if has(p.attrs, []string{"http.response.status_code=200"}) && p.attrs.HasValue("error.type") {
					t.Errorf("%v of a response that is fine", p.attrs.Encoded(nil))
				}
			}
		})
}

// Row C66: each hop of a redirect has a duration of its own.
func TestC66RedirectsAreTwoRequests(t *testing.T) {
	bubble(t, otelberth.Config{RequestDuration: true}, berth.Config{}, origin.Serve("HTTP/1.1 302 Found\r\nLocation: http://other.test/\r\nContent-Length: 0\r\n\r\n"), func(r *rig) {
		r.listen("other.test:80", origin.Serve(ok("a")))
		r.get("/")
		r.want(1, "http.client.request.duration", "server.address=origin.test", "http.response.status_code=302")
		r.want(1, "http.client.request.duration", "server.address=other.test", "http.response.status_code=200")
		r.want(2, "http.client.request.duration")
	})
}

// Nothing is recorded of the duration of requests unless that was asked for.
func TestRequestDurationIsOtelhttps(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		r.get("/")
		if m, is := r.collect()["http.client.request.duration"]; is {
			t.Errorf("%+v", m)
		}
		if r.c.Transport != r.tr {
			t.Errorf("the handler is %T", r.c.Transport)
		}
	})
}

// Requests that got no connection are in the queue's histogram if they waited, and are
// counted by reason.
func TestRequestsThatGaveUp(t *testing.T) {
	policy := berth.Policy{MaxConns: 1, MaxWaiters: 1, AcquireTimeout: 2 * time.Second}
	bubble(t, otelberth.Config{}, berth.Config{Policy: policy}, origin.Latency(10*time.Second, ok("a")), func(r *rig) {
		go r.get("/")
		time.Sleep(ms)
		go func() {
			if err := r.do(r.Context(), rigURL); err == nil {
				t.Error("it got a connection")
			}
		}()
		time.Sleep(ms)
		for _, ctx := range []context.Context{r.Context(), berth.WithoutQueue(r.Context())} {
			if err := r.do(ctx, rigURL); err == nil {
				t.Error("no error")
			}
		}
		r.want(1, "berth.pool.waiting")
		time.Sleep(3 * time.Second)
		r.want(1, "berth.pool.rejected", "reason=timeout")
		r.want(1, "berth.pool.rejected", "reason=queue_full")
		r.want(1, "berth.pool.rejected", "reason=would_queue")
		r.want(3, "berth.pool.rejected")
		r.want(1, "http.client.request.time_in_queue", "error.type=berth.AcquireTimeoutError")
		if n, sum := r.sumOf("http.client.request.time_in_queue"); n != 2 || sum != 2 {
			t.Errorf("%d requests waited for %v s", n, sum)
		}
		r.want(1, "berth.pool.connections.max", "server.address=origin.test")
		time.Sleep(10 * time.Second)
	})
}

// A program that meets ever more servers has no more series than it allows, and the sums stay
// right.
func TestServersAreBounded(t *testing.T) {
	const servers, told = 20, 5
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, otelberth.Config{MaxServers: told, RequestDuration: true}, berth.Config{Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Hour, nil
		}})
		r.listen("127.0.0.1:80", origin.Serve(ok("a")))
		for i := range servers {
			if err := r.do(r.Context(), fmt.Sprintf("http://host%d.test/", i)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		r.want(servers, "http.client.open_connections", "http.connection.state=idle")
		r.want(servers-told, "http.client.open_connections", "http.connection.state=idle", "server.address=_other")
		r.want(servers, "dns.lookup.duration")
		r.want(servers-told, "dns.lookup.duration", "dns.question.name=_other")
		r.want(servers, "http.client.request.duration")
		r.tr.CloseIdleConnections()
		synctest.Wait()
		r.want(servers-told, "berth.pool.connections.closed", "server.address=_other")
		for name, m := range r.collect() {
			seen := map[string]bool{}
			for _, p := range points(m) {
				v, _ := p.attrs.Value("server.address")
				seen[v.AsString()] = true
				if v.AsString() == "_other" && p.attrs.HasValue("server.port") {
					t.Errorf("%s: %s", name, p.attrs.Encoded(nil))
				}
			}
			if len(seen) > told+1 {
				t.Errorf("%s tells %d servers apart", name, len(seen))
			}
		}
		r.close()
	})
}

// No attribute of a metric or span has a peer's address, a path, a query or credentials.
func TestNothingIsToldThatIsNobodysBusiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, otelberth.Config{RequestDuration: true, URLScheme: true}, berth.Config{Policy: berth.Policy{MaxConns: 1},
			Resolve: func(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
				if host == "gone.test" {
					return []netip.Addr{netip.MustParseAddr("198.51.100.7")}, time.Hour, nil
				}
				return []netip.Addr{netip.MustParseAddr("192.0.2.77")}, time.Hour, nil
			}})
		r.listen("192.0.2.77:80", origin.Latency(time.Second, ok("a")))
		for range 2 {
			go r.traced(r.Context(), "http://user:password@origin.test/path-of-it?query=secret")
		}
		if _, err := r.traced(r.Context(), "http://gone.test/path-of-it?query=secret"); err == nil {
			t.Error("no error")
		}
		time.Sleep(3 * time.Second)
		all := fmt.Sprintf("%+v", r.spans.GetSpans())
		for _, m := range r.collect() {
			all += fmt.Sprintf("%+v", m)
		}
		for _, no := range []string{"192.0.2.77", "198.51.100.7", "127.0.0.1", "path-of-it", "secret", "password", "user"} {
			if strings.Contains(all, no) {
				t.Errorf("%q is told", no)
			}
		}
		for _, yes := range []string{"origin.test", "gone.test", "berth.DialError", "wait_for_connection"} {
			if !strings.Contains(all, yes) {
				t.Errorf("%q is not told", yes)
			}
		}
		r.close()
	})
}

// The statistics of several transports are added up; one that nobody observes any more is
// left out.
func TestTransportsAreAddedUp(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		second, err := berth.New(berth.Config{DialContext: r.net.DialContext, Proxy: berth.NoProxy, Trace: r.tel.Trace()})
		if err != nil {
			t.Fatal(err)
		}
		stop := r.tel.Observe(second)
		r.tel.Observe(second) // twice is once
		r.get("/")
		resp, err := second.Client(0).Get(rigURL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		synctest.Wait()
		r.want(2, "http.client.open_connections", "http.connection.state=idle", "network.protocol.version=1.1")
		if m := points(r.collect()["http.client.open_connections"]); len(m) != 2 {
			t.Errorf("%d series, want one a state", len(m))
		}
		stop()
		r.want(1, "http.client.open_connections", "http.connection.state=idle")
		second.Close()
	})
}

// Groups are told apart.
func TestGroupsAreTold(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		r.get("/")
		if err := r.do(berth.WithGroup(r.Context(), "batch"), rigURL); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(2, "http.client.open_connections")
		r.want(1, "http.client.open_connections", "berth.group=batch")
	})
}

// Observing a transport does not keep it from being collected.
func TestObservedTransportIsCollected(t *testing.T) {
	tel, err := otelberth.New(otelberth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := func() weak.Pointer[berth.Transport] {
		tr, err := berth.New(berth.Config{Trace: tel.Trace()})
		if err != nil {
			t.Fatal(err)
		}
		tel.Observe(tr)
		tr.CloseIdleConnections()
		return weak.Make(tr)
	}()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for w.Value() != nil {
		runtime.GC()
		select {
		case <-deadline.C:
			t.Fatal("still there")
		default:
			runtime.Gosched()
		}
	}
}

// Boundaries of buckets are those that the conventions advise, whatever the SDK's are.
func TestBoundaries(t *testing.T) {
	bubble(t, otelberth.Config{RequestDuration: true}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		r.get("/")
		r.tr.CloseIdleConnections()
		synctest.Wait()
		all := r.collect()
		request := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
		for name, want := range map[string][]float64{"http.client.connection.duration": {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300},
			"http.client.request.duration": request, "http.client.request.time_in_queue": request} {
			h, is := all[name].Data.(metricdata.Histogram[float64])
			if !is || len(h.DataPoints) == 0 || fmt.Sprint(h.DataPoints[0].Bounds) != fmt.Sprint(want) {
				t.Errorf("%s: %+v", name, all[name].Data)
			}
		}
	})
}

// Who has closed a connection first is told, and why.
func TestClosesAreCounted(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{Policy: berth.Policy{IdleTimeout: time.Minute}}, origin.CloseAfter(1, ok("a")), func(r *rig) {
		r.listen("other.test:80", origin.Serve(ok("a")))
		r.get("/")
		if err := r.do(r.Context(), "http://other.test/"); err != nil {
			r.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		r.want(1, "berth.pool.connections.closed", "server.address=origin.test", "reason=peer", "berth.closed_by=peer")
		r.want(1, "berth.pool.connections.closed", "server.address=other.test", "reason=idle", "berth.closed_by=us")
		r.want(2, "berth.pool.connections.closed")
	})
}

// A request whose dial failed was not turned away; one that comes while dials are held back is.
func TestRequestsInABackOff(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve(ok("a")), func(r *rig) {
		for range 3 {
			if err := r.do(r.Context(), "http://nowhere.test/"); err == nil {
				r.Fatal("no error")
			}
			time.Sleep(10 * time.Second)
		}
		r.want(0, "berth.pool.rejected")
		for range 3 { // the first dials
			r.do(r.Context(), "http://nowhere.test/")
		}
		r.want(2, "berth.pool.rejected", "reason=backoff", "server.address=nowhere.test")
		r.want(2, "berth.pool.rejected")
		r.want(4, "http.client.request.time_in_queue", "error.type=berth.DialError")
	})
}
