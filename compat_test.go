package berth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

// FromTransport carries over or names every exported field of http.Transport: a Go
// release that adds one fails here.
func TestFromTransportKnowsEveryField(t *testing.T) {
	carried := strings.Fields(`Proxy OnProxyConnectResponse DialContext Dial DialTLSContext DialTLS TLSClientConfig
		TLSHandshakeTimeout DisableKeepAlives DisableCompression MaxIdleConnsPerHost MaxConnsPerHost IdleConnTimeout
		ResponseHeaderTimeout ExpectContinueTimeout TLSNextProto ProxyConnectHeader GetProxyConnectHeader
		MaxResponseHeaderBytes ForceAttemptHTTP2 HTTP2 Protocols`)
	named := strings.Fields("MaxIdleConns WriteBufferSize ReadBufferSize")
	for f := range reflect.TypeFor[http.Transport]().Fields() {
		if f.IsExported() && !slices.Contains(carried, f.Name) && !slices.Contains(named, f.Name) {
			t.Errorf("field %s is neither carried over nor named", f.Name)
		}
	}
	_, left := berth.FromTransport(&http.Transport{MaxIdleConns: 1, WriteBufferSize: 1, ReadBufferSize: 1,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{"spdy/3": nil},
		HTTP2:        &http.HTTP2Config{StrictMaxConcurrentRequests: true}})
	for _, name := range append(named, "TLSNextProto", "HTTP2.StrictMaxConcurrentRequests") {
		if !slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, name) && strings.Contains(s, ": ") }) {
			t.Errorf("%s is not named in %q", name, left)
		}
	}
	if len(left) != 5 {
		t.Errorf("%q", left)
	}
}

func TestFromTransportValues(t *testing.T) {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	u, _ := url.Parse("http://proxy.test")
	cfg, left := berth.FromTransport(&http.Transport{
		Proxy:                  http.ProxyURL(u),
		TLSClientConfig:        &tls.Config{ServerName: "x"},
		TLSHandshakeTimeout:    1,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    30,
		MaxConnsPerHost:        20,
		IdleConnTimeout:        2,
		ResponseHeaderTimeout:  3,
		ExpectContinueTimeout:  4,
		ProxyConnectHeader:     http.Header{"A": {"b"}},
		MaxResponseHeaderBytes: 5000,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 5, PingTimeout: 6, MaxReadFrameSize: 1 << 20},
		Protocols:              p,
	})
	want := berth.Policy{MaxConns: 20, MaxIdle: 20, IdleTimeout: 2, TLSTimeout: 1, ResponseHeaderTimeout: 3, ExpectContinueTimeout: 4,
		MaxResponseHeaderBytes: 5000, DisableKeepAlives: true, PingInterval: 5, PingTimeout: 6}
	if !reflect.DeepEqual(cfg.Policy, want) || len(left) != 0 {
		t.Errorf("%+v\nwant %+v; left %q", cfg.Policy, want, left)
	}
	if got, _ := cfg.Proxy(nil); got != u || cfg.TLS.ServerName != "x" || !cfg.DisableCompression || cfg.ProxyConnectHeader.Get("A") != "b" ||
		!reflect.DeepEqual(*cfg.HTTP2, http.HTTP2Config{MaxReadFrameSize: 1 << 20}) || cfg.Protocols != p {
		t.Errorf("%+v", cfg)
	}
	if _, err := berth.New(cfg); err != nil {
		t.Error(err)
	}
	cfg, _ = berth.FromTransport(&http.Transport{})
	if got, err := cfg.Proxy(nil); got != nil || err != nil || cfg.Policy.ExpectContinueTimeout >= 0 {
		t.Errorf("zeros that mean off: %+v", cfg)
	}
	for n, want := range map[int64]int64{1: 128, 5000: 5000, math.MaxInt64: 1 << 30} {
		cfg, left = berth.FromTransport(&http.Transport{MaxResponseHeaderBytes: n})
		if _, err := berth.New(cfg); err != nil || cfg.Policy.MaxResponseHeaderBytes != want || len(left) != map[bool]int{true: 0, false: 1}[n == want] {
			t.Errorf("MaxResponseHeaderBytes %d: %d, %q, %v", n, cfg.Policy.MaxResponseHeaderBytes, left, err)
		}
	}
	cfg, left = berth.FromTransport(nil)
	if cfg.Policy.IdleTimeout != 90*time.Second || cfg.Proxy == nil || len(left) != 1 {
		t.Errorf("http.DefaultTransport: %+v, %q", cfg, left)
	}
	clone := http.DefaultTransport.(*http.Transport).Clone()
	if cfg, _ = berth.FromTransport(clone); cfg.DialContext != nil || cfg.Policy.DialTimeout != 30*time.Second || cfg.Protocols != nil {
		t.Errorf("a clone of it: %+v", cfg)
	}
	clone.DialContext = (&net.Dialer{}).DialContext
	if cfg, _ = berth.FromTransport(clone); cfg.DialContext == nil || cfg.Policy.DialTimeout != 0 {
		t.Errorf("another dialler: %+v", cfg)
	}
}

// What FromTransport makes of a Transport with hooks works, over the protocol that
// net/http would have spoken.
func TestFromTransportWorks(t *testing.T) {
	s, tlsCfg := newTLSServer(t, proto, h2Too)
	var dialled string
	dial := func(network, addr string) (net.Conn, error) {
		dialled += network + " " + addr + ";"
		return net.Dial(network, addr)
	}
	dialTLS := func(network, addr string) (net.Conn, error) {
		dialled += "tls " + addr + ";"
		return tls.Dial(network, addr, tlsCfg)
	}
	h2TLS := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c := tlsCfg.Clone()
		c.NextProtos = []string{"h2"}
		return tls.Dial(network, addr, c)
	}
	addr := s.Listener.Addr().String()
	for name, c := range map[string]struct {
		t     *http.Transport
		proto string
		dials string
	}{
		"TLS":                {&http.Transport{TLSClientConfig: tlsCfg}, "HTTP/1.1", ""},
		"TLS, HTTP/2 forced": {&http.Transport{TLSClientConfig: tlsCfg, ForceAttemptHTTP2: true}, "HTTP/2.0", ""},
		//lint:ignore SA1019 what is deprecated is carried over too
		"Dial": {&http.Transport{TLSClientConfig: tlsCfg, Dial: dial}, "HTTP/1.1", "tcp " + addr + ";"},
		//lint:ignore SA1019 the same
		"DialTLS":                  {&http.Transport{DialTLS: dialTLS}, "HTTP/1.1", "tls " + addr + ";"},
		"DialTLSContext to HTTP/2": {&http.Transport{DialTLSContext: h2TLS, ForceAttemptHTTP2: true}, "HTTP/2.0", ""},
		"TLSNextProto empty":       {&http.Transport{TLSClientConfig: tlsCfg, ForceAttemptHTTP2: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}, "HTTP/1.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dialled = ""
			cfg, _ := berth.FromTransport(c.t)
			wantGet(t, mustNew(t, cfg), s.URL, c.proto)
			if dialled != c.dials {
				t.Errorf("dialled %q, want %q", dialled, c.dials)
			}
		})
	}
}

// Row 43: CloseIdleConnections is found by http.Client, through wrappers too.
func TestCloseIdleConnectionsThroughWrappers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(proto))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	outer := roundTripper(func(req *http.Request) (*http.Response, error) { return tr.RoundTrip(req) })
	for name, rt := range map[string]http.RoundTripper{
		"bare":    tr,
		"wrapped": berth.Wrap(outer, tr),
		"twice":   berth.Wrap(roundTripper(outer), berth.Wrap(outer, tr)),
		"Client":  tr.Client(0).Transport,
	} {
		c := &http.Client{Transport: rt}
		resp, err := c.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		ep, _ := tr.Endpoint(srv.URL)
		if st := ep.Stats(); st.Idle != 1 {
			t.Fatalf("%s: %+v", name, st)
		}
		c.CloseIdleConnections()
		if st := ep.Stats(); st.Idle != 0 {
			t.Errorf("%s: still idle after CloseIdleConnections", name)
		}
	}
	(&http.Client{Transport: berth.Wrap(outer, outer)}).CloseIdleConnections() // nobody has the method: no panic
}

// Transport.Client's Timeout is http.Client's, without the goroutine that http.Client
// spends on a RoundTripper that it does not know.
func TestClientTimeoutCostsNoGoroutine(t *testing.T) {
	const n = 50
	release := make(chan struct{})
	var arrived = make(chan struct{}, n)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	count := func() (n int) {
		buf := make([]byte, 4<<20)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "setRequestCancel") {
				n++
			}
		}
		return n
	}
	measure := func(c *http.Client) int {
		for range n {
			go func() {
				if resp, err := c.Get(srv.URL); err == nil {
					resp.Body.Close()
				}
			}()
		}
		for range n {
			<-arrived
		}
		return count()
	}
	tr := &berth.Transport{}
	ours := measure(tr.Client(time.Hour))
	foreign := measure(&http.Client{Transport: tr, Timeout: time.Hour})
	close(release)
	waitFor(t, func() bool { ep, _ := tr.Endpoint(srv.URL); return ep.Stats().Leased == 0 })
	tr.Close()
	if ours != 0 || foreign != n {
		t.Errorf("%d goroutines for %d requests with Client, %d without; want 0 and %d", ours, n, foreign, n)
	}
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	tr = &berth.Transport{}
	defer tr.Close()
	_, err := tr.Client(50 * time.Millisecond).Get(slow.URL)
	if uerr, is := errors.AsType[*url.Error](err); !is || !uerr.Timeout() || !strings.Contains(err.Error(), "Client.Timeout exceeded while awaiting headers") {
		t.Errorf("%v", err)
	}
}

// Rows 33 and 34: what http.Client does by itself holds over Berth: Basic auth from
// the URL, redirects with their body, Referer and cookies.
func TestWhatHTTPClientDoes(t *testing.T) {
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		user, pass, _ := r.BasicAuth()
		c, _ := r.Cookie("c")
		cookie := ""
		if c != nil {
			cookie = c.Value
		}
		seen = append(seen, r.Method+" "+r.URL.Path+" "+user+":"+pass+" "+string(b)+" "+cookie)
		switch r.URL.Path {
		case "/307":
			http.SetCookie(w, &http.Cookie{Name: "c", Value: "v"})
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/303":
			http.Redirect(w, r, "/end", http.StatusSeeOther)
		}
	}))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	c := &http.Client{Transport: tr, Jar: jar{}}
	withUser := strings.Replace(srv.URL, "http://", "http://user:secret@", 1)
	for _, path := range []string{"/307", "/303"} {
		resp, err := c.Post(withUser+path, "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Get(srv.URL + "/303")
	if err != nil || resp.StatusCode != 303 {
		t.Errorf("ErrUseLastResponse: %v, %v", resp, err)
	}
	resp.Body.Close()
	want := []string{"POST /307 user:secret body ", "POST /end user:secret body v", "POST /303 user:secret body v", "GET /end user:secret  v", "GET /303 :  v"}
	if !slices.Equal(seen, want) {
		t.Errorf("%q\nwant\n%q", seen, want)
	}
	srv.Close()
	_, err = c.Get(withUser + "/x")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("password within %v", err)
	}
	if ep, err := tr.Endpoint(srv.URL); err != nil || ep.Stats().Dials.OK != 1 {
		t.Errorf("%v: %+v", err, ep.Stats())
	}
}

type jar map[string][]*http.Cookie

func (j jar) SetCookies(u *url.URL, c []*http.Cookie) { j[u.Host] = append(j[u.Host], c...) }
func (j jar) Cookies(u *url.URL) []*http.Cookie       { return j[u.Host] }
