package h1

import (
	"io"
	"net/http"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// directRead is the size from which a Read goes to the connection without a copy
// through the buffer.
const directRead = 512

// readBody reads from the response body into p. io.EOF comes with the last bytes
// where the framing tells that they are the last.
func (c *Conn) readBody(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.canceled() { // nobody may watch yet, and who watches may not have been heard
		return 0, c.interrupted()
	}
	switch c.x.framing.Kind {
	case BodyLength:
		if int64(len(p)) > c.x.left {
			p = p[:c.x.left]
		}
		var n int
		var err error
		if c.x.r == c.x.w && len(p) >= directRead {
			n, err = c.readDirect(p)
		} else {
			n, err = c.readSome(p, c.x.left)
		}
		switch c.x.left -= int64(n); {
		case c.x.left == 0:
			err = io.EOF
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		return n, err
	case BodyChunked:
		return c.readChunked(p)
	default:
		return c.readSome(p, int64(len(p)))
	}
}

// readSome reads at most limit bytes: those in the buffer, else from the connection.
func (c *Conn) readSome(p []byte, limit int64) (int, error) {
	if int64(len(p)) > limit {
		p = p[:limit]
	}
	if c.x.r == c.x.w {
		if len(p) >= directRead || int64(len(p)) == limit {
			return c.readDirect(p)
		}
		if err := c.refill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.x.buf[c.x.r:c.x.w])
	c.x.r += n
	return n, nil
}

// readDirect reads from the connection into p. The buffer is empty and given up,
// but for chunked bodies, whose framing needs it again soon.
func (c *Conn) readDirect(p []byte) (int, error) {
	if c.x.framing.Kind != BodyChunked {
		c.releaseBuffer()
	}
	n, err := c.read(p)
	if n == 0 {
		return 0, err
	}
	c.unseen = true
	// A read that was filled has more behind it, and another soon after it: of
	// those, few are worth a look at the clock.
	if c.x.filled++; n < len(p) || c.x.filled%touchEvery == 0 {
		c.owner.Touch()
	}
	return n, nil
}

// touchEvery is how many filled reads make one Touch.
const touchEvery = 8

// refill reads into the empty or partly read buffer.
func (c *Conn) refill() error {
	if c.x.buf == nil {
		c.getBuffer()
	}
	if c.x.r == c.x.w {
		c.x.r, c.x.w = 0, 0
	}
	c.makeRoom(maxFraming)
	if err := c.fill(); err != nil {
		return err
	}
	c.unseen = false
	c.owner.Touch()
	return nil
}

// maxFraming bounds the buffer while chunk framing is incomplete; the decoder
// gives up far earlier.
const maxFraming = 64 << 10

func (c *Conn) readChunked(p []byte) (int, error) {
	d := &c.x.chunked
	for {
		if d.Remaining > 0 {
			n, err := c.readSome(p, d.Remaining)
			d.Took(int64(n))
			if err != nil {
				return n, unexpected(err)
			}
			// The end may be here already; then it goes with the last bytes.
			if d.Remaining == 0 && c.x.r < c.x.w {
				k, err := d.Next(c.x.buf[c.x.r:c.x.w])
				c.x.r += k
				if err != nil {
					return n, err
				}
				if d.Done() {
					return n, c.chunkedEnd()
				}
			}
			return n, nil
		}
		k, err := d.Next(c.x.buf[c.x.r:c.x.w])
		c.x.r += k
		switch {
		case err != nil:
			return 0, err
		case d.Done():
			return 0, c.chunkedEnd()
		case d.Remaining > 0:
			continue
		}
		if err := c.refill(); err != nil {
			return 0, unexpected(err)
		}
	}
}

// chunkedEnd is the end of a chunked body.
func (c *Conn) chunkedEnd() error {
	c.x.framing.Lax |= c.x.chunked.Lax()
	return io.EOF
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// wholeChunked decodes in place a chunked body that the buffer holds whole.
func (c *Conn) wholeChunked() (data []byte, trailer http.Header, ok bool) {
	probe := c.x.chunked
	b := c.x.buf[c.x.r:c.x.w]
	for at := 0; ; {
		k, err := probe.Next(b[at:])
		if err != nil {
			return nil, nil, false
		}
		at += k
		if probe.Done() {
			break
		}
		if probe.Remaining == 0 || probe.Remaining > int64(len(b)-at) {
			return nil, nil, false
		}
		at += int(probe.Remaining)
		probe.Took(probe.Remaining)
	}
	d := &c.x.chunked
	n := 0
	for at := 0; ; {
		k, _ := d.Next(b[at:])
		at += k
		if d.Done() {
			c.x.r += at
			c.chunkedEnd()
			return b[:n], d.Trailer(), true
		}
		size := int(d.Remaining)
		n += copy(b[n:], b[at:at+size])
		at += size
		d.Took(int64(size))
	}
}

// drain reads the rest of a body away that nobody wants, if that is cheap, and
// reports whether the body has ended. A rest of known length is read when it is
// short, and waited for a moment; a chunked one must be here already; one that
// ends with the connection is never read.
func (c *Conn) drain() bool {
	o := c.x.opts
	if o.DrainBytes <= 0 || c.interrupted() != nil || c.x.ctx.Err() != nil {
		return false
	}
	c.owner.SetPhase(pool.PhaseDraining)
	c.clearPatience() // what follows has a bound of its own
	switch c.x.framing.Kind {
	case BodyLength:
		return c.drainLength()
	case BodyChunked:
		return c.drainChunked()
	}
	return false
}

func (c *Conn) drainLength() bool {
	if c.x.left > c.x.opts.DrainBytes {
		return false
	}
	if int64(c.x.w-c.x.r) < c.x.left {
		c.setReadDeadline(time.Now().Add(c.x.opts.DrainTimeout))
	}
	for c.x.left > 0 {
		if c.x.r == c.x.w && c.refill() != nil {
			return false
		}
		n := min(int64(c.x.w-c.x.r), c.x.left)
		c.x.r += int(n)
		c.x.left -= n
	}
	return true
}

func (c *Conn) drainChunked() bool {
	d := &c.x.chunked
	left := c.x.opts.DrainBytes
	for {
		if n := min(d.Remaining, int64(c.x.w-c.x.r)); n > 0 {
			c.x.r += int(n)
			d.Took(n)
		}
		if d.Remaining == 0 {
			k, err := d.Next(c.x.buf[c.x.r:c.x.w])
			c.x.r += k
			if err != nil {
				return false
			}
			if d.Done() {
				c.chunkedEnd()
				return true
			}
			if d.Remaining > 0 && c.x.r < c.x.w {
				continue
			}
		}
		n, ok := c.refillNow()
		left -= int64(n)
		if !ok || left < 0 {
			return false
		}
	}
}

// refillNow is refill without waiting.
func (c *Conn) refillNow() (n int, ok bool) {
	if c.x.buf == nil {
		c.getBuffer()
	}
	if c.x.r == c.x.w {
		c.x.r, c.x.w = 0, 0
	}
	c.makeRoom(maxFraming)
	var err error
	if !c.tls {
		n, err = c.raw.tryReadInto(c.x.buf[c.x.w:], 0)
	} else {
		c.raw.look(lookSocket, 0)
		n, err = c.read(c.x.buf[c.x.w:])
		c.raw.look(lookNormal, 0)
	}
	c.x.w += n
	c.unseen = false
	return n, n > 0 && (err == nil || err == io.EOF)
}
