package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// portsExperiment opens connections faster than ports come back: in this host, where a
// range of 200 is quickly used up, and behind a gateway that has 128 for it.
func portsExperiment() Experiment {
	return Experiment{
		Name:    "ports",
		Source:  "seeds 000 and 003: running out of ports; the budgets of clouds",
		Summary: "1,000 requests a second with 200 ports, and 128 ports of a simulated gateway",
		run:     runPorts,
	}
}

const (
	fewPorts  = 200
	portsRate = 1000 // requests a second

	// A gateway's times, a hundredth of Azure App Service's 240 s and 15 s.
	snatPorts = 128
	snatFIN   = 2400 * time.Millisecond
	snatRST   = 150 * time.Millisecond
	snatRate  = 200
)

func runPorts(ctx context.Context, s *session) error {
	requests := 1000
	if s.scale == Quick {
		requests = 500
	}
	s.result.Note = "loopback recycles a port in TIME_WAIT after a second, other networks after a minute; " +
		"snat-128 is simulated: a gateway in front of the server that has 128 ports, held 2.4 s after FIN and 0.15 s after RST, a hundredth of the platform's times"
	lo, err := scarceRange()
	if err != nil {
		s.result.Note = join(s.result.Note, fmt.Sprintf("a range of ports is not observed: %v", err))
	} else if err := s.fewPortsRows(ctx, requests, berth.PortRange{Lo: lo, Hi: lo + fewPorts - 1}); err != nil {
		return err
	}
	return s.snatRows(ctx, requests*snatRate/portsRate*2)
}

// openLoop sends requests at a rate, whatever becomes of those before, and returns them
// in the order of their beginning.
func openLoop(ctx context.Context, rt http.RoundTripper, url string, n, rate int) []sample {
	all := make([]sample, n)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		at := time.Duration(i) * time.Second / time.Duration(rate)
		if pause(ctx, time.Until(start.Add(at))) != nil {
			break
		}
		wg.Go(func() {
			begun := time.Now()
			err := get(ctx, rt, url)
			all[i] = sample{begun.Sub(start), time.Since(begun), err}
		})
	}
	wg.Wait()
	return all
}

// portRow makes a row of what an open loop did.
func portRow(name string, all []sample, rate, ports int, none bool) Variant {
	row := Variant{Name: name, Measured: map[string]any{"requests": len(all), "failed": failures(all), "p99_ms": ms(quantile(durations(all), 0.99))},
		Expected: map[string]any{"failed": 0}}
	row.OK = failures(all) == 0
	row.Series = []Series{failedOver(all, rate), tookOver(all)}
	if none {
		return row
	}
	row.Expected["failed"] = "> 0"
	row.OK = failures(all) > 0
	row.Measured["exhausted_predicted_ms"] = ms(time.Duration(ports) * time.Second / time.Duration(rate))
	for _, r := range all {
		if r.err != nil {
			row.Measured["exhausted_seen_ms"] = ms(r.at)
			row.Measured["error"] = r.err.Error()
			break
		}
	}
	return row
}

// failedOver counts the failures of an open loop, over time.
func failedOver(all []sample, rate int) Series {
	s := Series{Name: "failed", Unit: "s", Points: [][2]float64{{0, 0}}}
	failed, every := 0, max(rate/50, 1)
	for i, r := range all {
		if r.err != nil {
			failed++
		}
		if i%every == every-1 || i == len(all)-1 {
			s.Points = append(s.Points, [2]float64{round3(r.at.Seconds()), float64(failed)})
		}
	}
	return s
}

// tookOver is what requests took, by the time of their beginning; of many every some.
func tookOver(all []sample) Series {
	s := Series{Name: "time of a request", Unit: "s"}
	for i := 0; i < len(all); i += max(len(all)/200, 1) {
		if all[i].err == nil {
			s.Points = append(s.Points, [2]float64{round3(all[i].at.Seconds()), ms(all[i].took)})
		}
	}
	return s
}

func (s *session) fewPortsRows(ctx context.Context, requests int, r berth.PortRange) error {
	type portVariant struct {
		name   string
		config berth.Config
		expect string // what more to look at
	}
	variants := []portVariant{
		{"berth, which reuses", berth.Config{}, "ports"},
		{"berth, a connection a request", berth.Config{Policy: berth.Policy{DisableKeepAlives: true}}, "waits"},
		{"berth, a connection a request, close auto", berth.Config{Policy: berth.Policy{DisableKeepAlives: true, Close: berth.CloseAuto}}, ""},
		{"berth, a connection a request, two source addresses", berth.Config{Policy: berth.Policy{DisableKeepAlives: true},
			LocalAddrs: []netip.Addr{netip.MustParseAddr("127.71.14.251"), netip.MustParseAddr("127.71.14.252")}}, ""},
	}
	for i, v := range variants {
		srv, err := serve(14, byte(i+1), 0)
		if err != nil {
			return err
		}
		s.progress("%s, %d requests", v.name, requests)
		v.config.LocalPorts, v.config.Proxy = r, berth.NoProxy
		v.config.Policy.MaxDials = -1
		tr, err := berth.New(v.config)
		if err != nil {
			srv.Close()
			return err
		}
		predicted := make(chan time.Duration, 1)
		stop := make(chan struct{})
		go func() { // received below
			defer close(predicted)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-stop:
				return
			}
			if u := tr.Ports(); len(u) > 0 && u[0].Exhausted() >= 0 {
				predicted <- u[0].Exhausted() + 100*time.Millisecond
			}
		}()
		counts := takeCensus(ctx, srv, 20*time.Millisecond)
		start := time.Now()
		all := openLoop(ctx, tr, srv.url(), requests, portsRate)
		wall := time.Since(start)
		close(stop)
		taken := counts()
		row := portRow(v.name, all, portsRate, fewPorts, true)
		row.Measured["wall_ms"] = ms(wall)
		row.Series = append(taken.series(), row.Series...)
		seen, err := clientSockets(ctx, srv.addr)
		tr.Close()
		srv.Close()
		switch {
		case ctx.Err() != nil:
			return errInterrupted
		case err == nil && v.expect == "ports":
			row.Measured["ports"] = countPorts(seen)
		case v.expect == "waits":
			if d, ok := <-predicted; ok {
				row.Measured["exhausted_predicted_ms"] = ms(d)
			}
			for _, r := range all { // the first that had to wait for a port
				if r.took > 30*time.Millisecond {
					row.Measured["waits_from_ms"] = ms(r.at)
					break
				}
			}
		}
		if bad := outside(seen, r.Lo, r.Hi); bad > 0 {
			row.Note = fmt.Sprintf("%d ports lie outside the range: the kernel has no IP_LOCAL_PORT_RANGE", bad)
		}
		s.add(row)
	}

	srv, err := serve(14, 100, 0)
	if err != nil {
		return err
	}
	defer srv.Close()
	s.progress("net/http, a connection a request, %d requests", requests)
	d := net.Dialer{Control: portRange(r.Lo, r.Hi)}
	theirs := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	defer theirs.CloseIdleConnections()
	counts := takeCensus(ctx, srv, 20*time.Millisecond)
	all := openLoop(ctx, theirs, srv.url(), requests, portsRate)
	taken := counts()
	if ctx.Err() != nil {
		return errInterrupted
	}
	if len(all) > 0 && errors.Is(all[0].err, errors.ErrUnsupported) {
		s.result.Note = join(s.result.Note, fmt.Sprintf("net/http's row is not observed: %v", all[0].err))
		return nil
	}
	row := scrub(portRow("net/http, a connection a request", all, portsRate, fewPorts, false), srv)
	row.Series = append(taken.series(), row.Series...)
	s.add(row)
	return nil
}

// outside counts the sockets whose port is not in the range.
func outside(seen []sockets.Socket, lo, hi uint16) (n int) {
	for _, s := range seen {
		if p := s.Local.Port(); p < lo || p > hi {
			n++
		}
	}
	return n
}

// scrub takes the server's address out of a row's error.
func scrub(row Variant, srv *server) Variant {
	if text, ok := row.Measured["error"].(string); ok {
		row.Measured["error"] = strings.ReplaceAll(text, srv.addr.String(), "server")
	}
	return row
}

// gateway stands for one that translates addresses and has few ports: connections beyond
// them get nowhere.
type gateway struct {
	to       string
	ports    int
	fin, rst time.Duration

	mu   sync.Mutex
	live int
	held []time.Time // when ports come back
}

var errNoSNAT = errors.New("the gateway has no port left (simulated)")

func (g *gateway) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	g.mu.Lock()
	now := time.Now()
	g.held = slices.DeleteFunc(g.held, func(t time.Time) bool { return !t.After(now) })
	if g.live+len(g.held) >= g.ports {
		g.mu.Unlock()
		return nil, errNoSNAT
	}
	g.live++
	g.mu.Unlock()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", g.to)
	if err != nil {
		g.ended(0)
		return nil, err
	}
	return &translated{TCPConn: c.(*net.TCPConn), g: g, hold: g.fin}, nil
}

func (g *gateway) ended(hold time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live--
	if hold > 0 {
		g.held = append(g.held, time.Now().Add(hold))
	}
}

// watch samples the ports of the gateway over time: those in use, and those that it still
// holds.
func (g *gateway) watch(ctx context.Context) (stop func() []Series) {
	ctx, cancel := context.WithCancel(ctx)
	used, held := Series{Name: "in use at the gateway", Unit: "s"}, Series{Name: "held by the gateway", Unit: "s"}
	var wg sync.WaitGroup
	start := time.Now()
	wg.Go(func() {
		for {
			g.mu.Lock()
			now := time.Now()
			live, waiting := g.live, 0
			for _, t := range g.held {
				if t.After(now) {
					waiting++
				}
			}
			g.mu.Unlock()
			at := round3(now.Sub(start).Seconds())
			used.Points = append(used.Points, [2]float64{at, float64(live)})
			held.Points = append(held.Points, [2]float64{at, float64(waiting)})
			if pause(ctx, 20*time.Millisecond) != nil {
				return
			}
		}
	})
	return func() []Series {
		cancel()
		wg.Wait()
		return []Series{used, held}
	}
}

// translated is a connection through the gateway.
type translated struct {
	*net.TCPConn
	g    *gateway
	hold time.Duration
	once sync.Once
}

// SetLinger with 0 has the connection end by RST.
func (c *translated) SetLinger(sec int) error {
	if sec == 0 {
		c.hold = c.g.rst
	}
	return c.TCPConn.SetLinger(sec)
}

func (c *translated) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.g.ended(c.hold) })
	return err
}

func (s *session) snatRows(ctx context.Context, requests int) error {
	budget := berth.PortBudget{Ports: snatPorts, HoldAfterFIN: snatFIN, HoldAfterRST: snatRST}
	for i, v := range []struct {
		name   string
		policy *berth.Policy // nil is net/http
	}{
		{"berth, which reuses, snat-128 (simulated)", &berth.Policy{PortBudget: budget}},
		{"berth, a connection a request, close auto, snat-128 (simulated)", &berth.Policy{PortBudget: budget, Close: berth.CloseAuto, DisableKeepAlives: true}},
		{"net/http, a connection a request, snat-128 (simulated)", nil},
	} {
		srv, err := serve(14, byte(200+i), 0)
		if err != nil {
			return err
		}
		s.progress("%s, %d requests", v.name, requests)
		g := &gateway{to: srv.addr.String(), ports: snatPorts, fin: snatFIN, rst: snatRST}
		var rt http.RoundTripper = &http.Transport{DialContext: g.dial, DisableKeepAlives: true}
		if v.policy != nil {
			tr, err := berth.New(berth.Config{Policy: *v.policy, DialContext: g.dial, Proxy: berth.NoProxy,
				Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
					return []netip.Addr{srv.addr.Addr()}, time.Minute, nil
				}})
			if err != nil {
				srv.Close()
				return err
			}
			rt = tr
		}
		watched := g.watch(ctx)
		all := openLoop(ctx, rt, fmt.Sprintf("http://snat.test:%d/", srv.addr.Port()), requests, snatRate)
		taken := watched()
		row := portRow(v.name, all, snatRate, snatPorts, v.policy != nil)
		if tr, ok := rt.(*berth.Transport); ok {
			tr.Close()
		}
		srv.Close()
		if ctx.Err() != nil {
			return errInterrupted
		}
		row.Series = append(taken, row.Series...)
		s.add(scrub(row, srv))
	}
	return nil
}
