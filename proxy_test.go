package berth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// bothRoots verifies what httptest and the proxies of these tests show.
func bothRoots(t *testing.T) *tls.Config {
	_, roots := origin.Cert()
	roots = roots.Clone()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	roots.AddCert(s.Certificate())
	s.Close()
	return &tls.Config{RootCAs: roots}
}

// Row 32, C47, C48: requests with scheme http go to the proxy in absolute form, all
// of a proxy over one pool, whatever their origins; those with https through a
// tunnel each. Credentials reach the proxy and no origin.
func TestProxies(t *testing.T) {
	var leaked atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			leaked.Add(1)
		}
		io.WriteString(w, r.Proto+" "+r.Host+r.URL.Path)
	})
	plain := httptest.NewServer(h)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(h)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()

	for _, scheme := range []string{"http", "https", "socks5", "socks5h"} {
		for _, user := range []string{"", "user:pass:word/%"} {
			t.Run(scheme+" "+user, func(t *testing.T) {
				t.Run("to http", func(t *testing.T) {
					p := newProxy(t, scheme, func(p *proxyServer) { p.user, p.loopback = user, plain.Listener.Addr().String() })
					tr := mustNew(t, berth.Config{Proxy: p.use(), TLS: bothRoots(t)})
					for _, host := range []string{"one.test", "two.test:8080", "one.test", "[2001:db8::1]", "192.0.2.7"} {
						req := newRequest(t, "GET", "http://"+host+"/path", nil)
						if user != "" || strings.HasPrefix(scheme, "socks") {
							req.Header.Set("Proxy-Authorization", "Basic of-the-caller")
						}
						resp, err := tr.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						b, _ := io.ReadAll(resp.Body)
						resp.Body.Close()
						if want := "HTTP/1.1 " + host + "/path"; string(b) != want {
							t.Errorf("got %q, want %q", b, want)
						}
					}
					asked, _, conns := p.seen()
					want, wantConns := []string{"GET http://one.test/path", "GET http://two.test:8080/path", "GET http://one.test/path", "GET http://[2001:db8::1]/path", "GET http://192.0.2.7/path"}, 1
					if strings.HasPrefix(scheme, "socks") {
						want, wantConns = []string{"SOCKS one.test:80", "SOCKS two.test:8080", "SOCKS [2001:db8::1]:80", "SOCKS 192.0.2.7:80"}, 4
					}
					if !slices.Equal(asked, want) || conns != wantConns {
						t.Errorf("asked for %q over %d connections, want %q over %d", asked, conns, want, wantConns)
					}
				})
				t.Run("to https", func(t *testing.T) {
					p := newProxy(t, scheme, func(p *proxyServer) { p.user, p.loopback = user, secure.Listener.Addr().String() })
					tr := mustNew(t, berth.Config{Proxy: p.use(), TLS: bothRoots(t)})
					for range 3 {
						req := newRequest(t, "GET", "https://example.com/path", nil)
						req.Header.Set("Proxy-Authorization", "Basic of-the-caller")
						req.Header["proxy-authorization"] = []string{"Basic in-lower-case"}
						resp, err := tr.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						b, _ := io.ReadAll(resp.Body)
						resp.Body.Close()
						if string(b) != "HTTP/2.0 example.com/path" {
							t.Errorf("got %q", b)
						}
					}
					verb := "CONNECT"
					if strings.HasPrefix(scheme, "socks") {
						verb = "SOCKS"
					}
					if asked, _, conns := p.seen(); !slices.Equal(asked, []string{verb + " example.com:443"}) || conns != 1 {
						t.Errorf("asked for %q over %d connections", asked, conns)
					}
				})
			})
		}
	}
	if n := leaked.Load(); n > 0 {
		t.Errorf("%d requests brought Proxy-Authorization to an origin", n)
	}
}

// Row 32: what the configuration adds to CONNECT is not changed, and what it sees of
// the answer decides.
func TestProxyConnectHooks(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(proto))
	defer secure.Close()
	p := newProxy(t, "http", func(p *proxyServer) { p.user, p.loopback = "u:p", secure.Listener.Addr().String() })
	head := http.Header{"X-From": {"header"}}
	cfg := berth.Config{Proxy: p.use(), TLS: bothRoots(t), ProxyConnectHeader: head}
	wantGet(t, mustNew(t, cfg), "https://example.com", "HTTP/1.1")
	if len(head) != 1 {
		t.Errorf("ProxyConnectHeader was changed: %v", head)
	}
	cfg.GetProxyConnectHeader = func(_ context.Context, proxy *url.URL, target string) (http.Header, error) {
		if proxy.Host != p.url().Host || target != "example.com:443" {
			t.Errorf("asked for %v, %s", proxy, target)
		}
		return http.Header{"X-From": {"function"}}, nil
	}
	wantGet(t, mustNew(t, cfg), "https://example.com", "HTTP/1.1")
	_, heads, _ := p.seen()
	for i, want := range []string{"header", "function"} {
		if got := heads[i].Header.Get("X-From"); got != want {
			t.Errorf("CONNECT %d has X-From %q, want %q", i, got, want)
		}
	}
	mine := errors.New("mine")
	cfg.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, req *http.Request, resp *http.Response) error {
		if proxy.Host != p.url().Host || req.Method != "CONNECT" || resp.StatusCode != 200 {
			t.Errorf("%v %v %v", proxy, req, resp)
		}
		return mine
	}
	if _, err := fetch(mustNew(t, cfg), "https://example.com"); !errors.Is(err, mine) {
		t.Error(err)
	}
	cfg.GetProxyConnectHeader = func(context.Context, *url.URL, string) (http.Header, error) { return nil, mine }
	if _, err := fetch(mustNew(t, cfg), "https://example.com"); !errors.Is(err, mine) {
		t.Error(err)
	}
}

// C50: a proxy that cannot be reached, or that does not open the way, is named with
// its answer, and with no credential. Nothing was sent to the target.
func TestProxyErrors(t *testing.T) {
	closed := httptest.NewServer(nil)
	nobody, _ := url.Parse(closed.URL)
	nobody.User = url.UserPassword("alice", "secret")
	closed.Close()
	refusing := func(answer string) func(t *testing.T) *url.URL {
		return func(t *testing.T) *url.URL {
			return newProxy(t, "http", func(p *proxyServer) { p.user, p.answer = "alice:secret", answer }).url()
		}
	}
	wrong := func(scheme string) func(t *testing.T) *url.URL {
		return func(t *testing.T) *url.URL {
			u := newProxy(t, scheme, func(p *proxyServer) { p.user = "alice:other" }).url()
			u.User = url.UserPassword("alice", "secret")
			return u
		}
	}
	for _, c := range []struct {
		name   string
		proxy  func(t *testing.T) *url.URL
		target string
		status int
		says   string
	}{
		{"nobody listens", func(*testing.T) *url.URL { return nobody }, "", 0, "proxyconnect tcp: dial tcp"},
		{"502", refusing("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "example.com:443", 502, "502 Bad Gateway"},
		{"no reason", refusing("HTTP/1.1 503\r\n\r\n"), "example.com:443", 503, "503"},
		{"407", wrong("http"), "example.com:443", 407, "407 Proxy Authentication Required"},
		{"wrong SOCKS password", wrong("socks5"), "example.com:443", 0, "socks connect"},
		{"hangs up", refusing("\r\n"), "example.com:443", 0, "malformed"},
		{"junk", refusing("220 smtp ready\r\n"), "example.com:443", 0, "malformed"},
		{"endless head", refusing("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 3<<20)), "example.com:443", 0, "exceeds 1048576 bytes"},
		{"speaks out of turn", refusing("HTTP/1.1 200 OK\r\n\r\njunk"), "example.com:443", 0, "behind its answer"},
		{"SOCKS name too long", wrong("socks5"), strings.Repeat("n.", 130) + "test:443", 0, "longer than 255"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := c.proxy(t)
			tr := mustNew(t, berth.Config{Proxy: http.ProxyURL(u)})
			host := "example.com"
			if c.target != "" {
				host = strings.TrimSuffix(c.target, ":443")
			}
			_, err := fetch(tr, "https://"+host+"/path?query=token")
			perr, is := errors.AsType[*berth.ProxyError](err)
			if !is {
				t.Fatalf("%T %v", err, err)
			}
			if perr.Target != c.target || perr.Status != c.status || perr.Code() != "BERTH1014" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v: %v", perr, err)
			}
			if _, is := errors.AsType[*berth.DialError](err); !is || !berth.NotSent(err) {
				t.Errorf("%T, not sent %v", err, berth.NotSent(err))
			}
			for _, secret := range []string{"secret", "token", "alice"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q within %v", secret, err)
				}
			}
			if c.name == "nobody listens" {
				if op, is := errors.AsType[*net.OpError](err); !is || op.Op != "proxyconnect" {
					t.Errorf("no *net.OpError with proxyconnect within %v", err)
				}
			}
		})
	}
}

// A proxy that takes the connection and says nothing is given a minute, and no
// longer than the request has.
func TestSilentProxy(t *testing.T) {
	for _, scheme := range []string{"http", "socks5"} {
		synctest.Test(t, func(t *testing.T) {
			n := &memnet.Network{}
			ln, err := n.Listen("proxy.test:3128")
			if err != nil {
				t.Fatal(err)
			}
			o := origin.New(ln).Handle((*origin.Conn).Stall)
			tr, err := berth.New(berth.Config{DialContext: n.DialContext, Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: "proxy.test:3128"})})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = fetch(tr, "https://example.test")
			perr, is := errors.AsType[*berth.ProxyError](err)
			if took := time.Since(start); !is || !perr.Timeout() || took != time.Minute {
				t.Errorf("after %v: %v", took, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start = time.Now()
			if _, err := tr.RoundTrip(newRequest(t, "GET", "https://example.test", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			tr.Close()
			o.Close()
			synctest.Wait()
		})
	}
}

// C49: a proxy's 407 to a plain request is a response like any other: its caller
// sees it, and the connection is kept. (.NET answers the challenge itself; Berth
// sends the credentials of the proxy's URL unasked.)
func TestProxyAuthenticationRequired(t *testing.T) {
	p := newProxy(t, "http", func(p *proxyServer) { p.user = "user:pass" })
	u := p.url()
	u.User = nil
	tr := mustNew(t, berth.Config{Proxy: http.ProxyURL(u)})
	for range 2 {
		resp, err := tr.RoundTrip(newRequest(t, "GET", "http://one.test", nil))
		if err != nil || resp.StatusCode != 407 {
			t.Fatalf("%v %v", resp, err)
		}
		resp.Body.Close()
	}
	if _, _, conns := p.seen(); conns != 1 {
		t.Errorf("%d connections", conns)
	}
}

// C45: what differs in proxy, or in the proxy's credentials, shares no connection.
func TestProxyIsPartOfTheEndpoint(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(proto))
	defer plain.Close()
	p := newProxy(t, "http", func(p *proxyServer) { p.loopback = plain.Listener.Addr().String() })
	var u atomic.Pointer[url.URL]
	tr := mustNew(t, berth.Config{Proxy: func(*http.Request) (*url.URL, error) { return u.Load(), nil }})
	for _, user := range []*url.Userinfo{nil, url.UserPassword("a", "1"), url.UserPassword("b", "1"), url.UserPassword("a", "2"), nil} {
		v := *p.url()
		v.User = user
		u.Store(&v)
		wantGet(t, tr, "http://one.test", "HTTP/1.1")
	}
	if _, _, conns := p.seen(); conns != 4 {
		t.Errorf("%d connections, want 4", conns)
	}
	u.Store(nil)
	wantGet(t, tr, plain.URL, "HTTP/1.1")
	var names []string
	for _, ep := range tr.Endpoints() {
		names = append(names, ep.String())
	}
	through := "http://* through http://" + p.url().Host
	if want := []string{through, through, through, through, plain.URL}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if all := strings.Join(names, " "); strings.Contains(all, "a:") || strings.Contains(all, "@") {
		t.Errorf("credentials within %q", names)
	}
}

// A function that fails, or names no proxy that can be used, fails the request
// without touching the network.
func TestProxyFunctionThatFails(t *testing.T) {
	mine := errors.New("mine")
	tr := mustNew(t, berth.Config{Proxy: func(*http.Request) (*url.URL, error) { return nil, mine }})
	if _, err := fetch(tr, "http://one.test"); !errors.Is(err, mine) {
		t.Error(err)
	}
	for _, bad := range []string{"ftp://proxy.test", "http://", "proxy.test:80", "socks4://proxy.test"} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fetch(mustNew(t, berth.Config{Proxy: http.ProxyURL(u)}), "http://one.test")
		if _, is := errors.AsType[*berth.RequestError](err); !is {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Without Config.Proxy the environment's proxies are used, as at the first request;
// NoProxy uses none. In a process of its own, since net/http asks once.
func TestProxyFromTheEnvironment(t *testing.T) {
	if os.Getenv("BERTH_TEST_CHILD") != "" {
		tr := mustNew(t, berth.Config{})
		got, err := fetch(tr, "http://example.test/direct")
		if err != nil || got != "proxied" {
			t.Errorf("%q, %v", got, err)
		}
		got, err = fetch(tr, os.Getenv("BERTH_TEST_CHILD"))
		if err != nil || got != "direct" {
			t.Errorf("no_proxy: %q, %v", got, err)
		}
		if _, err = fetch(mustNew(t, berth.Config{Proxy: berth.NoProxy}), "http://example.test/direct"); err == nil {
			t.Error("NoProxy reached a name that does not exist")
		}
		return
	}
	direct := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "direct") }))
	defer direct.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "example.test" || r.Header.Get("Proxy-Authorization") != "Basic dTpw" {
			w.WriteHeader(400)
		}
		io.WriteString(w, "proxied")
	}))
	defer proxy.Close()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestProxyFromTheEnvironment$")
	cmd.Env = append(os.Environ(), "BERTH_TEST_CHILD="+direct.URL, "HTTP_PROXY="+strings.Replace(proxy.URL, "http://", "http://u:p@", 1), "NO_PROXY=127.0.0.1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The TLS connection to an https proxy is the caller's, when a function makes those,
// and is resumed like any other when Berth makes it.
func TestTLSToAProxy(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(proto))
	defer secure.Close()
	p := newProxy(t, "https", func(p *proxyServer) { p.loopback = secure.Listener.Addr().String() })
	roots := bothRoots(t)
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"handshaken": func(_ context.Context, network, addr string) (net.Conn, error) { return tls.Dial(network, addr, roots) },
		"not yet": func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := net.Dial(network, addr)
			cfg := roots.Clone()
			cfg.ServerName = "127.0.0.1"
			return tls.Client(c, cfg), err
		},
		"hidden": func(_ context.Context, network, addr string) (net.Conn, error) {
			c, err := tls.Dial(network, addr, roots)
			return struct{ net.Conn }{c}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := mustNew(t, berth.Config{Proxy: p.use(), TLS: roots, DialTLSContext: dial})
			wantGet(t, tr, "https://example.com", "HTTP/1.1")
		})
	}
	nothing := mustNew(t, berth.Config{Proxy: p.use(), TLS: roots, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return nil, nil }})
	if _, err := fetch(nothing, "https://example.com"); err == nil || !strings.Contains(err.Error(), "neither a connection nor an error") {
		t.Errorf("a function that returns nothing: %v", err)
	}
	tr := mustNew(t, berth.Config{Proxy: p.use(), TLS: roots})
	var resumed []bool
	for range 2 {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{TLSHandshakeDone: func(s tls.ConnectionState, _ error) { resumed = append(resumed, s.DidResume) }})
		resp, err := tr.RoundTrip(newRequest(t, "GET", "https://example.com", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
	}
	if !slices.Equal(resumed, []bool{false, false, true, true}) {
		t.Errorf("resumed %v: proxy and origin, twice", resumed)
	}
}

// A request that is sent again without the proxy of its first attempt has nothing of
// it left: no absolute form, and its own fields.
func TestAttemptWithoutTheProxyOfTheOneBefore(t *testing.T) {
	direct := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
	}))
	defer direct.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := origin.New(ln).Handle(func(c *origin.Conn) { // one answer, and the next request ends the connection
		c.ReadRequest()
		c.Write(ok("proxied"))
		c.ReadRequest()
	})
	defer o.Close()
	var asked atomic.Int32
	tr := mustNew(t, berth.Config{Proxy: func(*http.Request) (*url.URL, error) {
		if asked.Add(1) > 2 {
			return nil, nil
		}
		return &url.URL{Scheme: "http", Host: ln.Addr().String(), User: url.UserPassword("u", "p")}, nil
	}})
	wantGet(t, tr, direct.URL+"/path", "proxied")
	req := newRequest(t, "GET", direct.URL+"/path", nil)
	req.Header.Set("Proxy-Authorization", "mine")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "/path " {
		t.Errorf("the origin saw %q", b)
	}
}

// A request's own Proxy-Authorization reaches no origin that is spoken to directly
// either, as where NO_PROXY names it, over both protocols; with NoProxy nothing is
// taken away.
func TestProxyAuthorizationOfADirectRequest(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.Header.Get("Proxy-Authorization"))
	}
	plain := httptest.NewServer(http.HandlerFunc(h))
	defer plain.Close()
	secure, cfg := newTLSServer(t, h, h2Too)
	byFunction := func(*http.Request) (*url.URL, error) { return nil, nil }
	for name, c := range map[string]struct {
		proxy func(*http.Request) (*url.URL, error)
		want  string
	}{
		"environment": {nil, ""},
		"function":    {byFunction, ""},
		"NoProxy":     {berth.NoProxy, "mine"},
	} {
		for proto, url := range map[string]string{"HTTP/1.1": plain.URL, "HTTP/2.0": secure.URL} {
			tr := mustNew(t, berth.Config{TLS: cfg, Proxy: c.proxy})
			req := newRequest(t, "GET", url, nil)
			req.Header.Set("Proxy-Authorization", "mine")
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want := proto + " " + c.want; string(b) != want {
				t.Errorf("%s: the origin saw %q, want %q", name, b, want)
			}
			if req.Header.Get("Proxy-Authorization") != "mine" {
				t.Error("the request was changed")
			}
		}
	}
}
