package dial

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Budget is a number of ports, and how long each stays taken after its connection.
type Budget struct {
	Ports   int           // ≤ 0: none is kept
	HoldFIN time.Duration // after a connection that ended by FIN
	HoldRST time.Duration // after one that ended by RST
}

// Ending is how a connection was closed.
type Ending uint8

const (
	EndedByUs   Ending = iota // our FIN came first: this host keeps the port in TIME_WAIT
	EndedByPeer               // the peer's did
	EndedByRST
)

// Ledger counts the ports that a transport takes, by destination: ephemeral ports of this
// host, which are per destination, and those of budgets that lie beyond it. Safe for
// concurrent use.
type Ledger struct {
	clock func() int64

	mu      sync.Mutex
	dests   map[netip.AddrPort]*Dest
	process account
	freed   chan struct{} // closed when a port is given back; nil while nobody asks
	system  PortRange     // of this host; zero as long as it was not asked
}

// Dest is a destination's part.
type Dest struct {
	ledger  *Ledger
	addr    netip.AddrPort
	text    string
	host    account // of this host
	beyond  account // of the destination's own budget
	budget  Budget  // that one
	process Budget
	ports   int // of this host
	turn    int
	rate    float64 // dials a second, of late
	rated   int64
	first   int64 // when the rate began to be taken
}

// account counts ports under one budget.
type account struct {
	live  int
	held  []hold // by end
	count int    // in held
	paced int64  // no connection begins before
}

type hold struct {
	until int64
	n     int
}

// NewLedger makes a Ledger. clock returns nanoseconds of a monotonic clock.
func NewLedger(clock func() int64) *Ledger {
	return &Ledger{clock: clock, dests: map[netip.AddrPort]*Dest{}}
}

// BusyError: a new connection would take a port that is, by count, not to be had yet.
type BusyError struct {
	Wait  time.Duration // until it may be
	Usage Usage
}

func (e *BusyError) Error() string { return "no port to spare: " + e.Usage.String() }

// Usage is how many ports a destination takes.
type Usage struct {
	Dest    string
	Ports   int // that there are; 0 when it is not known
	Live    int // with a connection
	Held    int // without one, not to be used again yet
	Beyond  bool
	Process bool
	Rate    float64 // new connections a second, of late
}

func (u Usage) String() string {
	whose, held := "of this host to "+u.Dest, "in TIME_WAIT"
	if u.Beyond {
		whose, held = "of the budget of "+u.Dest, "held"
	}
	if u.Process {
		whose = "of the process's budget"
	}
	return fmt.Sprintf("%d of %d ports %s (%d live, %d %s)", u.Live+u.Held, u.Ports, whose, u.Live, u.Held, held)
}

// dest returns the entry of a destination, which lives as long as it counts something.
func (l *Ledger) dest(addr netip.AddrPort) *Dest {
	d := l.dests[addr]
	if d == nil {
		d = &Dest{ledger: l, addr: addr, text: addr.String()}
		l.dests[addr] = d
	}
	return d
}

// pacedFrom is the share of a budget from which new connections are paced, in tenths:
// they begin no faster than ports come back.
const pacedFrom = 8

// take counts a connection that is about to begin. The error is a *BusyError: it may not
// begin yet. own and process are budgets beyond this host.
func (l *Ledger) take(addr netip.AddrPort, local, own, process Budget) (*Dest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	d := l.dest(addr)
	d.budget, d.process, d.ports = own, process, local.Ports
	type entry struct {
		a *account
		b Budget
		u Usage
	}
	entries := [...]entry{
		{&d.host, local, Usage{Dest: d.text}},
		{&d.beyond, own, Usage{Dest: d.text, Beyond: true}},
		{&l.process, process, Usage{Beyond: true, Process: true}},
	}
	for i, e := range entries {
		if e.b.Ports <= 0 {
			continue
		}
		e.a.expire(now)
		used := e.a.live + e.a.count
		wait := int64(0)
		switch {
		case i > 0 && used >= e.b.Ports: // the kernel says so itself
			wait = e.a.next(now)
		case used*10 >= e.b.Ports*pacedFrom:
			wait = max(e.a.paced-now, 0)
		}
		if wait > 0 {
			e.u.Ports, e.u.Live, e.u.Held = e.b.Ports, e.a.live, e.a.count
			l.drop(d)
			return nil, &BusyError{Wait: time.Duration(wait), Usage: e.u}
		}
	}
	for _, e := range entries {
		e.a.live++
		e.a.paced = now + e.a.gap(e.b, now)
	}
	if d.rate = d.decayed(now); d.rate == 0 {
		d.first = now
	}
	d.rate += 1 / rateOver.Seconds()
	d.rated = now
	return d, nil
}

// gap is how long the next connection waits after one that begins now: from the paced
// share on so long that what is left lasts until ports come back, and at least as long as
// one port takes to come back when all are in use.
func (a *account) gap(b Budget, now int64) int64 {
	used := a.live + a.count
	if b.Ports <= 0 || b.HoldFIN <= 0 || used*10 < b.Ports*pacedFrom {
		return 0
	}
	gap := int64(b.HoldFIN) / int64(b.Ports)
	if len(a.held) > 0 {
		gap = max(gap, (a.held[0].until-now)/int64(max(b.Ports-used, 1)))
	}
	return min(gap, int64(maxGap))
}

// maxGap bounds it: counting may err, and the kernel has the last word.
const maxGap = time.Second

// rateOver is the time over which the rate of dials is smoothed.
const rateOver = 4 * time.Second

func (d *Dest) decayed(now int64) float64 {
	past := float64(now-d.rated) / float64(rateOver)
	if past > 10 {
		return 0
	}
	return d.rate * math.Exp(-past)
}

// rateAt returns the dials a second. The sum has not seen the whole time yet that it is
// over when it began lately.
func (d *Dest) rateAt(now int64) float64 {
	seen := 1 - math.Exp(-max(float64(now-d.first), float64(10*time.Millisecond))/float64(rateOver))
	return d.decayed(now) / seen
}

// next returns how long it takes until a port comes back by itself.
func (a *account) next(now int64) int64 {
	if len(a.held) == 0 {
		return int64(time.Second) // connections have to end; Freed tells
	}
	return max(a.held[0].until-now, 1)
}

func (a *account) expire(now int64) {
	i := 0
	for ; i < len(a.held) && a.held[i].until <= now; i++ {
		a.count -= a.held[i].n
	}
	a.held = a.held[i:]
	if len(a.held) == 0 {
		a.held = nil
	}
}

// holdStep is how exactly the end of a hold is kept: those within it end together.
const holdStep = int64(100 * time.Millisecond)

// end turns a live port into one that is held.
func (a *account) end(now int64, d time.Duration) {
	a.live--
	if d <= 0 {
		return
	}
	until := now + int64(d)
	until += (holdStep - until%holdStep) % holdStep
	a.count++
	i := len(a.held)
	for i > 0 && a.held[i-1].until > until {
		i--
	}
	if i > 0 && a.held[i-1].until == until {
		a.held[i-1].n++
		return
	}
	a.held = slices.Insert(a.held, i, hold{until, 1})
}

// untake takes back a connection that did not come to be.
func (d *Dest) untake() {
	l := d.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	d.host.live--
	d.beyond.live--
	l.process.live--
	l.drop(d)
	l.tell()
}

// Closed counts the end of a connection. d may be nil.
func (d *Dest) Closed(how Ending) {
	if d == nil {
		return
	}
	l := d.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	var host time.Duration
	if how == EndedByUs {
		host = timeWait(d.addr.Addr())
	}
	d.host.end(now, host)
	d.beyond.end(now, d.budget.hold(how))
	l.process.end(now, d.process.hold(how))
	l.drop(d)
	l.tell()
}

func (b Budget) hold(how Ending) time.Duration {
	switch {
	case b.Ports <= 0:
		return 0
	case how == EndedByRST:
		return b.HoldRST
	}
	return b.HoldFIN
}

// drop forgets a destination that counts nothing any more.
func (l *Ledger) drop(d *Dest) {
	if d.host.live+d.host.count+d.beyond.count == 0 {
		delete(l.dests, d.addr)
	}
}

func (l *Ledger) tell() {
	if l.freed != nil {
		close(l.freed)
		l.freed = nil
	}
}

// Wake tells whoever waits for a port that there may be more.
func (l *Ledger) Wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
}

// Freed returns a channel that is closed when the next port is given back.
func (l *Ledger) Freed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed == nil {
		l.freed = make(chan struct{})
	}
	return l.freed
}

// Name is the destination's address and port; "" for nil.
func (d *Dest) Name() string {
	if d == nil {
		return ""
	}
	return d.text
}

// Addr is the destination's address; zero for nil.
func (d *Dest) Addr() netip.Addr {
	if d == nil {
		return netip.Addr{}
	}
	return d.addr.Addr()
}

// Scarce reports whether more than half of the destination's ports, or of a budget, are
// taken.
func (d *Dest) Scarce() bool {
	if d == nil {
		return false
	}
	for _, u := range d.usage() {
		if u.Ports > 0 && 2*(u.Live+u.Held) > u.Ports {
			return true
		}
	}
	return false
}

func (d *Dest) usage() (list []Usage) {
	l := d.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usageOf(d, l.clock())
}

func (l *Ledger) usageOf(d *Dest, now int64) (list []Usage) {
	d.host.expire(now)
	d.beyond.expire(now)
	l.process.expire(now)
	list = append(list, Usage{Dest: d.text, Ports: d.ports, Live: d.host.live, Held: d.host.count, Rate: d.rateAt(now)})
	if d.budget.Ports > 0 {
		list = append(list, Usage{Dest: d.text, Ports: d.budget.Ports, Live: d.beyond.live, Held: d.beyond.count, Beyond: true, Rate: d.rateAt(now)})
	}
	if d.process.Ports > 0 {
		list = append(list, Usage{Ports: d.process.Ports, Live: l.process.live, Held: l.process.count, Beyond: true, Process: true})
	}
	return list
}

// Usage returns what every destination takes, by name.
func (l *Ledger) Usage() (list []Usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	process := false
	for _, d := range l.dests {
		for _, u := range l.usageOf(d, now) {
			if u.Process && process {
				continue
			}
			process = process || u.Process
			if u.Live+u.Held > 0 {
				list = append(list, u)
			}
		}
	}
	slices.SortFunc(list, func(a, b Usage) int { return strings.Compare(a.Dest, b.Dest) })
	return list
}

// UsageOf returns what a destination takes of this host's ports.
func (l *Ledger) UsageOf(addr netip.AddrPort) Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.dests[addr]
	if d == nil {
		return Usage{Dest: addr.String(), Ports: l.capacity()}
	}
	return l.usageOf(d, l.clock())[0]
}

// ports returns the range of this host's ephemeral ports.
func (l *Ledger) ports() PortRange {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.capacity()
	return l.system
}

// capacity returns how many ephemeral ports this host has to one destination from one
// address. l.mu is held.
func (l *Ledger) capacity() int {
	if l.system == (PortRange{}) {
		l.system = systemPorts()
	}
	return l.system.count()
}

// PortRange is a range of ports, both ends included; zero is the system's.
type PortRange struct{ Lo, Hi uint16 }

func (r PortRange) count() int { return int(r.Hi) - int(r.Lo) + 1 }
