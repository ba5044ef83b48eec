package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/proxyenv"
)

// proxiesExperiment changes the proxy while a program runs, and looks at what is said of
// proxies that do not help.
func proxiesExperiment() Experiment {
	return Experiment{
		Name:    "proxies",
		Source:  "golang/go#22079: the environment's proxy is read once; errors that are about a proxy",
		Summary: "requests through the old and the new proxy after HTTP_PROXY changed, and what proxies that refuse are called in errors",
		run:     runProxies,
	}
}

const (
	proxyTarget = "http://host.test/"
	proxyEach   = 10 // requests before and after a change
)

// proxyStage is what stands between a client and its target: two proxies, the target
// itself, and an address where nobody listens. Names are resolved by its dial function.
type proxyStage struct {
	servers []*server
	where   map[string]string // dialled: what for
	counts  map[string]*atomic.Int64
}

// The names that are dialled.
const (
	oneAddr, twoAddr        = "one.test:3128", "two.test:3128"
	strictAddr, deadAddr    = "strict.test:3128", "dead.test:3128"
	targetAddr, targetAddr2 = "host.test:80", "host.test:443"
)

func newProxyStage(variant byte) (*proxyStage, error) {
	nobody, err := deadAddress()
	if err != nil {
		return nil, err
	}
	st := &proxyStage{where: map[string]string{deadAddr: nobody}, counts: map[string]*atomic.Int64{}}
	for _, name := range []string{oneAddr, twoAddr, strictAddr, targetAddr} {
		ln, err := listen(44, variant)
		if err != nil {
			st.Close()
			return nil, err
		}
		n := new(atomic.Int64)
		st.counts[name] = n
		srv := &server{origin.New(ln).Handle(func(c *origin.Conn) { serveOrRefuse(c, n, name == strictAddr) }), addrOf(ln)}
		st.servers = append(st.servers, srv)
		st.where[name] = srv.addr.String()
	}
	st.where[targetAddr2] = st.where[targetAddr]
	return st, nil
}

// serveOrRefuse answers requests, as a proxy does that has the answers itself. It opens no
// tunnel; a strict one wants a password for all.
func serveOrRefuse(c *origin.Conn, n *atomic.Int64, strict bool) {
	for {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		n.Add(1)
		switch {
		case strict && r.Header.Get("Proxy-Authorization") == "":
			err = c.Write("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"lab\"\r\nContent-Length: 0\r\n\r\n")
		default:
			err = c.Write(string(answer))
		}
		if err != nil {
			return
		}
	}
}

func (st *proxyStage) Close() {
	for _, s := range st.servers {
		s.Close()
	}
}

// dial knows the stage's names alone: nothing else is ever asked.
func (st *proxyStage) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := st.where[addr]
	if !ok {
		return nil, fmt.Errorf("%s is not of this experiment", addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

// inEnvironment sets the variables of proxies for as long as f runs, and none beside them.
// What net/http reads once it has read before.
func inEnvironment(f func(set func(httpProxy, noProxy string) error) error) error {
	// Without this net/http would remember what is set here.
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "http", Host: "host.test"}}); err != nil {
		return err
	}
	names := []string{"HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"}
	for _, name := range names {
		if old, was := os.LookupEnv(name); was {
			defer os.Setenv(name, old)
		} else {
			defer os.Unsetenv(name)
		}
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return f(func(httpProxy, noProxy string) error {
		if err := os.Setenv("HTTP_PROXY", httpProxy); err != nil {
			return err
		}
		return os.Setenv("NO_PROXY", noProxy)
	})
}

// proxyWay is a client, and what is done to it between its requests.
type proxyWay struct {
	name   string
	client func(*proxyStage) (http.RoundTripper, func(), func() error, error) // the client, its end, the change
	env    [2]string                                                          // HTTP_PROXY and NO_PROXY before
	after  string                                                             // HTTP_PROXY after; "" is no change
	target string
	want   map[string]any
}

func runProxies(ctx context.Context, s *session) error {
	s.result.Note = "names are resolved by the experiment, which dials nothing but its own; net/http has read the environment before it is set here, as in a program that runs"
	const one, two, dead = "http://" + oneAddr, "http://" + twoAddr, "http://" + deadAddr
	fixed := func(proxy string) func(*http.Request) (*url.URL, error) {
		return func(*http.Request) (*url.URL, error) { return url.Parse(proxy) }
	}
	ours := func(cfg berth.Config, change func(*berth.Transport) error) func(*proxyStage) (http.RoundTripper, func(), func() error, error) {
		return func(st *proxyStage) (http.RoundTripper, func(), func() error, error) {
			cfg.DialContext = st.dial
			tr, err := berth.New(cfg)
			return tr, func() { tr.Close() }, func() error {
				if change == nil {
					return nil
				}
				return change(tr)
			}, err
		}
	}
	theirs := func(proxy func(*http.Request) (*url.URL, error), closeIdle bool) func(*proxyStage) (http.RoundTripper, func(), func() error, error) {
		return func(st *proxyStage) (http.RoundTripper, func(), func() error, error) {
			t := &http.Transport{Proxy: proxy, DialContext: st.dial}
			return t, t.CloseIdleConnections, func() error {
				if closeIdle {
					t.CloseIdleConnections()
				}
				return nil
			}, nil
		}
	}
	apply := func(proxy string) func(*berth.Transport) error {
		return func(tr *berth.Transport) error {
			cfg := tr.Config()
			cfg.Rules = []berth.Rule{{Match: "*", Proxy: proxy}}
			_, err := tr.Apply(cfg)
			return err
		}
	}
	byRule := func(proxy string) berth.Config { return berth.Config{Rules: []berth.Rule{{Match: "*", Proxy: proxy}}} }
	moved := map[string]any{"requests": proxyEach, "through_new": proxyEach, "failed": 0}
	stays := map[string]any{"requests": proxyEach, "through_new": 0}
	direct := map[string]any{"requests": 2 * proxyEach, "direct": 2 * proxyEach, "failed": 0}
	const secure = "https://host.test/"
	return inEnvironment(func(set func(string, string) error) error {
		for i, w := range []proxyWay{
			{"berth, proxyenv.Proxy, the variable changed", ours(berth.Config{Proxy: proxyenv.Proxy(-1)}, nil), [2]string{one}, two, proxyTarget, moved},
			{"berth, the policy changed", ours(byRule(one), apply(two)), [2]string{}, "", proxyTarget, moved},
			{"net/http, os.Setenv at run time", theirs(http.ProxyFromEnvironment, false), [2]string{one}, two, proxyTarget, stays},
			{"net/http, os.Setenv and CloseIdleConnections", theirs(http.ProxyFromEnvironment, true), [2]string{one}, two, proxyTarget, stays},
			{"net/http, a function that reads anew", theirs(proxyenv.Proxy(-1), false), [2]string{one}, two, proxyTarget, moved},

			{"berth, the variable names a proxy that is gone", ours(berth.Config{Proxy: proxyenv.Proxy(-1)}, nil), [2]string{dead}, "", proxyTarget,
				map[string]any{"requests": 2 * proxyEach, "failed": 2 * proxyEach, "error": "contains proxyconnect"}},
			{"berth, NO_PROXY names the host", ours(berth.Config{Proxy: proxyenv.Proxy(-1)}, nil), [2]string{dead, "host.test"}, "", proxyTarget, direct},
			{"berth, NoProxy", ours(berth.Config{Proxy: berth.NoProxy}, nil), [2]string{dead}, "", proxyTarget, direct},
			{"net/http, the proxy is gone", theirs(fixed(dead), false), [2]string{}, "", proxyTarget,
				map[string]any{"requests": 2 * proxyEach, "failed": 2 * proxyEach, "error": "contains proxyconnect"}},

			{"berth, the proxy wants a password", ours(byRule("http://"+strictAddr), nil), [2]string{}, "", secure,
				map[string]any{"failed": 2 * proxyEach, "error": "contains " + strictAddr, "direct": 0}},
			{"berth, user and password in the proxy's URL", ours(byRule("http://lab:secret@"+strictAddr), nil), [2]string{}, "", proxyTarget,
				map[string]any{"failed": 0, "direct": 0}},
			{"net/http, the proxy wants a password", theirs(fixed("http://"+strictAddr), false), [2]string{}, "", secure,
				map[string]any{"failed": 2 * proxyEach, "direct": 0}},
		} {
			s.progress("%s", w.name)
			if err := set(w.env[0], w.env[1]); err != nil {
				return err
			}
			row, err := w.run(ctx, byte(i+1), set)
			if err != nil {
				return err
			}
			s.add(row)
		}
		return nil
	})
}

func (w proxyWay) run(ctx context.Context, variant byte, set func(string, string) error) (Variant, error) {
	st, err := newProxyStage(variant)
	if err != nil {
		return Variant{}, err
	}
	defer st.Close()
	rt, end, change, err := w.client(st)
	if err != nil {
		return Variant{}, err
	}
	defer end()
	failed := 0
	var first error
	ask := func() {
		for range proxyEach {
			if err := get(ctx, rt, w.target); err != nil {
				failed++
				if first == nil {
					first = err
				}
			}
		}
	}
	ask()
	old, direct := st.counts[oneAddr].Load(), st.counts[targetAddr].Load()
	if w.after != "" {
		if err := set(w.after, ""); err != nil {
			return Variant{}, err
		}
	}
	if err := change(); err != nil {
		return Variant{}, err
	}
	ask()
	if ctx.Err() != nil {
		return Variant{}, errInterrupted
	}
	row := Variant{Name: w.name, Expected: w.want, Measured: map[string]any{"requests": 2 * proxyEach, "failed": failed, "direct": int(st.counts[targetAddr].Load())}}
	if _, moves := w.want["through_new"]; moves {
		// What counts is what follows the change.
		row.Measured["requests"] = proxyEach
		row.Measured["through_new"] = int(st.counts[twoAddr].Load())
		row.Measured["through_old"] = int(st.counts[oneAddr].Load() - old)
		row.Measured["direct"] = int(st.counts[targetAddr].Load() - direct)
	}
	if first != nil {
		text := first.Error()
		if i := strings.LastIndex(text, "dial tcp "); i >= 0 {
			text = strings.ReplaceAll(text, st.where[deadAddr], "nobody")
		}
		row.Measured["error"] = text
	}
	row.OK = row.meets()
	return row, nil
}
