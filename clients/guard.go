package clients

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-go/berth"
)

// Guard refuses connections to addresses that are not public: private and shared networks,
// loopback, link-local, multicast, what is reserved, and the addresses at which clouds keep
// their metadata. It is for programs that send requests to where others tell them, such as
// webhooks (server-side request forgery, CWE-918). It looks at the address that is really
// dialled, each time one is: neither a name that stands for a private address, nor one that
// changes its mind (DNS rebinding), nor a redirect, nor another way to write an address
// gets past it.
//
// Settings.Guard sets it for a client, whose connections are then its own group's. For a
// whole transport, set berth.Config.AllowAddr to its Check.
type Guard struct {
	// Deny is refused, whatever Allow says. Allow is not refused although it is not public.
	Deny  []netip.Prefix `json:"deny"`
	Allow []netip.Prefix `json:"allow"`

	// Ports are those that connections may go to. Default: all.
	Ports []uint16 `json:"ports"`

	// Proxy allows requests through a proxy, whose own address is not looked at. The proxy
	// finds the server's address, and this guard cannot see which: the proxy must be one
	// that refuses what is not public itself.
	Proxy bool `json:"proxy"`

	// Sockets allows Unix domain sockets.
	Sockets bool `json:"sockets"`
}

// GuardError is why a [Guard] refuses a connection. The transport's error wraps it, a
// *berth.AddrRefusedError with the code BERTH1023.
type GuardError struct {
	Addr  netip.AddrPort // the zero AddrPort where there is none
	Range netip.Prefix   // that it is in; the zero Prefix where it does not matter
	Why   string
}

func (e *GuardError) Error() string {
	switch {
	case e.Range.IsValid():
		return fmt.Sprintf("%s is %s (%s)", e.Addr.Addr(), e.Why, e.Range)
	case e.Addr.IsValid():
		return fmt.Sprintf("%s %s", e.Addr, e.Why)
	}
	return e.Why
}

// Check is for berth.Config.AllowAddr. The error is a *GuardError.
func (g *Guard) Check(a berth.AddrInfo) error {
	switch {
	case a.Socket != "":
		if g.Sockets {
			return nil
		}
		return &GuardError{Why: "it is a Unix domain socket"}
	case a.Proxy:
		if g.Proxy {
			return nil
		}
		return &GuardError{Addr: a.Addr, Why: "is a proxy, and which address that connects to cannot be seen from here; set Guard.Proxy if it refuses private ones itself, or go direct"}
	case !a.Addr.IsValid():
		return &GuardError{Why: "the address of the connection is not known"}
	}
	ip := a.Addr.Addr().Unmap().WithZone("")
	if r, in := within(g.Deny, ip); in {
		return &GuardError{Addr: a.Addr, Range: r, Why: "denied"}
	}
	if len(g.Ports) > 0 && !slices.Contains(g.Ports, a.Addr.Port()) {
		return &GuardError{Addr: a.Addr, Why: "is at a port that is not allowed"}
	}
	if _, in := within(g.Allow, ip); in {
		return nil
	}
	return notPublic(a.Addr, ip)
}

func within(list []netip.Prefix, ip netip.Addr) (netip.Prefix, bool) {
	for _, p := range list {
		if p.Contains(ip) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// validate names what is wrong with the lists.
func (g *Guard) validate(field string) error {
	if g == nil {
		return nil
	}
	for name, list := range map[string][]netip.Prefix{"Deny": g.Deny, "Allow": g.Allow} {
		for i, p := range list {
			switch at := fmt.Sprintf("%s.%s[%d]", field, name, i); {
			case !p.IsValid():
				return &berth.ConfigError{Field: at, Reason: "is no range of addresses; write it like 10.0.0.0/8"}
			case p.Addr().Is4In6():
				return &berth.ConfigError{Field: at, Reason: fmt.Sprintf("%v has an IPv4 address within an IPv6 one; write the former", p)}
			case p != p.Masked():
				return &berth.ConfigError{Field: at, Reason: fmt.Sprintf("%v has bits beyond its length; is %v meant?", p, p.Masked())}
			}
		}
	}
	if slices.Contains(g.Ports, 0) {
		return &berth.ConfigError{Field: field + ".Ports", Reason: "0 is no port"}
	}
	return nil
}

// special are the ranges that are not public, by IANA's registries of special-purpose
// addresses (RFC 6890 and its successors), the more telling before the wider.
var special = [...]struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("169.254.169.254/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("169.254.170.2/32"), "a cloud's metadata service"},   // ECS task credentials
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud's metadata service"}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's metadata service"},   // Azure's wire server, public by its number
	{netip.MustParsePrefix("192.0.0.192/32"), "a cloud's metadata service"},     // Oracle
	{netip.MustParsePrefix("fd00:ec2::/32"), "a cloud's metadata service"},      // EC2
	{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud's metadata service"},   // Google
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared behind a carrier's NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "reserved"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/128"), "this host"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/23"), "reserved"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},
}

var (
	global = netip.MustParsePrefix("2000::/3")     // all of IPv6 that is given out
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: an IPv4 address behind a translator
	sixTo4 = netip.MustParsePrefix("2002::/16")    // RFC 3056: one behind a tunnel
)

// notPublic says why an address is not public; nil if it is.
func notPublic(at netip.AddrPort, ip netip.Addr) error {
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return notPublic(at, netip.AddrFrom4([4]byte(b[12:])))
	case sixTo4.Contains(ip):
		return notPublic(at, netip.AddrFrom4([4]byte(b[2:6])))
	}
	for _, s := range special {
		if s.prefix.Contains(ip) {
			return &GuardError{Addr: at, Range: s.prefix, Why: s.what}
		}
	}
	if ip.Is6() && !global.Contains(ip) {
		return &GuardError{Addr: at, Why: "is not a public address"}
	}
	return nil
}
