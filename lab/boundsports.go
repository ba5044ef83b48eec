package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// The rows of bounds about the ports of a source address.

// boundSource is an address that only this experiment's connections come from, so that its
// ports are free.
func boundSource(variant byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 72, 200, variant}) }

// oursBound opens as many connections to each of two servers as there are ports.
func oursBound(ctx context.Context, variant byte) (Variant, error) {
	lo, err := scarceRange()
	if err != nil || !hasPortRange() {
		return portsUnseen(err), nil
	}
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, LocalAddrs: []netip.Addr{boundSource(variant)}, LocalPorts: berth.PortRange{Lo: lo, Hi: lo + boundPorts - 1},
		Policy: berth.Policy{Close: berth.CloseReset}})
	if err != nil {
		return Variant{}, err
	}
	defer tr.Close()
	return twoDestinations(ctx, variant, func(srv *server) error {
		ep, err := tr.Endpoint(srv.url())
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return ep.Warm(ctx, boundPorts)
	})
}

// boundFirst binds each socket to an address and a port before it connects.
func boundFirst(ctx context.Context, variant byte) (Variant, error) {
	lo, err := scarceRange()
	if err != nil || !hasPortRange() {
		return portsUnseen(err), nil
	}
	ranged, source := portRange(lo, lo+boundPorts-1), boundSource(variant)
	d := net.Dialer{Control: func(network, address string, c syscall.RawConn) error {
		if err := ranged(network, address, c); err != nil {
			return err
		}
		return bindFirst(c, source)
	}}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			if t, ok := c.(*net.TCPConn); ok {
				t.SetLinger(0) // its port is free at once
			}
			c.Close()
		}
	}()
	return twoDestinations(ctx, variant, func(srv *server) error {
		for range boundPorts {
			c, err := d.DialContext(ctx, "tcp", srv.addr.String())
			if err != nil {
				return err
			}
			open = append(open, c)
		}
		return nil
	})
}

func portsUnseen(err error) Variant {
	v := Variant{Measured: map[string]any{"connections": NotObserved}, Note: "no port range of a socket's own here"}
	if err != nil {
		v.Note = err.Error()
	}
	return v
}

// twoDestinations opens connections to two servers and counts what they have.
func twoDestinations(ctx context.Context, variant byte, open func(*server) error) (Variant, error) {
	row := Variant{Measured: map[string]any{"ports": boundPorts}}
	total := 0
	for i := range 2 {
		srv, err := serve(45, variant, 0)
		if err != nil {
			return row, err
		}
		defer srv.Close()
		if err := open(srv); err != nil && ctx.Err() == nil {
			row.Measured["error"] = strings.ReplaceAll(anonymous(err.Error(), srv), boundSource(variant).String(), "source")
		}
		found, err := clientSockets(ctx, srv.addr, sockets.Established)
		if err != nil {
			return row, err
		}
		row.Measured[fmt.Sprintf("to_destination_%d", i+1)] = len(found)
		total += len(found)
	}
	row.Measured["connections"] = total
	return row, nil
}
