package berth_test

import (
	"fmt"
	"net"
	"syscall"
)

// fullBacklog returns the address of a listener whose queue of connections is full:
// the kernel answers no further SYN, as a host does that drops packets.
func fullBacklog(p *peer) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		p.t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		p.t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		p.t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	// A backlog of 0 takes one connection.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return addr
}
