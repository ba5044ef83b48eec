package berth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/pool"
)

// Endpoint is a view of one endpoint of a [Transport], and the handle to steer it by. It
// stays valid when the transport forgets an endpoint that has held nothing for some
// minutes: its counts begin anew then; what was set stays. Safe for concurrent use.
type Endpoint struct {
	t   *Transport
	key endpointKey
}

// String returns scheme, host and port, without what identifies a user.
func (e *Endpoint) String() string { return e.key.name() }

// Server returns what the endpoint's requests go to, in parts, as telemetry labels it.
func (e *Endpoint) Server() Server { return e.key.server() }

// Policy returns the policy in force, and who set each of its values.
func (e *Endpoint) Policy() EndpointPolicy {
	return e.t.edition.Load().explain(e.key, e.t.ownSettings(e.key))
}

// Stats returns the endpoint's state now, and its counts. Safe for concurrent use.
func (e *Endpoint) Stats() Stats {
	if ep := e.t.endpoints.find(e.key); ep != nil {
		s := newStats(ep.pool.Stats())
		s.Life = ep.life
		return s
	}
	return Stats{}
}

// endpoint is the state behind an Endpoint.
type endpoint struct {
	t    *Transport
	key  endpointKey
	name string
	now  atomic.Pointer[inForce]
	pool *pool.Pool

	proxy    *url.URL       // nil without one
	fields   *[2][]h1.Field // sent with every request, without and with acceptGzip
	absolute bool           // the proxy is told the whole URL of each request
	expected atomic.Int32   // requests at once, of a connection that has not told
	life     uint32         // Stats.Life
	bodies   atomic.Bool    // Transport.bodies knows that some are lent
	history  dial.History
	watch    atomic.Pointer[watch]       // of its name; nil without one
	member   atomic.Pointer[pool.Member] // under limits over several endpoints; mostly nil

	// Guarded by the table's lock.
	aliases []alias
	next    *endpoint // another one whose key has the same hash
}

// endpointFor returns the endpoint of a request whose scheme is http, https or
// unix.
func (t *Transport) endpointFor(req *http.Request, group *Group) (*endpoint, error) {
	a := alias{group.scheme(req.URL.Scheme), req.URL.Host}
	ed := t.edition.Load()
	var proxy *url.URL
	asked := false
	if ed.proxies.each && req.URL.Scheme != "unix" {
		var err error
		if proxy, err = t.proxyOf(ed, req); err != nil {
			return nil, err
		}
		asked = true
		if proxy != nil {
			a.scheme += "|" + proxyKey(proxy)
		}
	}
	http1 := req.URL.Scheme == "https" && ed.protocols.http2 && upgrades(req)
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
	if !asked && key.scheme != "unix" {
		if proxy, err = t.proxyOf(ed, req); err != nil {
			return nil, err
		}
	}
	key.http1, key.group = http1, group.Name()
	key = key.through(proxy)
	ep, err := t.addEndpoint(key, a, proxy)
	if err != nil {
		return nil, err
	}
	if t.edition.Load() != ed {
		t.endpoints.forgetAliases() // the way may be another one now
	}
	return ep, nil
}

// proxyOf returns the proxy for a request: a rule's, or what Config.Proxy says.
func (t *Transport) proxyOf(ed *edition, req *http.Request) (*url.URL, error) {
	if ed.routed {
		if key, err := makeKey(req.URL.Scheme, req.URL.Host); err == nil {
			if u, ruled := ed.route(key); ruled {
				return u, nil
			}
		}
	}
	return ed.proxies.proxyFor(req)
}

// addEndpoint returns the endpoint with that key, made if there is none, and remembers
// the alias for it unless it is zero.
func (t *Transport) addEndpoint(key endpointKey, a alias, proxy *url.URL) (*endpoint, error) {
	add := func() (*endpoint, error) {
		return t.endpoints.add(key, a, func() (*endpoint, error) {
			if key.group != "" {
				if err := t.groups.begin(key.group, t.edition.Load().config.MaxGroups); err != nil {
					return nil, err
				}
			}
			return t.newEndpoint(key, proxy), nil
		})
	}
	ep, err := add()
	if err == nil || !errors.As(err, new(*TooManyGroupsError)) {
		return ep, err
	}
	t.groups.evicting.Lock()
	defer t.groups.evicting.Unlock()
	for {
		if ep, err = add(); err == nil || !errors.As(err, new(*TooManyGroupsError)) || !t.evictGroup() {
			return ep, err
		}
	}
}

// upgrades says that a request asks for another protocol, which HTTP/2 cannot
// change to (RFC 9113 §8.6).
func upgrades(req *http.Request) bool {
	c := req.Header["Connection"]
	return len(c) > 0 && req.Header["Upgrade"] != nil && h1.HasToken(c, "upgrade")
}

func (t *Transport) newEndpoint(key endpointKey, proxy *url.URL) *endpoint {
	ep := &endpoint{t: t, key: key, name: key.name(), proxy: proxy, fields: &ownFields, life: t.lives.Add(1)}
	if proxy != nil && key.host == "" {
		ep.absolute = true
		ep.fields = proxyFields(proxy)
	}
	f := t.force(t.edition.Load(), key, proxy, nil)
	ep.now.Store(f)
	ep.pool = pool.New(ep, nil, t.clock, &f.pool, &t.shared)
	if ep.expected.Store(1); f.mayHTTP2() {
		ep.expected.Store(int32(f.unknown()))
		ep.pool.SetExpect(f.unknown())
	}
	ep.joinNew(f)
	return ep
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// Exhausted tells the pool that this host has run out of something.
func (ep *endpoint) Exhausted(err error) bool { return dial.Exhausted(err) != dial.None }

// Refused tells the pool that AllowAddr did not allow a connection.
func (ep *endpoint) Refused(err error) bool { return refused(err) }

// Starved is told once, when requests have waited for a second.
func (ep *endpoint) Starved(s *pool.Snapshot) {
	log := ep.now.Load().config.Logger
	if log == nil {
		return
	}
	e := ep.starvation(s)
	args := []any{"endpoint", ep.name, "reason", string(e.Reason), "limit", e.Limit, "verdict", string(e.Verdict),
		"leased", s.Leased, "idle", s.Idle, "dialing", s.Dialing, "waiting", s.Waiting, "oldest_wait", s.OldestWait}
	if len(e.Oldest) > 0 {
		args = append(args, "oldest_lease", e.Oldest[0].text())
	}
	log.Warn("berth: requests wait for a connection", append(args, "advice", e.Advice(), "code", "BERTH1001")...)
}

// Empty is told when the endpoint has held nothing for forgetAfter.
func (ep *endpoint) Empty() { ep.forget() }

// forget gives the endpoint up if it holds nothing, and reports whether it did.
func (ep *endpoint) forget() bool {
	if !ep.pool.Forget() {
		return false
	}
	ep.t.removeEndpoint(ep)
	return true
}

// removeEndpoint forgets an endpoint whose pool has been given up.
func (t *Transport) removeEndpoint(ep *endpoint) {
	if !t.endpoints.remove(ep) {
		return
	}
	ep.leave()
	ep.endWatch()
	if ep.key.group != "" {
		t.groups.ended(ep.key.group)
	}
}

// ---- steering ----

// live returns the states that the handle stands for: most have one, https endpoints may
// have another for requests that upgrade.
func (e *Endpoint) live() (eps []*endpoint) {
	for _, http1 := range [...]bool{false, true} {
		key := e.key
		key.http1 = key.http1 || http1
		if ep := e.t.endpoints.find(key); ep != nil && (len(eps) == 0 || eps[0] != ep) {
			eps = append(eps, ep)
		}
	}
	return eps
}

// made returns the endpoint's state, made if there is none.
func (e *Endpoint) made() (*endpoint, error) {
	if ep := e.t.endpoints.find(e.key); ep != nil {
		return ep, nil
	}
	var proxy *url.URL
	if e.key.proxy != "" {
		proxy, _ = url.Parse(e.key.proxy)
	}
	return e.t.addEndpoint(e.key, alias{}, proxy)
}

// SetPolicy gives the endpoint values of its own, before what [Group.SetPolicy] has set and
// before all rules, in every group: p's fields that are not zero. It replaces what an
// earlier call has set; the zero Policy takes everything back. It holds at once, cuts no
// request, and stays when the endpoint is forgotten. The error is a *ConfigError.
func (e *Endpoint) SetPolicy(p Policy) error {
	return e.changePolicy(func(own *Policy) { *own = p })
}

// changePolicy is SetPolicy with what change makes of what is set so far.
func (e *Endpoint) changePolicy(change func(*Policy)) error {
	t := e.t
	t.steer.Lock()
	defer t.steer.Unlock()
	own := map[endpointKey]*Policy{}
	if m := t.own.Load(); m != nil {
		for k, v := range *m {
			own[k] = v
		}
	}
	base := e.key.base()
	var p Policy
	if set := own[base]; set != nil {
		p = *set
	}
	change(&p)
	if err := p.validate("Policy"); err != nil {
		return err
	}
	if own[base] = &p; p == (Policy{}) {
		delete(own, base)
	}
	t.own.Store(&own)
	var eps []*endpoint
	for _, ep := range t.endpoints.all() {
		if ep.key.base() == base {
			eps = append(eps, ep)
		}
	}
	t.follow(eps)
	t.ports.Wake()
	return nil
}

// Reconnect takes every connection that is open, or being opened, out of use: idle ones
// are closed now, busy ones after their current requests. Requests from now on get new
// connections. It does not block.
func (e *Endpoint) Reconnect() {
	for _, ep := range e.live() {
		ep.pool.Reconnect()
	}
}

// Drain is Reconnect, and returns when the last of those connections is closed, or ctx
// ends; then with its cause. Requests go on over new connections meanwhile.
func (e *Endpoint) Drain(ctx context.Context) error {
	for _, ep := range e.live() {
		ep.pool.Reconnect()
	}
	for _, ep := range e.live() {
		if err := ep.pool.Drained(ctx); err != nil {
			return err
		}
	}
	return nil
}

// CloseIdle closes the connections that no request uses, and those that fall idle before
// the endpoint's next request.
func (e *Endpoint) CloseIdle() {
	for _, ep := range e.live() {
		ep.pool.CloseIdle()
	}
}

// Warm opens connections until n are open, or as many as the limits allow, and returns
// when they are. The error is that of the first dial that fails, *ClosedError, or the
// cause of ctx's end; what is open by then stays.
func (e *Endpoint) Warm(ctx context.Context, n int) error {
	for {
		ep, err := e.made()
		if err != nil {
			return err
		}
		if err = ep.pool.Warm(ctx, n); err == pool.ErrForgotten {
			continue
		}
		switch {
		case err == nil:
			return nil
		case err == pool.ErrClosed:
			return &ClosedError{}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		return ep.dialError(&pool.DialError{Err: err, Failures: 1})
	}
}

// Pause lends no connection until Resume: requests queue, and the time that they may wait
// goes on. It returns when no request of the endpoint runs any more, or ctx ends with its
// cause; the endpoint is paused in both cases. CloseIdle closes what is open then.
func (e *Endpoint) Pause(ctx context.Context) error {
	upgrade := &Endpoint{t: e.t, key: e.key}
	upgrade.key.http1 = e.key.scheme == "https" && e.t.edition.Load().protocols.http2
	for {
		for _, of := range [...]*Endpoint{e, upgrade} { // what is not there yet begins paused
			if _, err := of.made(); err != nil {
				return err
			}
		}
		again := false
		for _, ep := range e.live() {
			switch err := ep.pool.Pause(ctx); {
			case err == pool.ErrForgotten:
				again = true
			case err != nil:
				return err
			}
		}
		if !again {
			return nil
		}
	}
}

// Resume ends Pause.
func (e *Endpoint) Resume() {
	for _, ep := range e.live() {
		ep.pool.Resume()
	}
}
