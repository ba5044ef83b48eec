package clients

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/berth-go/berth"
)

// Registry has the clients of a program by name, over one transport. It is safe for
// concurrent use.
type Registry struct {
	tr    *berth.Transport
	state atomic.Pointer[state]

	// mu serialises Apply and Close. Groups are steered while it is held, which takes the
	// transport's own locks; nothing else.
	mu     sync.Mutex
	groups map[string]steering // that the registry has set
	closed bool
}

// state is a configuration as it was applied. It never changes.
type state struct {
	config  Config
	clients map[string]*Client
	retired map[string]*Client // no longer configured; who has one goes on with it
}

// steering is what a group has by its clients.
type steering struct {
	policy berth.Policy
	guard  *Guard
	client string // one that has it
}

// New makes a registry over tr, which stays its maker's to close. The error is a
// *berth.ConfigError and names the client and the field.
func New(tr *berth.Transport, cfg Config) (*Registry, error) {
	r := &Registry{tr: tr, groups: map[string]steering{}}
	r.state.Store(&state{})
	if _, err := r.Apply(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Client returns the client of that name, the same one each time. It costs a look into a
// map, and may be kept as long as the program runs: it follows the configuration. Its
// fields must not be changed. The error is an *UnknownClientError.
func (r *Registry) Client(name string) (*http.Client, error) {
	c, err := r.Named(name)
	if err != nil {
		return nil, err
	}
	return c.Client, nil
}

// MustClient is Client for a name that is known to be there; it panics with the error
// otherwise. It is for the wiring at a program's start.
func (r *Registry) MustClient(name string) *http.Client {
	c, err := r.Client(name)
	if err != nil {
		panic(err)
	}
	return c
}

// Named returns the client of that name, with what is its own beside http.Client's methods.
// The error is an *UnknownClientError.
func (r *Registry) Named(name string) (*Client, error) {
	s := r.state.Load()
	if c := s.clients[name]; c != nil {
		return c, nil
	}
	return nil, &UnknownClientError{Name: name, Known: s.names()}
}

// Names returns the names of the clients, sorted.
func (r *Registry) Names() []string { return r.state.Load().names() }

func (s *state) names() []string { return slices.Sorted(maps.Keys(s.clients)) }

// Config returns the configuration in force. The copy may be changed and applied.
func (r *Registry) Config() Config {
	cfg := r.state.Load().config
	cfg.Clients = maps.Clone(cfg.Clients)
	return cfg
}

// Settings returns what holds for the client of that name, Config.Defaults included. The
// error is an *UnknownClientError.
func (r *Registry) Settings(name string) (Settings, error) {
	c, err := r.Named(name)
	if err != nil {
		return Settings{}, err
	}
	return c.now.Load().settings, nil
}

// Apply puts another configuration in force. Every client changes at once, with those that
// are kept in long-lived objects; requests that run end by the configuration that they
// began with, and no request fails by it. Clients and strategies that did not change keep
// their state. One whose name is gone is no longer found, and goes on as it was where it
// is kept. It returns what has changed. The error is a *berth.ConfigError that names the
// client and the field: nothing has changed then.
func (r *Registry) Apply(cfg Config) (*Diff, error) {
	cfg.Clients = maps.Clone(cfg.Clients)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, &berth.ClosedError{}
	}
	old := r.state.Load()
	plans, groups, err := r.plan(old, &cfg)
	if err != nil {
		return nil, err
	}
	next := &state{config: cfg, clients: make(map[string]*Client, len(plans)), retired: maps.Clone(old.retired)}
	if next.retired == nil {
		next.retired = map[string]*Client{}
	}
	d := diff(old, next, plans)
	for name, g := range groups { // before the clients that rely on it
		r.steer(name, g)
	}
	for name, p := range plans {
		c := p.client
		if c == nil {
			c = newClient(name)
		}
		next.clients[name] = c
		delete(next.retired, name)
		if p.pipeline != nil {
			if before := c.now.Swap(p.pipeline); before != nil {
				before.release()
			}
		}
	}
	for name, c := range old.clients {
		if next.clients[name] == nil {
			next.retired[name] = c
		}
	}
	r.state.Store(next)
	return d, nil
}

// Compare returns what Apply would change, and changes nothing.
func (r *Registry) Compare(cfg Config) (*Diff, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, &berth.ClosedError{}
	}
	old := r.state.Load()
	plans, _, err := r.plan(old, &cfg)
	if err != nil {
		return nil, err
	}
	defer drop(plans)
	return diff(old, &state{config: cfg}, plans), nil
}

// plan is what is to become of one client.
type plan struct {
	client   *Client   // nil for a new one
	pipeline *pipeline // nil if it stays
	settings Settings
}

// drop ends pipelines that are not put in force.
func drop(plans map[string]plan) {
	for _, p := range plans {
		if p.pipeline != nil {
			p.pipeline.release()
		}
	}
}

// plan builds what a configuration asks for, and what groups are to have. r.mu is held.
func (r *Registry) plan(old *state, cfg *Config) (plans map[string]plan, groups map[string]steering, err error) {
	plans, groups = map[string]plan{}, map[string]steering{}
	defer func() {
		if err != nil {
			drop(plans)
		}
	}()
	if n := len(cfg.Clients) + len(old.retired); n > maxClients {
		return nil, nil, &berth.ConfigError{Field: "Clients", Reason: fmt.Sprintf("%d names, with those of earlier configurations, are more than %d: a name a request is mostly a mistake", n, maxClients)}
	}
	if _, err := cfg.Defaults.validate("Defaults"); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Clients)) {
		field := fmt.Sprintf("Clients[%q]", name)
		if name == "" {
			return nil, nil, &berth.ConfigError{Field: field, Reason: "has no name"}
		}
		own := cfg.Clients[name]
		if err := own.knows(field); err != nil {
			return nil, nil, err
		}
		s := cfg.effective(name)
		base, err := s.validate(field)
		if err != nil {
			return nil, nil, err
		}
		if s.Log && cfg.Logger == nil {
			return nil, nil, &berth.ConfigError{Field: field + ".Log", Reason: "needs Config.Logger"}
		}
		if err := join(groups, &s, name); err != nil {
			return nil, nil, &berth.ConfigError{Field: field + ".Group", Reason: err.Error()}
		}
		p := plan{client: old.clients[name], settings: s}
		if p.client == nil {
			p.client = old.retired[name]
		}
		var before *pipeline
		if p.client != nil {
			before = p.client.now.Load()
		}
		if p.pipeline, err = r.build(name, s, base, cfg, before); err != nil {
			return nil, nil, prefixed(field, err)
		}
		plans[name] = p
	}
	var trial berth.Transport // says what a group's policy may be
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if err := trial.Group(name).SetPolicy(g.policy); err != nil {
			return nil, nil, prefixed(fmt.Sprintf("Clients[%q]", g.client), err)
		}
	}
	return plans, groups, nil
}

// join has a client be one of its group.
func join(groups map[string]steering, s *Settings, name string) error {
	if s.Group == "" {
		return nil
	}
	g, there := groups[s.Group]
	own := steering{policy: s.Policy, guard: s.Guard, client: name}
	if !there {
		groups[s.Group] = own
		return nil
	}
	if g.policy != own.policy || !same(&g.guard, &own.guard) {
		return fmt.Errorf("%q is that of client %q too, with another Policy or Guard: connections of a group have one", s.Group, g.client)
	}
	return nil
}

// steer gives a group what its clients ask for. r.mu is held.
func (r *Registry) steer(name string, g steering) {
	was, known := r.groups[name]
	group := r.tr.Group(name)
	if g.policy != was.policy {
		group.SetPolicy(g.policy) // was tried
	}
	switch {
	case known && same(&g.guard, &was.guard):
		g.guard = was.guard
	case g.guard != nil:
		group.SetAllowAddr(g.guard.Check)
	case was.guard != nil:
		group.SetAllowAddr(nil)
	}
	r.groups[name] = g
}

// prefixed puts where a field is before its name.
func prefixed(at string, err error) error {
	if e, ok := err.(*berth.ConfigError); ok {
		return &berth.ConfigError{Field: at + "." + e.Field, Reason: e.Reason}
	}
	return err
}

// Close ends the registry: requests of its clients fail from now on with
// *berth.ClosedError, those that run end as they would have. Handlers that are closers are
// closed by then. The transport goes on, and its groups keep their policies and guards. It
// returns nil.
func (r *Registry) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	s := r.state.Load()
	for _, of := range []map[string]*Client{s.clients, s.retired} {
		for _, c := range of {
			c.now.Swap(ended(c.now.Load())).release()
		}
	}
	return nil
}

// UnknownClientError: no client has that name. Code BERTH1025.
type UnknownClientError struct {
	Name  string
	Known []string // sorted
}

// maxListed bounds how many names an error lists.
const maxListed = 20

func (e *UnknownClientError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("berth: no client %q: none is configured [BERTH1025]", e.Name)
	}
	list, more := e.Known, ""
	if len(list) > maxListed {
		list, more = list[:maxListed], fmt.Sprintf(" and %d more", len(list)-maxListed)
	}
	return fmt.Sprintf("berth: no client %q; there are %s%s [BERTH1025]", e.Name, strings.Join(list, ", "), more)
}

// Code returns BERTH1025.
func (e *UnknownClientError) Code() string { return "BERTH1025" }

// origin returns what tells origins apart; "" for nil.
func origin(u *url.URL) string {
	if u == nil {
		return ""
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
