package top

import (
	"net/netip"
	"time"

	"github.com/berth-go/berth"
)

// Tracker follows one program from report to report. Its methods are not safe for
// concurrent use; what they return is.
type Tracker struct {
	source    string
	last      *Program
	endpoints map[id]*memory
}

type id struct{ endpoint, group string }

// memory is what is kept of an endpoint between reports.
type memory struct {
	stats   berth.Stats
	remotes map[string]bool // addresses and ports that it has had connections to
	history []Point
	seen    bool // in the report at hand
}

const (
	historyTime  = time.Minute
	historyMost  = 1200 // points of one endpoint
	remotesMost  = 64   // of one endpoint
	endpointMost = 20_000
)

// NewTracker follows the program that is read at source, which is shown.
func NewTracker(source string) *Tracker {
	return &Tracker{source: source, last: &Program{Source: source}, endpoints: map[id]*memory{}}
}

// Report takes a report that came at a time, and returns what is to be shown. The report
// is the tracker's from then on.
func (t *Tracker) Report(r *Report, at time.Time) *Program {
	r.Clean()
	p := &Program{Source: t.source, Report: r, Read: at}
	var over time.Duration
	if was := t.last.Report; was != nil {
		if was.PID == r.PID {
			over = r.Time.Sub(was.Time)
		} else {
			p.Restarted = true
			clear(t.endpoints)
		}
	}
	if over > 0 {
		p.Rates = Rates{Over: over, Requests: some(0.0), Failures: some(0.0)}
	}
	used := portShares(r.Ports)
	var reused float64
	for i := range r.Endpoints {
		if len(t.endpoints) >= endpointMost {
			break
		}
		e := t.endpoint(&r.Endpoints[i], over, used, at)
		p.Endpoints = append(p.Endpoints, e)
		p.Rates.Requests.V += e.Rates.Requests.V
		p.Rates.Failures.V += e.Rates.Failures.V
		reused += e.Rates.Requests.V * e.Rates.Reuse.V
	}
	if n := p.Rates.Requests.V; n > 0 {
		p.Rates.Reuse = some(reused / n)
	}
	for k, m := range t.endpoints {
		if !m.seen {
			delete(t.endpoints, k)
		}
		m.seen = false
	}
	t.last = p
	return p
}

// Lost takes an attempt that brought no report, and returns the last state with what is
// wrong and since when.
func (t *Tracker) Lost(err error, at time.Time) *Program {
	p := *t.last
	if p.Lost == nil {
		p.Since = at
	}
	p.Lost, p.Restarted = err, false
	t.last = &p
	return &p
}

func (t *Tracker) endpoint(r *EndpointReport, over time.Duration, used map[string]float64, at time.Time) Endpoint {
	k := id{r.Endpoint, r.Group}
	m := t.endpoints[k]
	var was *berth.Stats
	if m == nil {
		m = &memory{remotes: map[string]bool{}}
		t.endpoints[k] = m
	} else {
		was = &m.stats
	}
	e := Endpoint{EndpointReport: r, Rates: Differences(was, &r.Stats, over), Max: r.Policy.Limit()}
	m.stats, m.seen = r.Stats, true
	m.connected(r)
	if share, ok := used[""]; ok { // a budget of all destinations together
		e.Ports = some(share)
	}
	for remote := range m.remotes {
		if share, ok := used[remote]; ok {
			e.Ports = some(max(e.Ports.V, share))
		}
	}
	e.Level = e.level()
	stands := max(over, 0)
	if t.last.Lost != nil {
		stands = 0 // nobody saw it meanwhile
	}
	m.history = append(m.history, Point{At: at, Over: stands, Requests: e.Rates.Requests, Waiting: r.Stats.Waiting, Conns: e.Conns()})
	for len(m.history) > historyMost || at.Sub(m.history[0].At) >= historyTime {
		m.history = m.history[1:] // what was shown before is not touched
	}
	e.History = m.history[:len(m.history):len(m.history)]
	return e
}

// connected remembers where the endpoint has connections to: while it cannot open one, its
// destinations' ports are what is asked for.
func (m *memory) connected(r *EndpointReport) {
	add := func(remote string) {
		if len(m.remotes) < remotesMost && remote != "" {
			m.remotes[destination(remote)] = true
		}
	}
	for i := range r.Leases {
		add(r.Leases[i].Remote)
	}
	for i := range r.Conns {
		add(r.Conns[i].Remote)
	}
}

// portShares is the share of the ports that each destination takes, the larger one where
// a budget lies beyond this host's own.
func portShares(list []berth.PortUsage) map[string]float64 {
	used := map[string]float64{}
	for _, u := range list {
		k := destination(u.Destination)
		used[k] = max(used[k], u.Used())
	}
	return used
}

func destination(s string) string {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return s
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()).String()
}
