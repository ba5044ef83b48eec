// Addresses: host and port, as a dialler writes them and a log shows them.
// network.go and listener.go parse them, conn.go hands them out.

package memnet

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Addr is one end of a connection, or where a listener listens. It is comparable
// and can be a map's key.
type Addr struct {
	Host string // a name in lower case, or an IP address without brackets
	Port uint16
}

// Network returns "tcp", so that errors read as they do on a real network.
func (a Addr) Network() string { return "tcp" }

// String returns host:port, an IPv6 address in brackets.
func (a Addr) String() string {
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// AddrPort returns the address in numbers; the zero AddrPort, which is not valid,
// when the host is a name.
func (a Addr) AddrPort() netip.AddrPort {
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, a.Port)
}

// near returns the address a connection to a is dialled from: the loopback
// address of a's family; of IPv4 when a's host is a name.
func (a Addr) near(port uint16) Addr {
	if ip := a.AddrPort().Addr(); ip.Is6() {
		return Addr{"::1", port}
	}
	return Addr{"127.0.0.1", port}
}

// parseAddr reads host:port. Equal addresses come out equal however they were
// written: names in lower case, IP addresses in their shortest form.
// The error is a *net.AddrError.
func parseAddr(s string) (Addr, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Addr{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Addr{}, &net.AddrError{Err: "invalid port", Addr: s}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return Addr{strings.ToLower(host), uint16(p)}, nil
}

// dialAddr reads what DialContext was given and checks that the network can
// carry it, as net.Dial does.
func dialAddr(network, s string) (Addr, error) {
	a, err := parseAddr(s)
	if err != nil {
		return Addr{}, err
	}
	ip := a.AddrPort().Addr()
	switch network {
	case "tcp":
		return a, nil
	case "tcp4":
		if ip.Is6() {
			return Addr{}, &net.AddrError{Err: "no suitable address", Addr: s}
		}
		return a, nil
	case "tcp6":
		if ip.Is4() {
			return Addr{}, &net.AddrError{Err: "no suitable address", Addr: s}
		}
		return a, nil
	}
	return Addr{}, net.UnknownNetworkError(network)
}
