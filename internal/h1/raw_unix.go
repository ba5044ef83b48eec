//go:build unix

package h1

import (
	"net"
	"os"
	"syscall"
)

// canTryRead says that a descriptor can be read without blocking here: the
// runtime's are non-blocking.
const canTryRead = true

// readDescriptor reads once.
func readDescriptor(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// writeDescriptor writes what the kernel takes at once.
func writeDescriptor(fd uintptr, p []byte) (done int, err error) {
	for done < len(p) {
		n, err := syscall.Write(int(fd), p[done:])
		done += max(n, 0)
		if err != nil && err != syscall.EINTR || n == 0 {
			return done, err
		}
	}
	return done, nil
}

// opError gives an error of a system call the form of package net.
func (r *raw) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: r.LocalAddr().Network(), Source: r.LocalAddr(), Addr: r.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
