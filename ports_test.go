package berth_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// Behind a gateway of few ports requests wait for them to come back, and none fails; the
// budget is never exceeded.
func TestPortBudgetIsKept(t *testing.T) {
	budget := berth.PortBudget{Ports: 10, HoldAfterFIN: 20 * time.Second, HoldAfterRST: time.Second}
	for _, tc := range []struct {
		close    berth.ClosePolicy
		from, to time.Duration // how long 40 new connections take
	}{
		{berth.CloseGraceful, 60 * time.Second, 85 * time.Second}, // 10 ports every 20 s
		{berth.CloseReset, 3 * time.Second, 66 * time.Second},
	} {
		t.Run(string(tc.close), func(t *testing.T) {
			policy := berth.Policy{PortBudget: budget, Close: tc.close, MaxRequestsPerConn: 1}
			inZone(t, policy, 1, origin.Serve(ok("a")), func(n *named) {
				n.zone.set(time.Hour, nil, address(0))
				start := time.Now()
				var begun []time.Duration
				n.net.OnDial = func(context.Context, string) error {
					begun = append(begun, time.Since(start))
					return nil
				}
				for range 40 {
					n.get("/")
				}
				if d := time.Since(start); d < tc.from || d > tc.to {
					n.Errorf("40 connections took %v", d)
				}
				for i := budget.Ports; i < len(begun); i++ {
					hold := budget.HoldAfterFIN
					if tc.close == berth.CloseReset {
						hold = budget.HoldAfterRST
					}
					if gap := begun[i] - begun[i-budget.Ports]; gap < hold {
						n.Errorf("connections %d to %d began within %v", i-budget.Ports, i, gap)
					}
				}
				var seen bool
				for _, u := range n.tr.Ports() {
					seen = seen || u.Budget && u.Ports == 10 && u.Live+u.Held > 0 && u.Used() <= 1
				}
				if !seen {
					n.Errorf("Ports: %+v", n.tr.Ports())
				}
			})
		})
	}
}

// The process's budget counts all destinations.
func TestPortBudgetOfTheProcess(t *testing.T) {
	inZone(t, berth.Policy{MaxRequestsPerConn: 1, AcquireTimeout: time.Second}, 2, origin.Serve(ok("a")), func(n *named) {
		cfg := n.tr.Config()
		cfg.PortBudget = berth.PortBudget{Ports: 4, HoldAfterFIN: time.Minute}
		if _, err := n.tr.Apply(cfg); err != nil {
			n.Fatal(err)
		}
		n.zone.set(time.Millisecond, nil, address(0))
		n.get("/")
		n.get("/")
		n.zone.set(time.Hour, nil, address(1))
		time.Sleep(2 * time.Second)
		n.get("/")
		var err error
		for range 3 {
			if _, err = fetch(n.tr, rigURL); err != nil {
				break
			}
		}
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		p, ports := errors.AsType[*berth.PortsExhaustedError](err)
		if !is || !ports || !p.Usage.Budget || p.Usage.Ports != 4 || !strings.Contains(e.Limit, "of 4 ports of the process's budget") {
			n.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		n.get("/")
	})
}

// Who waits for a port hears of a larger budget at once.
func TestRaisedPortBudgetWakesDials(t *testing.T) {
	inZone(t, berth.Policy{PortBudget: berth.PortBudget{Ports: 2, HoldAfterFIN: time.Hour}}, 1, origin.Latency(time.Second, ok("a")), func(n *named) {
		n.zone.set(time.Hour, nil, address(0))
		start := time.Now()
		done := n.send(6, "/")
		time.Sleep(100 * time.Millisecond)
		if err := n.endpoint().SetPolicy(berth.Policy{PortBudget: berth.PortBudget{Ports: 100}}); err != nil {
			n.Fatal(err)
		}
		n.none(done)
		if d := time.Since(start); d > 1500*time.Millisecond {
			n.Errorf("six requests of a second took %v", d)
		}
	})
}

// roundTrips opens n connections, one after the other, and has them all closed.
func roundTrips(t *testing.T, tr *berth.Transport, url string, n int) {
	t.Helper()
	for range n {
		wantGet(t, tr, url, "a")
		mustEndpoint(t, tr, url).CloseIdle()
	}
}

// What each way to close leaves behind in the kernel, on our side and on the server's.
func TestClosePolicies(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads the kernel's socket table")
	}
	for _, tc := range []struct {
		policy       berth.Policy
		ours, theirs int // sockets in TIME_WAIT
	}{
		{berth.Policy{}, 5, 0},
		{berth.Policy{Close: berth.CloseReset}, 0, 0},
		{berth.Policy{Close: berth.CloseAuto}, 5, 0}, // ports are plenty
		{berth.Policy{Close: berth.CloseServerFirst, MaxRequestsPerConn: 1}, 0, 5},
		{berth.Policy{Close: berth.CloseServerFirst}, 5, 0}, // nobody knows which request is the last
	} {
		t.Run(string(tc.policy.Close), func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.31.1:0")
			if err != nil {
				t.Skip("no address 127.0.31.1: ", err)
			}
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") }))
			srv.Listener.Close()
			srv.Listener = ln
			srv.Start()
			defer srv.Close()
			tr := mustNew(t, berth.Config{Policy: tc.policy, Proxy: berth.NoProxy})
			roundTrips(t, tr, srv.URL, 5)
			addr := netip.MustParseAddrPort(ln.Addr().String())
			var ours, theirs int
			waitFor(t, func() bool {
				s := mustEndpoint(t, tr, srv.URL).Stats()
				return s.Draining+s.Idle == 0
			})
			count := func() {
				ours, theirs = 0, 0
				table, err := sockets.List(t.Context(), sockets.Filter{})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range table.Sockets {
					switch {
					case s.Remote == addr && s.State != sockets.TimeWait, s.Local == addr && s.State != sockets.TimeWait && s.State != sockets.Listen:
						ours, theirs = -1, -1 // the server has not closed its side yet
						return
					case s.Remote == addr:
						ours++
					case s.Local == addr && s.State == sockets.TimeWait:
						theirs++
					}
				}
			}
			waitFor(t, func() bool { count(); return ours >= 0 })
			if ours != tc.ours || theirs != tc.theirs {
				t.Errorf("in TIME_WAIT: %d of ours, %d of the server's; want %d and %d", ours, theirs, tc.ours, tc.theirs)
			}
		})
	}
}

// Resets begin when half of the ports are taken.
func TestCloseAutoResetsWhenPortsAreScarce(t *testing.T) {
	policy := berth.Policy{Close: berth.CloseAuto, PortBudget: berth.PortBudget{Ports: 20, HoldAfterFIN: time.Hour}}
	inZone(t, policy, 1, origin.Serve(ok("a")), func(n *named) {
		n.zone.set(time.Hour, nil, address(0))
		for range 60 {
			n.get("/")
			n.endpoint().CloseIdle()
		}
		held := 0
		for _, u := range n.tr.Ports() {
			if u.Budget {
				held = u.Held
			}
		}
		if held < 10 || held > 11 {
			n.Errorf("%d ports are held by FIN: half of 20 were to be", held)
		}
	})
}

// quietPorts returns a range of n ephemeral ports that no socket of this host has: the port
// of a listener, and of what it accepted, is taken for all destinations.
func quietPorts(t *testing.T, n int) berth.PortRange {
	t.Helper()
	lo, hi, err := sockets.EphemeralPorts()
	if err != nil {
		t.Skip(err)
	}
	table, err := sockets.List(t.Context(), sockets.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	taken := map[uint16]bool{}
	for _, s := range table.Sockets {
		taken[s.Local.Port()] = true
	}
	free, at := 0, int(lo)+rand.IntN(int(hi)-int(lo)-n)
	for range int(hi) - int(lo) {
		if at++; at > int(hi) {
			at, free = int(lo), 0
		}
		if free++; taken[uint16(at)] {
			free = 0
		}
		if free == n {
			return berth.PortRange{Lo: uint16(at - n + 1), Hi: uint16(at)}
		}
	}
	t.Skipf("no %d ports in a row are free: the host is too busy", n)
	panic("unreachable")
}

// When the kernel has no port left and no connection lives to wait for, a request waits
// for one within its time, instead of failing.
func TestKernelWithoutPortsIsWaitedFor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a range of ports of a socket's own is Linux's")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") }))
	defer srv.Close()
	quiet := quietPorts(t, 4)
	cfg := berth.Config{Proxy: berth.NoProxy, LocalPorts: quiet, Policy: berth.Policy{Close: berth.CloseReset}}
	first := mustNew(t, cfg)
	if err := mustEndpoint(t, first, srv.URL).Warm(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	used := map[uint16]bool{}
	table, err := sockets.List(t.Context(), sockets.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range table.Sockets {
		if s.Remote == netip.MustParseAddrPort(srv.Listener.Addr().String()) && s.State == sockets.Established {
			used[s.Local.Port()] = true
		}
	}
	for p := range used {
		if p < quiet.Lo || p > quiet.Hi {
			t.Skipf("the kernel took port %d: it has no IP_LOCAL_PORT_RANGE", p)
		}
	}
	second := mustNew(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	_, err = second.RoundTrip(req)
	p, is := errors.AsType[*berth.PortsExhaustedError](err)
	if !is || p.Resource != "ports" || p.Usage.Ports != 4 || p.Code() != "BERTH1004" || !strings.Contains(err.Error(), "ports") || p.InUse < 0 {
		t.Fatalf("with all ports taken: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := fetch(second, srv.URL)
		got <- err
	}()
	waitFor(t, func() bool { return mustEndpoint(t, second, srv.URL).Stats().Dialing > 0 })
	first.CloseIdleConnections()
	if err := <-got; err != nil {
		t.Errorf("after ports came back: %v", err)
	}
}

// Several source addresses are used in turn.
func TestLocalAddrs(t *testing.T) {
	seen := map[string]int{}
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		defer mu.Unlock()
		seen[host]++
	}))
	defer srv.Close()
	if runtime.GOOS != "linux" {
		t.Skip("127.0.0.0/8 is all local on Linux alone")
	}
	tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, LocalAddrs: []netip.Addr{netip.MustParseAddr("127.0.32.1"), netip.MustParseAddr("127.0.32.2")},
		Policy: berth.Policy{MaxRequestsPerConn: 1}})
	for range 10 {
		wantGet(t, tr, srv.URL, "")
	}
	mu.Lock()
	defer mu.Unlock()
	if seen["127.0.32.1"] != 5 || seen["127.0.32.2"] != 5 {
		t.Errorf("%v", seen)
	}
	nowhere := mustNew(t, berth.Config{Proxy: berth.NoProxy, LocalAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	if _, err := fetch(nowhere, srv.URL); !errors.As(err, new(*berth.DialError)) {
		t.Errorf("an address that is not this host's: %v", err)
	}
}

// A source address does not cost the ports of other destinations: a port is chosen at
// connect, for the destination.
func TestSourceAddressHasAllPortsForEachDestination(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("IP_BIND_ADDRESS_NO_PORT is Linux's")
	}
	tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, LocalAddrs: []netip.Addr{netip.MustParseAddr("127.0.32.3")},
		LocalPorts: quietPorts(t, 4), Policy: berth.Policy{Close: berth.CloseReset}})
	var servers []netip.AddrPort
	for range 3 {
		srv := httptest.NewServer(nil)
		defer srv.Close()
		servers = append(servers, netip.MustParseAddrPort(srv.Listener.Addr().String()))
		ctx, cancel := context.WithTimeout(t.Context(), guard)
		defer cancel()
		if err := mustEndpoint(t, tr, srv.URL).Warm(ctx, 4); err != nil {
			t.Fatal(err)
		}
	}
	table, err := sockets.List(t.Context(), sockets.Filter{States: []sockets.State{sockets.Established}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]int{}
	for _, s := range table.Sockets {
		for _, server := range servers {
			if s.Remote == server {
				seen[s.Local.Port()]++
			}
		}
	}
	if len(seen) > 4 {
		t.Skipf("ports %v: the kernel has no IP_LOCAL_PORT_RANGE", seen)
	}
	for port, n := range seen {
		if n != 3 {
			t.Errorf("port %d has %d connections, want one to each of three servers", port, n)
		}
	}
}
