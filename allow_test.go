package berth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

var errPrivate = errors.New("the address is not public")

// watchman is an AllowAddr that lets nothing private through, and remembers what it was asked.
type watchman struct {
	mu    sync.Mutex
	asked []berth.AddrInfo
}

func (g *watchman) allow(i berth.AddrInfo) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, i)
	if a := i.Addr.Addr(); !a.IsValid() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return errPrivate
	}
	return nil
}

func (g *watchman) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.asked)
}

func (g *watchman) last() berth.AddrInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asked) == 0 {
		return berth.AddrInfo{}
	}
	return g.asked[len(g.asked)-1]
}

// wantRefused fails the test unless the guard's word has reached the caller.
func wantRefused(t *testing.T, err error) *berth.AddrRefusedError {
	t.Helper()
	e, is := errors.AsType[*berth.AddrRefusedError](err)
	if !is || !errors.Is(err, errPrivate) || errors.As(err, new(*berth.DialError)) || errors.As(err, new(*berth.ProxyError)) ||
		!berth.NotSent(err) || e.Code() != "BERTH1023" {
		t.Errorf("%T %v", err, err)
		return &berth.AddrRefusedError{}
	}
	return e
}

const inside = "10.0.0.7"

// guarded is a zone with an address inside, and a guard that is in force.
func guarded(t *testing.T, policy berth.Policy, h origin.Handler, f func(*named, *watchman)) {
	inZone(t, policy, 2, h, func(n *named) {
		ln, err := n.net.Listen(inside + ":80")
		if err != nil {
			n.Fatal(err)
		}
		o := origin.New(ln).Handle(origin.Serve(ok("secret")))
		g := &watchman{}
		n.guard(g)
		f(n, g)
		o.Close()
	})
}

func (r *rig) guard(g *watchman) {
	cfg := r.tr.Config()
	cfg.AllowAddr = g.allow
	if _, err := r.tr.Apply(cfg); err != nil {
		r.Fatal(err)
	}
}

func (n *named) insideDials() int { return n.net.Stats(inside + ":80").Dials }

// Of a name's addresses only those that are allowed are tried; the others hold nobody up,
// now or later.
func TestAllowAddrOfSeveral(t *testing.T) {
	guarded(t, berth.Policy{MaxRequestsPerConn: 1}, origin.Serve(ok("a")), func(n *named, g *watchman) {
		n.zone.set(time.Minute, nil, inside, address(0), "::ffff:10.0.0.7", address(1))
		start := time.Now()
		for range 20 {
			n.get("/")
		}
		if d := time.Since(start); d != 0 || n.insideDials() != 0 {
			n.Errorf("20 requests took %v, and %d dials of what is inside", d, n.insideDials())
		}
		for i := range 2 {
			if got := n.count()[i]; got < 8 {
				n.Errorf("address %d has had %d of 20 requests", i, got)
			}
		}
		if g.count() != 80 {
			n.Errorf("it was asked %d times about four addresses for each of 20 dials", g.count())
		}
		if i := g.asked[0]; i != (berth.AddrInfo{Endpoint: "http://origin.test", Host: "origin.test", Addr: netip.MustParseAddrPort(inside + ":80")}) {
			n.Errorf("it was asked about %+v", i)
		}
	})
}

// With none left the request fails, as often as one comes, and whoever comes when the name
// leads elsewhere is served at once.
func TestAllowAddrOfNone(t *testing.T) {
	guarded(t, berth.Policy{DNSMinTTL: time.Millisecond}, origin.Serve(ok("a")), func(n *named, g *watchman) {
		n.zone.set(time.Millisecond, nil, inside)
		start := time.Now()
		failed, err := n.send(200, "/")()
		if e := wantRefused(n.T, err); failed != 200 || e.Addr.String() != inside+":80" || e.Endpoint != "http://origin.test" || time.Since(start) != 0 {
			n.Errorf("%d of 200 failed after %v: %+v", failed, time.Since(start), e)
		}
		for range 10 {
			_, err := fetch(n.tr, rigURL)
			wantRefused(n.T, err)
		}
		err = n.endpoint().Warm(n.Context(), 2)
		wantRefused(n.T, err)
		s := n.stats()
		if s.Dials.Refused < 200 || s.Dials.Failed != 0 || s.Rejected != (berth.RejectStats{}) || n.insideDials() != 0 {
			n.Errorf("%+v, %+v, %d dials of what is inside", s.Dials, s.Rejected, n.insideDials())
		}
		n.zone.set(time.Minute, nil, address(0))
		time.Sleep(2 * time.Millisecond)
		start = time.Now()
		if n.get("/"); time.Since(start) != 0 {
			n.Errorf("a request was held up for %v", time.Since(start))
		}
	})
}

// A function that takes its time is heard all the same.
func TestAllowAddrThatIsSlow(t *testing.T) {
	bubble(t, berth.Policy{DialTimeout: time.Second}, origin.Serve(ok("a")), func(r *rig) {
		cfg := r.tr.Config()
		cfg.AllowAddr = func(berth.AddrInfo) error {
			time.Sleep(2 * time.Second)
			return errPrivate
		}
		if _, err := r.tr.Apply(cfg); err != nil {
			r.Fatal(err)
		}
		_, err := fetch(r.tr, rigURL)
		wantRefused(r.T, err)
	})
}

// What the name said when somebody looked is not what counts: each dial is asked about.
func TestAllowAddrAndRebinding(t *testing.T) {
	guarded(t, berth.Policy{DNSMinTTL: time.Millisecond, MaxRequestsPerConn: 1}, origin.Serve(ok("a")), func(n *named, g *watchman) {
		for range 20 {
			n.zone.set(time.Millisecond, nil, address(0))
			n.get("/")
			n.zone.set(time.Millisecond, nil, inside)
			time.Sleep(2 * time.Millisecond)
			_, err := fetch(n.tr, rigURL)
			wantRefused(n.T, err)
			time.Sleep(2 * time.Millisecond)
		}
		if n.insideDials() != 0 {
			n.Errorf("%d dials of what is inside", n.insideDials())
		}
	})
}

// A redirect is a request like any other.
func TestAllowAddrAndRedirects(t *testing.T) {
	guarded(t, berth.Policy{}, origin.Serve("HTTP/1.1 302 Found\r\nLocation: http://"+inside+"/secret\r\nContent-Length: 0\r\n\r\n"), func(n *named, g *watchman) {
		n.zone.set(time.Minute, nil, address(0))
		_, err := n.c.Get(rigURL)
		if e := wantRefused(n.T, err); e.Addr.String() != inside+":80" || n.insideDials() != 0 {
			n.Errorf("%+v, %d dials", e, n.insideDials())
		}
	})
}

// However an address is written, what is asked about is what would be dialled.
func TestAllowAddrSeesThroughSpellings(t *testing.T) {
	guarded(t, berth.Policy{}, origin.Serve(ok("a")), func(n *named, g *watchman) {
		n.zone.set(time.Minute, nil, "127.0.0.1") // as the system's resolver takes old spellings of it
		for host, want := range map[string]string{
			"10.0.0.7":             "10.0.0.7:80",
			"10.0.0.7:8080":        "10.0.0.7:8080",
			"[::ffff:10.0.0.7]":    "10.0.0.7:80",
			"[::FFFF:0a00:0007]":   "10.0.0.7:80",
			"[0:0:0:0:0:0:0:1]":    "[::1]:80",
			"[fe80::1%25eth0]":     "[fe80::1]:80",
			"[fd00::1%25x]":        "[fd00::1]:80",
			"0.0.0.0":              "127.0.0.1:80",
			"[::]":                 "[::1]:80",
			"[::ffff:0.0.0.0]":     "127.0.0.1:80",
			"2130706433":           "127.0.0.1:80",
			"0x7f000001":           "127.0.0.1:80",
			"0177.0.0.1":           "127.0.0.1:80",
			"127.1":                "127.0.0.1:80",
			"127.0.0.1.":           "127.0.0.1:80",
			"localhost":            "127.0.0.1:80",
			"１２７.０.０.１":            "127.0.0.1:80",
			"[::ffff:127.0.0.1]:1": "127.0.0.1:1",
		} {
			_, err := fetch(n.tr, "http://"+host+"/")
			if e := wantRefused(n.T, err); e.Addr.String() != want || g.last().Addr != e.Addr {
				n.Errorf("%s: asked about %v, want %s", host, e.Addr, want)
			}
		}
		if total := n.net.Total().Dials; total != 0 {
			n.Errorf("%d dials", total)
		}
	})
}

// So it is over real sockets, by Berth's own dialling: the server sees nobody.
func TestAllowAddrOnSockets(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ConnState = func(net.Conn, http.ConnState) { conns.Add(1) }
	srv.Start()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	g := &watchman{}
	tr := mustNew(t, berth.Config{AllowAddr: g.allow, Proxy: berth.NoProxy})
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"} {
		_, err := fetch(tr, "http://"+host+":"+port)
		if e := wantRefused(t, err); !e.Addr.Addr().IsLoopback() || fmt.Sprint(e.Addr.Port()) != port {
			t.Errorf("%s: %+v", host, e)
		}
	}
	if n := conns.Load(); n > 0 {
		t.Errorf("the server saw %d connections", n)
	}
}

// spied is a connection that tells what it is and whether anything was written to it.
type spied struct {
	net.Conn
	remote  net.Addr
	written *atomic.Int32
}

func (c spied) RemoteAddr() net.Addr { return c.remote }

func (c spied) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int32(n))
	return n, err
}

// addr is an address of a package that nobody knows.
type addr struct{ network, text string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.text }

// A function that finds the address itself is asked about when it has: nothing is written
// to what is not allowed, and it is closed.
func TestAllowAddrOfTheCallersDial(t *testing.T) {
	for name, tc := range map[string]struct {
		remote net.Addr
		want   string // "" is allowed
	}{
		"public":         {&net.TCPAddr{IP: net.ParseIP("192.0.2.9"), Port: 80}, ""},
		"private":        {&net.TCPAddr{IP: net.ParseIP("10.1.1.1"), Port: 80}, "10.1.1.1:80"},
		"mapped":         {&net.TCPAddr{IP: net.ParseIP("::ffff:10.1.1.1").To16(), Port: 80}, "10.1.1.1:80"},
		"text":           {addr{"tcp", "10.1.1.1:81"}, "10.1.1.1:81"},
		"text, public":   {addr{"tcp4", "192.0.2.9:80"}, ""},
		"not an address": {addr{"tcp", "bufconn"}, "invalid AddrPort"},
		"not TCP":        {addr{"pipe", "192.0.2.9:80"}, "invalid AddrPort"},
		"UDP":            {&net.UDPAddr{IP: net.ParseIP("192.0.2.9"), Port: 80}, "invalid AddrPort"},
		"none":           {nil, "invalid AddrPort"},
		"a nil one":      {(*net.TCPAddr)(nil), "invalid AddrPort"},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var written atomic.Int32
					g := &watchman{}
					r := newRig(t, berth.Config{AllowAddr: g.allow, Proxy: berth.NoProxy}, origin.Serve(ok("a")))
					dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
						c, err := r.net.DialContext(ctx, network, "origin.test:80")
						return spied{c, tc.remote, &written}, err
					}
					cfg := r.tr.Config()
					cfg.DialContext, cfg.DialTLSContext = dial, dial
					if _, err := r.tr.Apply(cfg); err != nil {
						t.Fatal(err)
					}
					_, err := fetch(r.tr, scheme+"://some.test/")
					if tc.want == "" {
						if err != nil || g.count() != 1 {
							t.Errorf("%v, asked %d times", err, g.count())
						}
					} else if e := wantRefused(t, err); e.Addr.String() != tc.want || written.Load() > 0 || r.net.Total().Open > 0 {
						t.Errorf("%v: %d bytes written, %d open", e.Addr, written.Load(), r.net.Total().Open)
					}
					before := r.net.Total().Dials
					_, err = fetch(r.tr, scheme+"://10.0.0.9/")
					if e := wantRefused(t, err); e.Addr.Addr().String() != "10.0.0.9" || r.net.Total().Dials != before {
						t.Errorf("an address is known before: %+v", e)
					}
					r.close()
				})
			})
		}
	}
}

// A *tls.Conn of the caller's is closed without a word, too.
func TestAllowAddrOfTheCallersTLS(t *testing.T) {
	srv, client := newTLSServer(t, func(http.ResponseWriter, *http.Request) {}, func(*httptest.Server) {})
	named := client.Clone()
	named.ServerName = "example.com"
	var mine *spied
	var written atomic.Int32
	g := &watchman{}
	tr := mustNew(t, berth.Config{AllowAddr: g.allow, Proxy: berth.NoProxy, DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		mine = &spied{c, c.RemoteAddr(), &written}
		tc := tls.Client(mine, named)
		err = tc.HandshakeContext(ctx)
		written.Store(0)
		return tc, err
	}})
	_, err := fetch(tr, "https://example.com/")
	wantRefused(t, err)
	if n := written.Load(); n > 0 {
		t.Errorf("%d bytes written", n)
	}
	if _, err := mine.Conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it is open: %v", err)
	}
}

// Behind a proxy it is the proxy that is asked about.
func TestAllowAddrOfAProxy(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := newProxy(t, scheme, nil)
		for _, target := range []string{"http://10.0.0.1/", "https://10.0.0.1/"} {
			g := &watchman{}
			var dialed error
			tr := mustNew(t, berth.Config{AllowAddr: g.allow, Proxy: p.use(), TLS: bothRoots(t),
				Trace: &berth.Trace{Dialed: func(i berth.DialInfo) { dialed = i.Err }}})
			_, err := fetch(tr, target)
			if _, is := dialed.(*berth.AddrRefusedError); !is {
				t.Errorf("the trace was told %v", dialed)
			}
			want := berth.AddrInfo{Endpoint: g.last().Endpoint, Host: "127.0.0.1", Addr: netip.MustParseAddrPort(p.ln.Addr().String()), Proxy: true}
			if e := wantRefused(t, err); g.last() != want || e.Addr != want.Addr || !strings.Contains(want.Endpoint, " through "+scheme+"://127.0.0.1") {
				t.Errorf("%s to %s: asked about %+v", scheme, target, g.last())
			}
		}
		if _, _, conns := p.seen(); conns > 0 {
			t.Errorf("%s: the proxy saw %d connections", scheme, conns)
		}
	}
}

func TestAllowAddrOfSockets(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths with a drive letter have a colon")
	}
	sock := filepath.Join(t.TempDir(), "s.sock")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ErrorLog: discardLog}
	go srv.Serve(ln)
	defer srv.Close()
	var asked []berth.AddrInfo
	var no error
	tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, Rules: []berth.Rule{{Match: "ruled.test", Socket: sock}}, AllowAddr: func(i berth.AddrInfo) error {
		asked = append(asked, i)
		return no
	}})
	for _, url := range []string{"unix://" + sock, "http://ruled.test/"} {
		no, asked = errPrivate, nil
		_, err := fetch(tr, url)
		wantRefused(t, err)
		no = nil
		if _, err := fetch(tr, url); err != nil {
			t.Error(err)
		}
		if len(asked) != 2 || asked[0].Socket != sock || asked[0].Host != "" || asked[0].Addr.IsValid() || asked[0].Proxy {
			t.Errorf("%s: asked about %+v", url, asked)
		}
	}
}

// A group's guard is its own: it does not use what an unguarded one has opened, and the
// transport's holds besides.
func TestAllowAddrOfAGroup(t *testing.T) {
	guarded(t, berth.Policy{}, origin.Serve(ok("a")), func(n *named, g *watchman) {
		cfg := n.tr.Config()
		cfg.AllowAddr = nil
		if _, err := n.tr.Apply(cfg); err != nil {
			n.Fatal(err)
		}
		n.zone.set(time.Hour, nil, inside)
		closed := n.tr.Group("guarded")
		closed.SetAllowAddr(g.allow)
		for _, open := range []http.RoundTripper{n.tr, n.tr.Group("open")} {
			if body, err := fetch(open, rigURL); body != "secret" {
				n.Errorf("an unguarded group: %q, %v", body, err)
			}
		}
		for range 5 {
			_, err := fetch(closed, rigURL)
			if e := wantRefused(n.T, err); !strings.Contains(e.Error(), "in group guarded at "+inside) {
				n.Errorf("%v", e)
			}
		}
		closed.SetAllowAddr(nil)
		if body, err := fetch(closed, rigURL); body != "secret" {
			n.Errorf("taken back: %q, %v", body, err)
		}
		closed.SetAllowAddr(g.allow)
		_, err := fetch(closed, rigURL)
		wantRefused(n.T, err)

		closed.SetAllowAddr(func(berth.AddrInfo) error { return nil })
		n.guard(g)
		_, err = fetch(closed, rigURL)
		wantRefused(n.T, err)
		if e := n.tr.Config(); e.AllowAddr == nil {
			n.Error("it is not in the configuration")
		}
	})
}

// Connections that were opened under another function are replaced, and no request is cut.
func TestAllowAddrReplacesConnections(t *testing.T) {
	guarded(t, berth.Policy{}, origin.Latency(time.Second, ok("a")), func(n *named, g *watchman) {
		n.zone.set(time.Hour, nil, address(0))
		n.none(n.send(3, "/"))
		dials := func() int { return n.net.Stats(address(0) + ":80").Dials }
		if dials() != 3 {
			n.Fatalf("%d dials", dials())
		}
		n.guard(g) // a method value is another function each time
		if s := n.stats(); s.Idle != 0 || s.Closes["reconnect"] != 3 {
			n.Errorf("by Apply: %d idle, closes %v", s.Idle, s.Closes)
		}
		busy := n.send(1, "/")
		time.Sleep(time.Millisecond)
		cfg := n.tr.Config()
		if d, err := n.tr.Compare(cfg); err != nil || len(d.Changes)+len(d.Endpoints) != 0 {
			n.Errorf("the same function: %v, %v", d, err)
		}
		cfg.AllowAddr = func(berth.AddrInfo) error { return errPrivate }
		d, err := n.tr.Apply(cfg)
		if want := "generation 4\n  AllowAddr set → set\n  http://origin.test: (reconnects)"; err != nil || d.String() != want {
			n.Errorf("%v, %v, want %s", d, err, want)
		}
		_, err = fetch(n.tr, rigURL)
		wantRefused(n.T, err)
		n.none(busy)
		cfg.AllowAddr = g.allow
		if _, err := n.tr.Apply(cfg); err != nil {
			n.Fatal(err)
		}
		n.get("/")
		before := dials()
		cfg.AllowAddr = nil // what was allowed is
		if d, err := n.tr.Apply(cfg); err != nil || len(d.Endpoints) != 0 {
			n.Errorf("%v, %v", d, err)
		}
		n.get("/")
		if dials() != before {
			n.Error("a connection was replaced that nobody minds")
		}

		group := n.tr.Group("")
		group.SetAllowAddr(g.allow)
		synctest.Wait()
		if n.get("/"); dials() != before+1 {
			n.Errorf("by SetAllowAddr: %d dials more", dials()-before)
		}
		// A dial that is under way when the function comes is not used.
		n.dialsTake(time.Second)
		group.SetAllowAddr(nil)
		n.endpoint().Reconnect()
		during := n.send(1, "/")
		time.Sleep(500 * time.Millisecond)
		group.SetAllowAddr(func(berth.AddrInfo) error { return errPrivate })
		_, err = during()
		wantRefused(n.T, err)
	})
}

// Each connection has been asked about, whatever it was opened for.
func TestAllowAddrIsAskedAboutEveryConnection(t *testing.T) {
	guarded(t, berth.Policy{MinIdle: 2, Lifetime: 3 * time.Second, MaxConns: 6}, origin.Latency(100*time.Millisecond, ok("a")), func(n *named, g *watchman) {
		n.zone.set(time.Second, nil, address(0))
		if err := n.endpoint().Warm(n.Context(), 3); err != nil {
			n.Fatal(err)
		}
		for range 60 {
			n.none(n.send(4, "/"))
			time.Sleep(100 * time.Millisecond)
		}
		dials := n.net.Total().Dials
		if g.count() != dials || dials < 15 {
			n.Errorf("%d dials, asked %d times", dials, g.count())
		}
		n.zone.set(time.Second, nil, inside)
		time.Sleep(2 * time.Minute)
		if n.insideDials() != 0 || n.open(0) != 0 {
			n.Errorf("the name went inside: %d dials, %d connections stay", n.insideDials(), n.open(0))
		}
		if asked := g.count() - dials; asked > 2000 {
			n.Errorf("asked %d times in two minutes by MinIdle", asked)
		}
	})
}

// What another group's dials have set aside is not tried in the background by a group that
// may not connect to it, and nobody spins for it.
func TestAllowAddrAndAddressesSetAside(t *testing.T) {
	guarded(t, berth.Policy{IdleTimeout: -1, Lifetime: -1}, origin.Latency(100*time.Millisecond, ok("a")), func(n *named, g *watchman) {
		cfg := n.tr.Config()
		cfg.AllowAddr = nil
		if _, err := n.tr.Apply(cfg); err != nil {
			n.Fatal(err)
		}
		n.tr.Group("guarded").SetAllowAddr(g.allow)
		n.net.OnDial = func(_ context.Context, a string) error {
			if a == inside+":80" {
				return errors.New("connection refused")
			}
			return nil
		}
		n.zone.set(10*time.Second, nil, inside, address(0))
		if _, err := fetch(n.tr.Group("open"), rigURL); err != nil || n.insideDials() != 1 {
			n.Fatalf("%v, %d dials of what is inside", err, n.insideDials())
		}
		n.tr.CloseGroup("open")
		n.none(n.sendTo(n.tr.Group("guarded"), 4, rigURL))
		time.Sleep(3 * time.Minute)
		if n.insideDials() != 1 || g.count() > 200 {
			n.Errorf("%d dials of what is inside, asked %d times", n.insideDials(), g.count())
		}
		// Nor is its share of the connections kept for it.
		n.none(n.sendTo(n.tr.Group("guarded"), 4, rigURL))
		n.zone.set(time.Second, nil, inside, address(0), "10.0.0.8")
		time.Sleep(20 * time.Second)
		ep, err := n.tr.Group("guarded").Endpoint(rigURL)
		if err != nil {
			n.Fatal(err)
		}
		if s := ep.Stats(); s.Idle != 4 || s.Closes["address"] != 0 {
			n.Errorf("%d idle, closes %v", s.Idle, s.Closes)
		}
	})
}
