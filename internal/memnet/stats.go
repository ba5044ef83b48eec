// Statistics: what was dialled and what is open, per address and in all, for
// assertions such as "never more than two open". network.go and conn.go count.

package memnet

// Stats counts the dialling side of an address, or of the whole network.
type Stats struct {
	Dials    int // DialContext calls with a valid address, whatever became of them
	Failed   int // those that returned an error
	Accepted int // connections that Accept returned

	Dialing    int // DialContext calls that have not returned
	MaxDialing int // the highest Dialing so far

	// Open counts connections whose dialled end has not been closed (the
	// descriptors a client would hold), whatever the accepting end did.
	Open    int
	MaxOpen int // the highest Open so far
}

// Stats returns the counts for dials to addr, written in any form that DialContext
// takes; the zero Stats when nobody dialled it. A listener for every host counts
// each dialled host by itself.
func (n *Network) Stats(addr string) Stats {
	a, err := parseAddr(addr)
	if err != nil {
		return Stats{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.stats[a]; s != nil {
		return *s
	}
	return Stats{}
}

// Total returns the counts over all addresses. Its highs are the network's own,
// not the sum of the addresses' highs.
func (n *Network) Total() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.total
}

func (n *Network) countDial(to Addr) {
	n.countWith(to, func(s *Stats) {
		s.Dials++
		s.Dialing++
		s.MaxDialing = max(s.MaxDialing, s.Dialing)
	})
}

func (n *Network) countFailed(to Addr) {
	n.countWith(to, func(s *Stats) {
		s.Dialing--
		s.Failed++
	})
}

func (n *Network) countOpenLocked(to Addr) {
	n.countLocked(to, func(s *Stats) {
		s.Dialing--
		s.Open++
		s.MaxOpen = max(s.MaxOpen, s.Open)
	})
}

func (n *Network) countAcceptedLocked(to Addr) {
	n.countLocked(to, func(s *Stats) { s.Accepted++ })
}

func (n *Network) countClosedLocked(to Addr) {
	n.countLocked(to, func(s *Stats) { s.Open-- })
}

func (n *Network) countWith(to Addr, change func(*Stats)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.countLocked(to, change)
}

// countLocked applies change to the address's counts and to the network's.
func (n *Network) countLocked(to Addr, change func(*Stats)) {
	s := n.stats[to]
	if s == nil {
		if n.stats == nil {
			n.stats = make(map[Addr]*Stats)
		}
		s = new(Stats)
		n.stats[to] = s
	}
	change(s)
	change(&n.total)
}
