package prom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.yaml.in/yaml/v3"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/telemetry/prom"
)

// patience is how long Prometheus may take to start, and alerts to fire.
const patience = 2 * time.Minute

// server is a Prometheus that runs as a process of its own.
type server struct {
	*testing.T
	url   string
	out   bytes.Buffer
	ended chan struct{}
}

// startPrometheus runs one, until the test ends, that scrapes target by both formats and
// has the alerts of alerts.yaml, which wait for a second where they would for minutes.
func startPrometheus(t *testing.T, target string) *server {
	t.Helper()
	path := program(t, "prometheus")
	dir := t.TempDir()
	var r rules
	readYAML(t, "alerts.yaml", &r)
	for _, g := range r.Groups {
		for i := range g.Rules {
			if g.Rules[i].For != "" {
				g.Rules[i].For = "1s"
			}
		}
	}
	alerts, err := yaml.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 250ms}
rule_files: [alerts.yaml]
scrape_configs:
- job_name: text
  metrics_path: /metrics
  static_configs: [{targets: [%q]}]
- job_name: openmetrics
  metrics_path: /openmetrics
  static_configs: [{targets: [%q]}]
`, target, target)
	for name, text := range map[string]string{"alerts.yaml": string(alerts), "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	s := &server{T: t, url: "http://" + addr, ended: make(chan struct{})}
	cmd := exec.Command(path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(s.ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-s.ended:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-s.ended
		}
		if t.Failed() {
			t.Logf("prometheus said:\n%s", s.out.String())
		}
	})
	return s
}

// get asks the API, and reports whether there was an answer.
func (s *server) get(path string, data any) bool {
	s.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		select {
		case <-s.ended:
			s.Fatalf("prometheus ended: %s", s.out.String())
		default:
		}
		return false // it does not listen yet
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable { // it is not ready yet
		return false
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(b, &answer); err != nil || answer.Status != "success" {
		s.Fatalf("%s: %v %s: %.300s", path, err, answer.Error, b)
	}
	return true
}

// addFiring adds the alerts that fire, as name of transport.
func (s *server) addFiring(names map[string]bool) {
	s.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	s.get("/api/v1/alerts", &data)
	for _, a := range data.Alerts {
		if a.State == "firing" && a.Labels["job"] == "text" {
			names[a.Labels["alertname"]+" of "+a.Labels["transport"]] = true
		}
	}
}

// query returns the values of an expression.
func (s *server) query(expr string) []string {
	s.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	if !s.get("/api/v1/query?query="+url.QueryEscape(expr), &data) {
		s.Fatalf("no answer to %s", expr)
	}
	var values []string
	for _, r := range data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values
}

// await returns the values of an expression as soon as there are n at least: a scrape may
// come too late on a host that is busy, and its series are gone until the next one.
func (s *server) await(n int, expr string) []string {
	s.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		v := s.query(expr)
		if len(v) >= n {
			return v
		}
		select {
		case <-tick.C:
		case <-limit:
			s.Fatalf("%s has the values %v, want %d", expr, v, n)
		}
	}
}

// plant is a program with several transports, each with a fault of its own.
type plant struct {
	*testing.T
	reg    *prometheus.Registry
	origin string
	trs    map[string]*berth.Transport
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			io.WriteString(w, "ok")
			return
		}
		w.Write(make([]byte, 1<<20)) // more than a socket takes at once
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(o.Close)
	return &plant{T: t, reg: prometheus.NewRegistry(), origin: o.URL, trs: map[string]*berth.Transport{}}
}

func (p *plant) add(name string, cfg berth.Config) *berth.Transport {
	p.Helper()
	cfg.Proxy = berth.NoProxy
	tr, err := berth.New(cfg)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { tr.Close() })
	c, err := prom.New(tr, prom.Config{ConstLabels: prometheus.Labels{"transport": name}})
	if err != nil {
		p.Fatal(err)
	}
	p.reg.MustRegister(c)
	p.trs[name] = tr
	return tr
}

// short asks for an answer and reads it.
func (p *plant) short(name, url string) error {
	resp, err := p.trs[name].RoundTrip(request(p, p.Context(), url+"/short"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// hold leases a connection until the test ends.
func (p *plant) hold(name string) {
	p.Helper()
	resp, err := p.trs[name].RoundTrip(request(p, p.Context(), p.origin+"/held"))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { resp.Body.Close() })
}

// forget leases a connection and forgets it.
//
//go:noinline
func (p *plant) forget(name string) {
	p.Helper()
	if _, err := p.trs[name].RoundTrip(request(p, p.Context(), p.origin+"/forgotten")); err != nil {
		p.Fatal(err)
	}
}

// A Prometheus that scrapes transports which starve, leak, churn, fail to dial and run low
// on ports has every alert of alerts.yaml fire for the transport that it is meant for, and
// none for one that is well. It can draw every panel of the dashboard.
func TestAlertsFire(t *testing.T) {
	program(t, "prometheus")
	p := newPlant(t)
	down := httptest.NewServer(nil)
	down.Close()
	for name, policy := range map[string]berth.Policy{
		"well":      {},
		"starved":   {MaxConns: 1, MaxWaiters: 1},
		"impatient": {MaxConns: 1, AcquireTimeout: 50 * time.Millisecond},
		"leaking":   {LeakAfter: time.Second},
		"forgetful": {},
		"crowded":   {PortBudget: berth.PortBudget{Ports: 4, HoldAfterFIN: time.Hour}},
		"churning":  {MaxIdle: -1},
		"cut off":   {},
	} {
		p.add(name, berth.Config{Policy: policy})
	}
	p.add("portless", berth.Config{Policy: berth.Policy{AcquireTimeout: 50 * time.Millisecond},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
		}})
	want := map[string]bool{
		"BerthRequestsStarve of starved":      true,
		"BerthQueueFull of starved":           true,
		"BerthAcquireTimeouts of impatient":   true,
		"BerthLeakSuspected of leaking":       true,
		"BerthLeakReclaimed of forgetful":     true,
		"BerthPortsNearExhaustion of crowded": true,
		"BerthChurn of churning":              true,
		"BerthLowReuse of churning":           true,
		"BerthDialsFail of cut off":           true,
		"BerthDialsExhausted of portless":     true,
	}
	for _, a := range readAlerts(t) {
		there := false
		for w := range want {
			there = there || strings.HasPrefix(w, a.Alert+" ")
		}
		if !there {
			t.Errorf("no transport is meant for %s", a.Alert)
		}
	}

	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{}))
	mux.Handle("/openmetrics", promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	metrics := httptest.NewServer(mux)
	t.Cleanup(metrics.Close)
	s := startPrometheus(t, metrics.Listener.Addr().String())

	for _, name := range []string{"starved", "impatient", "leaking", "crowded", "crowded", "crowded", "crowded"} {
		p.hold(name)
	}
	waits, cancel := context.WithCancel(t.Context())
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		p.trs["starved"].RoundTrip(request(t, waits, p.origin))
	}()
	t.Cleanup(func() { cancel(); <-waited })

	limit := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for p.trs["starved"].Endpoints()[0].Stats().Waiting == 0 {
		<-tick.C
	}
	forgotten := 0
	fired := map[string]bool{}
	for {
		for range 40 { // rate() is over five minutes, and the alerts want one a second
			if err := p.short("churning", p.origin); err != nil {
				t.Fatal(err)
			}
			if err := p.short("well", p.origin); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.short("starved", p.origin); !is[*berth.QueueFullError](err) {
			t.Fatalf("the queue is not full: %v", err)
		}
		if err := p.short("impatient", p.origin); !is[*berth.AcquireTimeoutError](err) {
			t.Fatalf("in time: %v", err)
		}
		if err := p.short("portless", p.origin); err == nil {
			t.Fatal("there was a port")
		}
		if err := p.short("cut off", down.URL); err == nil {
			t.Fatal("the server is not down")
		}
		if forgotten < 10 {
			forgotten++
			p.forget("forgetful")
		}
		runtime.GC()

		s.addFiring(fired)
		missing := 0
		for name := range want {
			if !fired[name] {
				missing++
			}
		}
		if missing == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("only %v fired, want %v; scrapes: %v", fired, want, s.query("up"))
		}
	}
	for name := range fired {
		if strings.HasSuffix(name, " of well") {
			t.Errorf("%s fired", name)
		}
	}

	s.await(2, `up == 1`) // both formats can be read
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			s.await(1, plain(target.Expr))
		}
	}
	if v := s.await(1, `histogram_quantile(0.99, sum by (le) (rate(berth_pool_hold_seconds_bucket{transport="well",job="text"}[1m])))`); v[0] == "NaN" {
		t.Errorf("the quantile is %v", v)
	}

	// What is served has no fault that promtool would find.
	resp, err := http.Get(metrics.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lint := exec.Command(program(t, "promtool"), "check", "metrics")
	lint.Stdin = resp.Body
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
