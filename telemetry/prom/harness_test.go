package prom_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/telemetry/prom"
)

const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// TestMain fails when the package leaves goroutines behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftBehind(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leftBehind returns the goroutines of Berth that do not end within some seconds.
func leftBehind() string {
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "berth/internal/") || strings.Contains(g, "berth.(*") || strings.Contains(g, "prom.(*") {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

// rig is a transport over the in-memory network, whose every name leads to one origin, and
// a registry with its collector.
type rig struct {
	testing.TB
	tr  *berth.Transport
	o   *origin.Origin
	reg *prometheus.Registry
}

// bubble runs f in a bubble where time is exact.
func bubble(t *testing.T, cfg berth.Config, pcfg prom.Config, h origin.Handler, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cfg, pcfg, h)
		defer synctest.Wait()
		defer r.close()
		f(r)
	})
}

func newRig(t testing.TB, cfg berth.Config, pcfg prom.Config, h origin.Handler) *rig {
	t.Helper()
	var n memnet.Network
	ln, err := n.Listen("origin.test:80")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, o: origin.New(ln).Handle(h), reg: prometheus.NewPedanticRegistry()}
	if cfg.DialContext == nil {
		cfg.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.DialContext(ctx, network, "origin.test:80")
		}
	}
	if r.tr, err = berth.New(cfg); err != nil {
		t.Fatal(err)
	}
	c, err := prom.New(r.tr, pcfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.reg.Register(c); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) close() {
	r.tr.Close()
	r.o.Close()
}

// get sends a GET and reads the answer.
func (r *rig) get(url string) {
	r.Helper()
	r.getIn(r.Context(), url)
}

func (r *rig) getIn(ctx context.Context, url string, header ...string) {
	r.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.tr.RoundTrip(req)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		r.Fatal(err)
	}
	resp.Body.Close()
}

// samples are the values of a scrape by name and labels, as the text format has them. A
// histogram has name_bucket with le, and name_count.
type samples map[string]float64

// scrape gathers, which fails on duplicates and on labels that do not fit.
func (r *rig) scrape() samples {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	s := samples{}
	for _, f := range families {
		for _, m := range f.Metric {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				s[f.GetName()+labelText(m.Label)] = m.Counter.GetValue()
			case dto.MetricType_GAUGE:
				s[f.GetName()+labelText(m.Label)] = m.Gauge.GetValue()
			case dto.MetricType_HISTOGRAM:
				h := m.Histogram
				s[f.GetName()+"_count"+labelText(m.Label)] = float64(h.GetSampleCount())
				s[f.GetName()+"_sum"+labelText(m.Label)] = h.GetSampleSum()
				for _, b := range h.Bucket {
					s[f.GetName()+"_bucket"+labelText(append(slices.Clone(m.Label), le(b.GetUpperBound())))] = float64(b.GetCumulativeCount())
				}
			default:
				r.Fatalf("%s is a %s", f.GetName(), f.GetType())
			}
		}
	}
	return s
}

func le(v float64) *dto.LabelPair {
	name, value := "le", fmt.Sprint(v)
	return &dto.LabelPair{Name: &name, Value: &value}
}

// labelText leaves out labels without a value, which are none to Prometheus.
func labelText(pairs []*dto.LabelPair) string {
	var list []string
	for _, p := range pairs {
		if p.GetValue() != "" {
			list = append(list, fmt.Sprintf("%s=%q", p.GetName(), p.GetValue()))
		}
	}
	slices.Sort(list)
	return "{" + strings.Join(list, ",") + "}"
}

// want compares some values; what they are of has to be there.
func (s samples) want(t testing.TB, want samples) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got, there := s[k]; !there {
			t.Errorf("there is no %s; there are\n%s", k, s.like(k))
		} else if got != want[k] {
			t.Errorf("%s is %v, want %v", k, got, want[k])
		}
	}
}

// like lists the samples of the same name.
func (s samples) like(k string) string {
	name, _, _ := strings.Cut(k, "{")
	var b strings.Builder
	for _, other := range slices.Sorted(maps.Keys(s)) {
		if strings.HasPrefix(other, name+"{") {
			fmt.Fprintf(&b, "%s %v\n", other, s[other])
		}
	}
	return b.String()
}
