package berth

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
)

// Config configures a [Transport]. The zero Config is the zero Transport's. It is
// copied by [New]; what it points to must not be changed afterwards.
type Config struct {
	// Policy holds for every endpoint.
	Policy Policy `json:"policy"`

	// DialContext opens connections in place of Berth's own dialling; network is
	// "tcp" and addr host:port, or network "unix" and addr a path. It runs on a
	// goroutine of the endpoint's pool, must return soon after ctx ends, and may
	// return any net.Conn: one without a file descriptor is served too. ctx has the
	// values of the request that caused the dial, not its deadline: other requests
	// may use the connection.
	//
	// Its connections may have deadlines that it has set: they are left alone, but
	// where a timeout of the policy needs one. A request over them costs some
	// allocations more than over those that Berth dials itself.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`

	// DialTLSContext opens connections for https in place of DialContext and TLS,
	// but not those through a proxy; to an https proxy it opens the connection. A
	// *tls.Conn is handshaken if it was not, and speaks HTTP/2 if it negotiated "h2".
	DialTLSContext func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`

	// TLS is cloned for each endpoint: client certificates, roots, versions.
	// ServerName is set to the host when it is empty, NextProtos by Protocols (but
	// HTTP/2 is not offered if NextProtos is given without "h2"), and
	// ClientSessionCache to a small one of the endpoint's own unless one is given.
	TLS *tls.Config `json:"-"`

	// Protocols says what may be spoken. Default: HTTP/1.1, and over TLS HTTP/2
	// where the server knows it. UnencryptedHTTP2 without HTTP1 speaks HTTP/2 to
	// http:// origins at once (prior knowledge, RFC 9113 §3.3).
	Protocols *http.Protocols `json:"-"`

	// HTTP2 sets the sizes of HTTP/2's windows and frames. Its pings and limits are
	// Policy's: SendPingTimeout, PingTimeout and StrictMaxConcurrentRequests must
	// be zero.
	HTTP2 *http.HTTP2Config `json:"-"`

	// Proxy returns the proxy for a request; nil uses none. It is asked for every
	// request and must be quick. Schemes are http, https and socks5; user and
	// password are those for the proxy. Default: http.ProxyFromEnvironment, which is
	// HTTP_PROXY, HTTPS_PROXY and NO_PROXY as they are at first use, and is asked once
	// for each endpoint; package proxyenv reads them again and again. [NoProxy] uses
	// none.
	Proxy func(*http.Request) (*url.URL, error) `json:"-"`

	// ProxyConnectHeader is sent to a proxy with CONNECT.
	ProxyConnectHeader http.Header `json:"-"`

	// GetProxyConnectHeader is asked for it instead, when it is set; target is
	// host:port. An error fails the dial.
	GetProxyConnectHeader func(ctx context.Context, proxyURL *url.URL, target string) (http.Header, error) `json:"-"`

	// OnProxyConnectResponse sees the proxy's answer to CONNECT before it is judged.
	// An error fails the dial.
	OnProxyConnectResponse func(ctx context.Context, proxyURL *url.URL, connectReq *http.Request, connectRes *http.Response) error `json:"-"`

	// DisableCompression leaves the request's Accept-Encoding alone. By default a
	// request that has none, and no Range, asks for gzip, and its response is
	// decompressed as it is read, within MaxInflateRatio and MaxInflatedBytes.
	DisableCompression bool `json:"-"`

	// Logger hears once per endpoint when requests wait longer than a second, and
	// of bytes that a server sends unasked. nil logs nothing.
	Logger *slog.Logger `json:"-"`

	// Trace is told of connections and waits. nil costs nothing.
	Trace *Trace `json:"-"`
}

// ConfigError: a value in a [Config] is not allowed. Code BERTH1010.
type ConfigError struct {
	Field  string // as in Go: Policy.MaxIdle
	Reason string // what is allowed
}

func (e *ConfigError) Error() string { return fmt.Sprintf("berth: config: %s: %s", e.Field, e.Reason) }

// Code returns BERTH1010.
func (e *ConfigError) Code() string { return "BERTH1010" }

// New returns a Transport with that configuration. The error is a *ConfigError.
// Nothing is started before the first request.
func New(cfg Config) (*Transport, error) {
	if err := cfg.Policy.validate(); err != nil {
		return nil, err
	}
	if h := cfg.HTTP2; h != nil {
		for field, set := range map[string]bool{
			"SendPingTimeout": h.SendPingTimeout != 0, "PingTimeout": h.PingTimeout != 0,
			"StrictMaxConcurrentRequests": h.StrictMaxConcurrentRequests,
		} {
			if set {
				return nil, &ConfigError{Field: "HTTP2." + field, Reason: "must be zero; see Policy.PingInterval, PingTimeout and MaxConns"}
			}
		}
	}
	if p := protocolsFor(cfg.Protocols); cfg.Protocols != nil && !p.http1 && !p.http2 && !p.h2c {
		return nil, &ConfigError{Field: "Protocols", Reason: "allows none"}
	}
	return &Transport{config: cfg}, nil
}
