package lab

import (
	"errors"
	"fmt"
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
