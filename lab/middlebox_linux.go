package lab

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deafen has the kernel throw away whatever arrives for a connection: a socket filter that
// accepts nothing comes before TCP, which acknowledges nothing then.
func deafen(c syscall.Conn) error {
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	return onSocket(c, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// segments counts the segments of a connection, both ways.
func segments(c syscall.Conn) (n uint32, err error) {
	err = onSocket(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = info.Segs_in + info.Segs_out
		}
		return err
	})
	return n, err
}

func onSocket(c syscall.Conn, f func(fd int) error) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// userTimeout returns a Control function that sets TCP_USER_TIMEOUT.
func userTimeout(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var inner error
		if err := c.Control(func(fd uintptr) {
			inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		}); err != nil {
			return err
		}
		return inner
	}
}

// listenDeaf listens and answers no SYN: the queue of connections is full.
func listenDeaf(addr netip.AddrPort) (end func(), at netip.AddrPort, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, addr, err
	}
	if at, err = listenOn(fd, addr, 0); err != nil {
		unix.Close(fd)
		return nil, addr, err
	}
	first, err := net.Dial("tcp", at.String()) // a backlog of 0 takes one
	if err != nil {
		unix.Close(fd)
		return nil, addr, err
	}
	return func() { first.Close(); unix.Close(fd) }, at, nil
}
