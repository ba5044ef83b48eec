package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Key is what endpoints are sorted by.
type Key int

const (
	ByWaiting Key = iota // those that need attention first, then by requests that wait
	ByConns
	ByRequests
	ByName
)

// Keys are their names, in the order in which they follow each other.
func Keys() []string { return []string{"waiting", "connections", "requests", "endpoint"} }

// ParseKey reads a name, or the letter that it begins with.
func ParseKey(s string) (Key, error) {
	for i, name := range Keys() {
		if s == name || s == name[:1] {
			return Key(i), nil
		}
	}
	return 0, fmt.Errorf("%q: there are %s", s, strings.Join(Keys(), ", "))
}

func (k Key) String() string { return Keys()[k] }

// Next is the key after k, the first after the last.
func (k Key) Next() Key { return (k + 1) % Key(len(Keys())) }

// Select returns the endpoints whose name or group has the filter in it, in any case,
// sorted: the most first, and equal ones by name. The list is not changed.
func Select(list []Endpoint, filter string, by Key) []Endpoint {
	filter = strings.ToLower(filter)
	var out []Endpoint
	for _, e := range list {
		if strings.Contains(strings.ToLower(e.Endpoint+" "+e.Group), filter) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Endpoint) int {
		var most int
		switch by {
		case ByWaiting:
			most = cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(b.Stats.Waiting, a.Stats.Waiting), cmp.Compare(b.Stats.OldestWait, a.Stats.OldestWait))
		case ByConns:
			most = cmp.Compare(b.Conns(), a.Conns())
		case ByRequests:
			most = cmp.Compare(b.Rates.Requests.V, a.Rates.Requests.V)
		}
		return cmp.Or(most, strings.Compare(a.Endpoint, b.Endpoint), strings.Compare(a.Group, b.Group))
	})
	return out
}
