package h1

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// raw is a socket that can be read without blocking. TLS runs over it, so that
// what TLS holds back can be looked at too. Looking is for the one goroutine that
// owns the idle connection.
type raw struct {
	net.Conn
	conn    *Conn                 // whose socket it is
	rc      syscall.RawConn       // nil when there is no descriptor
	job     *swap                 // what run does
	run     func(fd uintptr) bool // bound once: looking allocates nothing
	held    *heldWrite            // what TLS wrote, until it reads
	written atomic.Int64          // bytes that the kernel took
	junk    string                // what the peer sent while idle
	idle    time.Duration
	records records
	mode    lookMode

	// patient says that a deadline stands for the end of the exchange's patience:
	// whatever runs into it goes on when the watch is armed.
	patient bool

	// direct says that Conn is package net's own and nobody else's: its descriptor
	// may be read and written past it, its deadlines work, and none is overwritten
	// that a dial function has set.
	direct bool

	closing bool // a deadline for the last write is set, and stays
}

func (r *raw) init(conn net.Conn, own bool) {
	r.Conn = conn
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn: // not what embeds them
		r.direct = own && canTryRead
	}
	if sc, ok := conn.(syscall.Conn); ok && canTryRead {
		if rc, err := sc.SyscallConn(); err == nil {
			r.rc = rc
		}
	}
}

// lookMode says what Read does.
type lookMode uint8

const (
	lookNormal   lookMode = iota
	lookBuffered          // nothing new: TLS sees only what it has already
	lookSocket            // what is there, without waiting
)

func (r *raw) look(m lookMode, idle time.Duration) { r.mode, r.idle = m, idle }

// Read is TLS's.
func (r *raw) Read(p []byte) (n int, err error) {
	switch r.mode {
	case lookBuffered:
		return 0, errWouldBlock
	case lookSocket:
		n, err = r.tryReadInto(p, r.idle)
	default:
		n, err = r.read(p)
	}
	r.records.follow(p[:n])
	return n, err
}

// read reads what is there, or waits for it.
func (r *raw) read(p []byte) (int, error) {
	if r.held != nil {
		if n, err, done := r.swapHeld(p); done {
			return n, err
		}
	}
	n, err := r.Conn.Read(p)
	if n == 0 && r.lapsed(err) {
		return r.Conn.Read(p)
	}
	return n, err
}

func (r *raw) Write(p []byte) (int, error) {
	if r.held != nil {
		if r.held.add(p) {
			return len(p), nil
		}
		if err := r.flush(); err != nil {
			return 0, err
		}
	}
	n, err := r.Conn.Write(p)
	if r.lapsed(err) {
		var more int
		more, err = r.Conn.Write(p[n:])
		n += more
	}
	r.written.Add(int64(n))
	return n, err
}

// SetWriteDeadline is TLS's too: it gives itself time to say that it closes.
func (r *raw) SetWriteDeadline(t time.Time) error {
	if r.closing {
		return nil
	}
	return r.Conn.SetWriteDeadline(t)
}

// lapsed reports whether err is the end of the exchange's patience and no more.
func (r *raw) lapsed(err error) bool {
	return r.patient && errors.Is(err, os.ErrDeadlineExceeded) && r.conn.lapse()
}

// Pender is a connection without a descriptor that says what a Read would find:
// bytes, the error that ends the stream, or (0, nil) for nothing yet. It does not
// block and takes nothing.
type Pender interface {
	Pending() (int, error)
}

// junkSize is how much of what nobody asked for is kept for the log.
const junkSize = 64

// tryRead reads and keeps what is there as junk.
func (r *raw) tryRead(idle time.Duration) (int, error) {
	var buf [junkSize]byte
	n, err := r.tryReadInto(buf[:], idle)
	if n > 0 {
		r.junk = string(buf[:n])
		err = errUnsolicited
	}
	return n, err
}

// peerClosed reports whether the peer has closed its side, where that can be seen
// at once.
func (r *raw) peerClosed() bool {
	if _, ok := r.Conn.(Pender); !ok && r.rc == nil {
		return false
	}
	n, err := r.tryRead(0)
	return n == 0 && !isWouldBlock(err) && !errors.Is(err, net.ErrClosed)
}

var errUnsolicited = errors.New("h1: unsolicited bytes")

// blindAfter is how long a connection that can only be read with a deadline sits
// idle before a look at it is worth a quarter of a millisecond.
const blindAfter = time.Second

// tryReadInto reads what is there. Without a descriptor and without Pending it
// reads with a deadline that has passed, which shows an end of stream on some
// connections only (net.Pipe), and after a longer idle time with one just ahead.
func (r *raw) tryReadInto(p []byte, idle time.Duration) (int, error) {
	if r.rc != nil {
		return r.readNow(p)
	}
	if t, ok := r.Conn.(Pender); ok {
		if n, err := t.Pending(); n == 0 {
			if err == nil {
				err = errWouldBlock
			}
			return 0, err
		}
		return r.Conn.Read(p)
	}
	r.SetReadDeadline(past)
	n, err := r.Conn.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		if idle >= blindAfter {
			r.SetReadDeadline(time.Now().Add(50 * time.Microsecond))
			n, err = r.Conn.Read(p)
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			err = errWouldBlock
		}
	}
	r.SetReadDeadline(time.Time{})
	return n, err
}

// wouldBlock says that nothing is there. crypto/tls takes a temporary error for
// one that passes.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "h1: nothing to read" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

// isWouldBlock reports whether a read that does not wait found nothing.
func isWouldBlock(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
