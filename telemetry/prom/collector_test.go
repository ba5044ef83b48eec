package prom_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/telemetry/prom"
)

var _ prometheus.Collector = (*prom.Collector)(nil)

// half begins a long answer and goes no further.
func half(c *origin.Conn) {
	c.ReadRequest()
	c.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf")
	c.Stall()
}

func is[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

func request(t testing.TB, ctx context.Context, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// of names a metric's sample: name, then labels and their values in turn.
func of(name string, more ...string) string {
	var list []string
	for i := 0; i < len(more); i += 2 {
		list = append(list, fmt.Sprintf("%s=%q", more[i], more[i+1]))
	}
	slices.Sort(list)
	return "berth_pool_" + name + "{" + strings.Join(list, ",") + "}"
}

// at is of for a server http://host:port.
func at(host, port string) func(name string, more ...string) string {
	return func(name string, more ...string) string {
		return of(name, append(more, "scheme", "http", "host", host, "port", port)...)
	}
}

// other is of for the servers beyond the bound.
func other(name string, more ...string) string { return of(name, append(more, "host", "_other")...) }

// Every metric of a server is what Endpoint.Stats has, and no label tells a path or a query.
func TestMetricsAreTheTransportsStatistics(t *testing.T) {
	cfg := berth.Config{Policy: berth.Policy{MaxConns: 2, MaxWaiters: 1}}
	bubble(t, cfg, prom.Config{}, half, func(r *rig) {
		const u = "http://a.test:8080/export?token=secret"
		var held []*http.Response
		for range 2 {
			resp, err := r.tr.RoundTrip(request(r, r.Context(), u))
			if err != nil {
				r.Fatal(err)
			}
			held = append(held, resp)
		}
		time.Sleep(2 * time.Minute) // LeakAfter is one
		ctx, cancel := context.WithCancel(r.Context())
		go r.tr.RoundTrip(request(r, ctx, u))
		synctest.Wait()
		if _, err := r.tr.RoundTrip(request(r, r.Context(), u)); !is[*berth.QueueFullError](err) {
			r.Errorf("error %v", err)
		}
		if _, err := r.tr.RoundTrip(request(r, berth.WithoutQueue(r.Context()), u)); !is[*berth.WouldQueueError](err) {
			r.Errorf("error %v", err)
		}
		time.Sleep(3 * time.Second)

		a := at("a.test", "8080")
		s := r.scrape()
		s.want(r, samples{
			of("endpoints"):                                 1,
			a("connections", "state", "dialing"):            0,
			a("connections", "state", "leased"):             2,
			a("connections", "state", "idle"):               0,
			a("connections", "state", "draining"):           0,
			a("connections_max"):                            2,
			a("waiting"):                                    1,
			a("oldest_wait_seconds"):                        3,
			a("requests_total"):                             2,
			a("reused_total"):                               0,
			a("dials_total", "result", "ok"):                2,
			a("dials_total", "result", "failed"):            0,
			a("dials_total", "result", "cancelled"):         0,
			a("dials_total", "result", "exhausted"):         0,
			a("dials_total", "result", "refused"):           0,
			a("rejected_total", "reason", "queue_full"):     1,
			a("rejected_total", "reason", "would_queue"):    1,
			a("rejected_total", "reason", "backoff"):        0,
			a("rejected_total", "reason", "timeout"):        0,
			a("rejected_total", "reason", "closed"):         0,
			a("closed_by_total", "by", "us"):                0,
			a("closed_by_total", "by", "peer"):              0,
			a("leaks", "state", "suspect"):                  2,
			a("leaks_total", "state", "suspected"):          2,
			a("leaks_total", "state", "reclaimed"):          0,
			of("leak_sites"):                                1,
			a("wait_seconds_count"):                         2,
			a("hold_seconds_count"):                         0,
			a("hold_seconds_bucket", "le", "6.5536e-05"):    0,
			a("wait_seconds_bucket", "le", "6.5536e-05"):    2,
			a("wait_seconds_bucket", "le", "274.877906944"): 2,
		})
		if like := s.like(a("closed_total")); like != "" {
			r.Errorf("nothing was closed, and yet there are\n%s", like)
		}
		for k := range s {
			if strings.Contains(k, "secret") || strings.Contains(k, "export") {
				r.Errorf("%s tells too much", k)
			}
		}
		cancel()
		for _, resp := range held {
			resp.Body.Close()
		}
		synctest.Wait()
		s = r.scrape()
		s.want(r, samples{
			a("closed_total", "reason", "unread"):  2,
			a("closed_by_total", "by", "us"):       2,
			a("leaks", "state", "suspect"):         0,
			a("leaks_total", "state", "suspected"): 2,
			a("hold_seconds_count"):                2,
		})
	})
}

// A histogram has cumulative buckets, and no sum that somebody could take for one.
func TestHistograms(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{}, origin.Latency(3*time.Second, answer), func(r *rig) {
		for range 3 {
			r.get("http://a.test/")
		}
		a := at("a.test", "80")
		s := r.scrape()
		s.want(r, samples{
			a("hold_seconds_bucket", "le", "0.268435456"):   0,
			a("hold_seconds_bucket", "le", "1.073741824"):   0,
			a("hold_seconds_bucket", "le", "4.294967296"):   3,
			a("hold_seconds_bucket", "le", "17.179869184"):  3,
			a("hold_seconds_bucket", "le", "274.877906944"): 3,
			a("hold_seconds_count"):                         3,
		})
		for _, k := range []string{a("hold_seconds_sum"), a("wait_seconds_sum")} {
			if v, there := s[k]; !there || !math.IsNaN(v) {
				r.Errorf("%s is %v, want NaN", k, v)
			}
		}
	})
}

// What lasts longer than the last bound is in the count alone.
func TestHistogramBeyondTheLastBound(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{}, origin.Latency(10*time.Minute, answer), func(r *rig) {
		r.get("http://a.test/")
		a := at("a.test", "80")
		r.scrape().want(r, samples{a("hold_seconds_bucket", "le", "274.877906944"): 0, a("hold_seconds_count"): 1})
	})
}

// A transport forgets an endpoint that holds nothing, and counts anew when it comes back.
// The metrics go on: a counter that began anew at the same 3 would look as if nothing had
// happened.
func TestCountersGoOnAfterAnEndpointWasForgotten(t *testing.T) {
	bubble(t, berth.Config{Policy: berth.Policy{MaxConns: 7}}, prom.Config{}, origin.Serve(answer), func(r *rig) {
		a := at("a.test", "80")
		for range 3 {
			r.get("http://a.test/")
		}
		r.scrape().want(r, samples{a("requests_total"): 3, a("connections", "state", "idle"): 1, a("connections_max"): 7, of("endpoints"): 1})
		for range 40 {
			time.Sleep(15 * time.Second)
			r.scrape()
		}
		s := r.scrape()
		s.want(r, samples{a("requests_total"): 3, a("connections", "state", "idle"): 0, of("endpoints"): 0,
			a("closed_total", "reason", "idle"): 1, a("hold_seconds_count"): 3})
		if _, there := s[a("connections_max")]; there {
			r.Error("an endpoint that is gone has a limit")
		}
		for range 3 {
			r.get("http://a.test/")
		}
		r.scrape().want(r, samples{a("requests_total"): 6, a("reused_total"): 4, a("connections", "state", "idle"): 1,
			a("closed_total", "reason", "idle"): 1, a("hold_seconds_count"): 6})
	})
}

// The same when no scrape saw it gone.
func TestCountersGoOnWhenNoScrapeSawTheEndpointGone(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{}, origin.Serve(answer), func(r *rig) {
		a := at("a.test", "80")
		for range 3 {
			r.get("http://a.test/")
		}
		r.scrape()
		time.Sleep(10 * time.Minute)
		r.get("http://a.test/")
		r.scrape().want(r, samples{a("requests_total"): 4, a("dials_total", "result", "ok"): 2})
		r.scrape().want(r, samples{a("requests_total"): 4, a("dials_total", "result", "ok"): 2})
	})
}

// Endpoints with the same labels are one series, which does not fall when one of them is
// forgotten. Here they differ in the credentials of the proxy.
func TestEndpointsOfOneServerAreSummed(t *testing.T) {
	cfg := berth.Config{Proxy: func(req *http.Request) (*url.URL, error) {
		return &url.URL{Scheme: "http", Host: "proxy.test:3128", User: url.UserPassword(req.Header.Get("X-User"), "secret")}, nil
	}}
	bubble(t, cfg, prom.Config{}, origin.Serve(answer), func(r *rig) {
		p := at("proxy.test", "3128")
		for range 5 {
			r.getIn(r.Context(), "http://a.test/", "X-User", "ann")
		}
		r.getIn(r.Context(), "http://a.test/", "X-User", "bob")
		s := r.scrape()
		s.want(r, samples{of("endpoints"): 2, p("requests_total"): 6, p("connections", "state", "idle"): 2})
		for k := range s {
			if strings.Contains(k, "ann") || strings.Contains(k, "secret") {
				r.Errorf("%s tells too much", k)
			}
		}
		for range 10 {
			time.Sleep(50 * time.Second)
			r.getIn(r.Context(), "http://a.test/", "X-User", "bob")
		}
		r.scrape().want(r, samples{of("endpoints"): 1, p("requests_total"): 16, p("connections", "state", "idle"): 1})
	})
}

// Servers beyond MaxServers are one series, which never falls either; who is gone leaves
// the place to others.
func TestServersBeyondTheBoundAreSummed(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{MaxServers: 2}, origin.Serve(answer), func(r *rig) {
		use := func(hosts string) {
			for host := range strings.SplitSeq(hosts, "") {
				r.get("http://" + host + ".test/")
			}
		}
		// keep uses hosts until every other one is forgotten.
		keep := func(hosts string) (requests float64) {
			for range 10 {
				time.Sleep(50 * time.Second)
				use(hosts)
			}
			return 10
		}
		servers := func(s samples) (n int) { return strings.Count(s.like(of("requests_total")), "\n") }

		use("abccd")
		s := r.scrape()
		s.want(r, samples{of("endpoints"): 4, at("a.test", "80")("requests_total"): 1, at("b.test", "80")("requests_total"): 1,
			other("requests_total"): 3, other("connections", "state", "idle"): 2, other("hold_seconds_count"): 3})
		if n := servers(s); n != 3 {
			r.Errorf("%d servers, want 3", n)
		}

		n := keep("abc")
		use("e") // no place is free
		r.scrape().want(r, samples{of("endpoints"): 4, at("a.test", "80")("requests_total"): 1 + n,
			other("requests_total"): 3 + n + 1, other("connections", "state", "idle"): 2})

		n += keep("bc")
		r.scrape().want(r, samples{of("endpoints"): 2, at("a.test", "80")("requests_total"): 11, other("requests_total"): 4 + n})
		use("f") // has a's place
		s = r.scrape()
		s.want(r, samples{at("f.test", "80")("requests_total"): 1, at("b.test", "80")("requests_total"): 1 + n, other("requests_total"): 4 + n})
		if n := servers(s); n != 3 {
			r.Errorf("%d servers, want 3", n)
		}
	})
}

// The limit of a sum is the sum of limits, and none when one has none.
func TestLimitOfASum(t *testing.T) {
	cfg := berth.Config{Rules: []berth.Rule{{Match: "b.test", Policy: berth.Policy{MaxConns: 5}}, {Match: "d.test", Policy: berth.Policy{MaxConns: 6}}}}
	bubble(t, cfg, prom.Config{MaxServers: 1}, origin.Serve(answer), func(r *rig) {
		for _, host := range []string{"a", "b", "d"} {
			r.get("http://" + host + ".test/")
			r.scrape() // a is the first
		}
		s := r.scrape()
		s.want(r, samples{other("connections_max"): 11})
		if like := s.like(at("a.test", "80")("connections_max")); strings.Contains(like, "a.test") {
			r.Errorf("a has no limit, and yet there are\n%s", like)
		}
		e, err := r.tr.Endpoint("http://a.test/")
		if err != nil {
			r.Fatal(err)
		}
		if err := e.SetPolicy(berth.Policy{MaxConns: 3}); err != nil {
			r.Fatal(err)
		}
		r.scrape().want(r, samples{at("a.test", "80")("connections_max"): 3, other("connections_max"): 11})
		r.get("http://c.test/")
		if like := r.scrape().like(other("connections_max")); strings.Contains(like, "_other") {
			r.Errorf("one of the others has no limit, and yet there are\n%s", like)
		}
	})
}

// Ports by destination, of the host and of budgets. Beyond the bound those that take most
// are shown.
func TestPorts(t *testing.T) {
	urls := make([]string, 2)
	for i := range urls {
		o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		defer o.Close()
		urls[i] = o.URL
	}
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, PortBudget: berth.PortBudget{Ports: 100}, Policy: berth.Policy{PortBudget: berth.PortBudget{Ports: 8}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	scrape := func(cfg prom.Config) samples {
		t.Helper()
		c, err := prom.New(tr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{TB: t, tr: tr, reg: prometheus.NewPedanticRegistry()}
		r.reg.MustRegister(c)
		return r.scrape()
	}
	for i, n := range []int{1, 3} {
		for range n {
			resp, err := tr.RoundTrip(request(t, t.Context(), urls[i]))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
		}
	}
	few, many := strings.TrimPrefix(urls[0], "http://"), strings.TrimPrefix(urls[1], "http://")
	scrape(prom.Config{}).want(t, samples{
		of("ports", "destination", few, "of", "budget"):             8,
		of("ports_live", "destination", few, "of", "budget"):        1,
		of("ports_live", "destination", few, "of", "host"):          1,
		of("ports_held", "destination", few, "of", "host"):          0,
		of("ports_used_ratio", "destination", few, "of", "budget"):  0.125,
		of("ports_live", "destination", many, "of", "budget"):       3,
		of("ports_used_ratio", "destination", many, "of", "budget"): 0.375,
		of("ports", "destination", "_all", "of", "budget"):          100,
		of("ports_live", "destination", "_all", "of", "budget"):     4,
	})
	s := scrape(prom.Config{MaxServers: 1})
	s.want(t, samples{of("ports_live", "destination", many, "of", "budget"): 3})
	if n := strings.Count(s.like(of("ports_live")), "\n"); n != 1 {
		t.Errorf("%d destinations, want 1:\n%s", n, s.like(of("ports_live")))
	}
}

func TestNegativeMaxServersIsNoBound(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{MaxServers: -1}, origin.Serve(answer), func(r *rig) {
		for i := range 30 {
			r.get(fmt.Sprintf("http://h%d.test/", i))
		}
		s := r.scrape()
		if n := strings.Count(s.like(of("requests_total")), "\n"); n != 30 {
			r.Errorf("%d servers, want 30", n)
		}
	})
}

// Groups are servers of their own, whatever their names are.
func TestGroups(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{}, origin.Serve(answer), func(r *rig) {
		r.get("http://a.test/")
		for _, group := range []string{"batch", "bytes \xff", "bytes \xfe"} {
			r.getIn(berth.WithGroup(r.Context(), group), "http://a.test/")
		}
		a := at("a.test", "80")
		r.scrape().want(r, samples{of("endpoints"): 4, a("requests_total"): 1, a("requests_total", "group", "batch"): 1,
			a("requests_total", "group", "bytes \uFFFD"): 2})
	})
}

// Dials that fail, and those that this host cannot make.
func TestDials(t *testing.T) {
	cfg := berth.Config{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		err := syscall.ECONNREFUSED
		if strings.HasPrefix(addr, "full.") {
			err = syscall.EADDRNOTAVAIL
		}
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
	}}
	bubble(t, cfg, prom.Config{}, origin.Serve(answer), func(r *rig) {
		for _, host := range []string{"down", "full"} {
			for range 5 {
				if _, err := r.tr.RoundTrip(request(r, r.Context(), "http://"+host+".test/")); err == nil {
					r.Fatal("there was an answer")
				}
			}
		}
		down, full := at("down.test", "80"), at("full.test", "80")
		r.scrape().want(r, samples{
			down("dials_total", "result", "failed"): 3, down("rejected_total", "reason", "backoff"): 2, down("dials_total", "result", "exhausted"): 0,
			full("dials_total", "result", "exhausted"): 3, full("dials_total", "result", "failed"): 0,
		})
	})
}

// Several transports in one registry.
func TestConstLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newRig(t, berth.Config{}, prom.Config{ConstLabels: prometheus.Labels{"transport": "one", "zone": "z"}}, origin.Serve(answer))
		two := newRig(t, berth.Config{}, prom.Config{}, origin.Serve(answer))
		c, err := prom.New(two.tr, prom.Config{ConstLabels: prometheus.Labels{"transport": "two", "zone": "z"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := one.reg.Register(c); err != nil {
			t.Fatal(err)
		}
		one.get("http://a.test/")
		two.get("http://a.test/")
		two.get("http://a.test/")
		a := at("a.test", "80")
		one.scrape().want(t, samples{
			a("requests_total", "transport", "one", "zone", "z"):     1,
			a("requests_total", "transport", "two", "zone", "z"):     2,
			of("endpoints", "transport", "two", "zone", "z"):         1,
			a("hold_seconds_count", "transport", "two", "zone", "z"): 2,
		})
		one.close()
		two.close()
		synctest.Wait()
	})
}

// A registry that adds labels appends to those that scrapes share, and must not reach them.
func TestLabelsOfARegistry(t *testing.T) {
	bubble(t, berth.Config{}, prom.Config{ConstLabels: prometheus.Labels{"transport": "one"}}, origin.Serve(answer), func(r *rig) {
		c, err := prom.New(r.tr, prom.Config{ConstLabels: prometheus.Labels{"a": "1", "b": "2", "c": "3"}})
		if err != nil {
			r.Fatal(err)
		}
		plain := r.reg
		r.reg = prometheus.NewPedanticRegistry()
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"app": "x", "yard": "w"}, r.reg).Register(c); err != nil {
			r.Fatal(err)
		}
		r.get("http://a.test/")
		a := at("a.test", "80")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				all := []string{"a", "1", "b", "2", "c", "3", "app", "x", "yard", "w"}
				r.scrape().want(r, samples{a("requests_total", all...): 1, of("endpoints", all...): 1, a("hold_seconds_count", all...): 1})
			})
		}
		wg.Wait()
		r.reg = plain
		r.scrape().want(r, samples{a("requests_total", "transport", "one"): 1})
	})
}

// Scrapes of several readers beside requests lose nothing.
func TestScrapesBesideRequests(t *testing.T) {
	r := newRig(t, berth.Config{}, prom.Config{MaxServers: 3}, origin.Serve(answer))
	defer r.close()
	const workers, each = 4, 200
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				r.get(fmt.Sprintf("http://h%d.test/", (w+i)%5))
			}
		})
		wg.Go(func() {
			for range 20 {
				r.scrape()
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for k, v := range r.scrape() {
		if strings.HasPrefix(k, "berth_pool_requests_total{") {
			sum += v
		}
	}
	if sum != workers*each {
		t.Errorf("%v requests, want %d", sum, workers*each)
	}
}

func TestConfigErrors(t *testing.T) {
	if _, err := prom.New(nil, prom.Config{}); !is[*berth.ConfigError](err) {
		t.Errorf("without a transport: %v", err)
	}
	for _, tc := range []struct{ name, value, want string }{
		{"host", "x", `"host" is a label that metrics have already`},
		{"le", "x", `"le" is a label that metrics have already`},
		{"reason", "x", `"reason" is a label that metrics have already`},
		{"a-b", "x", `"a-b" is no name of a label`},
		{"", "x", `"" is no name of a label`},
		{"__x", "x", `"__x" is no name of a label`},
		{"ok", "\xff", `the value of "ok" is not UTF-8`},
	} {
		_, err := prom.New(&berth.Transport{}, prom.Config{ConstLabels: prometheus.Labels{tc.name: tc.value}})
		if !is[*berth.ConfigError](err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: error %v, want one with %s", tc.name, err, tc.want)
		}
	}
	if _, err := prom.New(&berth.Transport{}, prom.Config{ConstLabels: prometheus.Labels{"transport": "x"}}); err != nil {
		t.Errorf("a label of the program's own: %v", err)
	}
}
