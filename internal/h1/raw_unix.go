//go:build unix

package h1

import (
	"net"
	"os"
	"syscall"
)

// canTryRead says that a descriptor can be read without blocking here.
const canTryRead = true

// readDescriptor reads once. The runtime's descriptors are non-blocking.
func (r *Raw) readDescriptor(fd uintptr) bool {
	for {
		r.n, r.err = syscall.Read(int(fd), r.buf)
		if r.err != syscall.EINTR {
			break
		}
	}
	if r.n < 0 {
		r.n = 0
	}
	if r.err == syscall.EAGAIN {
		r.err = errWouldBlock
	}
	return true
}

// swapDescriptor writes on its first call, and reads on those that follow, each
// after the socket became readable.
func (r *Raw) swapDescriptor(fd uintptr) bool {
	s := &r.swap
	if len(s.out) > 0 {
		r.writeDescriptor(fd)
		if len(s.out) > 0 {
			return true // what is left is not written here
		}
		r.conn.sentAll()
		return false
	}
	for {
		s.n, s.err = syscall.Read(int(fd), s.in)
		if s.err != syscall.EINTR {
			break
		}
	}
	if s.err == syscall.EAGAIN {
		s.err = nil
		return false
	}
	s.n = max(s.n, 0)
	return true
}

// writeDescriptor writes what the kernel takes at once.
func (r *Raw) writeDescriptor(fd uintptr) bool {
	s := &r.swap
	for len(s.out) > 0 {
		n, err := syscall.Write(int(fd), s.out)
		if n > 0 {
			r.written.Add(int64(n))
			s.out = s.out[n:]
		}
		if err != nil && err != syscall.EINTR || n == 0 {
			break
		}
	}
	return true
}

// opError gives an error of a system call the form of package net.
func (r *Raw) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: r.LocalAddr().Network(), Source: r.LocalAddr(), Addr: r.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
