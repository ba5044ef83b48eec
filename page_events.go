package berth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// The page is told once a second what has changed, as server-sent events (HTML, §9.2). An
// event's id is that of its look. A browser that was cut off says the last one that it has,
// and is sent what has changed since; a page that comes anew is sent all.
const (
	lookEvery   = time.Second
	lookFresh   = 900 * time.Millisecond // a look younger than that serves other pages too
	streamRetry = 2 * time.Second        // until a browser that was cut off tries again
	streamStall = 10 * time.Second       // until a reader that takes nothing is given up
	maxStreams  = 16

	maxShownEndpoints = 1000
	maxShownRows      = 100 // of ports and of leaks
)

// liveEndpoint is an endpoint as the page is told of it.
type liveEndpoint struct {
	ID     string `json:"id"`
	Name   string `json:"name"` // without the group
	Group  string `json:"group,omitempty"`
	Max    int    `json:"max,omitempty"` // its limit; 0 is none
	Paused bool   `json:"paused,omitempty"`
	Stats  Stats  `json:"stats"`

	// Of a Starvation, while requests wait.
	Reason  Reason  `json:"reason,omitempty"`
	Limit   string  `json:"limit,omitempty"`
	SetBy   string  `json:"set_by,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
	Advice  string  `json:"advice,omitempty"`
}

// liveRest is what is no endpoint's.
type liveRest struct {
	PID     int         `json:"pid"`
	Program string      `json:"program"`
	Max     int         `json:"max,omitempty"`  // Config.MaxConns
	More    int         `json:"more,omitempty"` // endpoints that are not shown
	Ports   []PortUsage `json:"ports"`
	Leaks   []LeakSite  `json:"leaks"`
}

// look is the state at one moment, encoded. It never changes.
type look struct {
	at        time.Time
	seq       uint64 // the first is 1
	endpoints []liveJSON
	ids       json.RawMessage // of all endpoints, in order
	idsSeq    uint64          // of the look in which they became these
	rest      json.RawMessage
	restSeq   uint64
}

// liveJSON is one endpoint of a look.
type liveJSON struct {
	id   string
	body json.RawMessage
	seq  uint64 // of the look in which it became this
}

// feed has the last look, which all streams share.
type feed struct {
	t    *Transport
	name string // tells its looks from those of another process
	last atomic.Pointer[look]
}

func (f *feed) init(t *Transport) {
	f.t, f.name = t, strconv.FormatUint(rand.Uint64(), 36)
}

// look returns a look of the last second. Two that look at once may both do the work; the
// first one's counts.
func (f *feed) look() *look {
	for {
		before := f.last.Load()
		if before != nil && time.Since(before.at) < lookFresh {
			return before
		}
		l := f.t.look(before)
		if f.last.CompareAndSwap(before, l) {
			return l
		}
	}
}

// look looks, and finds what is as it was before, which may be nil.
func (t *Transport) look(before *look) *look {
	if before == nil {
		before = &look{}
	}
	l := &look{at: time.Now(), seq: before.seq + 1}
	rest := liveRest{PID: os.Getpid(), Program: filepath.Base(os.Args[0]), Max: t.edition.Load().config.MaxConns,
		Ports: shownPorts(t.Ports()), Leaks: t.Leaks()}
	rest.Leaks = rest.Leaks[:min(len(rest.Leaks), maxShownRows)]

	eps := t.endpoints.all()
	if rest.More = len(eps) - maxShownEndpoints; rest.More > 0 { // the busiest are shown
		busy := make(map[*endpoint]int, len(eps))
		for _, ep := range eps {
			s := ep.pool.Stats()
			busy[ep] = 1000*s.Waiting + s.Leased + s.Dialing + s.Idle
		}
		slices.SortFunc(eps, func(a, b *endpoint) int { return cmp.Compare(busy[b], busy[a]) })
		eps = eps[:maxShownEndpoints]
	}
	rest.More = max(rest.More, 0)
	slices.SortFunc(eps, func(a, b *endpoint) int { return strings.Compare(a.name, b.name) })

	was := make(map[string]*liveJSON, len(before.endpoints))
	for i := range before.endpoints {
		was[before.endpoints[i].id] = &before.endpoints[i]
	}
	ids := make([]string, 0, len(eps))
	for _, ep := range eps {
		e := ep.live()
		ids = append(ids, e.ID)
		j := liveJSON{id: e.ID, body: encode(e), seq: l.seq}
		if w := was[e.ID]; w != nil && bytes.Equal(w.body, j.body) {
			j = *w
		}
		l.endpoints = append(l.endpoints, j)
	}
	l.ids, l.idsSeq = encode(ids), l.seq
	if bytes.Equal(l.ids, before.ids) {
		l.idsSeq = before.idsSeq
	}
	l.rest, l.restSeq = encode(rest), l.seq
	if bytes.Equal(l.rest, before.rest) {
		l.restSeq = before.restSeq
	}
	return l
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null") // no value of ours
	}
	return b
}

// live is the endpoint as the page is told of it.
func (ep *endpoint) live() liveEndpoint {
	s := ep.pool.Snapshot()
	key := ep.key
	key.group = ""
	e := liveEndpoint{ID: ep.t.endpoints.id(ep.key), Name: key.name(), Group: ep.key.group, Paused: s.Binding == pool.BindingPaused}
	if s.Config.MaxConns < pool.Unlimited {
		e.Max = s.Config.MaxConns
	}
	if s.Waiting == 0 {
		e.Stats = newStats(s.Stats)
		return e
	}
	why := ep.starvation(s)
	e.Stats, e.Reason, e.Limit, e.SetBy, e.Verdict, e.Advice = why.Stats, why.Reason, why.Limit, why.SetBy, why.Verdict, why.Advice()
	e.Stats.OldestWait = e.Stats.OldestWait.Round(time.Millisecond)
	return e
}

// shownPorts has the destinations that take the largest share of their ports.
func shownPorts(list []PortUsage) []PortUsage {
	list = append([]PortUsage{}, list...)
	if len(list) > maxShownRows {
		slices.SortStableFunc(list, func(a, b PortUsage) int { return cmp.Compare(b.Used(), a.Used()) })
		list = list[:maxShownRows]
		slices.SortFunc(list, func(a, b PortUsage) int { return strings.Compare(a.Destination, b.Destination) })
	}
	for i := range list {
		list[i].Rate = math.Round(list[i].Rate*10) / 10
	}
	return list
}

// since writes the event that brings a page from the look with number last to l: what has
// changed, and the time, which is all when nothing has.
func (f *feed) since(b *bytes.Buffer, l *look, last uint64) {
	fmt.Fprintf(b, "id: %s-%d\ndata: {\"t\":%d", f.name, l.seq, l.at.UnixMilli())
	if l.idsSeq > last {
		fmt.Fprintf(b, `,"ids":%s`, l.ids)
	}
	if l.restSeq > last {
		fmt.Fprintf(b, `,"rest":%s`, l.rest)
	}
	first := true
	for _, e := range l.endpoints {
		if e.seq <= last {
			continue
		}
		if first {
			b.WriteString(`,"endpoints":[`)
		} else {
			b.WriteByte(',')
		}
		b.Write(e.body)
		first = false
	}
	if !first {
		b.WriteByte(']')
	}
	b.WriteString("}\n\n")
}

// resumed returns the number of the look that a browser says it has; 0 when it has none of
// this feed's.
func (f *feed) resumed(id string) uint64 {
	name, seq, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if last := f.last.Load(); err != nil || name != f.name || last == nil || n > last.seq {
		return 0
	}
	return n
}

// serveEvents streams looks until the reader goes or the transport is closed, which the
// last event says.
func (p *page) serveEvents(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if p.streams.Add(1) > maxStreams {
		p.streams.Add(-1)
		h.Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("berth: %d pages are open already", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer p.streams.Add(-1)
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // nginx passes on what it gets at once
	if r.Method == http.MethodHead {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "retry: %d\n", streamRetry.Milliseconds())
	last := p.feed.resumed(r.Header.Get("Last-Event-ID"))
	out := http.NewResponseController(w)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		closed := p.t.endpoints.isClosed()
		l := p.feed.look()
		p.feed.since(&b, l, last)
		last = l.seq
		if closed {
			b.WriteString("event: end\ndata: {}\n\n")
		}
		out.SetWriteDeadline(time.Now().Add(streamStall)) // where there is none, the server's own holds
		if _, err := w.Write(b.Bytes()); err != nil || out.Flush() != nil || closed {
			return
		}
		b.Reset()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func (tb *endpointTable) isClosed() bool {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.closed
}
