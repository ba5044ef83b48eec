package berth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// TestMain fails when the package leaves goroutines behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leaked(); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the goroutines of Berth that do not end within some seconds.
func leaked() string {
	deadline := time.Now().Add(5 * time.Second)
	for {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "berth/internal/") || strings.Contains(g, "berth.(*") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
	}
}

// rig is a transport and a scripted origin in a bubble, over the in-memory network.
type rig struct {
	*testing.T
	net *memnet.Network
	o   *origin.Origin
	tr  *berth.Transport
	c   *http.Client

	held []*http.Response // to be closed at the end
}

const rigURL = "http://origin.test"

// bubble runs f in a bubble where time is exact.
func bubble(t *testing.T, policy berth.Policy, h origin.Handler, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Policy: policy}, h)
		f(r)
		r.close()
	})
}

// bubbleOn is bubble with a configuration and over a network of the caller's.
func bubbleOn(t *testing.T, cfg berth.Config, n *memnet.Network, h origin.Handler, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRigOn(t, n, cfg, h)
		f(r)
		r.close()
	})
}

func newRig(t *testing.T, cfg berth.Config, h origin.Handler) *rig {
	t.Helper()
	return newRigOn(t, &memnet.Network{}, cfg, h)
}

func newRigOn(t *testing.T, n *memnet.Network, cfg berth.Config, h origin.Handler) *rig {
	t.Helper()
	r := &rig{T: t, net: n}
	ln, err := r.net.Listen("origin.test:80")
	if err != nil {
		t.Fatal(err)
	}
	r.o = origin.New(ln).Handle(h)
	if cfg.DialContext == nil {
		cfg.DialContext = r.net.DialContext
	}
	if r.tr, err = berth.New(cfg); err != nil {
		t.Fatal(err)
	}
	r.c = &http.Client{Transport: r.tr}
	return r
}

// close ends everything and checks that the pool's books are empty.
func (r *rig) close() {
	r.Helper()
	for _, resp := range r.held {
		resp.Body.Close()
	}
	r.tr.Close()
	r.o.Close()
	synctest.Wait()
	if s := r.stats(); s.Dialing+s.Leased+s.Idle+s.Draining+s.Waiting != 0 {
		r.Errorf("after the end the pool holds %+v", s)
	}
}

func (r *rig) stats() berth.Stats {
	r.Helper()
	ep, err := r.tr.Endpoint(rigURL)
	if err != nil {
		r.Fatal(err)
	}
	return ep.Stats()
}

// request makes a request; body may be nil.
func (r *rig) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	r.Helper()
	req, err := http.NewRequestWithContext(ctx, method, rigURL+path, body)
	if err != nil {
		r.Fatal(err)
	}
	return req
}

// get sends a GET and returns its body.
func (r *rig) get(path string) string {
	r.Helper()
	resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", path, nil))
	if err != nil {
		r.Fatalf("GET %s: %v", path, err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatalf("GET %s: body: %v", path, err)
	}
	resp.Body.Close()
	return string(b)
}

// dials is how many connections the network saw.
func (r *rig) dials() int { return r.net.Stats("origin.test:80").Dials }

func (r *rig) wantDials(n int) {
	r.Helper()
	if got := r.dials(); got != n {
		r.Errorf("%d connections were dialled, want %d", got, n)
	}
}

// ok answers with a body.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

var _ net.Error = (*berth.AcquireTimeoutError)(nil)

func tlsConfig(roots *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: roots} }
