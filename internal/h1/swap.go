package h1

import "io"

// swap is a write and the read of what comes back, past the runtime's read that
// comes too early: the goroutine is parked as soon as the bytes are written. It
// saves a system call an exchange.
//
// The runtime hears of a socket by edges. One that came before the write (an end of
// stream, or bytes that nobody asked for) is lost to it, and the goroutine would
// sleep on; so swap is for exchanges whose patience ends, after which an ordinary
// read sees what is there.
type swap struct {
	out, in []byte
	n       int
	err     error
	run     func(fd uintptr) bool // bound to the fields above: no allocation
}

// swap writes b and waits for the first bytes of the response, which it leaves in
// the read buffer; b may lie there itself. It returns what of b it could not write
// at once. An error is kept for the reads and writes that follow.
func (c *Conn) swap(b []byte) (left []byte) {
	s := &c.raw.swap
	if s.run == nil {
		s.run = c.raw.swapDescriptor
	}
	s.out, s.in, s.n, s.err = b, c.buf, 0, nil
	err := c.raw.rc.Read(s.run)
	left = s.out
	s.out, s.in = nil, nil
	switch {
	case err != nil:
		if !c.raw.lapsed(err) && len(left) == 0 {
			c.x.readErr = err
		}
	case len(left) > 0:
	case s.err != nil:
		c.x.readErr = c.raw.opError("read", s.err)
	case s.n == 0:
		c.x.readErr = io.EOF
	default:
		c.r, c.w = 0, s.n
		c.x.gotByte = true
	}
	return left
}

// writeNow writes what the kernel takes at once, past an error: the write that
// follows meets it too. It is an io.StringWriter, so that a string is not copied
// whole.
type writeNow struct{ c *Conn }

func (w writeNow) Write(b []byte) (int, error) {
	s := &w.c.raw.swap
	s.out = b
	err := w.c.raw.rc.Write(w.c.raw.writeDescriptor)
	n := len(b) - len(s.out)
	s.out = nil
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}

func (w writeNow) WriteString(str string) (n int, err error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for n < len(str) && err == nil {
		var k int
		k, err = w.Write(buf[:copy(buf[:], str[n:])])
		n += k
	}
	return n, err
}
