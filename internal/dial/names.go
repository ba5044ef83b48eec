package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Lookup resolves a name. ttl is how long the answer holds; ≤ 0 when it is not known.
type Lookup func(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error)

const (
	// unknownTTL is how long an answer holds that does not say: long enough to spare a
	// resolver, short enough to see a change soon.
	unknownTTL = 30 * time.Second

	// failedTTL is how long a failure holds: nobody asks a resolver in between.
	failedTTL = time.Second

	// keptNames bounds the names that are remembered; those out of date go first.
	keptNames = 10_000
)

// An address that could not be connected to is set aside for asideMin, doubling up to
// asideMax while it fails again: others are tried before it.
const (
	asideMin = time.Second
	asideMax = time.Minute
)

// Names remembers what names resolve to, for as long as they hold. The zero Names is
// ready to use, by any number of goroutines.
type Names struct {
	mu sync.Mutex
	m  map[string]*name
}

// name is what is known of one.
type name struct {
	addrs   []netip.Addr // the last answer, kept while the resolver fails
	err     error        // of the last lookup
	until   time.Time    // it holds
	flight  *flight      // a lookup that runs
	aside   map[netip.Addr]aside
	changed int // answers so far that differed from the one before
}

type flight struct {
	done chan struct{}
}

type aside struct {
	until time.Time
	fails int
}

// Query asks for a name.
type Query struct {
	Host   string
	Lookup Lookup
	MinTTL time.Duration // an answer holds at least so long
	MaxTTL time.Duration // and at most so long; ≤ 0 asks anew each time
	Asked  func(Asked)   // is told of each Lookup that Resolve has called; nil is not
}

// Asked is what a resolver said.
type Asked struct {
	Host  string
	Addrs int
	TTL   time.Duration // ≤ 0 when it is not known
	Took  time.Duration
	Err   error
}

// Answer is what a name resolves to.
type Answer struct {
	Addrs   []netip.Addr // not to be changed
	Until   time.Time    // it holds
	Changed int          // counts the changes of the answer
	Stale   error        // why the resolver could not be asked since; nil when it could

	Remembered bool // nobody had to be asked, or waited for
}

// Resolve returns the addresses of q.Host: remembered ones while they hold, else what the
// resolver says. Calls for one name share a lookup. While the resolver fails, the last
// answer stays, unless the resolver says that there is no such name. It blocks until
// there is an answer, or ctx ends.
func (n *Names) Resolve(ctx context.Context, q Query) (Answer, error) {
	for remembered := true; ; remembered = false {
		n.mu.Lock()
		e := n.entry(q.Host)
		if q.MaxTTL > 0 && time.Now().Before(e.until) {
			defer n.mu.Unlock()
			a, err := e.answer()
			a.Remembered = remembered
			return a, err
		}
		if f := e.flight; f != nil && q.MaxTTL > 0 {
			n.mu.Unlock()
			select {
			case <-f.done:
				continue // what it brought may be out of date already
			case <-ctx.Done():
				return Answer{}, context.Cause(ctx)
			}
		}
		f := &flight{make(chan struct{})}
		e.flight = f
		n.mu.Unlock()

		addrs, ttl, err := q.ask(ctx)

		n.mu.Lock()
		if e.flight == f {
			e.flight = nil
		}
		close(f.done)
		if err != nil && ctx.Err() != nil { // it was not the resolver that gave up
			n.mu.Unlock()
			return Answer{}, err
		}
		e.learn(addrs, ttl, err, q)
		defer n.mu.Unlock()
		return e.answer()
	}
}

// ask has the resolver look, and tells of it.
func (q *Query) ask(ctx context.Context) ([]netip.Addr, time.Duration, error) {
	if q.Asked == nil {
		return q.Lookup(ctx, q.Host)
	}
	start := time.Now()
	addrs, ttl, err := q.Lookup(ctx, q.Host)
	told := Asked{Host: q.Host, Addrs: len(addrs), TTL: ttl, Took: time.Since(start), Err: err}
	if err == nil && len(addrs) == 0 {
		told.Err = noAddress(q.Host)
	}
	q.Asked(told)
	return addrs, ttl, err
}

func noAddress(host string) error {
	return &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
}

// learn takes the outcome of a lookup.
func (e *name) learn(addrs []netip.Addr, ttl time.Duration, err error, q Query) {
	now := time.Now()
	if err == nil && len(addrs) == 0 {
		err = noAddress(q.Host)
	}
	if err != nil {
		e.err, e.until = err, now.Add(failedTTL)
		return
	}
	if ttl <= 0 {
		ttl = unknownTTL
	}
	e.err, e.until = nil, now.Add(min(max(ttl, q.MinTTL), max(q.MaxTTL, 0)))
	list := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		list[i] = a.Unmap()
	}
	if !sameSet(e.addrs, list) {
		e.changed++
	}
	e.addrs = list
}

func sameSet(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

func (e *name) answer() (Answer, error) {
	a := Answer{Addrs: e.addrs, Until: e.until, Changed: e.changed, Stale: e.err}
	if gone, ok := errors.AsType[*net.DNSError](e.err); e.err != nil && (len(e.addrs) == 0 || ok && gone.IsNotFound) {
		return a, e.err
	}
	return a, nil
}

// entry returns what is known of a name, and makes room when it is too much. n.mu is
// held.
func (n *Names) entry(host string) *name {
	e := n.m[host]
	if e != nil {
		return e
	}
	if len(n.m) >= keptNames {
		now := time.Now()
		for h, o := range n.m {
			if o.flight == nil && (now.After(o.until) || len(n.m) >= keptNames) {
				delete(n.m, h)
			}
		}
	}
	if n.m == nil {
		n.m = map[string]*name{}
	}
	e = &name{}
	n.m[host] = e
	return e
}

// Until returns when the answer for a name ends, zero when there is none, and its
// Answer.Changed.
func (n *Names) Until(host string) (until time.Time, changed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.m[host]; e != nil {
		return e.until, e.changed
	}
	return time.Time{}, 0
}

// Expire has a name be asked for anew.
func (n *Names) Expire(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.m[host]; e != nil {
		e.until = time.Time{}
	}
}

// ExpireAll has every name be asked for anew.
func (n *Names) ExpireAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.m {
		e.until = time.Time{}
	}
}

// Failed sets an address of a name aside.
func (n *Names) Failed(host string, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.entry(host)
	if e.aside == nil {
		e.aside = map[netip.Addr]aside{}
	}
	if len(e.aside) > 2*len(e.addrs)+8 { // addresses that are long gone
		clear(e.aside)
	}
	a := e.aside[addr]
	if time.Now().Before(a.until) {
		return // one of several dials that were under way
	}
	a.fails++
	a.until = time.Now().Add(min(asideMin<<min(a.fails-1, 10), asideMax))
	e.aside[addr] = a
}

// Worked ends that.
func (n *Names) Worked(host string, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.m[host]; e != nil {
		delete(e.aside, addr)
	}
}

// Aside reports whether an address is set aside now. When nobody has tried it again for
// long, because nobody looks after the name, the next dial may.
func (n *Names) Aside(host string, addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.m[host]
	if e == nil {
		return false
	}
	a, is := e.aside[addr]
	return is && time.Now().Before(a.until.Add(asideMax))
}

// Due returns the addresses that were set aside long enough: they are to be tried again.
// The next call does not return them.
func (n *Names) Due(host string) (due []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.m[host]
	if e == nil {
		return nil
	}
	now := time.Now()
	for addr, a := range e.aside {
		if !slices.Contains(e.addrs, addr) {
			delete(e.aside, addr)
		} else if !now.Before(a.until) {
			due = append(due, addr)
		}
	}
	return due
}

// NextDue returns when Due will have something to return besides what is in without; zero
// when nothing is aside.
func (n *Names) NextDue(host string, without []netip.Addr) (at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.m[host]; e != nil {
		for addr, a := range e.aside {
			if (at.IsZero() || a.until.Before(at)) && !slices.Contains(without, addr) {
				at = a.until
			}
		}
	}
	return at
}
