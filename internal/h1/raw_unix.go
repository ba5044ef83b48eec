//go:build unix

package h1

import "syscall"

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
