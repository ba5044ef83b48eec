package berth

import "sync"

// groupSettings is what SetPolicy and SetAllowAddr have set for a group. It is replaced,
// never changed, but remembers what a configuration makes of it: the group's endpoints
// share that.
type groupSettings struct {
	policy *Policy // nil is none
	allow  func(AddrInfo) error

	mu   sync.Mutex // guards what follows
	of   *edition
	made map[string]*settings // by the rules that match
}

// settings returns what ed makes of the group's settings and the rules whose byte in sig is
// set.
func (g *groupSettings) settings(ed *edition, sig []byte) *settings {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of != ed {
		g.of, g.made = ed, map[string]*settings{}
	}
	s := g.made[string(sig)]
	if s == nil {
		s = ed.make(sig, ownSettings{group: g})
		g.made[string(sig)] = s
	}
	return s
}

// ownSettings is what was set for an endpoint at run time, before all rules.
type ownSettings struct {
	endpoint *Policy        // for itself; nil is nothing
	group    *groupSettings // for its group; nil is nothing
}

func (t *Transport) ownSettings(key endpointKey) (own ownSettings) {
	if m := t.own.Load(); m != nil {
		own.endpoint = (*m)[key.base()]
	}
	own.group = t.groupSettings(key.group)
	return own
}

// groupSettings returns what was set for a group; nil when nothing.
func (t *Transport) groupSettings(name string) *groupSettings {
	g, _ := t.ofGroup.Load(name)
	s, _ := g.(*groupSettings)
	return s
}

// addTo puts the policies in, the nearer one first.
func (own ownSettings) addTo(m *merger) {
	m.add(own.endpoint, nil, "endpoint")
	if own.group != nil {
		m.add(own.group.policy, nil, "group")
	}
}

func (own ownSettings) allow() func(AddrInfo) error {
	if own.group == nil {
		return nil
	}
	return own.group.allow
}

// SetPolicy gives the group's endpoints values of their own, before all rules but after
// what [Endpoint.SetPolicy] has set: p's fields that are not zero. It replaces what an
// earlier call has set; the zero Policy takes everything back. It holds at once, cuts no
// request, and stays when endpoints are forgotten, when the group is closed or ends, and
// over [Transport.Apply]. For the default group it concerns the endpoints of no other. The
// error is a *ConfigError; MaxConnsPerHost and PortBudget, which are of all groups together,
// must be zero.
func (g *Group) SetPolicy(p Policy) error {
	if err := p.validate("Policy"); err != nil {
		return err
	}
	const shared = "is of all groups together: set it in a rule, or for the endpoint"
	switch {
	case p.MaxConnsPerHost != 0:
		return &ConfigError{Field: "Policy.MaxConnsPerHost", Reason: shared + "; MaxConns limits what the group has to a host"}
	case p.PortBudget != (PortBudget{}):
		return &ConfigError{Field: "Policy.PortBudget", Reason: shared}
	}
	g.set(func(s *groupSettings) {
		if s.policy = &p; p == (Policy{}) {
			s.policy = nil
		}
	})
	return nil
}

// SetAllowAddr has f be asked about every connection that the group opens, besides
// Config.AllowAddr: both must allow it. It replaces what an earlier call has set, and stays
// as [Group.SetPolicy]'s does; nil takes it back. Connections that were opened under
// another function, or none, are replaced: idle ones are closed, busy ones after their
// requests. Keep the function in a variable to set it again: a closure is another one each
// time that it is made.
func (g *Group) SetAllowAddr(f func(AddrInfo) error) {
	g.set(func(s *groupSettings) { s.allow = f })
}

// set changes what is set for the group, and has its endpoints follow.
func (g *Group) set(change func(*groupSettings)) {
	t := g.t
	t.init()
	t.steer.Lock()
	defer t.steer.Unlock()
	s := &groupSettings{}
	if old := t.groupSettings(g.name); old != nil {
		s.policy, s.allow = old.policy, old.allow
	}
	if change(s); s.policy == nil && s.allow == nil {
		t.ofGroup.Delete(g.name)
	} else {
		t.ofGroup.Store(g.name, s)
	}
	var eps []*endpoint
	for _, ep := range t.endpoints.all() {
		if ep.key.group == g.name {
			eps = append(eps, ep)
		}
	}
	t.follow(eps)
	t.ports.Wake()
}
