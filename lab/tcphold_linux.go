package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-go/berth/sockets"
)

// heldStates are the states that a life on loopback passes in microseconds.
func heldStates() []held {
	return []held{
		{sockets.SynSent, clientSide, "held by a listener whose queue is full: the kernel drops the SYN, and the client sends it again after 1, 3, 7 s", holdSynSent},
		{sockets.SynRecv, serverSide, "held by TCP_DEFER_ACCEPT: the server waits for data after the handshake", holdSynRecv},
		{sockets.FinWait1, clientSide, "held by a peer that reads nothing: the FIN queues behind data that do not fit its window", holdFinWait1},
		{sockets.Closing, clientSide, "both sides close at once, each with data before its FIN that the other does not read; then one reads", holdClosing},
		{sockets.LastAck, clientSide, "the server has closed its side and reads nothing: the client's FIN queues behind data", holdLastAck},
	}
}

func holdSynSent(_ context.Context, addr netip.AddrPort) (func(), netip.AddrPort, error) {
	end, server, err := listenDeaf(addr)
	if err != nil {
		return nil, addr, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended by release
		defer close(done)
		var d net.Dialer
		if c, err := d.DialContext(ctx, "tcp", server.String()); err == nil {
			c.Close()
		}
	}()
	return func() { cancel(); <-done; end() }, server, nil
}

func holdSynRecv(_ context.Context, addr netip.AddrPort) (func(), netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, addr, err
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5)
	var server netip.AddrPort
	if err == nil {
		server, err = listenOn(fd, addr, 16)
	}
	if err != nil {
		unix.Close(fd)
		return nil, addr, err
	}
	c, err := net.Dial("tcp", server.String())
	if err != nil {
		unix.Close(fd)
		return nil, addr, err
	}
	return func() { c.Close(); unix.Close(fd) }, server, nil
}

func listenOn(fd int, addr netip.AddrPort, backlog int) (netip.AddrPort, error) {
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return addr, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return addr, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return addr, err
	}
	return netip.AddrPortFrom(addr.Addr(), uint16(sa.(*unix.SockaddrInet4).Port)), nil
}

// pair opens a connection to a listener of its own.
func pair(addr netip.AddrPort) (client, server *net.TCPConn, at netip.AddrPort, err error) {
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, nil, addr, err
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, nil, addr, err
	}
	s, err := ln.Accept()
	if err != nil {
		c.Close()
		return nil, nil, addr, err
	}
	return c.(*net.TCPConn), s.(*net.TCPConn), addrOf(ln), nil
}

// stuff writes until nothing more fits between the two.
func stuff(ctx context.Context, c *net.TCPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	deadline := time.Now().Add(5 * time.Second)
	full := 0
	for full < 3 && time.Now().Before(deadline) { // the other side's buffer may still take some
		var werr error
		if err := rc.Write(func(fd uintptr) bool {
			_, werr = syscall.Write(int(fd), b)
			return true
		}); err != nil {
			return err
		}
		switch {
		case errors.Is(werr, syscall.EAGAIN):
			full++
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		case werr != nil:
			return werr
		default:
			full = 0
		}
	}
	return nil
}

// drop closes both ends at once and leaves nothing behind.
func drop(conns ...*net.TCPConn) func() {
	return func() {
		for _, c := range conns {
			c.SetLinger(0)
			c.Close()
		}
	}
}

func holdFinWait1(ctx context.Context, addr netip.AddrPort) (func(), netip.AddrPort, error) {
	c, s, at, err := pair(addr)
	if err != nil {
		return nil, addr, err
	}
	if err = stuff(ctx, c); err == nil {
		err = c.CloseWrite()
	}
	return drop(c, s), at, err
}

func holdLastAck(ctx context.Context, addr netip.AddrPort) (func(), netip.AddrPort, error) {
	c, s, at, err := pair(addr)
	if err != nil {
		return nil, addr, err
	}
	if err = s.CloseWrite(); err == nil {
		err = stuff(ctx, c)
	}
	if err == nil {
		err = c.CloseWrite()
	}
	return drop(c, s), at, err
}

func holdClosing(ctx context.Context, addr netip.AddrPort) (func(), netip.AddrPort, error) {
	c, s, at, err := pair(addr)
	if err != nil {
		return nil, addr, err
	}
	release := drop(c, s)
	for _, f := range []func() error{
		func() error { return stuff(ctx, c) }, func() error { return stuff(ctx, s) },
		c.CloseWrite, s.CloseWrite,
	} {
		if err := f(); err != nil {
			release()
			return nil, addr, err
		}
	}
	// The client reads what the server sent, to its FIN; its own FIN is not out yet.
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 256<<10)
	for err == nil {
		_, err = c.Read(buf)
	}
	return release, at, nil
}
