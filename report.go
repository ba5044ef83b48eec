package berth

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// ReportSchema is the version of a Report's JSON. Fields may be added within a version.
const ReportSchema = 1

// Report is a transport's state at one moment, in full: what [Transport.Handler] serves
// and berth doctor reads. In JSON durations are nanoseconds.
type Report struct {
	Schema    int              `json:"schema"`
	Time      time.Time        `json:"time"`
	PID       int              `json:"pid"`
	Program   string           `json:"program"`   // the name of its file
	Endpoints []EndpointReport `json:"endpoints"` // sorted by name and group
	Leaks     []LeakSite       `json:"leaks"`
	Ports     []PortUsage      `json:"ports"`
}

// EndpointReport is an endpoint's state. Reason, Limit, Verdict and Advice are those of a
// Starvation, and empty while no request waits.
type EndpointReport struct {
	Endpoint string         `json:"endpoint"`
	Group    string         `json:"group,omitempty"`
	Policy   EndpointPolicy `json:"policy"`
	Stats    Stats          `json:"stats"`
	Demand   Demand         `json:"demand"`

	Reason  Reason  `json:"reason,omitempty"`
	Limit   string  `json:"limit,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
	Advice  string  `json:"advice,omitempty"`

	Leases []LeaseInfo  `json:"leases"` // at most 1,000, those held longest
	Conns  []ConnReport `json:"conns"`  // at most 1,000, without a lease
}

// ConnReport is a connection that no request uses.
type ConnReport struct {
	Local  string        `json:"local"` // address and port
	Remote string        `json:"remote"`
	State  string        `json:"state"` // "idle"
	Since  time.Duration `json:"since"` // for so long
}

const (
	maxReportedLeases = 1000
	maxReportedConns  = 1000
)

// Report returns the state of every endpoint that [Transport.Endpoints] has. It holds no
// lock for longer than one endpoint takes, and is no snapshot over all of them.
func (t *Transport) Report() *Report {
	t.init()
	r := &Report{Schema: ReportSchema, Time: time.Now(), PID: os.Getpid(), Program: filepath.Base(os.Args[0]),
		Endpoints: []EndpointReport{}, Leaks: t.Leaks(), Ports: append([]PortUsage{}, t.Ports()...)}
	for _, ep := range t.endpoints.all() {
		r.Endpoints = append(r.Endpoints, ep.report(maxReportedLeases, maxReportedConns))
	}
	slices.SortFunc(r.Endpoints, func(a, b EndpointReport) int {
		return strings.Compare(a.Endpoint+"\n"+a.Group, b.Endpoint+"\n"+b.Group)
	})
	return r
}

// report has at most so many leases and connections.
func (ep *endpoint) report(leases, conns int) EndpointReport {
	s := ep.starvation(ep.pool.Snapshot())
	s.Stats.Life = ep.life
	r := EndpointReport{Endpoint: ep.name, Group: ep.key.group, Stats: s.Stats, Demand: s.Demand,
		Policy: ep.t.edition.Load().explain(ep.key, ep.t.ownSettings(ep.key)),
		Leases: []LeaseInfo{}, Conns: []ConnReport{}}
	if s.Stats.Waiting > 0 {
		r.Reason, r.Limit, r.Verdict, r.Advice = s.Reason, s.Limit, s.Verdict, s.Advice()
	}
	for _, l := range ep.pool.Leases(leases) {
		r.Leases = append(r.Leases, newLeaseInfo(l))
	}
	for _, i := range ep.pool.IdleConns(conns) {
		at := connOf(i.Conn).info()
		r.Conns = append(r.Conns, ConnReport{Local: at.Local, Remote: at.Remote, State: pool.StateIdle.String(), Since: i.For})
	}
	return r
}

// serveReport writes the report as JSON.
func (t *Transport) serveReport(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	e.Encode(t.Report()) // who hung up needs no word
}
