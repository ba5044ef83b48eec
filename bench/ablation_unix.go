//go:build unix

package main

import (
	"context"
	"io"
	"net"
	"syscall"
)

// parkedWorker is the raw loop without the read that comes too early: it writes
// and parks in one step.
func (c *client) parkedWorker(l load) (func() error, error) {
	nc, err := c.dial(context.Background(), "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	rc, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	request := rawRequest(l)
	want := len(responses[l.path[1]])
	buf := make([]byte, l.buffer)
	var (
		wrote bool
		got   int
		ioErr error
	)
	step := func(fd uintptr) bool {
		if !wrote {
			wrote = true
			n, err := syscall.Write(int(fd), request)
			if ioErr = err; err == nil && n < len(request) {
				ioErr = io.ErrShortWrite
			}
			return ioErr != nil
		}
		for {
			n, err := syscall.Read(int(fd), buf)
			switch {
			case err == syscall.EAGAIN:
				return false
			case err != nil:
				ioErr = err
				return true
			case n == 0:
				ioErr = io.ErrUnexpectedEOF
				return true
			}
			if got += n; got >= want {
				return true
			}
		}
	}
	return func() error {
		wrote, got, ioErr = false, 0, nil
		if err := rc.Read(step); err != nil {
			return err
		}
		return ioErr
	}, nil
}
