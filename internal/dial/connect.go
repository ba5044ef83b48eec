// Package dial opens connections: it resolves a name, races the addresses, and
// runs the TLS handshake. Resolving and connecting are separate steps, so that
// each connection knows which name it was for and which address it got. The root
// package calls it on the goroutine of a dial.
package dial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Dialer connects to an address. The zero Dialer uses the system's resolver.
type Dialer struct {
	// DialContext replaces resolving and connecting, when it is set. It gets
	// "tcp" and host:port.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolver resolves names; nil is net.DefaultResolver.
	Resolver *net.Resolver
}

// keepAlive is the period of TCP keep-alive probes, as with net/http's default
// transport: it finds peers that vanished without a word.
const keepAlive = 30 * time.Second

// Connect opens a TCP connection to host:port, host being a name or an address.
// It blocks until one is open, every address has failed, or ctx ends.
func (d *Dialer) Connect(ctx context.Context, host, port string) (net.Conn, error) {
	if d.DialContext != nil {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err == nil && c == nil {
			err = fmt.Errorf("dial function returned neither a connection nor an error")
		}
		return c, err
	}
	addrs, err := d.resolve(ctx, host, port)
	if err != nil {
		return nil, err
	}
	return race(ctx, addrs, connectOne)
}

// connectOne connects to one address.
func connectOne(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: keepAlive}
	return dialer.DialContext(ctx, "tcp", addr.String())
}

// resolve returns the addresses of host in the order in which they are to be
// tried: the families in turn, the resolver's first choice first (RFC 8305 §4).
func (d *Dialer) resolve(ctx context.Context, host, port string) ([]netip.AddrPort, error) {
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
	return interleave(ips, n), nil
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

// interleave puts IPv6 and IPv4 addresses in turn, each family in its own order.
func interleave(ips []netip.Addr, port uint16) []netip.AddrPort {
	var first, second []netip.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if ip.Is4() == ips[0].Unmap().Is4() {
			first = append(first, ip)
		} else {
			second = append(second, ip)
		}
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, netip.AddrPortFrom(first[i], port))
		}
		if i < len(second) {
			out = append(out, netip.AddrPortFrom(second[i], port))
		}
	}
	return out
}
