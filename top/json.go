package top

import (
	"encoding/json"
	"time"

	"github.com/berth-go/berth"
)

// jsonSchema is the version of what WriteJSON writes. Fields may be added within a version.
const jsonSchema = 1

// Times are nanoseconds, shares are of 1, and null is no number.
type jsonProgram struct {
	Schema    int            `json:"schema"`
	Source    string         `json:"source"`
	Time      time.Time      `json:"time"` // by the clock of who reads
	PID       int            `json:"pid,omitempty"`
	Program   string         `json:"program,omitempty"`
	Restarted bool           `json:"restarted,omitempty"`
	Interval  time.Duration  `json:"interval"` // of the rates; 0 when there are none
	Lost      *jsonLost      `json:"lost,omitempty"`
	Total     *jsonTotal     `json:"total,omitempty"`
	Endpoints []jsonEndpoint `json:"endpoints"`
}

type jsonLost struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

type jsonTotal struct {
	Connections int            `json:"connections"`
	Waiting     int            `json:"waiting"`
	Requests    Maybe[float64] `json:"requests_per_second"`
	Failures    Maybe[float64] `json:"failures_per_second"`
	Reuse       Maybe[float64] `json:"reuse"`
}

type jsonEndpoint struct {
	Endpoint   string               `json:"endpoint"`
	Group      string               `json:"group,omitempty"`
	Attention  string               `json:"attention,omitempty"` // "near" or "waiting"
	Leased     int                  `json:"leased"`
	Idle       int                  `json:"idle"`
	Dialing    int                  `json:"dialing"`
	Draining   int                  `json:"draining"`
	Limit      int                  `json:"limit"` // 0 is none
	Waiting    int                  `json:"waiting"`
	OldestWait time.Duration        `json:"oldest_wait"`
	Requests   Maybe[float64]       `json:"requests_per_second"`
	Failures   Maybe[float64]       `json:"failures_per_second"`
	Reuse      Maybe[float64]       `json:"reuse"`
	WaitP99    Maybe[time.Duration] `json:"wait_p99"`
	Ports      Maybe[float64]       `json:"ports"`
	Suspects   int                  `json:"suspects"` // bodies left unread
	Reason     berth.Reason         `json:"reason,omitempty"`
	LimitText  string               `json:"limit_text,omitempty"` // the limit that binds
	Verdict    berth.Verdict        `json:"verdict,omitempty"`
	Advice     string               `json:"advice,omitempty"`
}

// MarshalJSON writes the number, or null.
func (m Maybe[T]) MarshalJSON() ([]byte, error) {
	if !m.OK {
		return []byte("null"), nil
	}
	return json.Marshal(m.V)
}

// WriteJSON writes one object on a line: the program with these of its endpoints at the
// time now, or that it cannot be read.
func WriteJSON(e *json.Encoder, p *Program, endpoints []Endpoint, now time.Time) error {
	out := jsonProgram{Schema: jsonSchema, Source: p.Source, Time: now, Restarted: p.Restarted, Endpoints: []jsonEndpoint{}}
	if p.Report != nil {
		out.PID, out.Program = p.Report.PID, p.Report.Program
	}
	if p.Lost != nil {
		out.Lost = &jsonLost{p.Since, p.Lost.Error()}
		return e.Encode(out)
	}
	out.Interval = p.Rates.Over
	conns, waiting := p.Total()
	out.Total = &jsonTotal{conns, waiting, p.Rates.Requests, p.Rates.Failures, p.Rates.Reuse}
	for i := range endpoints {
		x := &endpoints[i]
		s := &x.Stats
		out.Endpoints = append(out.Endpoints, jsonEndpoint{Endpoint: x.Name(), Group: x.Group,
			Attention: [...]string{"", "near", "waiting"}[x.Level],
			Leased:    s.Leased, Idle: s.Idle, Dialing: s.Dialing, Draining: s.Draining, Limit: x.Max,
			Waiting: s.Waiting, OldestWait: s.OldestWait, Requests: x.Rates.Requests, Failures: x.Failures, Reuse: x.Reuse,
			WaitP99: x.WaitP99, Ports: x.Ports, Suspects: s.Leaks.Suspect,
			Reason: x.Reason, LimitText: x.EndpointReport.Limit, Verdict: x.Verdict, Advice: x.Advice})
	}
	return e.Encode(out)
}
