package berth

import (
	"crypto/tls"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/h2"
	"github.com/berth-go/berth/internal/pool"
)

// edition is a configuration as it was applied, with what is made of it once. It never
// changes, but remembers what its rules make of policies.
type edition struct {
	n         uint64 // generation
	config    Config
	rules     []pattern
	protocols protocols
	proxies   proxies
	dialer    *dial.Dialer
	routed    bool // a rule names a proxy

	mu   sync.Mutex           // guards made
	made map[string]*settings // by the rules that match
}

func (t *Transport) newEdition(cfg Config, n uint64) *edition {
	cfg.Rules = slices.Clone(cfg.Rules)
	ed := &edition{n: n, config: cfg, made: map[string]*settings{}}
	ed.protocols = protocolsFor(cfg.Protocols)
	if http2Disabled() {
		ed.protocols.http2 = false
	}
	ed.proxies = proxiesBy(cfg.Proxy)
	ed.dialer = &dial.Dialer{DialContext: cfg.DialContext, Resolve: cfg.Resolve, LocalAddrs: cfg.LocalAddrs, LocalPorts: dial.PortRange(cfg.LocalPorts),
		Process: cfg.PortBudget.budget(), Names: &t.names, Ports: t.ports, Lacks: t.lacks}
	for i := range cfg.Rules {
		r := &cfg.Rules[i]
		p, err := parsePattern(r.Match)
		if err != nil {
			continue // New and Apply have refused it
		}
		ed.rules = append(ed.rules, p)
		ed.routed = ed.routed || r.Proxy != "" || r.Socket != ""
	}
	return ed
}

// settings is what one set of rules makes of a configuration: a policy, as each part of
// the transport needs it. Endpoints share it. It never changes.
type settings struct {
	*edition
	policy Policy // zero is the default
	tls    *tls.Config
	socket string
	allow  func(AddrInfo) error // the group's; nil allows all

	engine  h1.Options
	http2   *h2.Engine
	streams h2.Options // what http2 was made of
	pool    pool.Config

	budget          time.Duration
	budgetIsDefault bool
}

// settingsFor returns what holds for endpoints with that key.
func (ed *edition) settingsFor(key endpointKey, own ownSettings) *settings {
	scheme, host, port := key.governed()
	sig := make([]byte, len(ed.rules))
	for i, r := range ed.rules {
		if r.matches(scheme, host, port) {
			sig[i] = 1
		}
	}
	switch {
	case own.endpoint != nil:
		return ed.make(sig, own)
	case own.group != nil:
		return own.group.settings(ed, sig)
	}
	ed.mu.Lock()
	defer ed.mu.Unlock()
	s := ed.made[string(sig)]
	if s == nil {
		s = ed.make(sig, ownSettings{})
		ed.made[string(sig)] = s
	}
	return s
}

// make compiles the rules whose byte in sig is set, and what goes before them.
func (ed *edition) make(sig []byte, own ownSettings) *settings {
	s := &settings{edition: ed, tls: ed.config.TLS}
	var m merger
	own.addTo(&m)
	s.allow = own.allow()
	var byRule, routed bool
	for i, on := range sig {
		if on == 0 {
			continue
		}
		r := &ed.config.Rules[i]
		m.add(&r.Policy, r.Set, "")
		if r.TLS != nil && !byRule {
			s.tls, byRule = r.TLS, true
		}
		if !routed && (r.Proxy != "" || r.Socket != "") { // as route decides
			routed = true
			if r.Proxy == "" {
				s.socket = r.Socket
			}
		}
	}
	m.add(&ed.config.Policy, nil, "")
	s.policy = m.policy
	p := &s.policy
	// Values of different rules may not go together, which nobody could have refused.
	if p.MaxConns > 0 && p.MaxIdle > p.MaxConns {
		p.MaxIdle = p.MaxConns
	}
	if p.Lifetime > 0 && p.Lifetime < minIdleLifetime {
		p.MinIdle = 0
	}
	s.engine = *p.engine()
	s.pool = p.pool()
	s.streams = p.http2()
	s.http2 = h2.NewEngine(s.streams, ed.config.HTTP2)
	s.budget = or(p.AcquireTimeout, defaultAcquireTimeout, pool.Never)
	s.budgetIsDefault = p.AcquireTimeout == 0
	return s
}

// unknown is how many requests a connection is reckoned with that has not told yet
// whether it speaks HTTP/2.
func (s *settings) unknown() int {
	return min(or(s.policy.MaxStreamsPerConn, unknownStreams, unknownStreams), unknownStreams)
}

// inForce is what holds for one endpoint at a time. It never changes; see [endpoint.now].
type inForce struct {
	*settings
	client    *tls.Config // to the origin; nil without TLS
	proxyTLS  *tls.Config // to an https proxy; else nil
	protocols protocols
}

// force returns what holds for the endpoint from now on. before is what did so far, or
// nil: TLS configurations with their sessions are kept if they are made of the same.
func (t *Transport) force(ed *edition, key endpointKey, proxy *url.URL, before *inForce) *inForce {
	f := &inForce{settings: ed.settingsFor(key, t.ownSettings(key))}
	f.protocols = f.edition.protocols
	switch {
	case key.http1:
		f.protocols = protocols{http1: true}
	case key.scheme == "http" && key.host == "":
		f.protocols.h2c = false
	}
	if before != nil && before.settings.tls == f.settings.tls && before.protocols == f.protocols {
		f.client, f.proxyTLS = before.client, before.proxyTLS
		return f
	}
	if key.scheme == "https" {
		f.client = tlsConfig(f.settings.tls, key, f.protocols)
	}
	if proxy != nil && proxy.Scheme == "https" {
		f.proxyTLS = cloneTLS(f.settings.tls, proxy.Hostname(), key.group)
		f.proxyTLS.NextProtos = []string{"http/1.1"}
	}
	return f
}

// mayHTTP2 says that connections may turn out to speak HTTP/2.
func (f *inForce) mayHTTP2() bool {
	if f.client != nil {
		return slices.Contains(f.client.NextProtos, "h2")
	}
	return f.protocols.h2c
}

// replaces says that connections opened under before are not those that f would open.
func (f *inForce) replaces(before *inForce, mux bool) bool {
	switch a, b := &f.config, &before.config; {
	case f.client != before.client, f.proxyTLS != before.proxyTLS, f.protocols != before.protocols, f.socket != before.socket:
		return true
	case !same(a.DialContext, b.DialContext), !same(a.DialTLSContext, b.DialTLSContext):
		return true
	case mux && (f.streams != before.streams || a.HTTP2 != b.HTTP2):
		return true // fixed when a connection is opened
	case !slices.Equal(a.LocalAddrs, b.LocalAddrs):
		return true
	case a.AllowAddr != nil && !same(a.AllowAddr, b.AllowAddr), f.allow != nil && !same(f.allow, before.allow):
		return true
	}
	return false
}

// tlsConfig returns an endpoint's own TLS configuration. Where the caller's lists
// protocols, those that it does not list are not offered.
func tlsConfig(of *tls.Config, key endpointKey, p protocols) *tls.Config {
	c := cloneTLS(of, key.host, key.group)
	if len(c.NextProtos) > 0 && !slices.Contains(c.NextProtos, "h2") && p.http1 {
		p.http2 = false
	}
	c.NextProtos = p.alpn()
	return c
}

// cloneTLS makes one of the caller's. Groups never share sessions, not even by a cache of
// the caller's.
func cloneTLS(of *tls.Config, serverName, group string) *tls.Config {
	c := of.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	if c.ServerName == "" {
		c.ServerName = serverName
	}
	if c.ClientSessionCache == nil || group != "" {
		c.ClientSessionCache = &dial.SessionCache{}
	}
	return c
}
