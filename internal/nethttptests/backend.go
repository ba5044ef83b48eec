//go:build harness_external

// Package http is compiled into the harness that runs net/http's own client tests
// through this transport. It maps the fields of the harness's Transport to Berth.
package http

import (
	"crypto/tls"
	"errors"
	nethttp "net/http"
	"strings"
	"sync/atomic"

	"github.com/berth-go/berth"
)

func init() {
	BackendName = "berth"
	NewBackend = newBerth
	Supplies = map[string]bool{
		"ExportErrRequestCanceled":     true,
		"ExportErrRequestCanceledConn": true,
		"ExportErrServerClosedIdle":    true,
		"MaxWriteWaitBeforeConnReuse":  true,
		"SetRoundTripRetried":          true,
		"NumPendingRequestsForTesting": true,
		"IdleConnKeysForTesting":       true,
		"IdleConnKeyCountForTesting":   true,
		"IdleConnCountForTesting":      true,
	}
	ExportErrServerClosedIdle = errors.New("the server has closed the idle connection")
	SetRoundTripRetried = func(f func()) {
		if f == nil {
			f = func() {}
		}
		retried.Store(&f)
	}
	ExportErrRequestCanceled = berth.ErrRequestCanceled
	ExportErrRequestCanceledConn = berth.ErrRequestCanceledWaiting
	AwaitClientTimeout = false // Berth waits for Request.Cancel itself
}

// retried is called when a request is sent again.
var retried atomic.Pointer[func()]

// Berth's own figures, in the terms of net/http's tests. A key is proxy, scheme and
// address between bars.

func (b *backend) IdleConnKeysForTesting() (keys []string) {
	for _, ep := range b.Endpoints() {
		if ep.Stats().Idle > 0 {
			scheme, addr, _ := strings.Cut(ep.String(), "://")
			keys = append(keys, "|"+scheme+"|"+addr)
		}
	}
	return keys
}

func (b *backend) IdleConnKeyCountForTesting() int { return len(b.IdleConnKeysForTesting()) }

func (b *backend) IdleConnCountForTesting(scheme, addr string) int {
	ep, err := b.Endpoint(scheme + "://" + addr)
	if err != nil {
		panic(err)
	}
	return ep.Stats().Idle
}

func (b *backend) NumPendingRequestsForTesting() (n int) {
	for _, ep := range b.Endpoints() {
		s := ep.Stats()
		n += s.Leased + s.Waiting
	}
	return n
}

// backend makes its transport anew when a test changes a field between requests,
// as two do.
type backend struct {
	*berth.Transport
	keepAlives bool
	tls        *tls.Config
}

func (b *backend) Sync(t *Transport) {
	if b.keepAlives == !t.DisableKeepAlives && b.tls == t.TLSClientConfig {
		return
	}
	b.Transport.CloseIdleConnections()
	*b = *newBerth(t).(*backend)
}

// newBerth maps what the harness's Transport has, by way of net/http's own, so that
// FromTransport is tried as well.
func newBerth(t *Transport) Backend {
	std := &nethttp.Transport{
		Proxy: t.Proxy, OnProxyConnectResponse: t.OnProxyConnectResponse,
		DialContext: t.DialContext, Dial: t.Dial, DialTLSContext: t.DialTLSContext, DialTLS: t.DialTLS,
		TLSClientConfig: t.TLSClientConfig, TLSHandshakeTimeout: t.TLSHandshakeTimeout,
		DisableKeepAlives: t.DisableKeepAlives, DisableCompression: t.DisableCompression,
		MaxIdleConns: t.MaxIdleConns, MaxIdleConnsPerHost: t.MaxIdleConnsPerHost, MaxConnsPerHost: t.MaxConnsPerHost,
		IdleConnTimeout: t.IdleConnTimeout, ResponseHeaderTimeout: t.ResponseHeaderTimeout,
		ExpectContinueTimeout: t.ExpectContinueTimeout, TLSNextProto: t.TLSNextProto,
		ProxyConnectHeader: t.ProxyConnectHeader, GetProxyConnectHeader: t.GetProxyConnectHeader,
		MaxResponseHeaderBytes: t.MaxResponseHeaderBytes, ForceAttemptHTTP2: t.ForceAttemptHTTP2,
		HTTP2: t.HTTP2, Protocols: t.Protocols,
	}
	cfg, _ := berth.FromTransport(std)
	cfg.Policy.DialTimeout, cfg.Policy.AcquireTimeout = -1, -1 // net/http has none
	cfg.Trace = &berth.Trace{Retried: func(berth.RetryInfo) {
		if f := retried.Load(); f != nil {
			(*f)()
		}
	}}
	b, err := berth.New(cfg)
	if err != nil {
		panic(err)
	}
	return &backend{b, !t.DisableKeepAlives, t.TLSClientConfig}
}
