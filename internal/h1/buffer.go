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
	c.x.buf = buffers.Get().(*[bufferSize]byte)[:]
	c.x.r, c.x.w = 0, 0
}

// putBuffer takes a buffer back. One that has grown is left to the collector.
func putBuffer(b []byte) {
	if cap(b) == bufferSize {
		buffers.Put((*[bufferSize]byte)(b[:bufferSize]))
	}
}

func (c *Conn) releaseBuffer() {
	if c.x.buf != nil {
		putBuffer(c.x.buf)
		c.x.buf, c.x.r, c.x.w = nil, 0, 0
	}
}

// makeRoom makes space behind buf[r:w], growing up to limit bytes of unread data;
// it reports false when that much is there already.
func (c *Conn) makeRoom(limit int) bool {
	if c.x.w < len(c.x.buf) || c.x.buf == nil {
		return true // fill brings one
	}
	if c.x.w-c.x.r >= limit {
		return false
	}
	if c.x.r > 0 && c.x.w-c.x.r <= len(c.x.buf)/2 {
		c.x.w = copy(c.x.buf, c.x.buf[c.x.r:c.x.w])
		c.x.r = 0
		return true
	}
	bigger := make([]byte, 2*len(c.x.buf))
	n := copy(bigger, c.x.buf[c.x.r:c.x.w])
	putBuffer(c.x.buf)
	c.x.buf, c.x.r, c.x.w = bigger, 0, n
	return true
}
