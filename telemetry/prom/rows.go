package prom

import (
	"strings"
	"time"

	"github.com/berth-go/berth"
)

// A row is what all endpoints of one server make together: those behind different
// proxies, and the one for requests that upgrade, have the same labels. An endpoint that
// is forgotten leaves its counts to the row; when it comes back, its new counts are added
// to them. So a counter goes on where it was, and rate() sees neither a fall, which it
// would take for a restart of the whole sum, nor counts that begin anew below the old
// ones, which it could not see at all.
//
// A row whose endpoints are all gone stays until another server needs its place.
type row struct {
	labels  labels
	retired counts // of endpoints that are gone
	live    counts // of this scrape
	state   state  // of this scrape
	members int
	gone    int        // the scrape that found the last member gone
	series  [][]labels // by family and value; nil until the first use
}

// member is an endpoint as the last scrape saw it.
type member struct {
	row  *row
	last counts
	life uint32 // of the endpoint, that last is of
	seen int    // the scrape
}

// state is what is so now.
type state struct {
	dialing, leased, idle, draining int
	max                             int // 0: no limit
	unlimited                       bool
	waiting                         int
	oldest                          time.Duration
	suspects                        int
}

func (s *state) add(st *berth.Stats, maxConns int) {
	s.dialing += st.Dialing
	s.leased += st.Leased
	s.idle += st.Idle
	s.draining += st.Draining
	s.waiting += st.Waiting
	s.oldest = max(s.oldest, st.OldestWait)
	s.suspects += st.Leaks.Suspect
	s.max += max(maxConns, 0)
	s.unlimited = s.unlimited || maxConns <= 0
}

// read brings members and rows up to date. c.mu is held.
func (c *Collector) read() {
	c.scrapes++
	for _, r := range c.allRows() {
		r.state, r.live = state{}, r.live[:0]
	}
	eps := c.tr.Endpoints()
	for _, e := range eps {
		if m := c.members[*e]; m != nil {
			m.seen = c.scrapes
		}
	}
	for e, m := range c.members {
		if m.seen == c.scrapes {
			continue
		}
		m.row.retired = m.row.retired.plus(m.last)
		if m.row.members--; m.row.members == 0 {
			m.row.gone = c.scrapes
		}
		delete(c.members, e)
	}
	c.join(eps)
	var now counts
	for _, e := range eps {
		m := c.members[*e]
		s := e.Stats()
		now = c.count(&s, now[:0])
		if s.Life != m.life {
			m.row.retired = m.row.retired.plus(m.last) // forgotten and back since the last scrape
		}
		m.last, m.life = append(m.last[:0], now...), s.Life
		m.row.live = m.row.live.plus(now)
		m.row.state.add(&s, e.Policy().Policy.MaxConns)
	}
}

// join gives each endpoint that is new a row: first those whose server has one, or another
// could take it just when it is needed again.
func (c *Collector) join(eps []*berth.Endpoint) {
	add := func(e *berth.Endpoint, r *row) {
		r.members++
		c.members[*e] = &member{row: r, seen: c.scrapes}
	}
	var others []*berth.Endpoint
	for _, e := range eps {
		if c.members[*e] != nil {
			continue
		}
		if r := c.rows[serverOf(e)]; r != nil {
			add(e, r)
		} else {
			others = append(others, e)
		}
	}
	for _, e := range others { // in order of their names
		add(e, c.place(serverOf(e)))
	}
}

// serverOf returns the labels of an endpoint. A group's name and the path of a socket may
// be any bytes, and one label that is not UTF-8 would fail the whole scrape.
func serverOf(e *berth.Endpoint) berth.Server {
	s := e.Server()
	for _, v := range [...]*string{&s.Scheme, &s.Host, &s.Port, &s.Group} {
		*v = strings.ToValidUTF8(*v, "\uFFFD")
	}
	return s
}

// place returns the row of a server: its own, a new one, that of the server that is gone
// for longest, or the one for all that have none. Whoever got the last stays there as long
// as its endpoint lives, since a counter that moves would fall in one place.
func (c *Collector) place(s berth.Server) *row {
	if r := c.rows[s]; r != nil {
		return r
	}
	if c.maxServers > 0 && len(c.rows) >= c.maxServers && !c.evict() {
		if c.other == nil {
			c.other = c.newRow(berth.Server{Host: otherHost})
		}
		return c.other
	}
	r := c.newRow(s)
	c.rows[s] = r
	return r
}

// evict gives up the row that is without endpoints for longest, and reports whether there
// was one.
func (c *Collector) evict() bool {
	var oldest berth.Server
	at := c.scrapes + 1
	for s, r := range c.rows {
		if r.members == 0 && r.gone < at {
			oldest, at = s, r.gone
		}
	}
	if at > c.scrapes {
		return false
	}
	delete(c.rows, oldest)
	return true
}

func (c *Collector) newRow(s berth.Server) *row {
	return &row{labels: labels{pair("group", s.Group), pair("host", s.Host), pair("port", s.Port), pair("scheme", s.Scheme)},
		series: make([][]labels, len(c.families))}
}

// allRows returns the rows, in no order.
func (c *Collector) allRows() []*row {
	list := make([]*row, 0, len(c.rows)+1)
	for _, r := range c.rows {
		list = append(list, r)
	}
	if c.other != nil {
		list = append(list, c.other)
	}
	return list
}
