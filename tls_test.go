package berth_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// Config.TLS decides about certificates, authorities and names, is cloned, and is not
// changed.
func TestTLSConfiguration(t *testing.T) {
	cert, roots := origin.Cert()
	var mu sync.Mutex
	var names []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		names = append(names, r.TLS.ServerName)
		mu.Unlock()
		if len(r.TLS.PeerCertificates) > 0 {
			io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	s.Config.ErrorLog = discardLog
	s.StartTLS()
	defer s.Close()

	cfg := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, ServerName: "name.test"}
	tr := mustNew(t, berth.Config{TLS: cfg})
	for range 2 {
		wantGet(t, tr, s.URL, "berth test origin")
		tr.CloseIdleConnections()
	}
	if !slices.Equal(names, []string{"name.test", "name.test"}) {
		t.Errorf("asked for %q", names)
	}
	if cfg.ClientSessionCache != nil || cfg.NextProtos != nil || cfg.ServerName != "name.test" {
		t.Errorf("the configuration was changed: %+v", cfg)
	}

	for name, c := range map[string]struct {
		cfg  *tls.Config
		says string
	}{
		"no client certificate": {&tls.Config{RootCAs: roots}, "certificate required"},
		"unknown authority":     {&tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{cert}}, "unknown authority"},
		"another name":          {&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, ServerName: "not.this.test"}, "not.this.test"},
		"version":               {&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS11}, "no supported versions"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fetch(mustNew(t, berth.Config{TLS: c.cfg}), s.URL)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			// A server that asks for a certificate says no only after the handshake of TLS
			// 1.3: then it is the connection that broke.
			if _, is := errors.AsType[*berth.DialError](err); !is && name != "no client certificate" {
				t.Errorf("%T", err)
			}
		})
	}
}

// C45: names that share an address share no connection: TLS showed one of them only.
func TestNamesOfOneAddressShareNoConnection(t *testing.T) {
	s, cfg := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.TLS.ServerName) }, h2Too)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	cfg.InsecureSkipVerify = true // the certificate does not know localhost
	tr := mustNew(t, berth.Config{TLS: cfg})
	wantGet(t, tr, "https://localhost"+port, "localhost")
	wantGet(t, tr, "https://127.0.0.1"+port, "")
	wantGet(t, tr, "https://LOCALHOST"+port, "localhost")
	if n := s.opened.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// Row 9: the Host field is Request.Host or the URL's, in ASCII, without a zone; what
// can be no host is left empty, as net/http does, but not through a proxy.
func TestHostField(t *testing.T) {
	for _, c := range []struct{ url, host, want string }{
		{"http://origin.test", "", "origin.test"},
		{"http://origin.test:80", "", "origin.test:80"},
		{"http://origin.test", "other.test:81", "other.test:81"},
		{"http://origin.test", "bücher.test", "xn--bcher-kva.test"},
		{"http://origin.test", "[fe80::1%25en0]:80", "[fe80::1]:80"},
		{"http://origin.test", "bad host", ""},
		{"http://origin.test", "bad/host", ""},
	} {
		t.Run(c.host, func(t *testing.T) {
			var got []string
			h := func(conn *origin.Conn) {
				for {
					req, err := conn.ReadRequest()
					if err != nil {
						return
					}
					for line := range strings.SplitSeq(string(req.Head), "\r\n") {
						if v, is := strings.CutPrefix(line, "Host: "); is {
							got = append(got, v)
						}
					}
					conn.Write(ok(""))
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				req := newRequest(r.T, "GET", c.url, nil)
				req.Host = c.host
				resp, err := r.tr.RoundTrip(req)
				if err != nil {
					r.Fatal(err)
				}
				resp.Body.Close()
			})
			if !slices.Equal(got, []string{c.want}) {
				t.Errorf("Host was %q, want %q", got, c.want)
			}
		})
	}
	p := newProxy(t, "http", nil)
	req := newRequest(t, "GET", "http://origin.test", nil)
	req.Host = "bad host"
	if _, err := mustNew(t, berth.Config{Proxy: p.use()}).RoundTrip(req); err == nil {
		t.Error("a host that is none went to a proxy")
	}
}
