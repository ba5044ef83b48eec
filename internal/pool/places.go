package pool

// place is one of several peers that serve an endpoint: an address. The pool keeps count
// of what goes there.
type place struct {
	name        string
	conns       int // open, and not given up
	inFlight    int
	front, back *Slot // idle, most recently used first
	at          int   // in places.ready; -1 when nothing is idle
}

// spot is a connection's part in its place.
type spot struct {
	place      *place
	prev, next *Slot // among the idle connections there
}

// places are an endpoint's.
type places struct {
	byName map[string]*place
	ready  []*place // those with an idle connection
	seed   uint64
}

// enter counts a new connection at its place.
func (c *core) enter(s *Slot, name string) {
	if name == "" {
		return
	}
	if c.places == nil {
		c.places = &places{byName: map[string]*place{}, seed: golden}
	}
	p := c.places.byName[name]
	if p == nil {
		p = &place{name: name, at: -1}
		c.places.byName[name] = p
	}
	p.conns++
	s.at = &spot{place: p}
}

// leavePlace takes a connection that is closed off the count; it is not idle.
func (c *core) leavePlace(s *Slot) {
	if s.at == nil {
		return
	}
	p := s.at.place
	s.at = nil
	if p.conns--; p.conns == 0 {
		delete(c.places.byName, p.name)
	}
}

func (ps *places) push(s *Slot) {
	p := s.at.place
	s.at.prev, s.at.next = nil, p.front
	if p.front != nil {
		p.front.at.prev = s
	} else {
		p.back = s
		p.at = len(ps.ready)
		ps.ready = append(ps.ready, p)
	}
	p.front = s
}

func (ps *places) pop(s *Slot) {
	p, prev, next := s.at.place, s.at.prev, s.at.next
	if prev != nil {
		prev.at.next = next
	} else {
		p.front = next
	}
	if next != nil {
		next.at.prev = prev
	} else {
		p.back = prev
	}
	s.at.prev, s.at.next = nil, nil
	if p.front == nil {
		last := len(ps.ready) - 1
		ps.ready[last].at = p.at
		ps.ready[p.at] = ps.ready[last]
		ps.ready[last] = nil
		ps.ready = ps.ready[:last]
		p.at = -1
	}
}

// random returns a number below n (xorshift64*).
func (ps *places) random(n int) int {
	ps.seed ^= ps.seed >> 12
	ps.seed ^= ps.seed << 25
	ps.seed ^= ps.seed >> 27
	return int((ps.seed * 0x2545F4914F6CDD1D >> 33) % uint64(n))
}

// pickSpread returns the longest unused connection of the less loaded of two places
// drawn at random; nil when they have none that may be lent.
func (c *core) pickSpread(now int64) *Slot {
	for c.places != nil && len(c.places.ready) > 0 {
		ps := c.places
		p := ps.ready[ps.random(len(ps.ready))]
		if q := ps.ready[ps.random(len(ps.ready))]; q.inFlight < p.inFlight {
			p = q
		}
		expired := false
		for s := p.back; s != nil && !expired; {
			prev := s.at.prev
			if !s.probing {
				if expired = c.expire(s, now); !expired {
					return s
				}
			}
			s = prev
		}
		if !expired { // all are out for a probe
			return nil
		}
	}
	return nil
}
