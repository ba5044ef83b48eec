//go:build !linux

package lab

import (
	"errors"
	"net/netip"
	"syscall"
	"time"
)

func deafen(syscall.Conn) error { return errors.ErrUnsupported }

func segments(syscall.Conn) (uint32, error) { return 0, errors.ErrUnsupported }

func userTimeout(time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return errors.ErrUnsupported }
}

func listenDeaf(addr netip.AddrPort) (end func(), at netip.AddrPort, err error) {
	return nil, addr, errors.ErrUnsupported
}
