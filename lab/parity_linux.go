package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-go/berth/sockets"
)

// fillPorts opens connections to one address and times some of them at each level. Nobody
// accepts them: they stay in the backlogs of several listeners on one port, and cost one
// descriptor each.
func fillPorts(ctx context.Context, variant byte, option bool) ([]level, error) {
	lo, hi, err := sockets.EphemeralPorts()
	if err != nil {
		return nil, err
	}
	ports := int(hi) - int(lo) + 1
	need := int(parityLevels[len(parityLevels)-1]*float64(ports)) + parityProbes
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || int(limit.Cur) < need+500 {
		return nil, fmt.Errorf("%d descriptors are needed, the process may have %d (ulimit -n): %w", need+500, limit.Cur, errors.ErrUnsupported)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	first, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.71.15.%d:0", variant))
	if err != nil {
		return nil, err
	}
	defer first.Close()
	addr := addrOf(first)
	backlog := readSomaxconn()
	for room := backlog; room < 2*need; room += backlog { // the kernel spreads by hash, not evenly
		ln, err := lc.Listen(ctx, "tcp", addr.String())
		if err != nil {
			return nil, err
		}
		defer ln.Close()
	}
	to := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
			unix.Close(fd)
		}
	}()
	connect := func() (time.Duration, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return 0, err
		}
		fds = append(fds, fd)
		if option {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, ipLocalPortRange, int(int32(uint32(hi)<<16|uint32(lo)))); err != nil {
				return 0, fmt.Errorf("IP_LOCAL_PORT_RANGE needs Linux 6.3: %w", errors.ErrUnsupported)
			}
		}
		start := time.Now()
		err = unix.Connect(fd, to) // the port is chosen within
		took := time.Since(start)
		for wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}; err == unix.EINPROGRESS || err == unix.EINTR; {
			var n int
			if n, err = unix.Poll(wait, 2000); err == nil && n == 0 {
				err = unix.ETIMEDOUT
			}
		}
		return took, err
	}
	var levels []level
	for _, share := range parityLevels {
		for len(fds) < int(share*float64(ports)) {
			if _, err := connect(); err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return nil, errInterrupted
			}
		}
		var took []time.Duration
		for range parityProbes {
			d, err := connect()
			if err != nil {
				return nil, err
			}
			took = append(took, d)
		}
		slices.Sort(took)
		levels = append(levels, level{share, quantile(took, 0.5), quantile(took, 0.99)})
	}
	return levels, nil
}

// readSomaxconn returns how long a backlog may be.
func readSomaxconn() (n int) {
	n = 128
	if b, err := os.ReadFile("/proc/sys/net/core/somaxconn"); err == nil {
		fmt.Sscan(string(b), &n)
	}
	return max(n, 1)
}
