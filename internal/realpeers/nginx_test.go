//go:build unix

package realpeers

import (
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

const nginxConf = `
daemon off;
worker_processes 2;
pid ${dir}/nginx.pid;
error_log stderr warn;
events { worker_connections 2000; }
http {
	access_log off;
	client_body_temp_path ${dir}/body;
	proxy_temp_path ${dir}/proxy;
	fastcgi_temp_path ${dir}/fastcgi;
	uwsgi_temp_path ${dir}/uwsgi;
	scgi_temp_path ${dir}/scgi;
	keepalive_requests ${requests};
	keepalive_timeout ${timeout};
	gzip on;
	gzip_min_length 1;
	gzip_types text/plain;
	server {
		listen ${plain};
		listen ${secure} ssl http2;
		listen unix:${dir}/http.sock;
		http2_max_concurrent_streams ${streams};
		ssl_certificate ${pem};
		ssl_certificate_key ${pem};
		location / {
			default_type text/plain;
			add_header X-Worker $pid;
			return 200 "$request_method $uri of nginx, which says a little more so that it can be compressed\n";
		}
	}
}
`

type nginx struct {
	*peer
	plain, secure, unix string
	cfg                 berth.Config
}

func startNginx(t *testing.T, vars map[string]string) *nginx {
	t.Helper()
	path := binary(t, "nginx")
	n := &nginx{peer: newPeer(t)}
	secure := "127.0.0.1:" + freePort(t)
	n.plain, n.secure, n.unix = "http://"+n.addr, "https://"+secure, "unix://"+n.dir+"/http.sock:"
	file, roots := n.pemFiles()
	n.cfg = berth.Config{TLS: roots}
	all := map[string]string{"dir": n.dir, "plain": n.addr, "secure": secure, "pem": file, "requests": "1000", "timeout": "60s", "streams": "128"}
	for k, v := range vars {
		all[k] = v
	}
	n.start(path, "-p", n.dir, "-e", "stderr", "-c", n.write("nginx.conf", nginxConf, all))
	return n
}

// reload has nginx start new workers, and waits until one of them answers; the old
// ones finish what they have.
func (n *nginx) reload(seen *workers) {
	before := seen.count()
	n.cmd.Process.Signal(syscall.SIGHUP)
	for limit := time.Now().Add(patience); seen.count() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			n.t.Error("no new worker answers after a reload")
			return
		}
	}
}

// workers are those of nginx's processes that have answered.
type workers struct {
	mu   sync.Mutex
	pids map[string]bool
}

func (w *workers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pids)
}

func (w *workers) note(resp *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pids == nil {
		w.pids = map[string]bool{}
	}
	w.pids[resp.Header.Get("X-Worker")] = true
}

func wantNginx(i int, resp *http.Response, body string) bool {
	return resp.Uncompressed && strings.Contains(body, resp.Request.Method+" "+resp.Request.URL.Path[strings.LastIndex(resp.Request.URL.Path, "/"):]+" of nginx")
}

// None of ten thousand requests fails while nginx reloads ten times: HTTP/1.1 in the
// clear and over a Unix socket, HTTP/2 with requests that may not be sent twice.
func TestNginxReloadsWhileLoaded(t *testing.T) {
	for name, c := range map[string]struct {
		url     func(*nginx) string
		request func(string) func(int) *http.Request
		proto   string
		cfg     func(*berth.Config)
	}{
		"HTTP/1.1":           {func(n *nginx) string { return n.plain }, get, "HTTP/1.1", func(*berth.Config) {}},
		"TLS HTTP/1.1":       {func(n *nginx) string { return n.secure }, get, "HTTP/1.1", func(c *berth.Config) { c.Protocols = new(http.Protocols); c.Protocols.SetHTTP1(true) }},
		"unix":               {func(n *nginx) string { return n.unix }, get, "HTTP/1.1", func(*berth.Config) {}},
		"HTTP/2, GET":        {func(n *nginx) string { return n.secure }, get, "HTTP/2.0", func(*berth.Config) {}},
		"HTTP/2, POST":       {func(n *nginx) string { return n.secure }, post, "HTTP/2.0", func(*berth.Config) {}},
		"HTTP/2, MaxConns 2": {func(n *nginx) string { return n.secure }, post, "HTTP/2.0", func(c *berth.Config) { c.Policy.MaxConns = 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNginx(t, map[string]string{"streams": "16"})
			c.cfg(&n.cfg)
			var seen workers
			l := load{n: 10_000, workers: 32, proto: c.proto, request: c.request(c.url(n))}
			l.want = func(i int, resp *http.Response, body string) bool {
				seen.note(resp)
				return wantNginx(i, resp, body)
			}
			l.meanwhile = func() {
				for range 10 {
					n.reload(&seen)
				}
			}
			l.run(t, newTransport(t, n.cfg))
			if seen.count() < 11 {
				t.Errorf("%d workers answered: too few for ten reloads", seen.count())
			}
		})
	}
}

// A server that ends every connection after some requests, by Connection: close or
// GOAWAY, costs no request; nor does one that closes idle connections soon.
func TestNginxKeepAliveLimits(t *testing.T) {
	n := startNginx(t, map[string]string{"requests": "7", "timeout": "1s", "streams": "4"})
	for proto, url := range map[string]string{"HTTP/1.1": n.plain, "HTTP/2.0": n.secure} {
		t.Run(proto, func(t *testing.T) {
			tr := newTransport(t, n.cfg)
			for range 3 {
				load{n: 1000, workers: 20, proto: proto, request: post(url), want: wantNginx}.run(t, tr)
				time.Sleep(1100 * time.Millisecond) // nginx closes what is idle
			}
			ep, _ := tr.Endpoint(url)
			if s := ep.Stats(); s.Leased+s.Waiting != 0 || s.Dials.Failed != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
