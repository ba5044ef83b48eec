package berth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
)

// NoProxy is a Config.Proxy that uses none, whatever the environment says.
func NoProxy(*http.Request) (*url.URL, error) { return nil, nil }

// ProxyError: a proxy could not be reached, or did not open the way to the target.
// It unwraps to what went wrong: the network's error within a *net.OpError whose
// Op is "proxyconnect", as net/http has it. Nothing of the request was sent. Code
// BERTH1014.
type ProxyError struct {
	notSent
	Proxy  string // scheme, host and port
	Target string // host:port behind it; "" when the proxy itself was not reached
	Status int    // of its answer to CONNECT; 0 when it gave none
	Err    error
}

func (e *ProxyError) Error() string {
	if e.Target == "" {
		return fmt.Sprintf("proxy %s: %v", e.Proxy, e.Err)
	}
	if e.Status != 0 {
		return fmt.Sprintf("proxy %s does not connect to %s: %d %v", e.Proxy, e.Target, e.Status, e.Err)
	}
	return fmt.Sprintf("proxy %s does not connect to %s: %v", e.Proxy, e.Target, e.Err)
}

// Unwrap returns the cause.
func (e *ProxyError) Unwrap() error { return e.Err }

// Code returns BERTH1014.
func (e *ProxyError) Code() string { return "BERTH1014" }

// Timeout reports whether the proxy took too long.
func (e *ProxyError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// proxyTimeout bounds the dialogue with a proxy, which connects to the target
// meanwhile. net/http has the same.
const proxyTimeout = time.Minute

// proxies is who names the proxy.
type proxies struct {
	of   func(*http.Request) (*url.URL, error)
	each bool // is asked for every request; else once per endpoint
	none bool // there never is one
}

// proxiesBy knows the functions that say the same to all requests of an endpoint.
func proxiesBy(f func(*http.Request) (*url.URL, error)) proxies {
	is := func(g func(*http.Request) (*url.URL, error)) bool {
		return reflect.ValueOf(f).Pointer() == reflect.ValueOf(g).Pointer()
	}
	switch {
	case f == nil:
		return proxies{of: http.ProxyFromEnvironment}
	case is(http.ProxyFromEnvironment):
		return proxies{of: f}
	case is(NoProxy):
		return proxies{of: f, none: true}
	}
	return proxies{of: f, each: true}
}

// sameProxies says that two configurations ask the same function.
func sameProxies(a, b proxies) bool {
	return a.each == b.each && a.none == b.none && same(a.of, b.of)
}

// proxyFor returns the proxy for requests to a URL; nil is none.
func (p proxies) proxyFor(req *http.Request) (*url.URL, error) {
	u, err := p.of(req)
	if err != nil || u == nil {
		return nil, err
	}
	if err := checkProxy(u); err != nil {
		return nil, &RequestError{Reason: "proxy: " + err.Error()}
	}
	return u, nil
}

// wayTo returns the proxy that requests to an origin go through, whose endpoint has
// key; nil is none.
func (t *Transport) wayTo(ed *edition, key endpointKey) (*url.URL, error) {
	if key.scheme == "unix" {
		return nil, nil
	}
	if u, ruled := ed.route(key); ruled {
		return u, nil
	}
	host := net.JoinHostPort(key.host, key.port)
	return ed.proxies.proxyFor(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: key.scheme, Host: host}, Host: host, Header: http.Header{}})
}

func checkProxy(u *url.URL) error {
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return fmt.Errorf("scheme %q is none of http, https, socks5, socks5h", u.Scheme)
	}
	if u.Hostname() == "" {
		return errors.New("its URL has no host")
	}
	return nil
}

// proxyText is a Rule.Proxy as people may read it.
func proxyText(s string) string {
	if s == "" {
		return "unset"
	}
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		return proxyName(u)
	}
	return s
}

// proxyKey is what of a proxy tells connections apart: credentials included, path
// not; "" is none.
func proxyKey(u *url.URL) string {
	if u == nil {
		return ""
	}
	v := url.URL{Scheme: u.Scheme, User: u.User, Host: net.JoinHostPort(strings.ToLower(u.Hostname()), proxyPort(u))}
	if v.Scheme == "socks5h" {
		v.Scheme = "socks5" // names are always resolved by the proxy
	}
	return v.String()
}

func proxyPort(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
}

// proxyName is a proxy as people may read it.
func proxyName(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), proxyPort(u))
}

// basicAuth returns the value of Proxy-Authorization; "" without credentials.
func basicAuth(u *url.URL) string {
	if u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
}

// dropsProxyAuth says that a request's own Proxy-Authorization is not for whom it
// reaches: an origin, behind a proxy or not, or a proxy with credentials in its URL.
// What is asked to CONNECT is a proxy, and a caller who says NoProxy knows what the
// request reaches.
func (ep *endpoint) dropsProxyAuth(f *inForce, req *http.Request) bool {
	if ep.proxy == nil {
		return !f.proxies.none && req.Method != http.MethodConnect
	}
	return !ep.absolute || ep.proxy.User != nil
}

// acceptGzip is what a request says that has its response decompressed.
var acceptGzip = []h1.Field{{Name: "Accept-Encoding", Value: "gzip"}}

// ownFields are the fields that requests have besides the caller's, without and with
// acceptGzip.
var ownFields = [2][]h1.Field{1: acceptGzip}

// proxyFields are those of requests to an HTTP proxy.
func proxyFields(u *url.URL) *[2][]h1.Field {
	auth := basicAuth(u)
	if auth == "" {
		return &ownFields
	}
	f := h1.Field{Name: "Proxy-Authorization", Value: auth}
	return &[2][]h1.Field{{f}, append(acceptGzip[:1:1], f)}
}

// throughProxy opens the way to the endpoint's origin over a connection to its
// proxy.
func (ep *endpoint) throughProxy(ctx context.Context, f *inForce, nc net.Conn) error {
	target := net.JoinHostPort(ep.key.host, ep.key.port)
	var err error
	if ep.proxy.Scheme == "socks5" || ep.proxy.Scheme == "socks5h" {
		err = dial.SOCKS(ctx, nc, ep.key.host, ep.key.port, ep.proxy.User, proxyTimeout)
		if err != nil {
			err = &net.OpError{Op: "socks connect", Net: "tcp", Addr: nc.RemoteAddr(), Err: err}
		}
	} else {
		err = ep.tunnel(ctx, f, nc, target)
	}
	if err == nil {
		return nil
	}
	perr := &ProxyError{Proxy: proxyName(ep.proxy), Target: target, Err: err}
	var answer *dial.TunnelError
	if errors.As(err, &answer) {
		perr.Status = answer.Code
	}
	return perr
}

func (ep *endpoint) tunnel(ctx context.Context, f *inForce, nc net.Conn, target string) error {
	cfg := &f.config
	h := cfg.ProxyConnectHeader
	if get := cfg.GetProxyConnectHeader; get != nil {
		var err error
		if h, err = get(ctx, ep.proxy, target); err != nil {
			return err
		}
	}
	if auth := basicAuth(ep.proxy); auth != "" {
		if h = h.Clone(); h == nil {
			h = http.Header{}
		}
		h.Set("Proxy-Authorization", auth)
	}
	t := dial.Tunnel{Target: target, Header: h, MaxHeadBytes: f.engine.MaxHeadBytes, Timeout: proxyTimeout}
	if see := cfg.OnProxyConnectResponse; see != nil {
		t.Answered = func(req *http.Request, resp *http.Response) error { return see(ctx, ep.proxy, req, resp) }
	}
	return t.Open(ctx, nc)
}
