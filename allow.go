package berth

import (
	"errors"
	"net/netip"
)

// Asking Config.AllowAddr, and a group's function beside it, before a connection is opened.
// What is asked is what is dialled, in one spelling for each address.

// ask returns an *AddrRefusedError when one of the functions does not allow a connection.
func (ep *endpoint) ask(f *inForce, i AddrInfo) error {
	i.Endpoint = ep.name
	for _, may := range [...]func(AddrInfo) error{f.config.AllowAddr, f.allow} {
		if may == nil {
			continue
		}
		if err := may(i); err != nil {
			return &AddrRefusedError{Endpoint: ep.name, Addr: i.Addr, Err: err}
		}
	}
	return nil
}

// allowAddr returns what asks about an address of a host; nil when nobody is to be asked.
func (ep *endpoint) allowAddr(f *inForce, host string) func(netip.AddrPort) error {
	if f.config.AllowAddr == nil && f.allow == nil {
		return nil
	}
	return func(a netip.AddrPort) error {
		return ep.ask(f, AddrInfo{Host: host, Addr: plain(a), Proxy: ep.proxy != nil})
	}
}

// plain is an address as it is asked about: IPv4 within IPv6 is IPv4, a zone changes
// nothing, and the unspecified address leads to this host.
func plain(a netip.AddrPort) netip.AddrPort {
	ip := a.Addr().Unmap().WithZone("")
	switch {
	case !ip.IsValid():
		return netip.AddrPort{}
	case ip == netip.IPv4Unspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip == netip.IPv6Unspecified():
		ip = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(ip, a.Port())
}

func refused(err error) bool { return errors.As(err, new(*AddrRefusedError)) }
