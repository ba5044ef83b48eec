package berth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"
	"unsafe"

	"github.com/berth-go/berth/internal/http2"
)

// FromTransport returns the configuration that does what t does, for [New]. What it
// cannot carry over it names in the second result, one sentence a field, with the
// reason. t is not changed, and may be nil: then it is http.DefaultTransport's.
//
// Zero in t means Berth's default, not net/http's: idle connections are not limited
// to two, IdleConnTimeout and TLSHandshakeTimeout are not endless. Two zeros keep
// their meaning: no Proxy is none, and no ExpectContinueTimeout sends the body at
// once. As in net/http, a dial function or a TLS configuration means HTTP/1.1 unless
// ForceAttemptHTTP2 or Protocols say otherwise. The dial function of
// http.DefaultTransport, which a Clone of it has, becomes Berth's own dialling with
// the same timeout of 30 s: that is the faster way. What was registered with
// RegisterProtocol cannot be seen from outside and is to be registered anew.
func FromTransport(t *http.Transport) (Config, []string) {
	if t == nil {
		t = http.DefaultTransport.(*http.Transport)
	}
	cfg := Config{
		DialContext:            t.DialContext,
		DialTLSContext:         t.DialTLSContext,
		TLS:                    t.TLSClientConfig,
		Proxy:                  t.Proxy,
		ProxyConnectHeader:     t.ProxyConnectHeader,
		GetProxyConnectHeader:  t.GetProxyConnectHeader,
		OnProxyConnectResponse: t.OnProxyConnectResponse,
		DisableCompression:     t.DisableCompression,
		Protocols:              t.Protocols,
		Policy: Policy{
			MaxConns:               max(t.MaxConnsPerHost, 0),
			MaxIdle:                t.MaxIdleConnsPerHost,
			IdleTimeout:            t.IdleConnTimeout,
			TLSTimeout:             t.TLSHandshakeTimeout,
			ResponseHeaderTimeout:  t.ResponseHeaderTimeout,
			ExpectContinueTimeout:  t.ExpectContinueTimeout,
			MaxResponseHeaderBytes: max(t.MaxResponseHeaderBytes, 0),
			DisableKeepAlives:      t.DisableKeepAlives,
		},
	}
	p := &cfg.Policy
	if p.ExpectContinueTimeout == 0 {
		p.ExpectContinueTimeout = -1
	}
	if p.MaxConns > 0 && p.MaxIdle > p.MaxConns {
		p.MaxIdle = p.MaxConns
	}
	if cfg.Proxy == nil {
		cfg.Proxy = NoProxy
	}
	//lint:ignore SA1019 what is deprecated is carried over too
	if f := t.Dial; f != nil && cfg.DialContext == nil {
		cfg.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) { return f(network, addr) }
	}
	//lint:ignore SA1019 the same
	if f := t.DialTLS; f != nil && cfg.DialTLSContext == nil {
		cfg.DialTLSContext = func(_ context.Context, network, addr string) (net.Conn, error) { return f(network, addr) }
	}

	var left []string
	cannot := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }
	if cfg.Protocols == nil && !mayHTTP2(t, &cfg) {
		cfg.Protocols = new(http.Protocols)
		cfg.Protocols.SetHTTP1(true)
	}
	if std, ok := http.DefaultTransport.(*http.Transport); ok && cfg.DialContext != nil && same(cfg.DialContext, std.DialContext) {
		cfg.DialContext = nil
		p.DialTimeout = 30 * time.Second
	}
	for proto := range t.TLSNextProto {
		if proto != "h2" && proto != "unencrypted_http2" {
			cannot("TLSNextProto[%q]: other protocols over TLS are not spoken", proto)
		}
	}
	if h := t.HTTP2; h != nil {
		c := *h
		p.PingInterval, p.PingTimeout = c.SendPingTimeout, max(c.PingTimeout, 0)
		if c.StrictMaxConcurrentRequests {
			cannot("HTTP2.StrictMaxConcurrentRequests: set Policy.MaxConns to as many connections as there may be")
		}
		c.SendPingTimeout, c.PingTimeout, c.StrictMaxConcurrentRequests = 0, 0, false
		cfg.HTTP2 = &c
	}
	if n := p.MaxResponseHeaderBytes; n > 0 {
		if p.MaxResponseHeaderBytes = min(max(n, minHeaderBytes), maxHeaderBytes); p.MaxResponseHeaderBytes != n {
			cannot("MaxResponseHeaderBytes %d: %d is the nearest that there is", n, p.MaxResponseHeaderBytes)
		}
	}
	if t.MaxIdleConns > 0 {
		cannot("MaxIdleConns %d: idle connections are limited per endpoint (Policy.MaxIdle) and by Policy.IdleTimeout", t.MaxIdleConns)
	}
	if t.WriteBufferSize > 0 {
		cannot("WriteBufferSize %d: a request's head goes out in one write, its body in pieces of 32 KiB", t.WriteBufferSize)
	}
	if t.ReadBufferSize > 0 {
		cannot("ReadBufferSize %d: buffers come from a pool and grow with the response head", t.ReadBufferSize)
	}
	slices.Sort(left)
	return cfg, left
}

// same reports whether two functions are one, closure and all: Clone keeps that.
func same[F any](a, b F) bool {
	return *(*unsafe.Pointer)(unsafe.Pointer(&a)) == *(*unsafe.Pointer)(unsafe.Pointer(&b))
}

// mayHTTP2 is net/http's rule for a Transport without Protocols.
func mayHTTP2(t *http.Transport, cfg *Config) bool {
	if t.TLSNextProto != nil {
		_, own := t.TLSNextProto["h2"] // net/http's, once t was used
		return own
	}
	custom := cfg.TLS != nil || cfg.DialContext != nil || cfg.DialTLSContext != nil
	return t.ForceAttemptHTTP2 || !custom
}

// Wrap returns a RoundTripper whose requests go to outer, and whose
// CloseIdleConnections reaches inner, the transport that outer is wrapped around:
// http.Client and httptest.Server look for that method on what they are given, and a
// handler in between rarely has it.
func Wrap(outer, inner http.RoundTripper) http.RoundTripper { return wrapped{outer, inner} }

type wrapped struct{ outer, inner http.RoundTripper }

func (w wrapped) RoundTrip(req *http.Request) (*http.Response, error) { return w.outer.RoundTrip(req) }

func (w wrapped) CloseIdleConnections() {
	for _, rt := range []http.RoundTripper{w.outer, w.inner} {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
			return
		}
	}
}

// Client returns an http.Client over the transport with that timeout for the whole
// exchange, body included; 0 is none. It saves what http.Client with a Timeout
// spends on a RoundTripper that it does not know: a goroutine and a timer for each
// request, beside those of the context.
func (t *Transport) Client(timeout time.Duration) *http.Client {
	return &http.Client{Transport: http2.Known(t), Timeout: timeout}
}
