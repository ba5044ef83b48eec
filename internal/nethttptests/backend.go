//go:build harness_external

// Package http is compiled into the harness that runs net/http's own client tests
// through this transport. It maps the fields of the harness's Transport to Berth.
package http

import (
	"crypto/tls"
	nethttp "net/http"

	"github.com/berth-go/berth"
)

func init() {
	BackendName = "berth"
	NewBackend = newBerth
	Supplies = map[string]bool{
		"ExportErrRequestCanceled":     true,
		"ExportErrRequestCanceledConn": true,
	}
	ExportErrRequestCanceled = berth.ErrRequestCanceled
	ExportErrRequestCanceledConn = berth.ErrRequestCanceledWaiting
	AwaitClientTimeout = false // Berth waits for Request.Cancel itself
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
	if n := cfg.Policy.MaxResponseHeaderBytes; n > 0 && n < 128 {
		cfg.Policy.MaxResponseHeaderBytes = 128 // TestTransportClone sets every field to 1
	}
	b, err := berth.New(cfg)
	if err != nil {
		panic(err)
	}
	return &backend{b, !t.DisableKeepAlives, t.TLSClientConfig}
}
