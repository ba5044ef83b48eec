// Package dial opens connections: it resolves a name, races the addresses, and
// runs the TLS handshake. Resolving and connecting are separate steps, so that
// each connection knows which name it was for and which address it got. The root
// package calls it on the goroutine of a dial.
package dial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Dialer connects to addresses. The zero Dialer uses the system's resolver.
type Dialer struct {
	// DialContext replaces resolving and connecting, when it is set: it gets "tcp" and
	// host:port, or "unix" and a path. With Resolve, names are resolved before it.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolve resolves names; nil is System.
	Resolve Lookup
	// LocalAddrs are the addresses that connections come from, in turn; none leaves the
	// choice to the kernel.
	LocalAddrs []netip.Addr
	// LocalPorts are the ports that they come from.
	LocalPorts PortRange

	Process Budget  // of all destinations together
	Names   *Names  // remembers names; nil asks each time
	Ports   *Ledger // counts ports; nil does not

	// Lacks is told that the kernel lacks a feature, each time, and whether the
	// configuration asked for it; nil is not.
	Lacks func(feature string, asked bool, err error)
}

// Target is what is to be connected to.
type Target struct {
	Host, Port     string
	History        *History
	MinTTL, MaxTTL time.Duration         // of the name's answer; see Query
	Budget         Budget                // of the destination, beyond this host
	Load           func(name string) int // connections to an address and port; nil knows none
	Aim            *Aim                  // of this dial, to be released when Load counts its connection; nil is of none
	Times          *Times                // of this dial; nil measures nothing
	Asked          func(Asked)           // see Query

	// Allow says whether a connection to an address may be opened; nil allows all. The
	// error of the last one is the dial's when it allows none. It is told the zero AddrPort
	// where the address is not known.
	Allow func(netip.AddrPort) error
}

// keepAlive is the period of TCP keep-alive probes, as with net/http's default
// transport: it finds peers that vanished without a word.
const keepAlive = 30 * time.Second

// History is what dials to one name remember. The zero History knows nothing. It
// is safe for concurrent use.
type History struct {
	mu    sync.Mutex
	turn  uint32 // dials so far: each begins with the next address
	six   bool   // the family that won the last race of both was IPv6
	since int64  // when, in nanoseconds of Unix time; 0 when there was none
	aims  map[netip.AddrPort]int
}

// Aim is the address that a dial begins with. Until it is released it counts as one
// connection more there, so that dials at once do not all take the address that has fewest.
type Aim struct{ on *aimed } // small: most dials have no choice

type aimed struct {
	at netip.AddrPort
	of *History
}

// Release takes the aim back. It may be called more than once.
func (a *Aim) Release() {
	if a.on == nil {
		return
	}
	h, at := a.on.of, a.on.at
	a.on = nil
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.aims[at]--; h.aims[at] == 0 {
		delete(h.aims, at)
	}
}

// familyMemory is how long the outcome of a race between the families counts.
const familyMemory = 10 * time.Minute

// order returns the addresses in the order in which the next dial tries them: the
// families in turn (RFC 8305 §4), beginning with the one that won last, each from
// the next address on, so that connections spread over all of them.
func (h *History) order(ips []netip.Addr, port uint16, rank func(netip.AddrPort) int, aim *Aim) []netip.AddrPort {
	if h == nil || len(ips) < 2 {
		return interleave(ips, port, 0, ips[0].Unmap().Is4(), rank)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	turn := int(h.turn)
	h.turn++
	four := ips[0].Unmap().Is4()
	if h.since != 0 && time.Since(time.Unix(0, h.since)) < familyMemory {
		four = !h.six
	}
	out := interleave(ips, port, turn, four, func(a netip.AddrPort) int { return rank(a) + h.aims[a] })
	if aim != nil && aim.on == nil {
		if h.aims == nil {
			h.aims = map[netip.AddrPort]int{}
		}
		aim.on = &aimed{out[0], h}
		h.aims[out[0]]++
	}
	return out
}

// won notes which family has won a race.
func (h *History) won(addrs []netip.AddrPort, winner netip.AddrPort) {
	if h == nil {
		return
	}
	for _, a := range addrs {
		if a.Addr().Is4() != winner.Addr().Is4() { // there was a race
			h.mu.Lock()
			defer h.mu.Unlock()
			h.six, h.since = !winner.Addr().Is4(), time.Now().UnixNano()
			return
		}
	}
}

// Connect opens a TCP connection to a name or an address. It blocks until one is open,
// every address has failed, or ctx ends. The destination is nil when d.DialContext alone
// knows it; else Dest.Closed is to be called when the connection has been closed. The
// error unwraps to a *BusyError when a budget of ports has no room now.
func (d *Dialer) Connect(ctx context.Context, t Target) (net.Conn, *Dest, error) {
	if d.DialContext != nil && (d.Resolve == nil || isAddr(t.Host)) {
		c, err := d.By(ctx, d.DialContext, t)
		return c, nil, err
	}
	addrs, err := d.resolve(ctx, &t)
	if err != nil {
		return nil, nil, err
	}
	t.Times.Begin(PartConnect)
	c, winner, err := race(ctx, addrs, func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		return d.connect(ctx, addr, &t)
	})
	t.Times.End(PartConnect, err)
	if err != nil {
		return nil, nil, err
	}
	t.History.won(addrs, winner)
	d.outrun(t.Host, addrs, winner)
	o := c.(*opened)
	return o.Conn, o.dest, nil
}

// outrun sets the addresses aside that had not answered when one won the race that was
// begun later: each dial would wait for them again.
func (d *Dialer) outrun(host string, addrs []netip.AddrPort, winner netip.AddrPort) {
	if d.Names == nil || isAddr(host) {
		return
	}
	for _, a := range addrs {
		if a == winner {
			return
		}
		d.Names.Failed(host, a.Addr())
	}
}

func isAddr(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// opened is a connection that has been counted.
type opened struct {
	net.Conn
	dest *Dest
}

// Close closes a connection that came too late, and uncounts it.
func (o *opened) Close() error {
	err := o.Conn.Close()
	o.dest.Closed(EndedByUs)
	return err
}

// ConnectUnix opens a connection to a Unix domain socket.
func (d *Dialer) ConnectUnix(ctx context.Context, path string) (net.Conn, error) {
	if d.DialContext != nil {
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil && c == nil {
			err = errNoConn
		}
		return c, err
	}
	var nd net.Dialer
	return nd.DialContext(ctx, "unix", path)
}

// By has open connect to a name or an address. Unless that is an address, only the
// connection tells which it is: it is closed then if t.Allow does not allow it, and nothing
// has been written to it.
func (d *Dialer) By(ctx context.Context, open func(ctx context.Context, network, addr string) (net.Conn, error), t Target) (net.Conn, error) {
	ip, err := netip.ParseAddr(t.Host)
	known := err == nil
	if known && t.Allow != nil {
		n, err := d.lookupPort(ctx, t.Port)
		if err == nil {
			err = t.Allow(netip.AddrPortFrom(ip, n))
		}
		if err != nil {
			return nil, err
		}
	}
	t.Times.Begin(PartConnect)
	c, err := open(ctx, "tcp", net.JoinHostPort(t.Host, t.Port))
	t.Times.End(PartConnect, err)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, errNoConn
	case known || t.Allow == nil:
		return c, nil
	}
	if err := t.Allow(remote(c)); err != nil {
		if tc, is := c.(interface{ NetConn() net.Conn }); is {
			tc.NetConn().Close() // TLS would say goodbye
		}
		c.Close()
		return nil, err
	}
	return c, nil
}

// remote returns the TCP address at the other end; zero when that is none.
func remote(c net.Conn) netip.AddrPort {
	a := c.RemoteAddr()
	if a == nil || !strings.HasPrefix(a.Network(), "tcp") {
		return netip.AddrPort{}
	}
	if at, is := a.(interface{ AddrPort() netip.AddrPort }); is {
		return at.AddrPort()
	}
	at, _ := netip.ParseAddrPort(a.String())
	return at
}

var errNoConn = errors.New("dial function returned neither a connection nor an error")

// connect connects to one address.
func (d *Dialer) connect(ctx context.Context, addr netip.AddrPort, t *Target) (net.Conn, error) {
	dest, err := d.count(addr, t)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
	}
	var c net.Conn
	if d.DialContext != nil {
		if c, err = d.DialContext(ctx, "tcp", addr.String()); err == nil && c == nil {
			err = errNoConn
		}
	} else {
		dialer := net.Dialer{KeepAlive: keepAlive, LocalAddr: d.source(addr.Addr(), dest)}
		dialer.Control = func(_, _ string, sc syscall.RawConn) error { return d.control(sc, dialer.LocalAddr != nil) }
		c, err = dialer.DialContext(ctx, "tcp", addr.String())
	}
	if err != nil {
		if dest != nil {
			dest.untake()
		}
		if d.Names != nil && ctx.Err() == nil && Exhausted(err) == None && !isAddr(t.Host) {
			d.Names.Failed(t.Host, addr.Addr())
		}
		return nil, err
	}
	if d.Names != nil {
		d.Names.Worked(t.Host, addr.Addr())
	}
	return &opened{c, dest}, nil
}

// count asks the ledger for a port.
func (d *Dialer) count(addr netip.AddrPort, t *Target) (*Dest, error) {
	if d.Ports == nil {
		return nil, nil
	}
	local := Budget{Ports: d.ports(), HoldFIN: timeWait(addr.Addr())}
	return d.Ports.take(addr, local, t.Budget, d.Process)
}

// ports returns how many ports connections to one destination may come from.
func (d *Dialer) ports() int {
	r := d.LocalPorts
	if r == (PortRange{}) {
		r = d.Ports.ports()
	}
	return r.count() * max(len(d.LocalAddrs), 1)
}

// UsageOf returns what a destination takes of this host's ports. d.Ports must be set.
func (d *Dialer) UsageOf(addr netip.AddrPort) Usage {
	u := d.Ports.UsageOf(addr)
	u.Ports = d.ports()
	return u
}

// source returns the local address for a connection; nil is any.
func (d *Dialer) source(to netip.Addr, dest *Dest) net.Addr {
	if len(d.LocalAddrs) == 0 {
		return nil
	}
	turn := 0
	if dest != nil {
		dest.ledger.mu.Lock()
		turn = dest.turn
		dest.turn++
		dest.ledger.mu.Unlock()
	}
	for i := range d.LocalAddrs {
		if a := d.LocalAddrs[(turn+i)%len(d.LocalAddrs)]; a.Is4() == to.Is4() {
			return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		}
	}
	return nil
}

// control sets a socket's options before it connects.
func (d *Dialer) control(sc syscall.RawConn, bound bool) error {
	return sc.Control(func(fd uintptr) {
		lacks := func(feature string, asked bool, err error) {
			if err != nil && d.Lacks != nil {
				d.Lacks(feature, asked, err)
			}
		}
		if bound {
			lacks(featureBind, true, bindLate(fd))
		}
		r := d.LocalPorts
		if d.Ports != nil {
			if all := d.Ports.ports(); r == (PortRange{}) {
				r = all
			} else if r.Lo < all.Lo || r.Hi > all.Hi {
				lacks(featurePorts, true, fmt.Errorf("%d to %d is not within the system's %d to %d, and has no effect", r.Lo, r.Hi, all.Lo, all.Hi))
			}
		}
		if r != (PortRange{}) {
			lacks(featurePorts, d.LocalPorts != (PortRange{}), setPorts(fd, r))
		}
	})
}

// Probe connects to an address that was set aside and closes the connection again.
func (d *Dialer) Probe(ctx context.Context, t Target, addr netip.AddrPort) {
	c, err := d.connect(ctx, addr, &t)
	if err == nil {
		c.Close()
	}
}

// Query is how d asks for a target's name.
func (d *Dialer) Query(t Target) Query {
	q := Query{Host: t.Host, Lookup: d.Resolve, MinTTL: t.MinTTL, MaxTTL: t.MaxTTL, Asked: t.Asked}
	if q.Lookup == nil {
		q.Lookup = System
	}
	return q
}

// resolve returns the target's addresses in the order in which they are to be tried.
func (d *Dialer) resolve(ctx context.Context, t *Target) ([]netip.AddrPort, error) {
	n, err := d.lookupPort(ctx, t.Port)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(t.Host); err == nil {
		addrs, err := t.allowed([]netip.Addr{ip}, n)
		if err != nil {
			return nil, err
		}
		return []netip.AddrPort{netip.AddrPortFrom(addrs[0].Unmap(), n)}, nil
	}
	names := d.Names
	if names == nil {
		names = new(Names)
	}
	t.Times.Begin(PartName)
	a, err := names.Resolve(ctx, d.Query(*t))
	if t.Times.End(PartName, err); a.Remembered {
		t.Times.drop(PartName)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	allowed, err := t.allowed(a.Addrs, n)
	if err != nil {
		return nil, err
	}
	addrs := t.History.order(allowed, n, func(a netip.AddrPort) int {
		r := d.aside(t.Host, a.Addr()) << 30
		if t.Load != nil {
			r += t.Load(a.String())
		}
		return r
	}, t.Aim)
	slices.SortStableFunc(addrs, func(a, b netip.AddrPort) int {
		return cmp.Compare(d.aside(t.Host, a.Addr()), d.aside(t.Host, b.Addr()))
	})
	return addrs, nil
}

// allowed returns those of a host's addresses that connections may be opened to: at least
// one, or the error of the last.
func (t *Target) allowed(addrs []netip.Addr, port uint16) (list []netip.Addr, err error) {
	if t.Allow == nil {
		return addrs, nil
	}
	for _, a := range addrs {
		if no := t.Allow(netip.AddrPortFrom(a, port)); no != nil {
			err = no
			continue
		}
		list = append(list, a)
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}

// aside is 1 for an address that others are tried before.
func (d *Dialer) aside(host string, a netip.Addr) int {
	if d.Names != nil && d.Names.Aside(host, a) {
		return 1
	}
	return 0
}

func (d *Dialer) lookupPort(ctx context.Context, port string) (uint16, error) {
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		return uint16(n), nil
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return 0, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return uint16(n), nil
}

// interleave puts IPv6 and IPv4 addresses in turn, IPv4 first if four says so, each
// family by rank, equals from the turn-th on.
func interleave(ips []netip.Addr, port uint16, turn int, four bool, rank func(netip.AddrPort) int) []netip.AddrPort {
	var first, second []netip.AddrPort
	for i := range ips {
		a := netip.AddrPortFrom(ips[i].Unmap(), port)
		if a.Addr().Is4() == four {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	for _, list := range [...][]netip.AddrPort{first, second} {
		if n := len(list); n > 1 {
			slices.Reverse(list[:turn%n])
			slices.Reverse(list[turn%n:])
			slices.Reverse(list)
			ranks := map[netip.AddrPort]int{}
			for _, a := range list {
				ranks[a] = rank(a)
			}
			slices.SortStableFunc(list, func(a, b netip.AddrPort) int { return cmp.Compare(ranks[a], ranks[b]) })
		}
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}
