//go:build unix

package realpeers

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

const haproxyConf = `
global
	stats socket ${dir}/admin.sock mode 666 expose-fd listeners level admin
	tune.h2.max-concurrent-streams 8
defaults
	mode http
	timeout client ${timeout}
	timeout server 30s
	timeout connect 5s
	timeout http-keep-alive ${timeout}
	option redispatch
frontend f
	bind ${plain}
	bind ${secure} ssl crt ${pem} alpn h2,http/1.1
	http-request deny deny_status 429 if { path_beg /limited }
	default_backend b
backend b
	server s ${origin}
`

type haproxy struct {
	*peer
	path, conf    string
	plain, secure string
	cfg           berth.Config
}

func startHAProxy(t *testing.T, originURL, timeout string) *haproxy {
	t.Helper()
	h := &haproxy{peer: newPeer(t), path: binary(t, "haproxy")}
	secure := "127.0.0.1:" + freePort(t)
	h.plain, h.secure = "http://"+h.addr, "https://"+secure
	file, roots := h.pemFiles()
	h.cfg = berth.Config{TLS: roots}
	h.conf = h.write("haproxy.cfg", haproxyConf, map[string]string{"dir": h.dir, "plain": h.addr, "secure": secure, "pem": file,
		"origin": strings.TrimPrefix(originURL, "http://"), "timeout": timeout})
	h.start(h.path, "-db", "-W", "-S", h.dir+"/master.sock", "-f", h.conf)
	return h
}

// reload has the master start a new worker; the old one finishes what it has.
func (h *haproxy) reload() {
	h.cmd.Process.Signal(syscall.SIGUSR2)
	time.Sleep(200 * time.Millisecond) // a worker begins
}

// HAProxy in front of an origin, over both protocols, with bodies in both
// directions: no request fails, not when it takes eight streams on a connection, and
// not while it reloads. Over HTTP/1.1 it may close an idle connection at the moment
// when a request is on its way: those are requests that may be sent twice.
func TestHAProxyReloadsWhileLoaded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(echo))
	defer srv.Close()
	for name, c := range map[string]struct {
		secure bool
		method string
		proto  string
	}{
		"HTTP/1.1":    {false, "GET", "HTTP/1.1"},
		"HTTP/2 GET":  {true, "GET", "HTTP/2.0"},
		"HTTP/2 POST": {true, "POST", "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHAProxy(t, srv.URL, "30s")
			url, request := h.plain, get
			if c.secure {
				url = h.secure
			}
			if c.method == "POST" {
				request = post
			}
			l := load{n: 5000, workers: 24, proto: c.proto, request: request(url), want: wantEcho(c.method)}
			l.meanwhile = func() {
				for range 5 {
					h.reload()
				}
			}
			l.run(t, newTransport(t, h.cfg))
		})
	}
}

// A proxy that closes idle connections after a second costs no request.
func TestHAProxyClosesIdleConnections(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(echo))
	defer srv.Close()
	h := startHAProxy(t, srv.URL, "1s")
	for proto, url := range map[string]string{"HTTP/1.1": h.plain, "HTTP/2.0": h.secure} {
		tr := newTransport(t, h.cfg)
		for range 3 {
			load{n: 100, workers: 10, proto: proto, request: get(url), want: wantEcho("GET")}.run(t, tr)
			time.Sleep(1050 * time.Millisecond)
		}
	}
	resp, err := newTransport(t, h.cfg).RoundTrip(get(h.secure + "/limited")(1))
	if err != nil || resp.StatusCode != 429 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
}
