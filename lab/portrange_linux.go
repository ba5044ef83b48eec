package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ipLocalPortRange is IP_LOCAL_PORT_RANGE of linux/in.h, since Linux 6.3: the low
// and the high half of a word are the least and the greatest port that connect may
// take for the socket.
const ipLocalPortRange = 51

// portRange returns what gives a socket that range.
func portRange(lo, hi uint16) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipLocalPortRange, int(uint32(hi)<<16|uint32(lo)))
		}); cerr != nil {
			return cerr
		}
		if err == syscall.ENOPROTOOPT {
			return fmt.Errorf("IP_LOCAL_PORT_RANGE needs Linux 6.3: %w", errors.ErrUnsupported)
		}
		return err
	}
}

// hasPortRange reports whether the kernel gives a socket a range of its own.
func hasPortRange() bool {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipLocalPortRange, 0) == nil
}

// bindFirst gives the socket its port now, whatever it connects to.
func bindFirst(c syscall.RawConn, source netip.Addr) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = syscall.Bind(int(fd), &syscall.SockaddrInet4{Addr: source.As4()})
	}); cerr != nil {
		return cerr
	}
	return err
}
