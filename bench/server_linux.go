package main

import (
	"bytes"
	"net"
	"os"
	"syscall"
)

// serveFast serves all connections from one thread over epoll, with one read and
// one write a request and no allocation: the client beside it is what is measured.
func serveFast(ln *net.TCPListener, hold int) {
	if err := serveEpoll(ln, hold); err != nil {
		os.Stderr.WriteString("bench: server: " + err.Error() + "\n")
		os.Exit(1)
	}
}

// epollConn is a connection's state between events.
type epollConn struct {
	fd   int
	head []byte // of an incomplete request
	body int    // bytes of the request body still to come
	path byte
	out  []byte // of an incomplete response
}

func serveEpoll(ln *net.TCPListener, hold int) error {
	f, err := ln.File()
	if err != nil {
		return err
	}
	defer f.Close() // keeps it from the collector as well
	lfd := int(f.Fd())
	if err := syscall.SetNonblock(lfd, true); err != nil {
		return err
	}
	ep, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	watch := func(op, fd int, events uint32) error {
		return syscall.EpollCtl(ep, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
	}
	if err := watch(syscall.EPOLL_CTL_ADD, lfd, syscall.EPOLLIN); err != nil {
		return err
	}
	var (
		conns   = map[int]*epollConn{}
		events  = make([]syscall.EpollEvent, 256)
		buf     = make([]byte, 256<<10)
		waiting []*epollConn
	)
	flush := func(c *epollConn) {
		for len(c.out) > 0 {
			n, err := syscall.Write(c.fd, c.out)
			if err == syscall.EAGAIN {
				watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
				return
			}
			if err != nil {
				return // the next read shows the end
			}
			c.out = c.out[n:]
		}
	}
	answer := func(c *epollConn) {
		if c.path != pathHold[1] {
			c.out = responses[c.path]
			flush(c)
			return
		}
		if waiting = append(waiting, c); len(waiting) < hold {
			return
		}
		for _, c := range waiting {
			c.out = responses[c.path]
			flush(c)
		}
		waiting = waiting[:0]
	}
	for {
		n, err := syscall.EpollWait(ep, events, -1)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for _, ev := range events[:n] {
			fd := int(ev.Fd)
			if fd == lfd {
				for {
					fd, _, err := syscall.Accept4(lfd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
					if err != nil {
						break
					}
					syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
					conns[fd] = &epollConn{fd: fd}
					if err := watch(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN); err != nil {
						return err
					}
				}
				continue
			}
			c := conns[fd]
			if ev.Events&syscall.EPOLLOUT != 0 {
				if flush(c); len(c.out) == 0 {
					watch(syscall.EPOLL_CTL_MOD, fd, syscall.EPOLLIN)
				}
			}
			if ev.Events&^syscall.EPOLLOUT == 0 {
				continue
			}
			n, err := syscall.Read(fd, buf)
			if err == syscall.EAGAIN {
				continue
			}
			if n <= 0 || err != nil {
				delete(conns, fd)
				syscall.Close(fd)
				continue
			}
			if c.take(buf[:n]) {
				answer(c)
			}
		}
	}
}

// take reports whether b completes a request. Requests do not overlap: a client
// under measurement sends the next one after the response.
func (c *epollConn) take(b []byte) bool {
	if c.body > 0 {
		c.body -= min(c.body, len(b))
		return c.body == 0
	}
	if len(c.head) > 0 {
		c.head = append(c.head, b...)
		b = c.head
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(c.head) == 0 {
			c.head = append(c.head, b...)
		}
		return false
	}
	c.path = pathOf(b)
	length := 0
	if b[0] == 'P' {
		for line := range bytes.Lines(b[:end+2]) {
			length += lengthOf(line)
		}
	}
	c.body = max(0, length-(len(b)-end-4))
	c.head = c.head[:0]
	return c.body == 0
}
