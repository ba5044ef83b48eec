package h1

// records follows the records of TLS (RFC 8446 §5.1) that pass through a socket,
// by their headers alone: five bytes, of which the last two are the length. It
// tells whether TLS holds back bytes that nobody has read, without asking TLS,
// which would cost an attempt to read.
type records struct {
	n      int32 // records that ended since the exchange began
	left   int32 // bytes to come of the current one
	header [5]byte
	have   uint8 // bytes of header
	level  bool  // TLS held nothing when the exchange began
}

const recordHeader = 5

// manyReads is a number of reads that no number of records comes up to.
const manyReads = -1 << 30

// follow takes note of what was read from the socket.
func (r *records) follow(p []byte) {
	for len(p) > 0 {
		if r.left == 0 {
			n := copy(r.header[r.have:], p)
			p = p[n:]
			if r.have += uint8(n); r.have < recordHeader {
				return
			}
			r.have = 0
			r.left = int32(r.header[3])<<8 | int32(r.header[4])
		}
		n := min(int(r.left), len(p))
		p = p[n:]
		if r.left -= int32(n); r.left == 0 {
			r.n++
		}
	}
}

// taken reports whether all that came from the socket was given out, in that many
// reads with a record each.
func (r *records) taken(reads int32) bool {
	return r.level && r.atEnd() && r.n == reads
}

func (r *records) atEnd() bool { return r.left == 0 && r.have == 0 }

// settle notes that TLS was asked and holds nothing whole.
func (r *records) settle() { r.level = r.atEnd() }
