package berth

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/pool"
)

// Endpoint is a view of one endpoint of a [Transport]. It stays valid when the
// transport forgets an endpoint that has held nothing for some minutes: its
// counts begin anew then.
type Endpoint struct {
	t   *Transport
	key endpointKey
}

// String returns scheme, host and port, without what identifies a user.
func (e *Endpoint) String() string { return e.key.name() }

// Policy returns the policy in force.
func (e *Endpoint) Policy() Policy { return e.t.config.Policy }

// Stats returns the endpoint's state now, and its counts. Safe for concurrent use.
func (e *Endpoint) Stats() Stats {
	if ep := e.t.endpoints.find(e.key); ep != nil {
		return newStats(ep.pool.Stats())
	}
	return Stats{}
}

// endpoint is the state behind an Endpoint.
type endpoint struct {
	t       *Transport
	key     endpointKey
	name    string
	policy  *Policy
	options *h1.Options
	tls     *tls.Config // nil without TLS
	pool    *pool.Pool

	proxy     *proxy         // nil without one
	fields    *[2][]h1.Field // sent with every request, without and with acceptGzip
	absolute  bool           // the proxy is told the whole URL of each request
	protocols protocols
	expected  atomic.Int32 // requests at once, of a connection that has not told
	history   dial.History

	// Guarded by the table's lock.
	aliases []alias
	next    *endpoint // another one whose key has the same hash
}

// endpointFor returns the endpoint of a request whose scheme is http, https or
// unix.
func (t *Transport) endpointFor(req *http.Request) (*endpoint, error) {
	a := alias{req.URL.Scheme, req.URL.Host}
	var proxy *url.URL
	if t.proxies.each && a.scheme != "unix" {
		var err error
		if proxy, err = t.proxyFor(req); err != nil {
			return nil, err
		}
		if proxy != nil {
			a.scheme += "|" + proxyKey(proxy)
		}
	}
	http1 := req.URL.Scheme == "https" && t.protocols.http2 && upgrades(req)
	if http1 {
		a.scheme += "|1"
	}
	if ep := t.endpoints.lookup(a); ep != nil {
		return ep, nil
	}
	key, err := makeKey(req.URL.Scheme, a.host)
	if err != nil {
		return nil, &RequestError{Reason: err.Error()}
	}
	if !t.proxies.each && key.scheme != "unix" {
		if proxy, err = t.proxyFor(req); err != nil {
			return nil, err
		}
	}
	key.http1 = http1
	key = key.through(proxy)
	ep := t.endpoints.add(key, a, func() *endpoint { return t.newEndpoint(key, proxy) })
	if ep == nil {
		return nil, &ClosedError{}
	}
	return ep, nil
}

// upgrades says that a request asks for another protocol, which HTTP/2 cannot
// change to (RFC 9113 §8.6).
func upgrades(req *http.Request) bool {
	c := req.Header["Connection"]
	return len(c) > 0 && req.Header["Upgrade"] != nil && h1.HasToken(c, "upgrade")
}

func (t *Transport) newEndpoint(key endpointKey, proxy *url.URL) *endpoint {
	ep := &endpoint{t: t, key: key, name: key.name(), policy: &t.config.Policy, options: t.engine, proxy: t.newProxy(proxy), fields: &ownFields}
	ep.protocols = t.protocols
	if key.http1 {
		ep.protocols = protocols{http1: true}
	}
	cfg := &t.pool
	switch {
	case key.scheme == "https":
		ep.tls = t.tlsConfig(key, ep.protocols)
		if slices.Contains(ep.tls.NextProtos, "h2") {
			cfg = &t.poolUnknown
		}
	case proxy != nil && key.host == "":
		ep.absolute = true
		ep.fields = proxyFields(proxy)
		ep.protocols.h2c = false
	case ep.protocols.h2c:
		cfg = &t.poolUnknown
	}
	ep.expected.Store(int32(cfg.Expect))
	ep.pool = pool.New(ep, nil, t.clock, cfg, &t.shared)
	return ep
}

// tlsConfig returns the endpoint's own TLS configuration. Where the caller's lists
// protocols, those that it does not list are not offered.
func (t *Transport) tlsConfig(key endpointKey, p protocols) *tls.Config {
	c := t.cloneTLS(key.sni)
	if len(c.NextProtos) > 0 && !slices.Contains(c.NextProtos, "h2") && p.http1 {
		p.http2 = false
	}
	c.NextProtos = p.alpn()
	return c
}

func (t *Transport) cloneTLS(serverName string) *tls.Config {
	c := t.config.TLS.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	if c.ServerName == "" {
		c.ServerName = serverName
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = &dial.SessionCache{}
	}
	return c
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// Exhausted tells the pool that this host has run out of something.
func (ep *endpoint) Exhausted(err error) bool { return dial.Exhausted(err) != dial.None }

// Starved is told once, when requests have waited for a second.
func (ep *endpoint) Starved(s *pool.Snapshot) {
	if log := ep.t.config.Logger; log != nil {
		log.Warn("berth: requests wait for a connection", "endpoint", ep.name, "limit", bindingText(s),
			"leased", s.Leased, "idle", s.Idle, "dialing", s.Dialing, "waiting", s.Waiting,
			"oldest_wait", s.OldestWait, "code", "BERTH1001")
	}
}

// Empty is told when the endpoint has held nothing for forgetAfter.
func (ep *endpoint) Empty() {
	if ep.pool.Forget() {
		ep.t.endpoints.remove(ep)
	}
}
