package h1

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// inlineMax is the size of a request, head and body, that is written by one
// write on the caller's goroutine. It fits into the send buffer of an idle TCP
// connection, so that the write does not wait for the peer to read. Connections
// without a descriptor may have no such buffer: they get a tenth.
const inlineMax = 16 << 10

// send writes the request. What may block, on the caller's body or because the
// peer does not read, is left to a sender, so that an early answer is seen.
func (c *Conn) send(x *Exchange) error {
	var src io.Reader
	if x.Body != nil {
		src = x.Body
		if x.Probe {
			r, empty := x.Body.probe()
			if src = r; empty {
				src = nil
				x.Head.Framing = RequestFraming{Kind: BodyNone}
				x.Body.Close()
			} else {
				x.Head.Framing = RequestFraming{Kind: BodyChunked}
			}
		}
	}
	head, err := AppendRequestHead(c.x.buf[:0], x.Request, &x.Head, x.Trace)
	if err != nil {
		return err
	}
	if t := x.Trace; t != nil && t.WroteHeaders != nil {
		t.WroteHeaders()
	}
	large := len(head) > c.inlineMax() // an answer to it may come before its end
	if src == nil && !large {
		c.watch(c.patient(x))
		return c.sendInline(x, head)
	}
	wait := x.Options.ContinueTimeout > 0 && HasToken(x.Request.Header["Expect"], "100-continue")
	if m := x.Body.memory(); !large && m != nil && !wait && !x.Probe && x.Head.Framing.Kind == BodyLength {
		if n := int64(m.Len()); n != x.Head.Framing.Length {
			return &BodyLengthError{Want: x.Head.Framing.Length, Got: n}
		}
		size := len(head) + m.Len()
		switch {
		case size > bufferSize && !c.tls && c.raw.direct && c.patient(x):
			return c.sendLarge(x, head, m)
		case size <= c.inlineMax():
			return c.sendMemory(x, head, m)
		}
	}
	c.watch(false)
	if large {
		c.startSender(x, src, wait, head)
		return nil
	}
	if err := c.write(head); err != nil {
		wroteRequest(x.Trace, err)
		return err
	}
	if wait && x.Trace != nil && x.Trace.Wait100Continue != nil {
		x.Trace.Wait100Continue()
	}
	c.startSender(x, src, wait, nil)
	return nil
}

func (c *Conn) inlineMax() int {
	if c.raw.rc == nil {
		return bufferSize
	}
	return inlineMax
}

// sendInline writes a whole request, and may read the first of the response.
func (c *Conn) sendInline(x *Exchange, b []byte) error {
	if c.raw.patient && c.x.early == nil {
		if c.tls {
			c.raw.hold() // until the read that follows
		} else if b = c.swap(b); len(b) == 0 {
			return nil
		}
	}
	err := c.write(b)
	wroteRequest(x.Trace, err)
	return err
}

// sendMemory sends head and body in one write.
func (c *Conn) sendMemory(x *Exchange, head []byte, m memoryReader) error {
	x.Body.touched.Store(true)
	c.watch(c.patient(x))
	b := head
	if room := m.Len(); cap(head)-len(head) < room {
		big := copyBuffers.Get().(*[copySize]byte)
		defer copyBuffers.Put(big)
		if len(head)+room > copySize {
			b = make([]byte, 0, len(head)+room)
		} else {
			b = big[:0]
		}
		b = append(b, head...)
	}
	n := len(b)
	b = b[:n+m.Len()]
	if _, err := io.ReadFull(m, b[n:]); err != nil {
		return &BodyLengthError{Want: int64(len(b) - n)} // it shrank under our hands
	}
	err := c.sendInline(x, b)
	x.Body.Close() // of memory: it has nothing to say
	return err
}

// sendLarge sends head and body as far as the kernel takes them while the exchange
// is patient, which is nearly always to the end; a sender does the rest.
func (c *Conn) sendLarge(x *Exchange, head []byte, m memoryReader) error {
	x.Body.touched.Store(true)
	c.watch(true)
	g := &gather{c, head}
	_, err := m.(io.WriterTo).WriteTo(g)
	if m.Len() > 0 && c.raw.lapsed(err) {
		if err := c.write(g.head); err != nil {
			wroteRequest(x.Trace, err)
			return err
		}
		x.Head.Framing.Length = int64(m.Len())
		c.startSender(x, x.Body, false, nil)
		return nil
	}
	x.Body.Close()
	wroteRequest(x.Trace, err)
	return err
}

func wroteRequest(t *httptrace.ClientTrace, err error) {
	if t != nil && t.WroteRequest != nil {
		t.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

func mimeHeader(h http.Header) textproto.MIMEHeader {
	if h == nil {
		h = http.Header{}
	}
	return textproto.MIMEHeader(h)
}

// sender writes a request body that may block, on a goroutine of its own. The
// exchange owns it: it ends before the connection is used again, and when the
// exchange fails it is interrupted and awaited.
type sender struct {
	done    chan struct{}
	gate    chan bool // whether the body goes; nil when it goes at once
	head    []byte    // written first; nil when it was already
	body    *RequestBody
	src     io.Reader
	framing RequestFraming
	trailer http.Header
}

func (c *Conn) startSender(x *Exchange, src io.Reader, wait bool, head []byte) {
	s := &sender{done: make(chan struct{}), head: head, body: x.Body, src: src, framing: x.Head.Framing, trailer: x.Request.Trailer}
	if s.body == nil {
		s.body = NewRequestBody(http.NoBody)
	}
	if wait {
		s.gate = make(chan bool, 1)
	}
	c.x.sender = s
	c.mu.Lock()
	c.x.sending = true
	c.mu.Unlock()
	opts, trace := x.Options, x.Trace
	go c.runSender(s, opts, trace)
}

// release lets the body go that waits for 100 Continue, or says that it never
// goes. Only the first call counts.
func (s *sender) release(send bool) {
	if s.gate != nil {
		select {
		case s.gate <- send:
		default:
		}
	}
}

// errBodyWithheld: the response said that nothing more is read on the connection,
// so the body that waited for 100 Continue was not sent.
var errBodyWithheld = errors.New("h1: request body withheld")

func (c *Conn) runSender(s *sender, opts *Options, trace *httptrace.ClientTrace) {
	var (
		err      error
		fromBody bool
	)
	if s.head != nil {
		err = c.write(s.head)
	}
	switch {
	case err != nil:
		s.body.Close()
	case s.awaitGate(opts.ContinueTimeout):
		err, fromBody = s.copyTo(c)
		if cerr := s.body.Close(); cerr != nil && err == nil {
			err, fromBody = cerr, true
		}
	default:
		s.body.Close()
		err = errBodyWithheld
	}
	if err == errBodyWithheld {
		wroteRequest(trace, nil)
	} else {
		wroteRequest(trace, err)
	}

	c.mu.Lock()
	c.x.sending, c.x.sendErr = false, err
	switch {
	case c.cause != nil:
	case fromBody:
		// The caller's own body failed: that ends the exchange.
		c.cause = err
		c.deadline = true
		c.nc.SetDeadline(past)
	case c.x.headRead || c.x.over:
	case err != nil && err != errBodyWithheld:
		c.deadline = true
		c.nc.SetReadDeadline(time.Now().Add(answerGrace))
	case opts.HeaderTimeout > 0:
		c.deadline = true
		c.nc.SetReadDeadline(time.Now().Add(opts.HeaderTimeout))
	}
	over, f := c.x.over, c.x.fate
	c.x.over = false // so that leaveSender does not end the exchange as well
	if c.x.lateTimer != nil {
		c.x.lateTimer.Stop()
		c.x.lateTimer = nil
	}
	c.mu.Unlock()
	close(s.done)
	if over {
		if err != nil && f.Keep {
			f.Keep, f.Reason = false, pool.ReasonError
		}
		c.end(f)
	}
}

// sendError returns how the sender ended, if it has, and if it was not withheld.
func (c *Conn) sendError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.x.sendErr == errBodyWithheld {
		return nil
	}
	return c.x.sendErr
}

// abandonWait is how long a sender is awaited that is stuck in the caller's body.
const abandonWait = 50 * time.Millisecond

// abandon ends the sender of a failed exchange. The body is closed, which unblocks
// most readers; one that blocks all the same is left behind, and its result unread.
func (c *Conn) abandon(s *sender, why error) {
	c.interrupt(why)
	s.release(false)
	select {
	case <-s.done:
		return
	default:
	}
	s.body.Close()
	s.await(abandonWait)
}

// await waits for the sender's end, but no longer than d.
func (s *sender) await(d time.Duration) {
	select {
	case <-s.done:
		return
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
	}
}

// awaitGate waits for the word to send the body (RFC 9110 §10.1.1): for 100
// Continue, but no longer than timeout.
func (s *sender) awaitGate(timeout time.Duration) bool {
	if s.gate == nil {
		return true
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case send := <-s.gate:
		return send
	case <-t.C:
		return true
	}
}

// copyTo sends the body. fromBody says that the error is the body's own.
func (s *sender) copyTo(c *Conn) (err error, fromBody bool) {
	switch s.framing.Kind {
	case BodyNone:
		return nil, false
	case BodyLength:
		return s.copyLength(c)
	case BodyUntilClose:
		return s.copyRaw(c)
	}
	return s.copyChunked(c)
}

// copyRaw sends the body of CONNECT: bytes as they come, until its end.
func (s *sender) copyRaw(c *Conn) (err error, fromBody bool) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := s.src.Read(buf[:])
		if n > 0 {
			if werr := c.write(buf[:n]); werr != nil {
				return werr, false
			}
		}
		if err == io.EOF {
			return nil, false
		}
		if err != nil {
			return err, true
		}
	}
}

// copyLength sends a body of known length.
func (s *sender) copyLength(c *Conn) (err error, fromBody bool) {
	left := s.framing.Length
	if m := s.body.memory(); m != nil && s.src == io.Reader(s.body) {
		// strings.Reader would copy the whole string at once.
		if _, isString := m.(*strings.Reader); !isString && int64(m.Len()) == left {
			s.body.touched.Store(true)
			_, err := m.(io.WriterTo).WriteTo(connWriter{c})
			return err, false
		}
	}
	if dst, ok := c.nc.(io.ReaderFrom); ok {
		if f, ok := unwrapped(s.body.rc).(*os.File); ok {
			s.body.touched.Store(true)
			n, err := dst.ReadFrom(io.LimitReader(f, left)) // sendfile where there is one
			c.raw.written.Add(n)
			left -= n
			if err != nil {
				return err, false
			}
		}
	}
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for left > 0 {
		n, err := s.src.Read(buf[:min(left, copySize)])
		if n > 0 {
			if werr := c.write(buf[:n]); werr != nil {
				return werr, false
			}
			left -= int64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err, true
		}
	}
	if left > 0 {
		return &BodyLengthError{Want: s.framing.Length, Got: s.framing.Length - left}, true
	}
	// A body that goes on is a mistake that must not pass in silence.
	more, err := io.ReadFull(s.src, buf[:])
	switch {
	case more > 0:
		return &BodyLengthError{Want: s.framing.Length, Got: s.framing.Length + int64(more)}, true
	case err != nil && err != io.EOF:
		return err, true
	}
	return nil, false
}

// copyChunked sends a body of unknown length (RFC 9112 §7.1), a chunk for each
// read, at once, and the trailer fields as they are at the end.
func (s *sender) copyChunked(c *Conn) (err error, fromBody bool) {
	const room = 16 // for the size line before the data
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for empty := 0; ; {
		n, err := s.src.Read(buf[room : copySize-2])
		if n > 0 {
			empty = 0
			var size [room]byte
			line := append(strconv.AppendInt(size[:0], int64(n), 16), '\r', '\n')
			start := room - len(line)
			copy(buf[start:], line)
			end := room + n
			buf[end], buf[end+1] = '\r', '\n'
			if werr := c.write(buf[start : end+2]); werr != nil {
				return werr, false
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err, true
		}
		if n == 0 {
			if empty++; empty > 100 {
				return io.ErrNoProgress, true
			}
		}
	}
	last, err := AppendLastChunk(buf[:0], s.trailer)
	if err != nil {
		return err, true
	}
	return c.write(last), false
}

// connWriter is the connection for a body that writes itself.
type connWriter struct{ c *Conn }

func (w connWriter) Write(p []byte) (int, error) {
	if !w.c.tls {
		return w.c.raw.Write(p)
	}
	return w.c.nc.Write(p)
}
