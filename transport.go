package berth

import (
	"context"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/pool"
)

// Transport is an http.RoundTripper over its own connection pools. The zero
// Transport is ready to use; [New] makes one that is configured. It is safe for
// concurrent use and must not be copied after the first request. A program needs
// one: endpoints share nothing but the Transport.
//
// A Transport that is dropped without Close is collected, connections and all.
type Transport struct {
	first Config // New's

	once      sync.Once
	base      time.Time // of the monotonic clock
	clock     func() int64
	shared    pool.Shared
	alternate atomic.Pointer[map[string]http.RoundTripper]
	endpoints endpointTable
	groups    groupTable
	names     dial.Names
	ports     *dial.Ledger
	limits    limits
	watches   background // of names
	portless  sync.Map   // *endpoint → *portWait of one of its dials
	lacking   sync.Map   // features of the kernel that were missed
	bodies    bodyWatch
	inUse     *pprof.Profile
	lastConn  atomic.Int64  // told.opened of the newest
	lives     atomic.Uint32 // endpoints made so far

	edition atomic.Pointer[edition]                 // in force
	own     atomic.Pointer[map[endpointKey]*Policy] // what Endpoint.SetPolicy has set; never changed
	ofGroup sync.Map                                // by name: the *groupSettings of those that have some

	// steer serialises changes of edition, own and ofGroup, and of what holds for endpoints.
	steer sync.Mutex
}

// init prepares the first use.
func (t *Transport) init() {
	t.once.Do(func() {
		t.base = time.Now().Add(-time.Nanosecond)
		t.clock = t.now
		t.endpoints.init()
		t.inUse = inUseProfile()
		t.shared.SiteDone = siteDone(t.inUse)
		t.ports = dial.NewLedger(t.clock)
		t.limits.quota = pool.NewQuota(t.clock, &t.shared)
		ed := t.newEdition(t.first, 1)
		t.edition.Store(ed)
		t.limits.set(ed)
	})
}

// nextConn returns the time, or what follows the last connection's.
func (t *Transport) nextConn() int64 {
	for {
		last := t.lastConn.Load()
		if id := max(t.now(), last+1); t.lastConn.CompareAndSwap(last, id) {
			return id
		}
	}
}

// now returns nanoseconds of the transport's monotonic clock, at least 1.
func (t *Transport) now() int64 { return int64(time.Since(t.base)) }

// CloseIdleConnections closes the connections that no request uses, and those
// that fall idle before the next request to their endpoint. It cuts no request.
func (t *Transport) CloseIdleConnections() {
	t.init()
	for _, ep := range t.endpoints.all() {
		ep.pool.CloseIdle()
	}
}

// Shutdown ends the transport gently: new requests fail with *ClosedError, those
// that wait or run are served, and every connection is closed as soon as it is
// free. It returns when the last one is, or ctx ends; then with ctx's cause, and
// Close can follow.
func (t *Transport) Shutdown(ctx context.Context) error {
	t.init()
	eps := t.endpoints.close()
	defer t.watches.end()
	errs := make(chan error, len(eps))
	for _, ep := range eps {
		go func() { errs <- ep.pool.Shutdown(ctx) }() // all are received below
	}
	var first error
	for range eps {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Close ends the transport: new requests and those that wait fail with
// *ClosedError, dials are cancelled, idle connections closed. Requests that have a
// connection finish on it. Close returns when no dial is under way; it always
// returns nil.
func (t *Transport) Close() error {
	t.init()
	var wg sync.WaitGroup
	for _, ep := range t.endpoints.close() {
		wg.Go(ep.pool.Close)
	}
	wg.Wait()
	t.watches.end()
	return nil
}

// Endpoint returns the endpoint that requests to rawURL go to, whether any did so
// far or not. Config.Proxy is asked for a GET of it: plain HTTP through a proxy has
// the proxy for its endpoint, whatever the origin. The error names what is wrong
// with rawURL.
func (t *Transport) Endpoint(rawURL string) (*Endpoint, error) {
	t.init()
	key, u, err := parseEndpoint(rawURL)
	if err != nil {
		return nil, err
	}
	if key.scheme != "unix" {
		req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}
		proxy, err := t.proxyOf(t.edition.Load(), req)
		if err != nil {
			return nil, &ConfigError{Field: "Proxy", Reason: err.Error()}
		}
		key = key.through(proxy)
	}
	return &Endpoint{t: t, key: key}, nil
}

// Endpoints returns the endpoints that hold a connection or a waiting request, or
// did so during the last minutes, sorted by name.
func (t *Transport) Endpoints() []*Endpoint {
	t.init()
	var list []*Endpoint
	for _, ep := range t.endpoints.all() {
		list = append(list, &Endpoint{t: t, key: ep.key})
	}
	slices.SortFunc(list, func(a, b *Endpoint) int { return strings.Compare(a.String(), b.String()) })
	return list
}
