package h1

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// swap is work on a descriptor, past the runtime's own reads and writes.
type swap struct {
	todo swapMode
	out  []byte // what is left to write
	in   []byte // where to read; nil is the exchange's buffer
	n    int
	err  error
}

type swapMode uint8

const (
	swapRead  swapMode = iota // wait until there is something to read
	swapWrite                 // write first; then swapRead
	swapLook                  // read what is there
)

var swaps = sync.Pool{New: func() any { return new(swap) }}

// swap writes b, which may lie in the read buffer, and waits for the first bytes of
// the response, which it leaves there. It returns what of b it could not write at
// once. An error of the read is kept for the read that follows.
//
// A read that is tried before the response can be there is saved: the goroutine is
// parked as soon as the bytes are written. And while it is parked it has no buffer:
// ten thousand requests that wait for a slow server do not hold 40 MB.
//
// The runtime hears of a socket by edges. One that came before the write (an end of
// stream, or bytes that nobody asked for) is lost to it, and the goroutine would
// sleep on; so swap is for exchanges whose patience ends, after which a read
// without a write sees what is there.
func (c *Conn) swap(b []byte) (left []byte) {
	s := &c.x.swap
	s.todo, s.out = swapWrite, b
	n, err := c.await()
	s.todo = swapRead
	if len(s.out) > 0 {
		left, s.out = s.out, nil
		return left // the ordinary write meets the error, if there is one
	}
	c.x.gotByte, c.x.readErr = n > 0, err
	return nil
}

// await does what c.x.swap says, and reads into the empty buffer.
func (c *Conn) await() (n int, err error) {
	s := &c.x.swap
	for {
		s.n, s.err = 0, nil
		err = c.raw.do(s)
		switch {
		case len(s.out) > 0:
			if err != nil {
				c.raw.lapsed(err)
			}
			return 0, err
		case err != nil && c.raw.lapsed(err):
			continue
		case err != nil:
			return 0, err
		case s.err != nil:
			return 0, c.raw.opError("read", s.err)
		case s.n == 0:
			return 0, io.EOF
		}
		c.x.r, c.x.w = 0, s.n
		return s.n, nil
	}
}

// do runs a job on the descriptor.
func (r *raw) do(s *swap) error {
	if r.run == nil {
		r.run = r.step
	}
	r.job = s
	err := r.rc.Read(r.run)
	r.job = nil
	return err
}

// step is called when the descriptor is ready; it reports whether the job is done.
func (r *raw) step(fd uintptr) bool {
	s := r.job
	switch s.todo {
	case swapLook:
		s.n, s.err = readDescriptor(fd, s.in)
		return true
	case swapWrite:
		s.todo = swapRead
		n, _ := writeDescriptor(fd, s.out)
		r.written.Add(int64(n))
		if s.out = s.out[n:]; len(s.out) > 0 {
			return true
		}
		if s.in == nil {
			r.conn.releaseBuffer()
		}
		r.conn.sentAll()
		return false
	}
	if s.in != nil {
		s.n, s.err = readDescriptor(fd, s.in)
		return s.err != syscall.EAGAIN
	}
	c := r.conn
	if c.x.buf == nil {
		c.getBuffer()
	}
	s.n, s.err = readDescriptor(fd, c.x.buf)
	if s.err == syscall.EAGAIN {
		c.releaseBuffer()
		return false
	}
	return true
}

// readNow reads what is there.
func (r *raw) readNow(p []byte) (int, error) {
	s := swaps.Get().(*swap)
	defer func() { *s = swap{}; swaps.Put(s) }()
	s.todo, s.in = swapLook, p
	if err := r.do(s); err != nil {
		return 0, err
	}
	switch {
	case s.err == syscall.EAGAIN:
		return 0, errWouldBlock
	case s.err == nil && s.n == 0:
		return 0, io.EOF
	}
	return s.n, s.err
}

// heldWrite is what TLS has written and the socket has not: it goes out when TLS
// reads, so that a request over TLS is a swap too.
type heldWrite struct {
	n   int
	buf [bufferSize]byte
}

var heldWrites = sync.Pool{New: func() any { return new(heldWrite) }}

func (h *heldWrite) add(p []byte) bool {
	if len(p) > len(h.buf)-h.n {
		return false
	}
	h.n += copy(h.buf[h.n:], p)
	return true
}

// hold keeps back what TLS writes from now on.
func (r *raw) hold() { r.held = heldWrites.Get().(*heldWrite) }

// flush writes what is kept back.
func (r *raw) flush() error {
	h := r.held
	r.held = nil
	_, err := r.Write(h.buf[:h.n])
	h.n = 0
	heldWrites.Put(h)
	return err
}

// swapHeld is swap for TLS: it writes what is kept back and waits for p to have
// something. done is false when an ordinary read has to follow.
func (r *raw) swapHeld(p []byte) (n int, err error, done bool) {
	h := r.held
	r.held = nil
	defer func() { h.n = 0; heldWrites.Put(h) }()
	s := &r.conn.x.swap
	s.todo, s.out, s.in, s.n, s.err = swapWrite, h.buf[:h.n], p, 0, nil
	err = r.do(s)
	left := s.out
	s.todo, s.out, s.in = swapRead, nil, nil
	switch {
	case len(left) > 0:
		if err != nil {
			r.lapsed(err)
		}
		if _, err := r.Write(left); err != nil {
			return 0, err, true
		}
		r.conn.sentAll()
		return 0, nil, false
	case err != nil:
		return 0, err, !r.lapsed(err)
	case s.err != nil:
		return 0, r.opError("read", s.err), true
	case s.n == 0:
		return 0, io.EOF, true
	}
	return s.n, nil, true
}

// gather writes head and what it is given in one go, and gives up when the
// exchange's patience ends. It is for a body that writes itself.
type gather struct {
	c    *Conn
	head []byte
}

func (g *gather) Write(b []byte) (int, error) {
	head := len(g.head)
	v := net.Buffers{g.head, b}
	n, err := v.WriteTo(g.c.raw.Conn)
	g.c.raw.written.Add(n)
	k := min(head, int(n))
	g.head = g.head[k:]
	return int(n) - k, err
}

// WriteString spares a copy of the whole string.
func (g *gather) WriteString(str string) (n int, err error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for n < len(str) && err == nil {
		var k int
		k, err = g.Write(buf[:copy(buf[:], str[n:])])
		n += k
	}
	return n, err
}
