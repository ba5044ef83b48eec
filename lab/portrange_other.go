//go:build !linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
)

// portRange: only Linux gives a socket a range of its own.
func portRange(lo, hi uint16) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error {
		return fmt.Errorf("no port range of a socket's own on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
}

func hasPortRange() bool { return false }

func bindFirst(syscall.RawConn, netip.Addr) error { return errors.ErrUnsupported }
