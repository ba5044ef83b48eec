package resilience

import (
	"cmp"
	"hash/maphash"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// perEndpoint has one T for each endpoint, made when it is first asked for. It is bounded:
// when there are more than max, those that were asked for the longest ago are forgotten,
// and begin anew when they come back. Reading is free of locks and allocates nothing: a
// shard's map is replaced, never changed.
type perEndpoint[T any] struct {
	create func(endpointKey) *T
	busy   func(*T) bool // says that it must not be forgotten now; nil is never
	max    int
	seed   maphash.Seed
	shards [endpointShards]atomic.Pointer[map[endpointKey]*tenant[T]]
	turn   atomic.Uint64 // how many have come; the clock of used

	// mu guards n and serialises changes of the shards. create and busy are called while it
	// is held, and take no lock.
	mu sync.Mutex
	n  int
}

type tenant[T any] struct {
	of   *T
	key  endpointKey
	used atomic.Uint64 // turn, when it was asked for last
}

const (
	// maxEndpoints bounds a table. It is far more than a program talks to at a time, and
	// some megabytes of circuits.
	maxEndpoints = 4096

	// endpointShards keeps the cost of a change low: it copies one shard's map.
	endpointShards = 64
)

func newPerEndpoint[T any](create func(endpointKey) *T, busy func(*T) bool) *perEndpoint[T] {
	return &perEndpoint[T]{create: create, busy: busy, max: maxEndpoints, seed: maphash.MakeSeed()}
}

// of returns what belongs to the endpoint.
func (p *perEndpoint[T]) of(k endpointKey) *T {
	if m := p.shard(k).Load(); m != nil {
		if t := (*m)[k]; t != nil {
			if turn := p.turn.Load(); t.used.Load() != turn {
				t.used.Store(turn)
			}
			return t.of
		}
	}
	return p.add(k)
}

// shard spreads by the host alone: an endpoint rarely has another's host.
func (p *perEndpoint[T]) shard(k endpointKey) *atomic.Pointer[map[endpointKey]*tenant[T]] {
	return &p.shards[maphash.String(p.seed, k.host)%endpointShards]
}

func (p *perEndpoint[T]) add(k endpointKey) *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	shard := p.shard(k)
	m := map[endpointKey]*tenant[T]{}
	if old := shard.Load(); old != nil {
		if t := (*old)[k]; t != nil {
			return t.of
		}
		m = maps.Clone(*old)
	}
	k = endpointKey{strings.Clone(k.scheme), strings.Clone(k.host)} // not the whole URL
	t := &tenant[T]{of: p.create(k), key: k}
	t.used.Store(p.turn.Add(1))
	m[k] = t
	shard.Store(&m)
	if p.n++; p.n > p.max {
		p.forgetLocked()
	}
	return t.of
}

// forgetLocked forgets a sixteenth, so that looking at all is not the price of each.
func (p *perEndpoint[T]) forgetLocked() {
	type candidate struct {
		*tenant[T]
		used uint64 // others go on using it
	}
	var idle []candidate
	for i := range p.shards {
		if m := p.shards[i].Load(); m != nil {
			for _, t := range *m {
				if p.busy == nil || !p.busy(t.of) {
					idle = append(idle, candidate{t, t.used.Load()})
				}
			}
		}
	}
	// The one that has just come is the youngest: it stays.
	slices.SortFunc(idle, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	idle = idle[:min(p.n-p.max+p.max/16, max(len(idle)-1, 0))]
	gone := map[*atomic.Pointer[map[endpointKey]*tenant[T]]]map[endpointKey]*tenant[T]{}
	for _, t := range idle {
		shard := p.shard(t.key)
		if gone[shard] == nil {
			gone[shard] = maps.Clone(*shard.Load())
		}
		delete(gone[shard], t.key)
	}
	for shard, m := range gone {
		shard.Store(&m)
	}
	p.n -= len(idle)
}

// canonical is the key of what a URL goes to: one however its host is written, with and
// without the default port. It allocates only when there are capitals in it.
func canonical(u *url.URL) endpointKey {
	k := endpointKey{u.Scheme, u.Host}
	if k.scheme != "http" && k.scheme != "https" {
		k.scheme = strings.ToLower(k.scheme)
	}
	for i := range len(k.host) {
		if c := k.host[i]; 'A' <= c && c <= 'Z' || c >= 0x80 {
			k.host = strings.ToLower(k.host)
			break
		}
	}
	port := ":443"
	if k.scheme == "http" {
		port = ":80"
	}
	if n := len(k.host); n > 0 && k.host[n-1] == ':' {
		k.host = k.host[:n-1]
	} else if k.scheme == "http" || k.scheme == "https" {
		k.host = strings.TrimSuffix(k.host, port)
	}
	return k
}

// String is the endpoint's name in errors and traces.
func (k endpointKey) String() string { return k.scheme + "://" + k.host }
