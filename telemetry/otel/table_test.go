package otelberth_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/resilience"
	otelberth "github.com/berth-go/berth/telemetry/otel"
)

// row is a line of the table of metrics.
type row struct {
	instrument, unit string
	attrs            []string // sorted
}

// documented reads the table in docs/telemetry.md.
func documented(t *testing.T) map[string]row {
	t.Helper()
	b, err := os.ReadFile("../../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "\n### Metrics\n")
	text, _, _ = strings.Cut(text, "\n### ")
	rows := map[string]row{}
	for line := range strings.SplitSeq(text, "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) != 5 {
			continue
		}
		r := row{instrument: cells[1], unit: strings.Trim(cells[2], "`")}
		for attr := range strings.SplitSeq(cells[3], ", ") {
			if attr == "server" {
				r.attrs = append(r.attrs, "server.address", "server.port", "url.scheme")
			} else {
				r.attrs = append(r.attrs, strings.Trim(attr, "`"))
			}
		}
		slices.Sort(r.attrs)
		rows[strings.Trim(cells[0], "| `")] = r
	}
	return rows
}

// The table of metrics is what is emitted, and the other way round: names, instruments, units
// and attributes.
func TestTableOfMetrics(t *testing.T) {
	emitted := map[string]row{}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, otelberth.Config{RequestDuration: true, URLScheme: true}, berth.Config{
			Policy: berth.Policy{MaxConns: 1, MaxWaiters: 1, AcquireTimeout: 2 * time.Second, LeakAfter: 5 * time.Second},
			Resolve: func(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
				if host == "gone.test" {
					return nil, 0, &net.DNSError{Err: "no such host", IsNotFound: true}
				}
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, time.Hour, nil
			}})
		r.listen("192.0.2.1:80", func(c *origin.Conn) {
			for {
				req, err := c.ReadRequest()
				if err != nil {
					return
				}
				switch req.URL.Path {
				case "/large":
					c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbegin")
					c.Stall()
				case "/bad":
					c.Write("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n")
				default:
					c.Sleep(time.Second)
					c.Write(ok("a"))
				}
			}
		})
		ctx := berth.WithGroup(t.Context(), "batch")
		for range 4 { // one is served, one waits and is, two are turned away
			go r.do(ctx, rigURL)
		}
		time.Sleep(ms)
		rows(t, r, emitted)
		time.Sleep(4 * time.Second)
		r.do(ctx, "http://gone.test/")
		r.resilient(ctx)
		req, _ := http.NewRequestWithContext(ctx, "GET", rigURL+"/large", nil)
		resp, err := r.c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.do(ctx, rigURL) // waits in vain
		time.Sleep(10 * time.Second)
		resp.Body.Close()
		synctest.Wait()
		rows(t, r, emitted)
		r.close()
	})
	docs := documented(t)
	for _, name := range slices.Sorted(maps.Keys(emitted)) {
		if got, want := fmt.Sprint(emitted[name]), fmt.Sprint(docs[name]); got != want {
			t.Errorf("%s\n emitted %s\n in docs %s", name, got, want)
		}
	}
	for name := range docs {
		if _, is := emitted[name]; !is {
			t.Errorf("%s is in the table, and was not emitted", name)
		}
	}
	if len(docs) < 15 {
		t.Errorf("%d rows were found", len(docs))
	}
}

// rows adds what is emitted now.
func rows(t *testing.T, r *rig, all map[string]row) {
	for name, m := range r.collect() {
		x := all[name]
		x.unit = m.Unit
		switch d := m.Data.(type) {
		case metricdata.Histogram[float64]:
			x.instrument = "histogram"
		case metricdata.Gauge[float64]:
			x.instrument = "gauge"
		case metricdata.Sum[int64]:
			x.instrument = map[bool]string{true: "counter", false: "up-down counter"}[d.IsMonotonic]
		case metricdata.Sum[float64]:
			x.instrument = map[bool]string{true: "counter", false: "up-down counter"}[d.IsMonotonic]
		}
		if m.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for _, p := range points(m) {
			for _, a := range p.attrs.ToSlice() {
				if !slices.Contains(x.attrs, string(a.Key)) {
					x.attrs = append(x.attrs, string(a.Key))
				}
			}
		}
		slices.Sort(x.attrs)
		all[name] = x
	}
}

// resilient sends requests through a retry and a breaker that both meet failures.
func (r *rig) resilient(ctx context.Context) {
	r.Helper()
	h, err := resilience.Config{Retry: &resilience.Retry{MaxRetries: 2}, Breaker: &resilience.Breaker{MinRequests: 2}, Trace: r.tel.Resilience()}.Handler()
	if err != nil {
		r.Fatal(err)
	}
	plain := r.c
	defer func() { r.c = plain }()
	r.c = &http.Client{Transport: h(plain.Transport)}
	for _, url := range []string{rigURL + "/bad", rigURL + "/bad", "http://gone.test/"} {
		r.do(ctx, url)
	}
}

// What strategies do is counted by server and strategy.
func TestResilienceIsCounted(t *testing.T) {
	bubble(t, otelberth.Config{}, berth.Config{}, origin.Serve("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n"), func(r *rig) {
		h, err := resilience.Config{Retry: &resilience.Retry{MaxRetries: 2, Delay: time.Second, NoJitter: true, Backoff: "constant"},
			Breaker: &resilience.Breaker{MinRequests: 2}, Trace: r.tel.Resilience()}.Handler()
		if err != nil {
			r.Fatal(err)
		}
		r.c.Transport = h(r.tr)
		r.do(r.Context(), rigURL) // 503, 503 which opens the breaker, refused
		origin := []string{"server.address=origin.test", "server.port=80"}
		r.want(3, "berth.resilience.attempts", append(origin, "berth.strategy=retry")...)
		r.want(2, "berth.resilience.attempts", append(origin, "http.response.status_code=503", "berth.final=false")...)
		r.want(1, "berth.resilience.attempts", append(origin, "error.type=resilience.CircuitOpenError", "berth.final=true")...)
		r.want(2, "berth.resilience.waits", append(origin, "reason=backoff")...)
		if _, sum := r.sumOf("berth.resilience.waited"); sum != 2 {
			r.Errorf("waited %v s, want 2", sum)
		}
		r.want(1, "berth.resilience.opens", origin...)
		r.want(1, "berth.resilience.rejections", append(origin, "berth.strategy=breaker", "reason=open")...)
		time.Sleep(10 * time.Second)
		r.do(r.Context(), rigURL) // the breaker is half open, and opens again
		r.want(2, "berth.resilience.opens")
	})
}
