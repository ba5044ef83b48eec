//go:build harness_external

// Package http is compiled into the harness that runs net/http's own client tests
// through this transport. It maps the fields of the harness's Transport to Berth.
package http

import (
	"context"
	"crypto/tls"
	"net"

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

// newBerth maps what exists; net/http's zero values mean its own defaults.
func newBerth(t *Transport) Backend {
	cfg := berth.Config{TLS: t.TLSClientConfig}
	cfg.Policy = berth.Policy{
		MaxConns:               t.MaxConnsPerHost,
		MaxIdle:                t.MaxIdleConnsPerHost,
		IdleTimeout:            t.IdleConnTimeout,
		TLSTimeout:             t.TLSHandshakeTimeout,
		ResponseHeaderTimeout:  t.ResponseHeaderTimeout,
		ExpectContinueTimeout:  t.ExpectContinueTimeout,
		MaxResponseHeaderBytes: t.MaxResponseHeaderBytes,
		DisableKeepAlives:      t.DisableKeepAlives,
		DialTimeout:            -1, // net/http has none
		AcquireTimeout:         -1,
	}
	if cfg.Policy.MaxConns > 0 && cfg.Policy.MaxIdle > cfg.Policy.MaxConns {
		cfg.Policy.MaxIdle = cfg.Policy.MaxConns
	}
	if n := cfg.Policy.MaxResponseHeaderBytes; n > 0 && n < 128 {
		cfg.Policy.MaxResponseHeaderBytes = 128 // TestTransportClone sets every field to 1
	}
	if t.ExpectContinueTimeout == 0 {
		cfg.Policy.ExpectContinueTimeout = -1
	}
	switch {
	case t.DialContext != nil:
		cfg.DialContext = t.DialContext
	case t.Dial != nil:
		cfg.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) { return t.Dial(network, addr) }
	}
	b, err := berth.New(cfg)
	if err != nil {
		panic(err)
	}
	return &backend{b, !t.DisableKeepAlives, t.TLSClientConfig}
}
