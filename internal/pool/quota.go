package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Quota holds limits over several pools. A dial that finds no room under a limit waits
// until a connection of any pool under it is closed; those that wait get their turns one
// pool after the other. While somebody waits, the connection that is idle for longest is
// closed for it, whosever it is. When none is idle, the pool that has the most gives up
// the next that it is given back, until all who want some have about equally many; with
// fewer places than pools, they take turns.
type Quota struct {
	clock  func() int64
	hungry *atomic.Bool // Shared.Hungry of the pools

	// mu guards what follows and the fields of limits and members. A pool's lock may be
	// taken while it is held, never the other way round.
	mu      sync.Mutex
	members []*Member
	waiting []*Member // those with pending dials, the next to have its turn first
	timer   *time.Timer
	lowered []*Limit // those that more is in use of than they allow
	owed    int      // of all members
}

// Limit is a number of connections; the zero Limit allows none.
type Limit struct {
	Name string // for people: what it bounds
	max  int
	used int // slots that were admitted and live
	owed int // connections that pools were asked to give up for it
}

// MakeLimit returns a Limit of n.
func MakeLimit(name string, n int) Limit { return Limit{Name: name, max: n} }

// Member is a pool's part in a Quota, and its Admission.
type Member struct {
	quota   *Quota
	pool    *Pool
	limits  []*Limit
	held    int // its admitted slots
	owed    int // connections that it was asked to give up
	pending []*Slot
	since   int64 // when the first of them began to wait
	left    bool  // what its pool says late counts no more
}

// turn is how long a pool without any connection waits until another's only one is
// taken.
const turn = 50 * time.Millisecond

// NewQuota makes a Quota for pools that have the clock and shared.
func NewQuota(clock func() int64, shared *Shared) *Quota {
	return &Quota{clock: clock, hungry: &shared.Hungry}
}

// SetMax changes a limit. When it is lowered below what is in use,
// idle connections are closed, longest idle first, and busy ones after their exchange.
func (q *Quota) SetMax(l *Limit, n int) {
	q.mu.Lock()
	if l.max == n {
		q.mu.Unlock()
		return
	}
	l.max = n
	if l.used > n && !slices.Contains(q.lowered, l) {
		q.lowered = append(q.lowered, l)
	}
	q.run()
}

// Join puts p under the limits, its connections included.
func (q *Quota) Join(p *Pool, limits ...*Limit) *Member {
	m := &Member{quota: q, pool: p, limits: limits}
	q.mu.Lock()
	q.members = append(q.members, m)
	q.mu.Unlock()
	n := p.setAdmission(m)
	if n == 0 {
		return m
	}
	q.mu.Lock()
	m.held += n
	for _, l := range limits {
		if l.used += n; l.used > l.max && !slices.Contains(q.lowered, l) {
			q.lowered = append(q.lowered, l)
		}
	}
	q.run()
	return m
}

// Leave ends what Join began: dials that wait are admitted.
func (q *Quota) Leave(m *Member) {
	m.pool.setAdmission(nil)
	q.mu.Lock()
	q.members = slices.DeleteFunc(q.members, func(o *Member) bool { return o == m })
	q.waiting = slices.DeleteFunc(q.waiting, func(o *Member) bool { return o == m })
	pending := m.pending
	m.pending = nil
	m.forgive()
	for _, l := range m.limits {
		l.used -= m.held
	}
	m.held, m.left = 0, true
	q.run()
	for _, s := range pending {
		m.pool.Admitted(s)
	}
}

// UnderAll reports whether m is under exactly these limits; m may be nil.
func (m *Member) UnderAll(limits []*Limit) bool {
	if m == nil {
		return len(limits) == 0
	}
	return slices.Equal(m.limits, limits)
}

// Under reports whether m is under the limit.
func (m *Member) Under(l *Limit) bool { return slices.Contains(m.limits, l) }

// Binding returns the limit that keeps the pool's dials waiting and its number; nil when
// none does.
func (m *Member) Binding() (l *Limit, limit int) {
	m.quota.mu.Lock()
	defer m.quota.mu.Unlock()
	if len(m.pending) == 0 {
		return nil, 0
	}
	if l = m.full(); l == nil {
		return nil, 0
	}
	return l, l.max
}

// ---- Admission ----

// Admit lets the dial start when there is room for it. One that is modest is declined
// otherwise: nothing is taken from others for its sake.
func (m *Member) Admit(p *Pool, s *Slot) {
	q := m.quota
	q.mu.Lock()
	if m.left {
		q.mu.Unlock()
		p.Admitted(s)
		return
	}
	busy := m.full() != nil || len(q.waiting) > 0
	if s.modest && busy {
		q.mu.Unlock()
		p.declined(s)
		return
	}
	if len(m.pending) == 0 {
		q.waiting = append(q.waiting, m)
		m.since = q.clock()
	}
	m.pending = append(m.pending, s)
	q.run()
	if busy {
		p.queued(s)
	}
}

// Withdraw takes the dial out of the line.
func (m *Member) Withdraw(_ *Pool, s *Slot) bool {
	q := m.quota
	q.mu.Lock()
	i := slices.Index(m.pending, s)
	if i >= 0 {
		m.pending = slices.Delete(m.pending, i, i+1)
		if len(m.pending) == 0 {
			q.waiting = slices.DeleteFunc(q.waiting, func(o *Member) bool { return o == m })
		}
	}
	q.run()
	return i >= 0
}

// Freed makes room for the next.
func (m *Member) Freed(*Pool) {
	q := m.quota
	q.mu.Lock()
	if m.left {
		q.mu.Unlock()
		return
	}
	m.held--
	m.paid(1)
	for _, l := range m.limits {
		l.used--
	}
	q.run()
}

// Idle looks whether somebody waits for the connection that turned idle.
func (m *Member) Idle(*Pool) {
	q := m.quota
	q.mu.Lock()
	q.run()
}

// full returns a limit of m that has no room.
func (m *Member) full() *Limit {
	for _, l := range m.limits {
		if l.used >= l.max {
			return l
		}
	}
	return nil
}

// run lets dials start while there is room, has pools give up connections for those that
// must wait, and unlocks.
func (q *Quota) run() {
	type grant struct {
		m *Member
		s *Slot
	}
	var grants []grant
	for blocked := 0; blocked < len(q.waiting); {
		m := q.waiting[0]
		q.waiting = q.waiting[1:]
		if m.full() != nil {
			q.waiting = append(q.waiting, m)
			blocked++
			continue
		}
		blocked = 0
		s := m.pending[0]
		m.pending = m.pending[1:]
		m.held++
		for _, l := range m.limits {
			l.used++
		}
		grants = append(grants, grant{m, s})
		if len(m.pending) > 0 {
			m.since = q.clock()
			q.waiting = append(q.waiting, m)
		}
	}
	q.hungry.Store(len(q.waiting) > 0)
	asked := q.ask()
	q.mu.Unlock()
	for _, g := range grants {
		g.m.pool.Admitted(g.s)
	}
	for _, a := range asked {
		if a.more {
			a.pool.Shed()
		} else {
			a.pool.Keep()
		}
	}
}

// asked is a pool that is to give up one more connection, or none any more.
type asked struct {
	pool *Pool
	more bool
}

// askedAtOnce bounds what one event asks for: the next one asks for more.
const askedAtOnce = 16

// ask chooses who gives up connections.
func (q *Quota) ask() (list []asked) {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.lowered = slices.DeleteFunc(q.lowered, func(l *Limit) bool { return l.used <= l.max })
	if len(q.waiting)+len(q.lowered) == 0 {
		if q.owed > 0 { // and nobody needs it any more
			for _, m := range q.members {
				if m.owed > 0 {
					m.forgive()
					list = append(list, asked{m.pool, false})
				}
			}
		}
		return list
	}
	for _, l := range q.lowered {
		for l.used-l.owed > l.max {
			v, _ := q.victim(l, nil)
			if v == nil {
				break
			}
			list = append(list, v.owe(l))
		}
	}
	later := int64(0)
	wanted := map[*Limit]int{}
	for _, m := range q.waiting {
		wanted[m.full()] += len(m.pending)
	}
	for _, m := range q.waiting {
		l := m.full()
		if len(list) >= askedAtOnce || l.owed >= wanted[l]+l.used-l.max {
			continue
		}
		v, wait := q.victim(l, m)
		if v != nil {
			list = append(list, v.owe(l))
		} else if wait > 0 && (later == 0 || wait < later) {
			later = wait
		}
	}
	if later > 0 {
		if q.timer == nil {
			q.timer = time.AfterFunc(time.Duration(later), q.tick)
		} else {
			q.timer.Reset(time.Duration(later))
		}
	}
	return list
}

func (q *Quota) tick() {
	q.mu.Lock()
	q.run()
}

// owe has a pool give up one more.
func (m *Member) owe(l *Limit) asked {
	m.owed++
	m.quota.owed++
	l.owed++
	return asked{m.pool, true}
}

// paid notes that n of what m owed are settled.
func (m *Member) paid(n int) {
	n = min(n, m.owed)
	m.owed -= n
	m.quota.owed -= n
	for _, l := range m.limits {
		l.owed -= min(l.owed, n)
	}
}

func (m *Member) forgive() { m.paid(m.owed) }

// victim returns the pool under l that gives up a connection for m, or for nobody when
// the limit was lowered. wait is not zero when there may be one after that time.
func (q *Quota) victim(l *Limit, m *Member) (v *Member, wait int64) {
	oldest := int64(never)
	for _, o := range q.members {
		if o.owed > 0 || !slices.Contains(o.limits, l) {
			continue
		}
		if since, ok := o.pool.OldestIdle(); ok && since < oldest {
			v, oldest = o, since
		}
	}
	if v != nil {
		return v, 0
	}
	for _, o := range q.members {
		if o != m && slices.Contains(o.limits, l) && o.held > o.owed && (v == nil || o.held-o.owed > v.held-v.owed) {
			v = o
		}
	}
	switch {
	case v == nil, m == nil, v.held-v.owed >= m.held+2:
		return v, 0
	case m.held == 0:
		if waited := q.clock() - m.since; waited < int64(turn) {
			return nil, int64(turn) - waited
		}
		return v, 0
	}
	return nil, 0
}
