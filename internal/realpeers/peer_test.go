//go:build unix

package realpeers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// patience is how long a server may take to start, to reload or to end.
const patience = 20 * time.Second

// peer is a server that runs as a process of its own.
type peer struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	out  bytes.Buffer
	addr string // where it listens
}

// binary finds a server's program, or skips the test with the reason.
func binary(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	if os.Getenv("BERTH_REAL_PEERS") != "" {
		t.Fatalf("%s is not installed, and BERTH_REAL_PEERS demands it", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// freePort returns a port that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// write puts a file into the peer's folder, where ${name} stands for vars[name].
func (p *peer) write(name, text string, vars map[string]string) string {
	p.t.Helper()
	text = os.Expand(text, func(v string) string {
		if value, ok := vars[v]; ok {
			return value
		}
		return "$" + v
	})
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o777) // servers that run as root serve as somebody else
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &peer{t: t, dir: dir, addr: "127.0.0.1:" + freePort(t)}
}

// start runs the server until the test ends, and waits until it listens.
func (p *peer) start(path string, args ...string) {
	p.t.Helper()
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { p.cmd.Wait(); close(ended) }()
	p.t.Cleanup(func() {
		p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(patience):
			p.cmd.Process.Kill()
			<-ended
		}
		if p.t.Failed() {
			p.t.Logf("%s said:\n%s", filepath.Base(path), p.out.String())
		}
	})
	p.await(ended)
}

// await waits until somebody listens.
func (p *peer) await(ended <-chan struct{}) {
	p.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			p.t.Fatalf("%s ended: %s", p.cmd.Path, p.out.String())
		case <-limit:
			p.t.Fatalf("%s does not listen: %s", p.cmd.Path, p.out.String())
		case <-tick.C:
		}
	}
}

// pemFiles writes the tests' certificate and returns it with key in one file, and
// what verifies it.
func (p *peer) pemFiles() (file string, roots *tls.Config) {
	p.t.Helper()
	cert, pool := origin.Cert()
	der, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		p.t.Fatal(err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	pem.Encode(&b, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return p.write("both.pem", b.String(), nil), &tls.Config{RootCAs: pool}
}

func newTransport(t *testing.T, cfg berth.Config) *berth.Transport {
	t.Helper()
	if cfg.Proxy == nil {
		cfg.Proxy = berth.NoProxy
	}
	tr, err := berth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// load sends requests by workers, n of them at least and as many as meanwhile takes
// to return. Their answers must be 200 with that protocol: every failure is an error.
type load struct {
	n, workers int
	proto      string
	request    func(i int) *http.Request
	want       func(i int, resp *http.Response, body string) bool // nil: the status is 200
	meanwhile  func()
}

func (l load) run(t *testing.T, rt http.RoundTripper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var next, failed atomic.Int64
	var over atomic.Bool
	var wg sync.WaitGroup
	for range l.workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= l.n && over.Load() || failed.Load() > 10 {
					return
				}
				if err := l.one(ctx, i, rt); err != nil {
					failed.Add(1)
					t.Errorf("request %d: %v", i, err)
				}
			}
		})
	}
	if l.meanwhile != nil {
		l.meanwhile()
	}
	over.Store(true)
	wg.Wait()
	t.Logf("%d requests, %d failed", next.Load()-int64(l.workers), failed.Load())
}

func (l load) one(ctx context.Context, i int, rt http.RoundTripper) error {
	req := l.request(i).WithContext(ctx)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != 200:
		return fmt.Errorf("status %s", resp.Status)
	case l.proto != "" && resp.Proto != l.proto:
		return fmt.Errorf("protocol %s", resp.Proto)
	case l.want != nil && !l.want(i, resp, string(body)):
		return fmt.Errorf("answer %.100q", body)
	}
	return nil
}

func get(url string) func(int) *http.Request {
	return func(i int) *http.Request {
		req, err := http.NewRequest("GET", fmt.Sprintf("%s/%d", url, i), nil)
		if err != nil {
			panic(err)
		}
		return req
	}
}

// post sends a body with its number.
func post(url string) func(int) *http.Request {
	return func(i int) *http.Request {
		req, err := http.NewRequest("POST", fmt.Sprintf("%s/%d", url, i), strings.NewReader(fmt.Sprintf("body of %d", i)))
		if err != nil {
			panic(err)
		}
		return req
	}
}

// echo is an origin that answers with method, path and body.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	if v := r.Header.Get("Proxy-Authorization"); v != "" {
		w.WriteHeader(http.StatusBadRequest)
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, b)
}

func wantEcho(method string) func(int, *http.Response, string) bool {
	return func(i int, _ *http.Response, body string) bool {
		want := fmt.Sprintf("%s /%d ", method, i)
		if method == "POST" {
			want += fmt.Sprintf("body of %d", i)
		}
		return body == want
	}
}
