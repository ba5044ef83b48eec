package berth

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// RegisterProtocol has rt serve the requests whose URL has that scheme, http and
// https included. rt may decline one with http.ErrSkipAltProtocol: it goes the usual
// way then, if its body was not read or has a GetBody. It panics when the scheme has
// one already, as http.Transport does. Safe for concurrent use.
func (t *Transport) RegisterProtocol(scheme string, rt http.RoundTripper) {
	for {
		old := t.alternate.Load()
		m := map[string]http.RoundTripper{}
		if old != nil {
			m = maps.Clone(*old)
		}
		if _, ok := m[scheme]; ok {
			panic("protocol " + scheme + " already registered")
		}
		m[scheme] = rt
		if t.alternate.CompareAndSwap(old, &m) {
			return
		}
	}
}

// tryAlternate has what is registered for the request's scheme serve it. next is not
// nil when the request is to go the usual way: as it came, or with its body anew.
func (t *Transport) tryAlternate(req *http.Request) (resp *http.Response, next *http.Request, err error) {
	rt := (*t.alternate.Load())[req.URL.Scheme]
	if rt == nil {
		return nil, req, nil
	}
	body := &touchedBody{ReadCloser: req.Body}
	asked := req
	if req.Body != nil && req.Body != http.NoBody {
		c := *req
		c.Body = body
		asked = &c
	}
	resp, err = rt.RoundTrip(asked)
	if err != http.ErrSkipAltProtocol {
		return resp, nil, err
	}
	if !body.touched {
		return nil, req, nil
	}
	if !body.closed {
		body.Close()
	}
	if req.GetBody == nil {
		return nil, nil, errCannotRewind
	}
	again, err := req.GetBody()
	if err != nil {
		return nil, nil, err
	}
	c := *req
	c.Body = again
	return nil, &c, nil
}

var errCannotRewind = errors.New("net/http: cannot rewind body after connection loss")

// touchedBody remembers whether it was read or closed.
type touchedBody struct {
	io.ReadCloser
	touched bool
	closed  bool
}

func (b *touchedBody) Read(p []byte) (int, error) {
	b.touched = true
	return b.ReadCloser.Read(p)
}

func (b *touchedBody) Close() error {
	b.touched, b.closed = true, true
	return b.ReadCloser.Close()
}

// overUnix returns the request as it goes over a Unix domain socket: its URL is
// unix:///path/of/socket:/path?query, and the socket's path ends with the first
// colon. The origin is told Request.Host, or "localhost".
func overUnix(req *http.Request) (*http.Request, error) {
	socket, rest, err := splitUnix(req.URL)
	if err != nil {
		return nil, &RequestError{Reason: err.Error()}
	}
	inner, err := url.Parse("http://localhost" + rest)
	if err != nil {
		return nil, &RequestError{Reason: "unix URL: the path behind the socket cannot be read"}
	}
	inner.RawQuery = req.URL.RawQuery
	c := *req
	c.URL = &url.URL{Scheme: "unix", Host: socket, Path: inner.Path, RawPath: inner.RawPath, RawQuery: inner.RawQuery}
	if c.Host == "" {
		c.Host = "localhost"
	}
	return &c, nil
}

// splitUnix splits the path of a unix URL into the socket's and the request's.
func splitUnix(u *url.URL) (socket, rest string, err error) {
	path := u.EscapedPath()
	if u.Opaque != "" {
		path = u.Opaque
	}
	socket, rest, _ = strings.Cut(path, ":")
	if socket, err = url.PathUnescape(socket); err != nil || socket == "" || u.Host != "" {
		return "", "", fmt.Errorf("unix URL: write it like unix:///run/app.sock:/path")
	}
	if rest == "" {
		rest = "/"
	}
	if rest[0] != '/' {
		return "", "", fmt.Errorf("unix URL: the path behind the socket begins with a slash")
	}
	return socket, rest, nil
}
