package berth_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

const evil = "x\r\nInjected: 1\r\n\r\nGET /second HTTP/1.1\r\nHost: evil\r\n\r\n"

// attacks are requests whose parts try to be more than their part.
var attacks = map[string]func(*http.Request){
	"method":                        func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nInjected: 1\r\n\r\nGET" },
	"method with a blank":           func(r *http.Request) { r.Method = "GET /second HTTP/1.1" },
	"path":                          func(r *http.Request) { r.URL.Path = "/" + evil },
	"raw path":                      func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/"+evil, "/"+evil },
	"opaque":                        func(r *http.Request) { r.URL.Opaque = "/" + evil },
	"opaque with blanks":            func(r *http.Request) { r.URL.Opaque = "/ HTTP/1.1 Injected: 1" },
	"query":                         func(r *http.Request) { r.URL.RawQuery = evil },
	"query with blanks":             func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1 Injected: 1" },
	"Host":                          func(r *http.Request) { r.Host = evil },
	"Host with a blank":             func(r *http.Request) { r.Host = "origin.test HTTP/1.1" },
	"URL's host":                    func(r *http.Request) { r.URL.Host = "origin.test\r\nInjected: 1" },
	"header name":                   func(r *http.Request) { r.Header[evil] = []string{"1"} },
	"header name, colon":            func(r *http.Request) { r.Header["Injected: 1\r\nX"] = []string{"1"} },
	"header value":                  func(r *http.Request) { r.Header["X"] = []string{evil} },
	"header value, bare LF":         func(r *http.Request) { r.Header["X"] = []string{"x\nInjected: 1"} },
	"header value, bare CR":         func(r *http.Request) { r.Header["X"] = []string{"x\rInjected: 1"} },
	"header value, NUL":             func(r *http.Request) { r.Header["X"] = []string{"x\x00Injected: 1"} },
	"pseudo-header":                 func(r *http.Request) { r.Header[":path"] = []string{"/second"} },
	"user agent":                    func(r *http.Request) { r.Header.Set("User-Agent", evil) },
	"second length":                 func(r *http.Request) { r.Header["content-length"] = []string{"100"} },
	"transfer encoding":             func(r *http.Request) { r.Header["Transfer-Encoding"] = []string{"chunked"} },
	"transfer encoding, lower case": func(r *http.Request) { r.Header["transfer-encoding"] = []string{"chunked"} },
	"transfer encoding field":       func(r *http.Request) { r.TransferEncoding = []string{"gzip\r\nInjected: 1"} },
	"second host":                   func(r *http.Request) { r.Header["host"] = []string{"evil"} },
	"trailer name": func(r *http.Request) {
		r.Trailer = http.Header{evil: {"1"}}
		r.ContentLength = -1
	},
	"trailer value": func(r *http.Request) {
		r.Trailer = http.Header{"X-Sum": {evil}}
		r.ContentLength = -1
	},
	"trailer that is a length": func(r *http.Request) {
		r.Trailer = http.Header{"Content-Length": {"0"}}
		r.ContentLength = -1
	},
	"trailer added late": func(r *http.Request) {
		r.Trailer = http.Header{"X-Sum": nil}
		r.ContentLength = -1
		r.Body = &lastWords{Reader: strings.NewReader("body"), f: func() { r.Trailer["X-Sum"] = []string{evil} }}
	},
	"body longer than its length": func(r *http.Request) {
		r.Body, r.ContentLength = &lastWords{Reader: strings.NewReader("body" + evil), f: func() {}}, 4
	},
}

// lastWords runs f when the reader has been read.
type lastWords struct {
	*strings.Reader
	f func()
}

func (a *lastWords) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err != nil {
		a.f()
	}
	return n, err
}

func (a *lastWords) Close() error { return nil }

func attacked(t *testing.T, attack func(*http.Request)) *http.Request {
	req := newRequest(t, "POST", rigURL+"/first", strings.NewReader("body"))
	req.URL = &url.URL{Scheme: "http", Host: "origin.test", Path: "/first"}
	attack(req)
	return req
}

// typed says that an attack was refused as it should be, if it was.
func typed(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if _, is := errors.AsType[*berth.RequestError](err); !is {
		t.Errorf("%T %v", err, err)
	}
	if strings.ContainsAny(err.Error(), "\r\n\x00") {
		t.Errorf("the error repeats the attack: %v", err)
	}
}

// No part of a request can become a second request, or a field of its own: it is
// refused, or arrives as what it is.
func TestRequestSplitting(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			var heads []string
			h := func(c *origin.Conn) {
				for {
					req, err := c.ReadRequest()
					if err != nil {
						return
					}
					heads = append(heads, string(req.Head))
					lower := strings.ToLower(string(req.Head))
					framings := strings.Count(lower, "\ncontent-length:") + strings.Count(lower, "\ntransfer-encoding:")
					if strings.Contains(lower, "\ninjected") || framings > 1 || strings.Count(lower, "\nhost:") != 1 {
						t.Errorf("head %q", req.Head)
					}
					c.Write(ok(""))
				}
			}
			bubble(t, berth.Policy{}, h, func(r *rig) {
				resp, err := r.tr.RoundTrip(attacked(r.T, attack))
				if err == nil {
					resp.Body.Close()
				}
				typed(t, err)
				r.tr.CloseIdleConnections()
				synctest.Wait()
				if len(heads) > 1 {
					r.Errorf("the server saw %q", heads)
				}
			})
		})
	}
}

// The same over HTTP/2, where a gateway may write out as HTTP/1.1 what arrives.
func TestRequestSplittingOverHTTP2(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			p := &h2peer{limit: 10}
			p.serve = func(s *h2stream) {
				s.text()
				all := s.method + s.path
				for k, v := range s.header {
					if all += k + v; k == "injected" {
						t.Errorf("%s: %s", k, v)
					}
				}
				if strings.ContainsAny(all, "\r\n\x00") || strings.Contains(s.path+s.method, " ") {
					t.Errorf("%s %s %q", s.method, s.path, s.header)
				}
				for _, k := range []string{"host", "transfer-encoding", "connection"} {
					if s.header[k] != "" {
						t.Errorf("%s: %s", k, s.header[k])
					}
				}
				s.answer("")
			}
			h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
				resp, err := r.tr.RoundTrip(attacked(r.T, attack))
				if err == nil {
					resp.Body.Close()
				}
				typed(t, err)
			})
		})
	}
}
