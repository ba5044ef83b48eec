// The chunked transfer coding (RFC 9112 §7.1). Body readers drive Chunked over
// the connection's buffer; body writers use the Append functions.

package h1

import (
	"math"
	"net/http"
	"strconv"
)

const (
	// maxChunkLine bounds a chunk-size line, its CRLF included.
	maxChunkLine = 4096

	// maxTrailer bounds the trailer section, its empty line included: the size
	// of net/http's buffer, which is its bound.
	maxTrailer = 4096

	// A peer may spend 16 bytes on framing a chunk (a byte a chunk is legitimate
	// streaming) and two bytes on every byte of data. What exceeds that may add
	// up to maxExcess: chunk extensions cannot make a client read much for
	// nothing. The numbers are net/http's.
	freePerChunk = 16
	freePerByte  = 2
	maxExcess    = 16 << 10
)

// chunkState is where in the grammar a Chunked stands:
//
//	      ┌───────────────────────────── LF ─────────────────────────────┐
//	      ▼                                                              │
//	chunkSize ─ BWS ─► chunkSpace ─ ";" ─► chunkExt                      │
//	      │                 │                 │                          │
//	      └──────── CR ─────┴────── CR ───────┘                          │
//	                        ▼                                            │
//	                   chunkSizeLF ─ size > 0 ─► chunkData ─► chunkCR ─► chunkLF
//	                        │ size = 0
//	                        ▼
//	                   chunkTrailer ─ empty line ─► chunkDone
type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkSpace
	chunkExt
	chunkSizeLF
	chunkData
	chunkCR
	chunkLF
	chunkTrailer
	chunkDone
)

// Chunked decodes the framing of a chunked body, never its data. The zero value
// stands before the first chunk. It is not safe for concurrent use.
//
// A reader alternates [Chunked.Next] and, while Remaining is above 0, taking
// bytes of data and saying so with [Chunked.Took]:
//
//	for !c.Done() {
//		n, err := c.Next(buf)  // then drop n bytes of buf
//		…                      // no progress: read more; EOF is unexpected here
//		take := min(len(buf), c.Remaining)
//		c.Took(take)
//	}
type Chunked struct {
	// Remaining is the number of data bytes of the current chunk that were not
	// taken yet. Read only.
	Remaining int64

	// Strict refuses deviations in the trailer section, as in [HeadOptions]. Set
	// before the first Next.
	Strict bool

	state  chunkState
	lax    Lax
	digits uint8 // of the size read so far
	line   int   // bytes of the current size line
	size   uint64
	excess int64

	block   []byte // the trailer section so far, when it came in pieces
	trailer http.Header
	err     error
}

// Next consumes framing at the start of b and returns its length. Afterwards
// either Remaining is above 0 and data follows, or the body is [Chunked.Done], or
// all of b was consumed and more is needed. Errors are [*ProtocolError] and
// final: Next returns the same one from then on.
func (c *Chunked) Next(b []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	for n < len(b) && c.state != chunkData && c.state != chunkDone {
		if c.state == chunkTrailer {
			k, err := c.readTrailer(b[n:])
			return n + k, err
		}
		if kind, detail := c.step(b[n]); kind != 0 {
			return n, c.fail(kind, detail)
		}
		n++
	}
	return n, nil
}

// Took says that n bytes of data were taken. More than Remaining is a mistake of
// the caller's and panics.
func (c *Chunked) Took(n int64) {
	if n < 0 || n > c.Remaining {
		panic("h1: took more of a chunk than it has")
	}
	if n == 0 {
		return
	}
	if c.Remaining -= n; c.Remaining == 0 {
		c.state = chunkCR
	}
}

// Done reports whether the last chunk and the trailer section were consumed. The
// next byte belongs to another message.
func (c *Chunked) Done() bool { return c.state == chunkDone }

// Trailer returns the fields of the trailer section; nil if it has none or was
// not consumed yet.
func (c *Chunked) Trailer() http.Header { return c.trailer }

// Lax returns the deviations that were tolerated in the trailer section. A
// connection with any must not be reused. In chunk lines nothing is tolerated: a
// bare LF or CR there lets two peers disagree on where an extension, and with it
// a message, ends.
func (c *Chunked) Lax() Lax { return c.lax }

func (c *Chunked) fail(k Kind, detail string) error {
	c.err = &ProtocolError{Op: opChunk, Kind: k, Detail: detail}
	return c.err
}

// step moves on by one byte of framing. Kind 0 means no violation.
//
//	chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//	chunk-ext = *( BWS ";" BWS chunk-ext-name [ … ] )
func (c *Chunked) step(b byte) (Kind, string) {
	switch c.state {
	case chunkSize:
		d, ok := hexDigit(b)
		switch {
		case ok:
			if c.digits == 16 || c.size > math.MaxInt64>>4 {
				return TooLarge, "chunk size overflows"
			}
			c.size = c.size<<4 | uint64(d)
			c.digits++
		case c.digits == 0:
			return Malformed, "malformed chunk size"
		case b == '\r':
			c.state = chunkSizeLF
			return 0, ""
		case b == ';':
			c.state = chunkExt
		case isOWS(b):
			c.state = chunkSpace
		default:
			return Malformed, "malformed chunk size"
		}
	case chunkSpace:
		switch {
		case b == '\r':
			c.state = chunkSizeLF
			return 0, ""
		case b == ';':
			c.state = chunkExt
		case !isOWS(b):
			return Malformed, "malformed chunk size"
		}
	case chunkExt:
		if b == '\r' {
			c.state = chunkSizeLF
			return 0, ""
		}
		if !isValueByte(b) {
			return Malformed, "control character in a chunk extension"
		}
	case chunkSizeLF:
		if b != '\n' {
			return Malformed, "CR without LF in a chunk line"
		}
		return c.begin()
	case chunkCR:
		if b != '\r' {
			return Malformed, "chunk data does not end in CRLF"
		}
		c.state = chunkLF
		return 0, ""
	case chunkLF:
		if b != '\n' {
			return Malformed, "chunk data does not end in CRLF"
		}
		c.state, c.digits, c.line, c.size = chunkSize, 0, 0, 0
		return 0, ""
	}
	if c.line++; c.line > maxChunkLine-len("\r\n") {
		return TooLarge, "chunk line too long"
	}
	return 0, ""
}

// begin starts the chunk whose size line is complete.
func (c *Chunked) begin() (Kind, string) {
	if c.size == 0 {
		c.state = chunkTrailer
		return 0, ""
	}
	c.excess += int64(c.line) + 2 // and the CRLF after the data
	// A credit above the bound is worth no more than the bound.
	c.excess -= freePerChunk + freePerByte*int64(min(c.size, 1<<32))
	if c.excess = max(c.excess, 0); c.excess > maxExcess {
		return TooLarge, "chunked encoding contains too much non-data"
	}
	c.state = chunkData
	c.Remaining = int64(c.size)
	return 0, ""
}

func hexDigit(b byte) (v byte, ok bool) {
	switch {
	case b-'0' <= 9:
		return b - '0', true
	case b-'a' <= 5:
		return b - 'a' + 10, true
	case b-'A' <= 5:
		return b - 'A' + 10, true
	}
	return 0, false
}

// readTrailer consumes the trailer section or as much of it as b has.
//
//	trailer-section = *( field-line CRLF ), then CRLF
func (c *Chunked) readTrailer(b []byte) (n int, err error) {
	if len(c.block) == 0 && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		c.state = chunkDone
		return 2, nil
	}
	before := len(c.block)
	part := b[:min(len(b), maxTrailer-before)]
	block := part
	if before > 0 {
		c.block = append(c.block, part...)
		block = c.block
	}
	end := HeadEnd(block, before)
	if end < 0 {
		if len(block) == maxTrailer {
			return 0, c.fail(TooLarge, "suspiciously long trailer after chunked body")
		}
		if before == 0 {
			c.block = append([]byte(nil), part...)
		}
		return len(part), nil
	}
	h := make(http.Header)
	p := fieldParser{b: block[:end], s: string(block[:end]), lines: 1, limit: maxTrailer}
	if kind, detail := p.parse(h); kind != 0 {
		return 0, c.fail(kind, "bad trailer: "+detail)
	}
	if c.lax = p.lax; c.Strict && c.lax != 0 {
		return 0, c.fail(Refused, "trailer: "+c.lax.String())
	}
	if len(h) > 0 {
		c.trailer = h
	}
	c.block = nil
	c.state = chunkDone
	return end - before, nil
}

// AppendChunkHead appends the size line of a chunk with n bytes of data. Data and
// a CRLF follow. n must be above 0, for a chunk of size 0 ends the body.
func AppendChunkHead(dst []byte, n int) []byte {
	if n <= 0 {
		panic("h1: a chunk has at least one byte")
	}
	return append(strconv.AppendUint(dst, uint64(n), 16), '\r', '\n')
}

// AppendLastChunk appends the last chunk, the fields of t sorted by name, and the
// empty line. Keys without values send nothing. A name that is no token or that
// decides the framing is a [*RequestError], and nothing is appended.
func AppendLastChunk(dst []byte, t http.Header) ([]byte, error) {
	dst = append(dst, '0', '\r', '\n')
	if len(t) > 0 {
		names, err := trailerNames(t)
		if err != nil {
			return dst[:len(dst)-3], err
		}
		for _, name := range names {
			for _, v := range t[name] {
				dst = appendField(dst, name, v)
			}
		}
	}
	return append(dst, '\r', '\n'), nil
}
