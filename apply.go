package berth

import (
	"crypto/tls"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// Diff is what [Transport.Apply] changes.
type Diff struct {
	Generation uint64         `json:"generation"` // of the new configuration
	Changes    []Change       `json:"changes"`    // in the configuration
	Endpoints  []EndpointDiff `json:"endpoints"`  // that exist now and follow at once
}

// Change is one value that changes. Names are those of JSON.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// EndpointDiff is what changes for an endpoint.
type EndpointDiff struct {
	Endpoint string   `json:"endpoint"`
	Changes  []Change `json:"changes,omitempty"`

	// Reconnects says that its connections are replaced: new requests get new ones, those
	// that run end on the old.
	Reconnects bool `json:"reconnects,omitempty"`
}

// String lists the changes, a line each.
func (d *Diff) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "generation %d", d.Generation)
	for _, c := range d.Changes {
		fmt.Fprintf(&b, "\n  %s", c)
	}
	for _, e := range d.Endpoints {
		fmt.Fprintf(&b, "\n  %s:", e.Endpoint)
		for i, c := range e.Changes {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %s", c)
		}
		if e.Reconnects {
			b.WriteString(" (reconnects)")
		}
	}
	if len(d.Changes)+len(d.Endpoints) == 0 {
		b.WriteString(": nothing changes")
	}
	return b.String()
}

func (c Change) String() string { return fmt.Sprintf("%s %s → %s", c.Field, c.Old, c.New) }

// Config returns the configuration in force. The copy may be changed and applied.
func (t *Transport) Config() Config {
	t.init()
	cfg := t.edition.Load().config
	cfg.Rules = slices.Clone(cfg.Rules)
	return cfg
}

// Apply puts another configuration in force, at once and as a whole: endpoints that
// exist follow, no request fails by it. A raised limit wakes those that wait, a lowered
// one cuts nobody. Where TLS, a proxy, a dial function, AllowAddr, protocols or addresses change,
// idle connections are closed and busy ones after their requests; new requests get new
// connections. What [Endpoint.SetPolicy], [Group.SetPolicy] and [Group.SetAllowAddr] have
// set stays. It returns what has changed. The
// error is a *ConfigError: nothing has changed then. Safe for concurrent use.
func (t *Transport) Apply(cfg Config) (*Diff, error) {
	t.init()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t.steer.Lock()
	defer t.steer.Unlock()
	old := t.edition.Load()
	ed := t.newEdition(cfg, old.n+1)
	d := t.diff(old, ed)
	t.edition.Store(ed)
	t.limits.set(ed)
	if !ed.sameWays(old) {
		t.endpoints.forgetAliases() // the next requests may belong elsewhere
	}
	if !same(ed.config.Resolve, old.config.Resolve) {
		t.names.ExpireAll()
	}
	t.follow(t.endpoints.all())
	t.ports.Wake()
	return d, nil
}

// Compare returns what Apply would change, and changes nothing.
func (t *Transport) Compare(cfg Config) (*Diff, error) {
	t.init()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t.steer.Lock()
	defer t.steer.Unlock()
	old := t.edition.Load()
	return t.diff(old, t.newEdition(cfg, old.n+1)), nil
}

// follow has endpoints do what holds for them now. t.steer is held.
func (t *Transport) follow(eps []*endpoint) {
	for _, ep := range eps {
		before := ep.now.Load()
		f := t.force(t.edition.Load(), ep.key, ep.proxy, before)
		if f.settings == before.settings {
			continue
		}
		ep.now.Store(f)
		ep.pool.SetConfig(&f.pool)
		ep.join(f)
		if f.replaces(before, ep.expected.Load() != 1) || ep.misrouted(before, f) {
			ep.pool.Reconnect()
		}
		if is := f.mayHTTP2(); is != before.mayHTTP2() {
			ep.expect(1)
			if is {
				ep.expect(f.unknown())
			}
		}
		ep.followName(before, f)
	}
}

// sameWays says that requests go through the same proxies and sockets in two editions.
func (ed *edition) sameWays(o *edition) bool {
	ways := func(e *edition) (list [][3]string) {
		for i := range e.config.Rules {
			if r := &e.config.Rules[i]; r.Proxy != "" || r.Socket != "" {
				list = append(list, [3]string{r.Match, r.Proxy, r.Socket})
			}
		}
		return list
	}
	return sameProxies(ed.proxies, o.proxies) && slices.Equal(ways(ed), ways(o))
}

// misrouted says that requests to the endpoint's origin go another way now, or that those
// of some of its origins may.
func (ep *endpoint) misrouted(before, f *inForce) bool {
	switch {
	case ep.key.scheme == "unix", f.sameWays(before.edition):
		return false
	case ep.key.host == "":
		return true
	}
	proxy, err := ep.t.wayTo(f.edition, ep.key)
	return err == nil && proxyKey(proxy) != ep.key.proxy
}

// diff compares two editions.
func (t *Transport) diff(old, ed *edition) *Diff {
	d := &Diff{Generation: ed.n, Changes: changes("policy.", &old.config.Policy, &ed.config.Policy)}
	note := func(field string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			d.Changes = append(d.Changes, Change{field, x, y})
		}
	}
	a, b := &old.config, &ed.config
	for i := range max(len(a.Rules), len(b.Rules)) {
		name := fmt.Sprintf("rules[%d]", i)
		switch {
		case i >= len(b.Rules):
			d.Changes = append(d.Changes, Change{name, a.Rules[i].Match, "none"})
		case i >= len(a.Rules):
			d.Changes = append(d.Changes, Change{name, "none", b.Rules[i].Match})
		default:
			x, y := &a.Rules[i], &b.Rules[i]
			note(name+".match", x.Match, y.Match)
			d.Changes = append(d.Changes, changes(name+".policy.", &x.Policy, &y.Policy)...)
			note(name+".set", x.Set, y.Set)
			if x.Proxy != y.Proxy {
				d.Changes = append(d.Changes, Change{name + ".proxy", proxyText(x.Proxy), proxyText(y.Proxy)})
			}
			note(name+".socket", x.Socket, y.Socket)
			if x.TLS != y.TLS {
				d.Changes = append(d.Changes, Change{name + ".tls", tlsText(x.TLS), tlsText(y.TLS)})
			}
		}
	}
	note("max_conns", a.MaxConns, b.MaxConns)
	note("max_groups", a.MaxGroups, b.MaxGroups)
	note("port_budget", a.PortBudget, b.PortBudget)
	note("local_addrs", a.LocalAddrs, b.LocalAddrs)
	note("local_ports", a.LocalPorts, b.LocalPorts)
	note("disable_compression", a.DisableCompression, b.DisableCompression)
	if a.TLS != b.TLS {
		d.Changes = append(d.Changes, Change{"tls", tlsText(a.TLS), tlsText(b.TLS)})
	}
	for _, f := range []string{"Proxy", "DialContext", "DialTLSContext", "Resolve", "AllowAddr", "Protocols", "HTTP2", "Logger", "Trace",
		"GetProxyConnectHeader", "OnProxyConnectResponse"} {
		x, y := reflect.ValueOf(a).Elem().FieldByName(f), reflect.ValueOf(b).Elem().FieldByName(f)
		// A function is its closure: those of http.ProxyURL have the same code.
		if *(*unsafe.Pointer)(x.Addr().UnsafePointer()) != *(*unsafe.Pointer)(y.Addr().UnsafePointer()) {
			d.Changes = append(d.Changes, Change{f, set(x), set(y)})
		}
	}
	if fmt.Sprint(a.ProxyConnectHeader) != fmt.Sprint(b.ProxyConnectHeader) {
		d.Changes = append(d.Changes, Change{"ProxyConnectHeader", "…", "…"}) // credentials stand there
	}
	for _, ep := range t.endpoints.all() {
		own := t.ownSettings(ep.key)
		was, is := old.explain(ep.key, own).Policy, ed.explain(ep.key, own).Policy
		e := EndpointDiff{Endpoint: ep.name, Changes: changes("", &was, &is)}
		before := ep.now.Load()
		f := t.force(ed, ep.key, ep.proxy, before)
		e.Reconnects = f.replaces(before, ep.expected.Load() != 1) || ep.misrouted(before, f)
		if len(e.Changes) > 0 || e.Reconnects {
			d.Endpoints = append(d.Endpoints, e)
		}
	}
	slices.SortFunc(d.Endpoints, func(a, b EndpointDiff) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return d
}

// changes compares two policies.
func changes(prefix string, a, b *Policy) (list []Change) {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range policyType.NumField() {
		if p, q := x.Field(i).Interface(), y.Field(i).Interface(); p != q {
			list = append(list, Change{prefix + policyType.Field(i).Tag.Get("json"), valueText(p), valueText(q)})
		}
	}
	return list
}

// valueText writes a policy's value; zero is nobody's.
func valueText(v any) string {
	if reflect.ValueOf(v).IsZero() {
		return "unset"
	}
	return fmt.Sprint(v)
}

func set(v reflect.Value) string {
	if v.IsNil() {
		return "none"
	}
	return "set"
}

func tlsText(c *tls.Config) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("set (%d certificates)", len(c.Certificates))
}
