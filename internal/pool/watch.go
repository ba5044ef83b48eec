package pool

import (
	"context"
	"time"
)

// Site is where a request was made: the program counters of the goroutine that made it,
// the innermost first. It never changes once a lease has it.
type Site struct {
	PCs [32]uintptr
	N   int // of them
	Tag any // the owner's
}

// Callers returns the program counters.
func (s *Site) Callers() []uintptr { return s.PCs[:s.N] }

// Body is the handle on a response body that the caller has, and nothing else: the
// collector tells when the caller has forgotten it.
type Body interface {
	// WhenForgotten has f called with w, on any goroutine, once the collector has found that
	// nobody can read or close the body any more. w does not refer to the body.
	WhenForgotten(f func(*Watch), w *Watch)

	// Abandon returns what ends the lease's exchange, and by that the lease, in place of the
	// body that nobody has any more. It does not refer to the body.
	Abandon(*Lease) func()

	// Context returns that of the request, which must not refer to the body; nil when it is
	// not known. It is called with the pool's lock held, while the lease lasts.
	Context() context.Context
}

// Watch is over one body of one lease. Its fields belong to the pool's lock.
type Watch struct {
	lease   *Lease // nil when the lease has ended
	pool    *Pool
	abandon func()
	reads   uint32 // Lease.reads when it was last looked at
	active  int64  // when that had changed, or a Read was under way
	suspect bool
	ctx     context.Context // the request's; nil when it is not known
}

// Pool returns the pool that the body's connection belongs to.
func (w *Watch) Pool() *Pool { return w.pool }

// Owner returns whom the pool serves.
func (p *Pool) Owner() Owner { return p.owner }

// watchAfter is how old a lease is before its body is watched: most are read by then.
const watchAfter = time.Second

// starvingFor is how long a pool counts as starving after the last request that starved.
const starvingFor = 5 * time.Second

// Patrol is what a look at the bodies found.
type Patrol struct {
	Begin    []Begun     // bodies to be watched from now on: see Begun.Start
	Suspects []LeaseInfo // leases whose body looks forgotten, and did not before
	Back     []LeaseInfo // leases whose body looked forgotten, and is read again
	Leases   bool        // there are leases, old ones or new ones
	Starving bool        // requests starve, or did a moment ago, and there is a body that was not read for a second
}

// Begun is a body whose watch begins.
type Begun struct {
	body  Body
	watch *Watch
}

// Start begins the watch; forgotten is called at its end, if the body is forgotten.
func (b Begun) Start(forgotten func(*Watch)) { b.body.WhenForgotten(forgotten, b.watch) }

// Patrol looks at the bodies of the leases that are a second old. One that nobody has read
// for leakAfter looks forgotten; leakAfter ≤ 0 has none look so.
func (p *Pool) Patrol(leakAfter time.Duration) Patrol {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.patrol(leakAfter, p.now())
}

func (c *core) patrol(leakAfter time.Duration, now int64) (out Patrol) {
	out.Leases = c.leases.len > 0
	hungry := c.waiters.len > 0 && durationBetween(c.waiters.front.since, now) >= watchAfter ||
		c.diag != nil && c.diag.starvedAt != 0 && durationBetween(c.diag.starvedAt, now) < starvingFor
	for l := c.leases.front; l != nil && durationBetween(l.acquired, now) >= watchAfter; l = l.next {
		if Phase(l.phase.Load()) != PhaseBody {
			continue
		}
		reads := l.reads.Load()
		k := l.known.Load()
		if k == nil {
			continue // its body is about to come
		}
		w := k.watch
		if w == nil {
			if b := k.body; b != nil {
				w = &Watch{lease: l, pool: c.pool, abandon: b.Abandon(l), ctx: b.Context(), reads: reads, active: max(l.lastByte.Load(), l.acquired)}
				out.Begin = append(out.Begin, Begun{b, w})
				l.known.Store(&Known{site: k.site, watch: w}) // the other may be part of the body
			}
			continue
		}
		if reads != w.reads || reads%2 == 1 {
			w.reads, w.active = reads, now
			if w.suspect {
				w.suspect = false
				c.diag.suspects--
				out.Back = append(out.Back, l.info(now))
			}
			continue
		}
		unread := durationBetween(w.active, now)
		if leakAfter > 0 && unread >= leakAfter && !w.suspect {
			w.suspect = true
			d := c.diagnose()
			d.suspects++
			d.suspected++
			out.Suspects = append(out.Suspects, l.info(now))
		}
		out.Starving = out.Starving || hungry && unread >= watchAfter
	}
	return out
}

// unwatch ends the watch over the body of a lease that ends.
func (c *core) unwatch(w *Watch) {
	w.lease, w.ctx = nil, nil
	if w.suspect {
		c.diag.suspects--
	}
}

// Reclaim counts a body that nobody has any more, and returns what its lease is and what
// ends it; end is nil when the lease has ended before. Nobody else can end it: only the
// collector's word leads here, once.
func (p *Pool) Reclaim(w *Watch) (info LeaseInfo, end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.lease == nil {
		return info, nil
	}
	now := p.now()
	d := p.core.diagnose()
	d.reclaimed++
	d.captureUntil = max(d.captureUntil, after(now, captureAfterLeak))
	return w.lease.info(now), w.abandon
}

// Leases returns the oldest leases, at most max of them.
func (p *Pool) Leases(max int) (list []LeaseInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for l := p.core.leases.front; l != nil && len(list) < max; l = l.next {
		list = append(list, l.info(now))
	}
	return list
}

// IdleInfo is a connection that no request uses, and for how long.
type IdleInfo struct {
	Conn Conn
	For  time.Duration
}

// IdleConns returns the idle connections, those unused for longest first, at most max.
func (p *Pool) IdleConns(max int) (list []IdleInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for s := p.core.idle.back; s != nil && len(list) < max; s = s.prev {
		list = append(list, IdleInfo{s.conn, durationBetween(s.idleSince, now)})
	}
	return list
}
