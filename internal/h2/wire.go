package h2

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// wire follows what ClientConn reads: the frames that pass. It tells the owner what
// they say, once ClientConn has taken them in, which reads again only when it has
// dealt with all whole frames that it has.
type wire struct {
	nc     net.Conn
	hangUp func() error // closes nc
	hung   sync.Once
	owner  Owner
	frames frames
	flood  flood

	maxStreams int // the caller's limit

	changed bool        // a SETTINGS frame is to be told; of Read's goroutine
	settle  *time.Timer // ends the connection of a peer that sends no SETTINGS; nil without a limit

	mu     sync.Mutex // guards what follows
	goAway *GoAway    // what the peer said, nil while it did not
	err    error      // why the connection ended
	told   bool       // the owner knows that no request may start
	closed bool       // by the owner

	ofUse   atomic.Bool // a response has come, or a stream was reset
	stopped atomic.Bool // no request may start: the peer goes away, or the connection has ended
}

// GoAway is what a peer said that takes no further stream (RFC 9113 §6.8).
type GoAway struct {
	LastStream uint32
	Code       uint32
	Debug      string
}

func (g *GoAway) Error() string {
	s := "server sent GOAWAY " + codeName(g.Code)
	if g.Debug != "" {
		s += fmt.Sprintf(" (%q)", g.Debug)
	}
	return s
}

// tlsConn and plainConn are the connection as ClientConn sees it. ClientConn writes
// each request on a goroutine of its own, whose stack just holds the way through TLS:
// a frame more and it is copied, for every request. A method promoted from a pointer
// costs none.
type (
	tlsConn struct {
		*tls.Conn
		w *wire
	}
	plainConn struct {
		net.Conn
		w *wire
	}
)

func (c *tlsConn) Read(p []byte) (int, error)   { return c.w.read(p) }
func (c *tlsConn) Close() error                 { return c.w.close() }
func (c *plainConn) Read(p []byte) (int, error) { return c.w.read(p) }
func (c *plainConn) Close() error               { return c.w.close() }

// conn returns what ClientConn is given.
func (w *wire) conn() net.Conn {
	if tc, ok := w.nc.(*tls.Conn); ok {
		return &tlsConn{tc, w}
	}
	return &plainConn{w.nc, w}
}

func (w *wire) read(p []byte) (int, error) {
	w.tell()
	n, err := w.nc.Read(p)
	w.frames.follow(w, p[:n])
	if ferr := w.flood.err; ferr != nil {
		n, err = 0, ferr
	}
	if err != nil {
		w.ended(err)
	}
	return n, err
}

// tell tells the owner what changed.
func (w *wire) tell() {
	if w.changed {
		w.changed = false
		w.settled()
		n := int(min(w.frames.maxStreams, 1<<20))
		if w.maxStreams > 0 {
			n = min(n, w.maxStreams)
		}
		w.owner.Capacity(n)
	}
	if w.stopped.Load() {
		w.mu.Lock()
		w.tellGone()
		w.mu.Unlock()
	}
}

func (w *wire) settled() {
	if w.settle != nil {
		w.settle.Stop()
	}
}

// why returns what the peer said, or why the connection ended, and whether it was of
// use.
func (w *wire) why() (err error, ofUse bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.whyLocked(), w.ofUse.Load()
}

func (w *wire) whyLocked() error {
	if w.goAway != nil {
		return w.goAway
	}
	return w.err
}

// errEnded: ClientConn has closed the connection, because the peer broke the
// protocol or answered no ping.
var errEnded = errors.New("connection was given up")

// close is ClientConn's Close.
func (w *wire) close() (err error) {
	w.ended(errEnded)
	w.hung.Do(func() { err = w.hangUp() })
	return err
}

// ended notes that nothing more comes.
func (w *wire) ended(err error) {
	w.stopped.Store(true)
	w.settled()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.tellGone()
}

// tellGone tells the owner once, on a goroutine of its own: the owner may close the
// connection at once, and this runs within what that would wait for. mu is held.
func (w *wire) tellGone() {
	if w.told || w.closed {
		return
	}
	w.told = true
	go w.owner.Gone(w.whyLocked(), w.ofUse.Load()) // which does not block
}

// goingAway is called when a GOAWAY frame has passed.
func (w *wire) goingAway(g GoAway) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped.Store(true)
	if w.goAway == nil || g.LastStream < w.goAway.LastStream {
		w.goAway = &g
	}
}

// frames follows the frames of one direction.
type frames struct {
	head [9]byte
	have int // bytes of head
	left int // bytes of the payload still to come

	entry      [6]byte // of SETTINGS
	filled     int
	settings   bool // one frame of SETTINGS has passed
	maxStreams uint32
	goAway     []byte
}

// Frame types (RFC 9113 §6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameRSTStream    = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	flagAck           = 0x1
)

const (
	settingMaxConcurrentStreams = 0x3

	// unlimitedStreams is how many streams ClientConn opens at once when the peer
	// does not limit them.
	unlimitedStreams = 1000

	// goAwayKept is how much of a GOAWAY frame is kept: the fixed part and some of
	// the debug data.
	goAwayKept = 8 + 128
)

// follow takes the next bytes that have arrived.
func (f *frames) follow(w *wire, p []byte) {
	for len(p) > 0 {
		if f.have < len(f.head) {
			n := copy(f.head[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have < len(f.head) {
				return
			}
			f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
			f.begin(w)
		}
		n := min(f.left, len(p))
		f.payload(p[:n])
		p = p[n:]
		f.left -= n
		if f.left == 0 {
			f.end(w)
			f.have = 0
		}
	}
}

func (f *frames) kind() byte { return f.head[3] }
func (f *frames) ack() bool  { return f.head[4]&flagAck != 0 }

func (f *frames) begin(w *wire) {
	f.filled = 0
	f.goAway = f.goAway[:0]
	w.flood.frame(f.kind(), f.left, f.ack())
	if k := f.kind(); (k == frameHeaders || k == frameRSTStream) && !w.ofUse.Load() {
		w.ofUse.Store(true)
	}
}

func (f *frames) payload(p []byte) {
	switch f.kind() {
	case frameSettings:
		for len(p) > 0 {
			n := copy(f.entry[f.filled:], p)
			f.filled += n
			p = p[n:]
			if f.filled == len(f.entry) {
				f.filled = 0
				if binary.BigEndian.Uint16(f.entry[:2]) == settingMaxConcurrentStreams {
					f.maxStreams = binary.BigEndian.Uint32(f.entry[2:])
					f.settings = true
				}
			}
		}
	case frameGoAway:
		f.goAway = append(f.goAway, p[:min(len(p), goAwayKept-len(f.goAway))]...)
	}
}

func (f *frames) end(w *wire) {
	switch f.kind() {
	case frameSettings:
		if f.ack() {
			return
		}
		if !f.settings { // the first ones, without a limit
			f.settings = true
			f.maxStreams = unlimitedStreams
		}
		w.changed = true
	case frameGoAway:
		if len(f.goAway) >= 8 {
			w.goingAway(GoAway{
				LastStream: binary.BigEndian.Uint32(f.goAway) & (1<<31 - 1),
				Code:       binary.BigEndian.Uint32(f.goAway[4:]),
				Debug:      string(f.goAway[8:]),
			})
		}
	}
}

// flood counts frames that cost the receiver work and bring it nothing (the
// attacks of RFC 9113 §10.5): the peer has a budget of them, which refills with
// time and with frames that carry something.
type flood struct {
	spent int
	since time.Time
	err   error
}

const (
	floodBudget = 2000
	floodRefill = 10 * time.Millisecond // a frame
	loggedFrame = 19                    // on top for PRIORITY, about which net/http logs and which no server needs
)

func (f *flood) frame(kind byte, size int, ack bool) {
	switch {
	case kind == frameHeaders, kind == frameWindowUpdate, kind == frameData && size > 0, ack && (kind == frameSettings || kind == framePing):
		if kind != frameWindowUpdate && f.spent > 0 {
			f.spent--
		}
		return
	}
	f.spent++
	if kind == framePriority {
		f.spent += loggedFrame
	}
	if f.spent < floodBudget/2 {
		return
	}
	now := time.Now()
	if f.since.IsZero() {
		f.since = now
	}
	if refill := int(now.Sub(f.since) / floodRefill); refill > 0 {
		f.spent = max(0, f.spent-refill)
		f.since = f.since.Add(time.Duration(refill) * floodRefill)
	}
	if f.spent > floodBudget && f.err == nil {
		f.err = &FloodError{Frames: f.spent}
	}
}

// FloodError: the peer sends frames that ask for work and bring nothing.
type FloodError struct{ Frames int }

func (e *FloodError) Error() string {
	return fmt.Sprintf("server floods the connection with control frames (%d without a response)", e.Frames)
}

// codeName names an error code of RFC 9113 §7.
func codeName(code uint32) string {
	names := [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
		"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR",
		"ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}
	if int(code) < len(names) {
		return names[code]
	}
	return fmt.Sprintf("code %d", code)
}
