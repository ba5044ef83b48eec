// Package top makes of the reports that a running program serves (berth's
// Transport.Handler) what berth top shows: rates from two reports, what needs attention,
// an order, and text. It knows no terminal, and the time is passed in.
package top

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/source"
)

// Report is a berth.Report whose policies are read as they stand: a setting that only a
// younger Berth knows is no error.
type Report struct {
	Time      time.Time         `json:"time"`
	PID       int               `json:"pid"`
	Program   string            `json:"program"`
	Endpoints []EndpointReport  `json:"endpoints"`
	Leaks     []berth.LeakSite  `json:"leaks"`
	Ports     []berth.PortUsage `json:"ports"`
}

// EndpointReport is a berth.EndpointReport with such a policy.
type EndpointReport struct {
	berth.EndpointReport
	Policy Policy `json:"policy"`
}

// Policy has settings by their names in JSON.
type Policy struct {
	Values     map[string]json.RawMessage `json:"policy"` // those that are set, or have a default
	From       map[string]string          `json:"from"`   // who set each
	Generation uint64                     `json:"generation"`
}

// Limit is max_conns; 0 is none.
func (p *Policy) Limit() int {
	var n int
	json.Unmarshal(p.Values["max_conns"], &n) // what is no number is no limit
	return max(n, 0)
}

// Name is the endpoint's without its group, which has a column of its own.
func (e *EndpointReport) Name() string {
	if e.Group == "" {
		return e.Endpoint
	}
	return strings.Replace(e.Endpoint, " in group "+e.Group, "", 1)
}

// Clean makes all texts of the report fit to print.
func (r *Report) Clean() {
	clean := func(texts ...*string) {
		for _, t := range texts {
			*t = source.Clean(*t)
		}
	}
	clean(&r.Program)
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		clean(&e.Endpoint, &e.Group, (*string)(&e.Reason), &e.Limit, (*string)(&e.Verdict), &e.Advice)
		for j := range e.Leases {
			l := &e.Leases[j]
			l.Path, _, _ = strings.Cut(l.Path, "?")
			clean(&l.Method, &l.Path, &l.Phase, &l.Site)
		}
		e.Policy.From = cleanKeys(e.Policy.From, source.Clean)
		e.Policy.Values = cleanKeys(e.Policy.Values, func(v json.RawMessage) json.RawMessage { return v })
		e.Stats.Closes = cleanKeys(e.Stats.Closes, func(n uint64) uint64 { return n })
	}
	for i := range r.Leaks {
		clean(&r.Leaks[i].Endpoint, &r.Leaks[i].Site)
	}
}

func cleanKeys[V any](m map[string]V, value func(V) V) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[source.Clean(k)] = value(v)
	}
	return out
}
