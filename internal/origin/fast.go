// Fast: an origin for measurements. It costs the machine as little as a Go server
// can, so that the client beside it is what is measured. The lab and the
// benchmarks call it.

package origin

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// fastBuffer is the memory of a Fast connection in bytes, and the longest request
// head it takes. 8000 octets is what RFC 9112 §3 wants of a request line alone;
// a client under measurement sends far less.
const fastBuffer = 4 << 10

// Fast answers every request that comes on ln with the same bytes, each after a
// wait of latency (zero: none), on connections it keeps alive. It knows the end
// of a request by its Content-Length, zero without one, and reads no other field:
// it closes no connection at a client's wish and sends no 100 (Continue). Requests
// may be pipelined. A request that it cannot delimit is answered with its status
// (400 for a bad length, 431 for a head beyond 4 KiB, 501 for a Transfer-Encoding)
// and the connection closed.
func Fast(ln net.Listener, response []byte, latency time.Duration) *Origin {
	return New(ln).Handle(func(c *Conn) {
		f := fastConn{conn: c, buf: make([]byte, fastBuffer)}
		if latency > 0 {
			f.timer = time.NewTimer(latency)
			defer f.timer.Stop()
		}
		for {
			if status := f.readRequest(); status != 0 {
				if status > 0 {
					c.Writef("HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", status, http.StatusText(status))
				}
				return
			}
			c.origin.requests.Add(1)
			if latency > 0 && !f.wait(latency) {
				return
			}
			if _, err := c.nc.Write(response); err != nil {
				return
			}
		}
	})
}

// gone is readRequest's word for a connection that ended.
const gone = -1

// fastConn is a connection with its one buffer.
type fastConn struct {
	conn  *Conn
	buf   []byte
	have  int         // bytes of buf that are filled
	timer *time.Timer // reused for every wait
}

// readRequest reads a whole request and keeps only what came after it. It returns
// 0, gone, or the status of the refusal.
func (f *fastConn) readRequest() int {
	head, status := f.readHead()
	if status != 0 {
		return status
	}
	length, status := contentLength(f.buf[:head])
	if status != 0 {
		return status
	}
	rest := length - int64(f.have-head)
	if rest <= 0 {
		f.have = copy(f.buf, f.buf[int64(head)+length:f.have])
		return 0
	}
	f.have = 0
	for rest > 0 {
		n, err := f.conn.nc.Read(f.buf[:min(rest, int64(len(f.buf)))])
		rest -= int64(n)
		if err != nil && rest > 0 {
			return gone
		}
	}
	return 0
}

var headEnd = []byte("\r\n\r\n")

// readHead reads until the buffer has a head at its start and returns its length
// with the empty line.
func (f *fastConn) readHead() (int, int) {
	for seen := 0; ; {
		if i := bytes.Index(f.buf[seen:f.have], headEnd); i >= 0 {
			return seen + i + len(headEnd), 0
		}
		seen = max(0, f.have-len(headEnd)+1)
		if f.have == len(f.buf) {
			return 0, http.StatusRequestHeaderFieldsTooLarge
		}
		n, err := f.conn.nc.Read(f.buf[f.have:])
		f.have += n
		if err != nil && n == 0 {
			return 0, gone
		}
	}
}

// wait waits for d on the connection's timer, or reports false when the origin is
// closed first.
func (f *fastConn) wait(d time.Duration) bool {
	f.timer.Reset(d)
	select {
	case <-f.timer.C:
		return true
	case <-f.conn.origin.done:
		return false
	}
}

var (
	fieldLength   = []byte("content-length")
	fieldEncoding = []byte("transfer-encoding")
)

// contentLength returns the Content-Length of a head, 0 without one, or the
// status of a request whose end it does not tell. Two lengths are a bad one.
func contentLength(head []byte) (length int64, status int) {
	found := false
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		switch {
		case !ok:
		case bytes.EqualFold(name, fieldEncoding):
			return 0, http.StatusNotImplemented
		case bytes.EqualFold(name, fieldLength):
			n, err := parseLength(bytes.TrimSpace(value))
			if err != nil || found {
				return 0, http.StatusBadRequest
			}
			length, found = n, true
		}
	}
	return length, 0
}

var errLength = errors.New("no length")

// parseLength reads 1*DIGIT (RFC 9110 §8.6), which allows no sign.
func parseLength(v []byte) (int64, error) {
	if len(v) == 0 || v[0] < '0' || v[0] > '9' {
		return 0, errLength
	}
	return strconv.ParseInt(string(v), 10, 64)
}
