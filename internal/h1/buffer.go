package h1

import "sync"

// bufferSize holds the head of nearly every request and response, with a small
// body behind it.
const bufferSize = 4 << 10

// copySize is the piece in which a request body is copied.
const copySize = 32 << 10

var (
	buffers     = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}
)

// getBuffer gives an exchange its buffer.
func (c *Conn) getBuffer() {
	c.buf = buffers.Get().(*[bufferSize]byte)[:]
	c.r, c.w = 0, 0
}

// putBuffer takes a buffer back. One that has grown is left to the collector.
func putBuffer(b []byte) {
	if cap(b) == bufferSize {
		buffers.Put((*[bufferSize]byte)(b[:bufferSize]))
	}
}

func (c *Conn) releaseBuffer() {
	if c.buf != nil {
		putBuffer(c.buf)
		c.buf, c.r, c.w = nil, 0, 0
	}
}

// makeRoom makes space behind buf[r:w], growing up to limit bytes of unread data;
// it reports false when that much is there already.
func (c *Conn) makeRoom(limit int) bool {
	if c.w < len(c.buf) || c.buf == nil {
		return true // fill brings one
	}
	if c.w-c.r >= limit {
		return false
	}
	if c.r > 0 && c.w-c.r <= len(c.buf)/2 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		return true
	}
	bigger := make([]byte, 2*len(c.buf))
	n := copy(bigger, c.buf[c.r:c.w])
	putBuffer(c.buf)
	c.buf, c.r, c.w = bigger, 0, n
	return true
}
