// Package dial opens connections: it resolves a name, races the addresses, and
// runs the TLS handshake. Resolving and connecting are separate steps, so that
// each connection knows which name it was for and which address it got. The root
// package calls it on the goroutine of a dial.
package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Dialer connects to an address. The zero Dialer uses the system's resolver.
type Dialer struct {
	// DialContext replaces resolving and connecting, when it is set. It gets
	// "tcp" and host:port, or "unix" and a path.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolver resolves names; nil is net.DefaultResolver.
	Resolver *net.Resolver
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
}

// familyMemory is how long the outcome of a race between the families counts.
const familyMemory = 10 * time.Minute

// order returns the addresses in the order in which the next dial tries them: the
// families in turn (RFC 8305 §4), beginning with the one that won last, each from
// the next address on, so that connections spread over all of them.
func (h *History) order(ips []netip.Addr, port uint16) []netip.AddrPort {
	if h == nil || len(ips) < 2 {
		return interleave(ips, port, 0, ips[0].Unmap().Is4())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	turn := int(h.turn)
	h.turn++
	four := ips[0].Unmap().Is4()
	if h.since != 0 && time.Since(time.Unix(0, h.since)) < familyMemory {
		four = !h.six
	}
	return interleave(ips, port, turn, four)
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

// Connect opens a TCP connection to host:port, host being a name or an address.
// It blocks until one is open, every address has failed, or ctx ends. history may
// be nil.
func (d *Dialer) Connect(ctx context.Context, host, port string, history *History) (net.Conn, error) {
	if d.DialContext != nil {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err == nil && c == nil {
			err = errNoConn
		}
		return c, err
	}
	addrs, err := d.resolve(ctx, host, port, history)
	if err != nil {
		return nil, err
	}
	c, winner, err := race(ctx, addrs, connectOne)
	if err == nil {
		history.won(addrs, winner)
	}
	return c, err
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

var errNoConn = errors.New("dial function returned neither a connection nor an error")

// connectOne connects to one address.
func connectOne(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: keepAlive}
	return dialer.DialContext(ctx, "tcp", addr.String())
}

// resolve returns the addresses of host in the order in which they are to be tried.
func (d *Dialer) resolve(ctx context.Context, host, port string, history *History) ([]netip.AddrPort, error) {
	n, err := d.lookupPort(ctx, port)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, n)}, nil
	}
	r := d.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	ips, err := r.LookupNetIP(namesOnly(ctx), "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	if len(ips) == 0 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no address", Name: host, IsNotFound: true}}
	}
	return history.order(ips, n), nil
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
// family in its own order from the turn-th address on.
func interleave(ips []netip.Addr, port uint16, turn int, four bool) []netip.AddrPort {
	var first, second []netip.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if ip.Is4() == four {
			first = append(first, ip)
		} else {
			second = append(second, ip)
		}
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, netip.AddrPortFrom(first[(i+turn)%len(first)], port))
		}
		if i < len(second) {
			out = append(out, netip.AddrPortFrom(second[(i+turn)%len(second)], port))
		}
	}
	return out
}
