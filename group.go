package berth

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Group is a part of a [Transport] that shares no connection, TLS session or tunnel with
// any other: for tenants, for priorities, for work that must not starve other work. It is
// an http.RoundTripper. Limits hold for each group, which may have its own by
// [Group.SetPolicy]; Policy.MaxConnsPerHost and
// Config.MaxConns bound all of them together. A group costs nothing until its first
// request, and ends when all its connections have aged and its endpoints are forgotten.
type Group struct {
	t                 *Transport // nil in contexts
	name              string
	http, https, unix string // an alias's scheme
	hasty             bool   // in contexts: WithoutQueue
}

// Group returns the group of that name; "" is the default group, which requests without
// one belong to. It is safe for concurrent use, as the Group is.
func (t *Transport) Group(name string) *Group {
	g := newGroup(name)
	g.t = t
	return g
}

func newGroup(name string) *Group {
	g := &Group{name: name, http: "http", https: "https", unix: "unix"}
	if name != "" {
		suffix := "|group " + strconv.Quote(name) // whatever follows cannot be part of a name
		g.http, g.https, g.unix = g.http+suffix, g.https+suffix, g.unix+suffix
	}
	return g
}

// scheme returns a scheme as aliases have it, without allocating; g may be nil.
func (g *Group) scheme(s string) string {
	switch {
	case g == nil:
		return s
	case s == "http":
		return g.http
	case s == "https":
		return g.https
	}
	return g.unix
}

// Name returns the group's name.
func (g *Group) Name() string {
	if g == nil {
		return ""
	}
	return g.name
}

// RoundTrip is [Transport.RoundTrip] over the group's connections, whatever group the
// request's context names.
func (g *Group) RoundTrip(req *http.Request) (*http.Response, error) {
	if groupOf(req.Context()).isHasty() {
		h := *g
		h.hasty = true
		return g.t.roundTripIn(req, &h)
	}
	return g.t.roundTripIn(req, g)
}

// Endpoint is [Transport.Endpoint] for the group.
func (g *Group) Endpoint(rawURL string) (*Endpoint, error) {
	e, err := g.t.Endpoint(rawURL)
	if err == nil {
		e.key.group = g.name
	}
	return e, err
}

// CloseIdleConnections closes the group's connections that no request uses, and those
// that fall idle before the next request to their endpoint.
func (g *Group) CloseIdleConnections() {
	g.t.init()
	for _, ep := range g.t.endpoints.all() {
		if ep.key.group == g.name {
			ep.pool.CloseIdle()
		}
	}
}

type groupKey struct{}

// WithGroup returns a context whose requests belong to the group of that name.
func WithGroup(ctx context.Context, name string) context.Context {
	g := newGroup(name)
	g.hasty = groupOf(ctx).isHasty()
	return context.WithValue(ctx, groupKey{}, g)
}

// WithoutQueue returns a context whose requests do not queue: for work that is worth doing
// only if it is in nobody's way, like a second attempt beside one that runs. Such a request
// takes a connection that is free, or shares one that has room, or has one opened if every
// limit allows that now, or takes the one that is being opened and that nobody else needs.
// Else it fails at once with *WouldQueueError, which costs little and counts as no demand.
// It waits behind no other request, and not for a limit, a port, the end of a back-off or
// of a pause; nor is an idle connection of another endpoint closed for it. It may wait for
// the connection to be opened, up to its context's end; when what it counted on goes to
// others, it fails then.
func WithoutQueue(ctx context.Context) context.Context {
	// One value tells the group too, so that requests look for one.
	g := newGroup(groupOf(ctx).Name())
	g.hasty = true
	return context.WithValue(ctx, groupKey{}, g)
}

// isHasty says that the context's requests do not queue; g may be nil.
func (g *Group) isHasty() bool { return g != nil && g.hasty }

// groupOf returns the group that a request's context names; nil is the default group.
func groupOf(ctx context.Context) *Group {
	g, _ := ctx.Value(groupKey{}).(*Group)
	return g
}

// CloseGroup closes the connections of a group: idle ones now, busy ones after their
// response. It reports whether the group had any connection or request. Requests that come
// later begin the group anew.
func (t *Transport) CloseGroup(name string) bool {
	t.init()
	return t.closeGroup(func(ep *endpoint) bool { return ep.key.group == name })
}

// CloseGroup closes the connections of a group to this endpoint's host, as
// [Transport.CloseGroup] does everywhere.
func (e *Endpoint) CloseGroup(name string) bool {
	base := e.key.base()
	return e.t.closeGroup(func(ep *endpoint) bool { return ep.key.group == name && ep.key.base() == base })
}

func (t *Transport) closeGroup(member func(*endpoint) bool) (existed bool) {
	for _, ep := range t.endpoints.all() {
		if !member(ep) {
			continue
		}
		s := ep.pool.Stats()
		existed = existed || s.Dialing+s.Leased+s.Idle+s.Draining+s.Waiting > 0
		ep.pool.Reconnect()
		ep.pool.CloseIdle()
		ep.forget()
	}
	return existed
}

// Groups returns the names of the groups that have an endpoint, sorted; the default group
// is not among them.
func (t *Transport) Groups() []string {
	t.init()
	t.groups.mu.Lock()
	defer t.groups.mu.Unlock()
	names := make([]string, 0, len(t.groups.endpoints))
	for name := range t.groups.endpoints {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// TooManyGroupsError: Config.MaxGroups groups are in use, and none is idle. A group a
// request is mostly a mistake: name groups after what they keep apart. Nothing was sent.
// Code BERTH1017.
type TooManyGroupsError struct {
	notSent
	Group     string
	MaxGroups int
}

func (e *TooManyGroupsError) Error() string {
	return fmt.Sprintf("berth: no room for group %q: %d groups are in use (limit: MaxGroups): name groups after what they keep apart, not after each request; "+
		"or close some with CloseGroup, or raise MaxGroups [BERTH1017]", e.Group, e.MaxGroups)
}

// Code returns BERTH1017.
func (e *TooManyGroupsError) Code() string { return "BERTH1017" }

// groupTable counts the groups.
type groupTable struct {
	mu        sync.Mutex
	endpoints map[string]int // by group; at least 1

	// evicting is held by who ends a group for the sake of another, until that has begun.
	evicting sync.Mutex
}

// begin counts an endpoint of a group. The error is a *TooManyGroupsError.
func (g *groupTable) begin(name string, limit int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if limit = or(limit, defaultMaxGroups, 0); limit > 0 && g.endpoints[name] == 0 && len(g.endpoints) >= limit {
		return &TooManyGroupsError{Group: name, MaxGroups: limit}
	}
	if g.endpoints == nil {
		g.endpoints = map[string]int{}
	}
	g.endpoints[name]++
	return nil
}

// evictGroup ends the group that is idle for longest, and reports whether there was one.
func (t *Transport) evictGroup() bool {
	type use struct {
		busy   bool
		latest int64
		eps    []*endpoint
	}
	groups := map[string]*use{}
	for _, ep := range t.endpoints.all() {
		if ep.key.group == "" {
			continue
		}
		u := groups[ep.key.group]
		if u == nil {
			u = new(use)
			groups[ep.key.group] = u
		}
		busy, since := ep.pool.Busy()
		u.busy = u.busy || busy
		u.latest = max(u.latest, since)
		u.eps = append(u.eps, ep)
	}
	var idle []*use
	for _, u := range groups {
		if !u.busy {
			idle = append(idle, u)
		}
	}
	slices.SortFunc(idle, func(a, b *use) int { return cmp.Compare(a.latest, b.latest) })
	for _, u := range idle {
		gone := true
		for _, ep := range u.eps {
			ep.pool.CloseIdle()
			gone = ep.forget() && gone // unless a request came, or a close takes its time
		}
		if gone {
			return true
		}
	}
	return false
}

// ended takes it off the count.
func (g *groupTable) ended(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.endpoints[name]--; g.endpoints[name] <= 0 {
		delete(g.endpoints, name)
	}
}
