package berth

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

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

	// Guarded by the table's lock.
	aliases []alias
	next    *endpoint // another one whose key has the same hash
}

// endpointFor returns the endpoint of a request whose scheme is http or https.
func (t *Transport) endpointFor(req *http.Request) (*endpoint, error) {
	a := alias{req.URL.Scheme, req.URL.Host}
	if ep := t.endpoints.lookup(a); ep != nil {
		return ep, nil
	}
	key, err := makeKey(a.scheme, a.host)
	if err != nil {
		return nil, &RequestError{Reason: err.Error()}
	}
	ep := t.endpoints.add(key, a, func() *endpoint { return t.newEndpoint(key) })
	if ep == nil {
		return nil, &ClosedError{}
	}
	return ep, nil
}

func (t *Transport) newEndpoint(key endpointKey) *endpoint {
	ep := &endpoint{t: t, key: key, name: key.name(), policy: &t.config.Policy, options: t.engine}
	if key.scheme == "https" {
		ep.tls = t.tlsConfig(key)
	}
	ep.pool = pool.New(ep, nil, t.clock, &t.pool, &t.shared)
	return ep
}

// tlsConfig returns the endpoint's own TLS configuration.
func (t *Transport) tlsConfig(key endpointKey) *tls.Config {
	c := t.config.TLS.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	if c.ServerName == "" {
		c.ServerName = key.sni
	}
	c.NextProtos = []string{"http/1.1"}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = &dial.SessionCache{}
	}
	return c
}

// Dial opens a connection for the pool.
func (ep *endpoint) Dial(ctx context.Context, slot *pool.Slot) (pool.Conn, int, error) {
	ctx = gatedTrace(ctx)
	start := ep.t.now()
	c, err := ep.connect(ctx)
	if tr := ep.t.config.Trace; tr != nil && tr.Dialed != nil {
		i := DialInfo{Endpoint: ep.name, Duration: time.Duration(ep.t.now() - start), Err: err}
		if c != nil {
			i.Conn = c.info()
		}
		tr.Dialed(i)
	}
	if err != nil {
		return nil, 0, err
	}
	return c, 1, nil
}

func (ep *endpoint) connect(ctx context.Context) (*conn, error) {
	dctx := ctx
	timeout := or(ep.policy.DialTimeout, defaultDialTimeout, 0)
	if timeout > 0 {
		var cancel context.CancelFunc
		dctx, cancel = context.WithTimeoutCause(ctx, timeout, &dialTimeout{timeout})
		defer cancel()
	}
	nc, err := ep.t.dialer.Connect(dctx, ep.key.host, ep.key.port)
	if err != nil {
		if cause := context.Cause(dctx); cause != nil && ctx.Err() == nil {
			err = cause // says how long, which the resolver's and the dialler's own do not
		}
		return nil, err
	}
	c := &conn{ep: ep}
	c.h1.Init(nc, ep.t.config.DialContext == nil, c)
	if ep.tls == nil {
		return c, nil
	}
	tc, err := dial.Handshake(ctx, c.h1.Raw(), ep.tls, or(ep.policy.TLSTimeout, defaultTLSTimeout, 0))
	if err != nil {
		return nil, err
	}
	state := tc.ConnectionState()
	c.h1.UseTLS(tc, &state)
	return c, nil
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// dialTimeout: resolving and connecting took longer than DialTimeout.
type dialTimeout struct{ after time.Duration }

func (e *dialTimeout) Error() string   { return "dial timeout after " + e.after.String() }
func (e *dialTimeout) Timeout() bool   { return true }
func (e *dialTimeout) Temporary() bool { return true }

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
