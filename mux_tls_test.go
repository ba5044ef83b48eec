package berth_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-go/berth"
)

// tlsServer is an httptest server that counts its connections. protos is what it
// offers by ALPN, the preferred first.
type tlsServer struct {
	*httptest.Server
	opened atomic.Int32
}

func newTLSServer(t *testing.T, h http.HandlerFunc, change func(*httptest.Server)) (*tlsServer, *tls.Config) {
	t.Helper()
	s := &tlsServer{Server: httptest.NewUnstartedServer(h)}
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			s.opened.Add(1)
		}
	}
	s.Config.ErrorLog = discardLog
	change(s.Server)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
}

var discardLog = log.New(io.Discard, "", 0)

func h2Too(s *httptest.Server) { s.EnableHTTP2 = true }

func proto(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }

func mustNew(t *testing.T, cfg berth.Config) *berth.Transport {
	t.Helper()
	tr, err := berth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// fetch sends a GET and returns body or error.
func fetch(tr http.RoundTripper, url string) (string, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func wantGet(t *testing.T, tr http.RoundTripper, url, want string) {
	t.Helper()
	if got, err := fetch(tr, url); got != want || err != nil {
		t.Errorf("GET %s: %q, %v; want %q", url, got, err, want)
	}
}

// Row 39, C51: ALPN chooses the protocol. A burst at a new server waits for the
// first connection, which carries all of it.
func TestHTTP2IsChosenByALPN(t *testing.T) {
	s, cfg := newTLSServer(t, proto, h2Too)
	tr := mustNew(t, berth.Config{TLS: cfg})
	for range 3 {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantGet(t, tr, s.URL, "HTTP/2.0") })
		}
		wg.Wait()
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections for a server that takes 250 streams on each", n)
	}
	ep, _ := tr.Endpoint(s.URL)
	if st := ep.Stats(); st.Dials.OK != 1 || st.Requests != 150 || st.Idle != 1 {
		t.Errorf("%+v", st)
	}
}

// Row 39: which protocol is spoken with which configuration.
func TestProtocolsByConfiguration(t *testing.T) {
	h2, h2cfg := newTLSServer(t, proto, h2Too)
	h1, h1cfg := newTLSServer(t, proto, func(*httptest.Server) {})
	only := func(set func(*http.Protocols)) *http.Protocols {
		p := new(http.Protocols)
		set(p)
		return p
	}
	http1 := only(func(p *http.Protocols) { p.SetHTTP1(true) })
	http2 := only(func(p *http.Protocols) { p.SetHTTP2(true) })
	withNext := h2cfg.Clone()
	withNext.NextProtos = []string{"http/1.1"}
	for _, c := range []struct {
		name string
		url  string
		cfg  berth.Config
		want string // "" is an error
	}{
		{"default", h2.URL, berth.Config{TLS: h2cfg}, "HTTP/2.0"},
		{"server without", h1.URL, berth.Config{TLS: h1cfg}, "HTTP/1.1"},
		{"HTTP/1 only", h2.URL, berth.Config{TLS: h2cfg, Protocols: http1}, "HTTP/1.1"},
		{"HTTP/2 only", h2.URL, berth.Config{TLS: h2cfg, Protocols: http2}, "HTTP/2.0"},
		{"HTTP/2 only, server without", h1.URL, berth.Config{TLS: h1cfg, Protocols: http2}, ""},
		{"NextProtos without h2", h2.URL, berth.Config{TLS: withNext}, "HTTP/1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := mustNew(t, c.cfg)
			got, err := fetch(tr, c.url)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Operators switch HTTP/2 off by GODEBUG, as with net/http.
func TestGODEBUGSwitchesHTTP2Off(t *testing.T) {
	t.Setenv("GODEBUG", "http2client=0")
	s, cfg := newTLSServer(t, proto, h2Too)
	wantGet(t, mustNew(t, berth.Config{TLS: cfg}), s.URL, "HTTP/1.1")
}

// Row 39: a request that upgrades the protocol goes over HTTP/1.1, though the server
// knows HTTP/2; the others stay there.
func TestUpgradesKeepToHTTP1(t *testing.T) {
	s, cfg := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			proto(w, r)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, line)
	}, h2Too)
	tr := mustNew(t, berth.Config{TLS: cfg})
	wantGet(t, tr, s.URL, "HTTP/2.0")
	req := newRequest(t, "GET", s.URL, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	rw := resp.Body.(io.ReadWriteCloser)
	io.WriteString(rw, "ping\n")
	if b, err := io.ReadAll(rw); string(b) != "ping\n" {
		t.Errorf("%q, %v", b, err)
	}
	rw.Close()
	wantGet(t, tr, s.URL, "HTTP/2.0")
}

// C52: a server that speaks HTTP/2 on one connection and HTTP/1.1 on the next, as
// behind a balancer, costs no request, either way round.
func TestServersOfDifferentProtocolsBehindOneName(t *testing.T) {
	var n atomic.Int32
	s, cfg := newTLSServer(t, proto, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := s.TLS.Clone()
			if n.Add(1)%2 == 0 {
				c.NextProtos = []string{"http/1.1"}
			}
			return c, nil
		}}
	})
	tr := mustNew(t, berth.Config{TLS: cfg})
	seen := map[string]int{}
	for range 6 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 20 {
			wg.Go(func() {
				got, err := fetch(tr, s.URL)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[got]++
				mu.Unlock()
			})
		}
		wg.Wait()
		tr.CloseIdleConnections()
	}
	if seen["HTTP/2.0"] == 0 || seen["HTTP/1.1"] == 0 {
		t.Errorf("%v", seen)
	}
}

// Row 7 over HTTP/2: the events of a new connection and of one that is shared.
func TestHTTP2TraceEvents(t *testing.T) {
	s, cfg := newTLSServer(t, proto, h2Too)
	tr := mustNew(t, berth.Config{TLS: cfg})
	events := func() []string {
		var h heard
		req := newRequest(t, "GET", s.URL, nil)
		resp, err := tr.RoundTrip(req.WithContext(httptrace.WithClientTrace(t.Context(), h.trace())))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		list := h.list()
		i := slices.Index(list, "GotConn") + 1
		slices.Sort(list[i:]) // sending and receiving are concurrent
		return list
	}
	first := []string{"GetConn", "ConnectStart", "ConnectDone", "TLSHandshakeStart", "TLSHandshakeDone", "GotConn", "GotFirstResponseByte", "WroteHeaders", "WroteRequest"}
	if got := events(); !slices.Equal(got, first) {
		t.Errorf("a new connection:\n%q, want\n%q", got, first)
	}
	again := []string{"GetConn", "GotConn", "GotFirstResponseByte", "WroteHeaders", "WroteRequest"}
	if got := events(); !slices.Equal(got, again) {
		t.Errorf("a used connection:\n%q, want\n%q", got, again)
	}
}

// What Trace tells beyond httptrace: how long a request waited, how its connection
// was chosen, and why that was opened.
func TestTraceTellsHowAConnectionWasChosen(t *testing.T) {
	release := make(chan struct{})
	s, cfg := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-release
		}
		proto(w, r)
	}, h2Too)
	var mu sync.Mutex
	var chosen []string
	var dials []berth.DialInfo
	tr := mustNew(t, berth.Config{TLS: cfg, Trace: &berth.Trace{
		Acquired: func(i berth.AcquireInfo) {
			mu.Lock()
			defer mu.Unlock()
			chosen = append(chosen, fmt.Sprintf("%s after %d", i.Chosen, i.Requests))
			if i.Chosen == "dialed" && i.Waited <= 0 {
				t.Errorf("waited %v for a dial", i.Waited)
			}
		},
		Dialed: func(i berth.DialInfo) { mu.Lock(); dials = append(dials, i); mu.Unlock() },
	}})
	var wg sync.WaitGroup
	wg.Go(func() { wantGet(t, tr, s.URL+"/wait", "HTTP/2.0") })
	waitFor(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(chosen) == 1 })
	wantGet(t, tr, s.URL, "HTTP/2.0")
	close(release)
	wg.Wait()
	wantGet(t, tr, s.URL, "HTTP/2.0")
	if want := []string{"dialed after 0", "shared after 1", "idle after 2"}; !slices.Equal(chosen, want) {
		t.Errorf("%q, want %q", chosen, want)
	}
	if len(dials) != 1 || dials[0].Why != "demand" || !dials[0].HTTP2 || dials[0].Err != nil {
		t.Errorf("%+v", dials)
	}
}

// An idle HTTP/2 connection has one goroutine, which reads; a request in flight has
// one more, and none is left after it.
func TestHTTP2Goroutines(t *testing.T) {
	gate := make(chan struct{})
	s, cfg := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-gate
		}
		proto(w, r)
	}, h2Too)
	tr := mustNew(t, berth.Config{TLS: cfg})
	wantGet(t, tr, s.URL, "HTTP/2.0")
	count := func() (n int) {
		buf := make([]byte, 1<<20)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "http2clientConnReadLoop") || strings.Contains(g, "http2clientStream") || strings.Contains(g, "berth.(*") {
				n++
			}
		}
		return n
	}
	waitFor(t, func() bool { return count() == 1 })
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { wantGet(t, tr, s.URL+"/wait", "HTTP/2.0") })
	}
	waitFor(t, func() bool { return count() == 1+10*2 }) // one each is the caller's own
	close(gate)
	wg.Wait()
	waitFor(t, func() bool { return count() == 1 })
}
