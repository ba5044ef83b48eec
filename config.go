package berth

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/berth-go/berth/internal/dial"
)

// Config configures a [Transport]. The zero Config is the zero Transport's. It is
// copied by [New] and [Transport.Apply]; what it points to must not be changed
// afterwards.
type Config struct {
	// Policy holds for every endpoint, as far as no rule says otherwise.
	Policy Policy `json:"policy"`

	// Rules give endpoints values of their own. For each value the first that matches
	// and sets it wins.
	Rules []Rule `json:"rules,omitempty"`

	// MaxConns limits the connections of all endpoints together. Default: none. A dial
	// that has no room waits: the connection that is idle for longest is closed for it,
	// whosever it is, and endpoints that want more get their turns one after the other.
	MaxConns int `json:"max_conns,omitempty"`

	// MaxGroups limits the groups that have an endpoint. Default 1,000. Beyond it the
	// group that is idle for longest ends; when none is idle, requests of a new one fail
	// with *TooManyGroupsError. Negative: no limit.
	MaxGroups int `json:"max_groups,omitempty"`

	// PortBudget is what lies beyond this host for all destinations together, such as the
	// ports that a platform's gateway has for this process. Default: none.
	PortBudget PortBudget `json:"port_budget,omitzero"`

	// LocalAddrs are addresses of this host that connections come from, in turn: each
	// has ports of its own to every destination. Default: the kernel chooses one.
	LocalAddrs []netip.Addr `json:"local_addrs,omitempty"`

	// LocalPorts are the ports that connections come from, a part of the system's range;
	// the kernel gives no other (Linux 6.3). Default: the system's.
	LocalPorts PortRange `json:"local_ports,omitzero"`

	// Resolve resolves the names of hosts and proxies; ttl is how long the answer holds,
	// at most 0 when it is not known. Default: the system's resolver. With it,
	// DialContext is given addresses. It may be called by several goroutines at once,
	// and must return soon after ctx ends.
	Resolve func(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error) `json:"-"`

	// AllowAddr is asked before each connection is opened, for each address that the host's
	// name stands for: it is not opened to those that it returns an error for, and when
	// none is left the request fails with *AddrRefusedError. So a guard against requests
	// that are to reach what is not public (SSRF) sees what is dialled, whatever the name
	// says the next time. Addresses come in one spelling: IPv4 in IPv6 as IPv4, without a
	// zone, and the unspecified address, which is this host, as loopback. Default: nil,
	// all are allowed. [Group.SetAllowAddr] adds to it.
	//
	// Behind a proxy it is asked about the proxy: what that connects to is the proxy's to
	// guard. DialContext without Resolve, and DialTLSContext, find the address of a name
	// themselves: it is asked then when they have returned, about the connection's
	// RemoteAddr, and a connection that it does not allow is closed before Berth writes to
	// it; but they have connected, and a TLS handshake of theirs is over.
	//
	// It is called on the goroutines of dials, by several at once, and must return soon. A
	// connection that is open is not asked about again.
	AllowAddr func(AddrInfo) error `json:"-"`

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
	// ClientSessionCache to a small one of the endpoint's own unless one is given, which
	// groups other than the default do not use.
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

	// Logger hears once per endpoint when requests wait longer than a second, of bytes
	// that a server sends unasked, and once of each feature that the kernel lacks. nil
	// logs nothing.
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
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Rules = slices.Clone(cfg.Rules)
	return &Transport{first: cfg}, nil
}

func (cfg *Config) validate() error {
	if err := cfg.Policy.validate("Policy"); err != nil {
		return err
	}
	for i := range cfg.Rules {
		if err := cfg.Rules[i].validate(fmt.Sprintf("Rules[%d]", i)); err != nil {
			return err
		}
	}
	if err := cfg.PortBudget.validate("PortBudget"); err != nil {
		return err
	}
	if r := cfg.LocalPorts; r.Lo > r.Hi || r.Hi > 0 && r.Lo == 0 {
		return &ConfigError{Field: "LocalPorts", Reason: fmt.Sprintf("%d to %d is no range of ports", r.Lo, r.Hi)}
	}
	for _, a := range cfg.LocalAddrs {
		if !a.IsValid() {
			return &ConfigError{Field: "LocalAddrs", Reason: "has an address that is none"}
		}
	}
	if h := cfg.HTTP2; h != nil {
		for field, set := range map[string]bool{
			"SendPingTimeout": h.SendPingTimeout != 0, "PingTimeout": h.PingTimeout != 0,
			"StrictMaxConcurrentRequests": h.StrictMaxConcurrentRequests,
		} {
			if set {
				return &ConfigError{Field: "HTTP2." + field, Reason: "must be zero; see Policy.PingInterval, PingTimeout and MaxConns"}
			}
		}
	}
	if p := protocolsFor(cfg.Protocols); cfg.Protocols != nil && !p.http1 && !p.http2 && !p.h2c {
		return &ConfigError{Field: "Protocols", Reason: "allows none"}
	}
	return nil
}

// PortRange is a range of ports, both ends included. Zero is the system's.
type PortRange struct {
	Lo uint16 `json:"lo"`
	Hi uint16 `json:"hi"`
}

// Nameservers returns a Config.Resolve that asks these name servers, host:port, in place of
// those of the system. The names of the hosts file and search domains hold as usual.
func Nameservers(addrs ...string) func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if len(addrs) == 0 {
		return dial.System
	}
	return dial.Servers(slices.Clone(addrs))
}
