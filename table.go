package berth

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// endpointTable finds the endpoint of a request. Reading is free of locks: a
// shard's map is replaced, never changed. A request's URL host is looked up as it
// is written; the first request that writes it so makes it canonical.
type endpointTable struct {
	seed   maphash.Seed
	shards [tableShards]atomic.Pointer[map[alias]*endpoint]

	// mu guards byKey and closed, and serialises changes of the shards. Nothing
	// else happens while it is held.
	mu     sync.Mutex
	byKey  map[uint64]*endpoint // by the key's hash; those of one hash hang together
	n      int
	hash   func(endpointKey) uint64 // spares the map a second copy of each key, which is large
	closed bool
}

// tableShards keeps the cost of a change low: it copies one shard's map.
const tableShards = 256

// maxAliases bounds the spellings of one endpoint's host that are remembered, so
// that nobody can fill the table by writing a host in ever new ways.
const maxAliases = 8

// alias is how a request names its endpoint: scheme has the group and the proxy in it.
type alias struct{ scheme, host string }

func (tb *endpointTable) init() {
	tb.seed = maphash.MakeSeed()
	tb.byKey = map[uint64]*endpoint{}
	tb.hash = func(k endpointKey) uint64 { return maphash.Comparable(tb.seed, k) }
}

func (tb *endpointTable) shard(a alias) *atomic.Pointer[map[alias]*endpoint] {
	h := maphash.String(tb.seed, a.host)
	if len(a.scheme) > len("https") {
		h ^= maphash.String(tb.seed, a.scheme) // groups of one host are spread too
	}
	return &tb.shards[h%tableShards]
}

// lookup returns the endpoint that a is known for, or nil.
func (tb *endpointTable) lookup(a alias) *endpoint {
	if m := tb.shard(a).Load(); m != nil {
		return (*m)[a]
	}
	return nil
}

// find returns the endpoint with that key, or nil.
func (tb *endpointTable) find(k endpointKey) *endpoint {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.findLocked(k)
}

// findLocked is find for who has the lock.
func (tb *endpointTable) findLocked(k endpointKey) *endpoint {
	ep := tb.byKey[tb.hash(k)]
	for ep != nil && ep.key != k {
		ep = ep.next
	}
	return ep
}

// add returns the endpoint with that key, made by create if there is none, and
// remembers the alias for it unless it is zero. The error is a *ClosedError, or
// create's.
func (tb *endpointTable) add(k endpointKey, a alias, create func() (*endpoint, error)) (ep *endpoint, err error) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.closed {
		return nil, &ClosedError{}
	}
	ep = tb.findLocked(k)
	if ep == nil {
		if ep, err = create(); err != nil {
			return nil, err
		}
		h := tb.hash(k)
		ep.next = tb.byKey[h]
		tb.byKey[h] = ep
		tb.n++
	}
	if len(ep.aliases) < maxAliases && a != (alias{}) {
		ep.aliases = append(ep.aliases, a)
		tb.change(a, func(m map[alias]*endpoint) { m[a] = ep })
	}
	return ep, nil
}

// forgetAliases has every request's endpoint be found anew.
func (tb *endpointTable) forgetAliases() {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for _, ep := range tb.list() {
		ep.aliases = nil
	}
	for i := range tb.shards {
		tb.shards[i].Store(nil)
	}
}

// change replaces the map of a's shard by a changed copy. tb.mu is held.
func (tb *endpointTable) change(a alias, f func(map[alias]*endpoint)) {
	p := tb.shard(a)
	m := map[alias]*endpoint{}
	if old := p.Load(); old != nil {
		m = maps.Clone(*old)
	}
	f(m)
	p.Store(&m)
}

// remove forgets an endpoint whose pool has been given up, and reports whether it was
// there.
func (tb *endpointTable) remove(ep *endpoint) bool {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.findLocked(ep.key) != ep {
		return false
	}
	h := tb.hash(ep.key)
	if first := tb.byKey[h]; first != ep {
		for first.next != ep {
			first = first.next
		}
		first.next = ep.next
	} else if ep.next != nil {
		tb.byKey[h] = ep.next
	} else {
		delete(tb.byKey, h)
	}
	tb.n--
	for _, a := range ep.aliases {
		tb.change(a, func(m map[alias]*endpoint) { delete(m, a) })
	}
	return true
}

// close lets no further endpoint in and returns those that are there.
func (tb *endpointTable) close() []*endpoint {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.closed = true
	return tb.list()
}

func (tb *endpointTable) all() []*endpoint {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.list()
}

func (tb *endpointTable) list() []*endpoint {
	list := make([]*endpoint, 0, tb.n)
	for _, ep := range tb.byKey {
		for ; ep != nil; ep = ep.next {
			list = append(list, ep)
		}
	}
	return list
}
