package top

import (
	"time"

	"github.com/berth-go/berth"
)

// Program is what is to be shown of one program at one moment. It does not change.
type Program struct {
	Source    string    // where it is read
	Report    *Report   // the last one; nil when there was none
	Read      time.Time // when that came, by the clock of who reads
	Rates     Rates     // of all endpoints together
	Endpoints []Endpoint
	Restarted bool // the process is another one than at the report before

	Lost  error     // why it cannot be read now; nil when it can
	Since time.Time // from when on
}

// Endpoint is what is to be shown of an endpoint.
type Endpoint struct {
	*EndpointReport
	Rates
	Max     int            // limit on connections; 0 is none
	Ports   Maybe[float64] // largest share of the ports to its addresses that is taken
	Level   Level
	History []Point // of the last minute, oldest first; not to be written to
}

// Point is an endpoint at one moment.
type Point struct {
	At       time.Time
	Over     time.Duration  // for which it stands, up to At; 0 when the program was not seen before
	Requests Maybe[float64] // a second
	Waiting  int
	Conns    int
}

// Level is how much an endpoint needs attention.
type Level int

const (
	Quiet   Level = iota
	Near          // near a limit, bodies left unread, failures, or what waits is being dialled for
	Waiting       // requests wait for a connection
)

// String is its mark: " ", "~" or "!".
func (l Level) String() string { return [...]string{" ", "~", "!"}[l] }

const (
	nearShare = 0.8         // of a limit, or of the ports
	dialGrace = time.Second // in which a request may wait for its dial and nobody minds
)

// Conns is the number of the endpoint's connections.
func (e *Endpoint) Conns() int {
	s := &e.Stats
	return s.Dialing + s.Leased + s.Idle + s.Draining
}

func (e *Endpoint) level() Level {
	s := &e.Stats
	busy := s.Leased + s.Dialing + s.Draining
	switch {
	case s.Waiting > 0 && (e.Reason != berth.ReasonDialing || s.OldestWait >= dialGrace):
		return Waiting
	case s.Waiting > 0, e.Max > 0 && float64(busy) >= nearShare*float64(e.Max),
		e.Ports.OK && e.Ports.V >= nearShare, s.Leaks.Suspect > 0, e.Failures.V > 0:
		return Near
	}
	return Quiet
}

// Name is the program's, or where it is looked for.
func (p *Program) Name() string {
	if p.Report == nil || p.Report.Program == "" {
		return p.Source
	}
	return p.Report.Program
}

// Total adds up the endpoints' connections and waiting requests.
func (p *Program) Total() (conns, waiting int) {
	for i := range p.Endpoints {
		conns += p.Endpoints[i].Conns()
		waiting += p.Endpoints[i].Stats.Waiting
	}
	return conns, waiting
}

// Leaks returns the places that have left an endpoint's bodies unread.
func (p *Program) Leaks(e *Endpoint) (list []berth.LeakSite) {
	for _, l := range p.Report.Leaks {
		if l.Endpoint == e.Endpoint {
			list = append(list, l)
		}
	}
	return list
}
