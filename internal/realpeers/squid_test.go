//go:build unix

package realpeers

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

const squidConf = `
http_port ${plain}
pid_filename ${dir}/squid.pid
cache_log stdio:/dev/stderr
access_log none
cache deny all
coredump_dir ${dir}
pinger_enable off
shutdown_lifetime 1 seconds
client_persistent_connections on
pconn_lifetime ${lifetime}
auth_param basic program ${helper}
auth_param basic realm test
acl known proxy_auth REQUIRED
http_access allow ${who}
http_access deny all
via off
`

type squid struct {
	*peer
	path, conf string
}

// startSquid starts a proxy for those that who names: known is with a password.
func startSquid(t *testing.T, who, lifetime string) *squid {
	t.Helper()
	s := &squid{peer: newPeer(t), path: binary(t, "squid")}
	// A helper that knows one user and password (squid's protocol: one line each).
	helper := s.write("auth.sh", "#!/bin/sh\nwhile read -r line; do\n\tif [ \"$line\" = 'user p@ss' ]; then echo OK; else echo ERR; fi\ndone\n", nil)
	exec.Command("chmod", "+x", helper).Run()
	s.conf = s.write("squid.conf", squidConf, map[string]string{"dir": s.dir, "plain": s.addr, "lifetime": lifetime, "helper": helper, "who": who})
	s.start(s.path, "-N", "-n", "berth"+freePort(t), "-f", s.conf)
	return s
}

func (s *squid) proxy(user, password string) func(*http.Request) (*url.URL, error) {
	return http.ProxyURL(&url.URL{Scheme: "http", Host: s.addr, User: url.UserPassword(user, password)})
}

// Squid as a proxy that asks for a password: plain requests in absolute form over
// kept connections, TLS through tunnels that carry HTTP/1.1 or HTTP/2. None fails, no
// origin sees the password.
func TestSquid(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	// Squid closes a connection that is older than its lifetime without announcing it: a POST
	// that is on its way then fails, whoever sends it. No run here lasts for as long.
	s := startSquid(t, "known", "1 minute")
	cfg := berth.Config{Proxy: s.proxy("user", "p@ss"), TLS: secure.Client().Transport.(*http.Transport).TLSClientConfig}
	for _, c := range []struct {
		name, url, method string
		proto             string
	}{
		{"plain GET", plain.URL, "GET", "HTTP/1.1"},
		{"plain POST", plain.URL, "POST", "HTTP/1.1"},
		{"CONNECT", secure.URL, "POST", "HTTP/2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := get
			if c.method == "POST" {
				request = post
			}
			tr := newTransport(t, cfg)
			load{n: 2000, workers: 16, proto: c.proto, request: request(c.url), want: wantEcho(c.method)}.run(t, tr)
			var dials uint64
			for _, ep := range tr.Endpoints() {
				dials += ep.Stats().Dials.OK
			}
			if dials > 40 {
				t.Errorf("%d connections for 16 workers", dials)
			}
		})
	}

	t.Run("wrong password", func(t *testing.T) {
		cfg := cfg
		cfg.Proxy = s.proxy("user", "wrong-secret")
		tr := newTransport(t, cfg)
		_, err := tr.RoundTrip(get(secure.URL)(1))
		perr, is := errors.AsType[*berth.ProxyError](err)
		if !is || perr.Status != 407 || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("%v", err)
		}
		resp, err := tr.RoundTrip(get(plain.URL)(1))
		if err != nil || resp.StatusCode != 407 {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
	})

	t.Run("nobody behind it", func(t *testing.T) {
		tr := newTransport(t, cfg)
		_, err := tr.RoundTrip(get("https://127.0.0.1:" + freePort(t))(1))
		if perr, is := errors.AsType[*berth.ProxyError](err); !is || perr.Status != 503 {
			t.Errorf("%v", err)
		}
	})
}

// Reconfiguring Squid while requests run costs none of those that may be sent twice.
// (While it starts its password helpers anew it answers some with 403: here it asks for
// no password.)
func TestSquidReconfiguredWhileLoaded(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	s := startSquid(t, "all", "1 seconds")
	tr := newTransport(t, berth.Config{Proxy: s.proxy("user", "p@ss")})
	load{n: 5000, workers: 16, request: get(plain.URL), want: wantEcho("GET"), meanwhile: func() {
		for range 3 {
			if out, err := exec.Command(s.path, "-f", s.conf, "-k", "reconfigure").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			time.Sleep(500 * time.Millisecond)
		}
	}}.run(t, tr)
}

// microsocks, a SOCKS5 server, with and without a password; names and addresses.
func TestMicrosocks(t *testing.T) {
	path := binary(t, "microsocks")
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	for _, user := range []*url.Userinfo{nil, url.UserPassword("user", "p@ss")} {
		t.Run(user.String(), func(t *testing.T) {
			p := newPeer(t)
			_, port, _ := strings.Cut(p.addr, ":")
			args := []string{"-i", "127.0.0.1", "-p", port}
			if user != nil {
				args = append(args, "-u", "user", "-P", "p@ss")
			}
			p.start(path, args...)
			var asked atomic.Int32
			cfg := berth.Config{TLS: secure.Client().Transport.(*http.Transport).TLSClientConfig, Proxy: func(*http.Request) (*url.URL, error) {
				asked.Add(1)
				return &url.URL{Scheme: "socks5", Host: p.addr, User: user}, nil
			}}
			tr := newTransport(t, cfg)
			byName := strings.Replace(plain.URL, "127.0.0.1", "localhost", 1)
			load{n: 1000, workers: 8, proto: "HTTP/1.1", request: post(plain.URL), want: wantEcho("POST")}.run(t, tr)
			load{n: 1000, workers: 8, proto: "HTTP/1.1", request: get(byName), want: wantEcho("GET")}.run(t, tr)
			load{n: 1000, workers: 8, proto: "HTTP/2.0", request: post(secure.URL), want: wantEcho("POST")}.run(t, tr)
			if asked.Load() < 3000 {
				t.Errorf("the function was asked %d times", asked.Load())
			}
			if user == nil {
				return
			}
			wrong := newTransport(t, berth.Config{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: p.addr, User: url.UserPassword("user", "wrong-secret")})})
			_, err := wrong.RoundTrip(get(plain.URL)(1))
			if _, is := errors.AsType[*berth.ProxyError](err); !is || strings.Contains(err.Error(), "wrong-secret") {
				t.Errorf("%v", err)
			}
		})
	}
}
