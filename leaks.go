package berth

import (
	"cmp"
	"context"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/berth-go/berth/internal/pool"
)

// LeakInfo is what Trace.Leak is told.
type LeakInfo struct {
	Context  context.Context // the request's; nil if it began before Trace was applied
	Endpoint string
	Server   Server
	// State is "suspect": nobody has read the body for Policy.LeakAfter; "back": it is read
	// again after all; "reclaimed": nothing referred to the body any more, and its
	// connection was closed, which makes room for others.
	State string
	Lease LeaseInfo
}

// LeakStats counts response bodies that were not closed.
type LeakStats struct {
	Suspect   int    `json:"suspect"`   // unread for LeakAfter now
	Suspected uint64 `json:"suspected"` // that were so; some may have been read after all
	Reclaimed uint64 `json:"reclaimed"` // found by the collector
}

// LeakSite counts the response bodies that one place in the program has not closed.
type LeakSite struct {
	Endpoint  string `json:"endpoint"`
	Site      string `json:"site"` // file, line and function; "" when the call was not of the sample
	Suspected uint64 `json:"suspected"`
	Reclaimed uint64 `json:"reclaimed"`
}

// leakCount is a LeakSite, and how often its bodies were read after all.
type leakCount struct {
	LeakSite
	back uint64
}

// bodyWatch looks once a second after the response bodies that callers have had for longer
// than that. It has neither timer nor goroutine while there are none.
type bodyWatch struct {
	// mu guards what follows. Nothing is called while it is held: the collector's goroutine
	// takes it, which may be of no test's bubble.
	mu        sync.Mutex
	endpoints []*endpoint // with bodies lent
	forgotten []*pool.Watch
	ticking   bool
	timer     *time.Timer
	sites     map[[2]string]*leakCount // by endpoint and site

	// Of the goroutine at work, which is one at a time.
	collectAt   int64 // no collection is asked for before
	restUntil   int64 // nor then, whatever the last one found
	collectWait time.Duration
}

const (
	patrolPeriod = time.Second

	// A collection is asked for when requests starve beside bodies that nobody reads. The
	// next one waits, longer each time, if it found none that was forgotten; the runtime
	// collects every two minutes by itself.
	collectFirst = 10 * time.Second
	collectLast  = 2 * time.Minute

	// collectShare is how many times as long as it took is between two collections, at
	// least: a large heap is not collected all the time.
	collectShare = 10

	// afterCollection is when the look comes after one: what it found is told within some
	// milliseconds.
	afterCollection = 50 * time.Millisecond

	// maxLeakSites bounds the places in the program that are told apart.
	maxLeakSites = 1000
)

// watchBodies has the endpoint's bodies looked after from now on.
func (ep *endpoint) watchBodies() {
	if ep.bodies.Load() || ep.bodies.Swap(true) {
		return
	}
	t := ep.t
	b := &t.bodies
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endpoints = append(b.endpoints, ep)
	if b.ticking {
		return
	}
	b.ticking = true
	if b.timer != nil {
		b.timer.Reset(patrolPeriod)
		return
	}
	wt := weak.Make(t) // who drops the transport has it collected
	b.timer = time.AfterFunc(patrolPeriod, func() {
		if t := wt.Value(); t != nil {
			t.patrol()
		}
	})
}

// patrol is the look of a second.
func (t *Transport) patrol() {
	b := &t.bodies
	b.mu.Lock()
	eps, forgotten := b.endpoints, b.forgotten
	b.endpoints, b.forgotten = nil, nil
	b.mu.Unlock()

	for _, w := range forgotten {
		if l, end := w.Pool().Reclaim(w); end != nil {
			w.Pool().Owner().(*endpoint).leak("reclaimed", l)
			end() // whoever has waited for the connection finds that told
			b.collectWait, b.collectAt = 0, b.restUntil
		}
	}
	starving := false
	for _, ep := range eps {
		ep.bodies.Store(false) // before the look: who lends a body from now on says so again
		leakAfter := or(ep.now.Load().policy.LeakAfter, defaultLeakAfter, 0)
		found := ep.pool.Patrol(leakAfter)
		for _, begun := range found.Begin {
			begun.Start(t.forgot)
		}
		for _, l := range found.Suspects {
			ep.leak("suspect", l)
		}
		for _, l := range found.Back {
			ep.leak("back", l)
		}
		if found.Leases && !ep.bodies.Swap(true) {
			b.mu.Lock()
			b.endpoints = append(b.endpoints, ep)
			b.mu.Unlock()
		}
		starving = starving || found.Starving && leakAfter > 0
	}
	next := patrolPeriod
	if now := t.now(); starving && now >= b.collectAt {
		next = afterCollection
		b.collectWait = min(max(2*b.collectWait, collectFirst), collectLast)
		runtime.GC()
		b.restUntil = now + collectShare*(t.now()-now)
		b.collectAt = max(now+int64(b.collectWait), b.restUntil)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.ticking = len(b.endpoints)+len(b.forgotten) > 0
	if b.ticking {
		b.timer.Reset(next)
	}
}

// forgot is told by the collector that a body can be reached no more.
func (t *Transport) forgot(w *pool.Watch) {
	t.bodies.mu.Lock()
	defer t.bodies.mu.Unlock()
	t.bodies.forgotten = append(t.bodies.forgotten, w)
}

// leak tells whoever wants to know. The log has each place in the program once.
func (ep *endpoint) leak(state string, l pool.LeaseInfo) {
	info := newLeaseInfo(l)
	first := ep.t.bodies.count(ep.name, info.Site, state)
	f := ep.now.Load()
	if tr := f.config.Trace; tr != nil && tr.Leak != nil {
		tr.Leak(LeakInfo{Context: l.Context, Endpoint: ep.name, Server: ep.key.server(), State: state, Lease: info})
	}
	log := f.config.Logger
	if log == nil || !first {
		return
	}
	args := []any{"endpoint", ep.name, "method", info.Method, "path", info.Path, "held", round(info.Held), "site", info.Site, "code", "BERTH1018"}
	switch state {
	case "suspect":
		log.Warn("berth: response body is not read; likely leak", append(args, "unread", round(info.Unread))...)
	case "back":
		log.Info("berth: response body is read again; no leak", args...)
	default:
		log.Warn("berth: response body was forgotten; its connection is closed", args...)
	}
}

// count counts, and reports whether it is the first of its place and state.
func (b *bodyWatch) count(endpoint, site, state string) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := [2]string{endpoint, site}
	s := b.sites[key]
	if s == nil {
		if len(b.sites) >= maxLeakSites {
			return false
		}
		if b.sites == nil {
			b.sites = map[[2]string]*leakCount{}
		}
		s = &leakCount{LeakSite: LeakSite{Endpoint: endpoint, Site: site}}
		b.sites[key] = s
	}
	n := &s.Suspected
	switch state {
	case "back":
		n = &s.back
	case "reclaimed":
		n = &s.Reclaimed
	}
	*n++
	return *n == 1
}

// Leaks returns the places in the program whose response bodies looked forgotten or were,
// those with the most that were first. At most 1,000 are told apart.
func (t *Transport) Leaks() []LeakSite {
	b := &t.bodies
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]LeakSite, 0, len(b.sites))
	for _, s := range b.sites {
		list = append(list, s.LeakSite)
	}
	slices.SortFunc(list, func(a, b LeakSite) int {
		return cmp.Or(cmp.Compare(b.Reclaimed, a.Reclaimed), cmp.Compare(b.Suspected, a.Suspected),
			strings.Compare(a.Endpoint+"\n"+a.Site, b.Endpoint+"\n"+b.Site))
	})
	return list
}

// ---- call sites ----

// inUseProfile returns the profile of the leases whose call site is known, which
// net/http/pprof serves beside its own as berth.inuse: all those of endpoints that starved
// in the last minute or lost a body in the last ten, and a sample of the others.
func inUseProfile() *pprof.Profile {
	profiles.Lock()
	defer profiles.Unlock()
	if p := pprof.Lookup(inUseName); p != nil {
		return p
	}
	return pprof.NewProfile(inUseName)
}

const inUseName = "berth.inuse"

// profiles serialises the making of the profile: runtime/pprof has one list for the process.
var profiles sync.Mutex

// inUseTag stands for a lease in the profile, which must not keep the lease itself.
type inUseTag struct{ _ byte }

// callSite notes where the request was made that got l, and returns what it noted.
func (t *Transport) callSite(l *pool.Lease) *pool.Site {
	tag := new(inUseTag)
	s := &pool.Site{Tag: tag}
	s.N = runtime.Callers(3, s.PCs[:])
	l.SetSite(s)
	t.inUse.Add(tag, 5)
	// A transport that is dropped takes its leases along.
	runtime.AddCleanup(s, func(tag *inUseTag) { inUseProfile().Remove(tag) }, tag)
	return s
}

// siteDone takes leases out of the profile. It refers to no transport: pools do to it.
func siteDone(p *pprof.Profile) func(*pool.Site) { return func(s *pool.Site) { p.Remove(s.Tag) } }

// siteOf names the innermost caller outside net/http and Berth, and the whole stack.
func siteOf(s *pool.Site) (site string, stack []string) {
	if s == nil {
		return "", nil
	}
	frames := runtime.CallersFrames(s.Callers())
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			text := frameText(f)
			stack = append(stack, text)
			if site == "" && !ours(f.Function) {
				site = text
			}
		}
		if !more {
			break
		}
	}
	if site == "" && len(stack) > 0 {
		site = stack[len(stack)-1]
	}
	return site, stack
}

// ours says that a function passes requests on for its caller.
func ours(function string) bool {
	for _, p := range [...]string{"net/http.", modulePath + ".", modulePath + "/internal/", modulePath + "/clients.", modulePath + "/resilience."} {
		if strings.HasPrefix(function, p) {
			return true
		}
	}
	return false
}

const modulePath = "github.com/berth-go/berth"

// frameText is the file with its directory, the line, and the function with its package.
func frameText(f runtime.Frame) string {
	file := f.File
	if i := strings.LastIndexByte(file, '/'); i > 0 {
		if j := strings.LastIndexByte(file[:i], '/'); j >= 0 {
			file = file[j+1:]
		}
	}
	return file + ":" + strconv.Itoa(f.Line) + " (" + f.Function[strings.LastIndexByte(f.Function, '/')+1:] + ")"
}
