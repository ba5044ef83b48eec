package h1

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// Exchange is one request with what the transport adds to it.
type Exchange struct {
	Request *http.Request
	Body    *RequestBody // nil when there is none
	Head    RequestHead
	Probe   bool // one byte of the body decides whether there is any; see FrameRequest
	Trace   *httptrace.ClientTrace
	Options *Options
	Reused  bool // the connection has carried a request before
}

// response is what RoundTrip returns, in one allocation: the response, its body
// handle, and room for the values of a usual number of header fields. Nothing of
// the connection refers to it, so that the collector can tell when the caller has
// forgotten it.
type response struct {
	http.Response
	body   Body
	values [12]string
	known  pool.Known
}

// RoundTrip sends the request and returns the response as soon as its head has
// arrived. It blocks until then; the request's context, its Cancel channel and
// the header timeout end it. The exchange goes on until the response body was
// read to its end or closed, and Owner.Done tells when it is over. An error is an
// *Error.
//
// The body is closed when it has been sent, or given up after its first byte; a
// body that was never touched is left open, so that another attempt may send it.
func (c *Conn) RoundTrip(x *Exchange) (*http.Response, error) {
	req := x.Request
	c.x = exchanges.Get().(*exchange)
	c.x.trace, c.x.opts = x.Trace, x.Options
	c.x.close = x.Head.Close
	c.x.chunked.Strict = x.Options.Strict
	c.x.start = c.sent()
	c.x.ctx, c.x.cancel = req.Context(), LegacyCancel(req)
	if !x.Reused {
		c.lookForEarly()
	}
	c.raw.records.n = 0
	c.getBuffer()

	writeErr := c.send(x)
	if writeErr != nil && c.sent() == c.x.start {
		return nil, c.fail(x, writeErr)
	}
	switch {
	case writeErr != nil:
		// The peer may have answered before it hung up.
		c.owner.SetPhase(pool.PhaseAwaiting)
		c.setReadDeadline(time.Now().Add(answerGrace))
	case c.x.sender != nil: // which says when it has sent all
		c.owner.SetPhase(pool.PhaseAwaiting)
	case c.raw.held == nil: // else it is sent when the response is read
		c.sentAll()
	}
	if c.x.early != nil {
		c.takeEarly()
	}
	res, err := c.readResponse(x)
	if err != nil {
		if writeErr != nil && !c.x.gotByte {
			err = writeErr
		}
		return nil, c.fail(x, err)
	}
	if x.Options.HeaderTimeout > 0 || c.x.sender != nil || writeErr != nil {
		c.x.until = time.Time{}
		c.mu.Lock()
		c.x.headRead = true
		if c.deadline && c.cause == nil {
			c.deadline = false
			c.nc.SetReadDeadline(time.Time{})
		}
		c.mu.Unlock()
	}
	if writeErr != nil {
		c.x.framing.Reusable = false
	}
	c.attachBody(res, x)
	return &res.Response, nil
}

// lookForEarly takes what the peer has sent before the first request. An
// overloaded server may answer as soon as it has accepted; its answer is worth
// more to the caller than an error, but what follows it could be anybody's: the
// connection is not kept.
func (c *Conn) lookForEarly() {
	if _, ok := c.raw.Conn.(Pender); !ok && c.raw.rc == nil {
		return // looking would cost a wait
	}
	var (
		buf [bufferSize / 8]byte
		n   int
		err error
	)
	if !c.tls {
		n, _ = c.raw.tryReadInto(buf[:], 0)
	} else {
		c.raw.look(lookSocket, 0)
		n, err = c.nc.Read(buf[:])
		c.raw.look(lookNormal, 0)
		if isWouldBlock(err) {
			c.raw.records.settle()
		}
	}
	if n > 0 {
		c.x.early = append([]byte(nil), buf[:n]...)
		c.x.excess = true
	}
}

// takeEarly puts it where the response is read.
func (c *Conn) takeEarly() {
	c.getBuffer()
	c.x.w = copy(c.x.buf, c.x.early)
	c.x.gotByte = true
}

// answerGrace is how long an answer is awaited after the request could not be
// written to its end.
const answerGrace = 250 * time.Millisecond

// fail ends an exchange that got no response, and says what happened.
func (c *Conn) fail(x *Exchange, err error) error {
	// What a sender writes is counted when the write returns.
	e := &Error{Err: err, Sent: c.x.sender != nil || c.sent() != c.x.start, Received: c.x.gotByte}
	f := pool.Fate{Reason: pool.ReasonError, MaxLeft: -1}
	var (
		protocol *ProtocolError
		request  *RequestError
		length   *BodyLengthError
	)
	cause := c.interrupted()
	sendErr := c.sendError()
	switch {
	case cause != nil:
		e.Err = cause
		f.Reason = pool.ReasonCanceled
	case errors.As(err, &request), errors.As(err, &length):
		// The request cannot be written; the connection never saw it.
		f.Keep = !e.Sent && c.x.sender == nil
	case errors.As(err, &protocol):
		f.Reason = pool.ReasonProtocol
	case errors.Is(err, os.ErrDeadlineExceeded) && sendErr == nil && c.x.opts.HeaderTimeout > 0:
		e.Err = &HeaderTimeoutError{After: c.x.opts.HeaderTimeout}
		f.Reason = pool.ReasonCanceled
	default:
		e.Network = true
		switch {
		case sendErr != nil && !c.x.gotByte:
			e.Err = sendErr
		case errors.Is(err, io.EOF) && c.x.gotByte:
			e.Err = io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF) && x.Reused:
			e.Err = ErrServerClosed
		}
	}
	if s := c.x.sender; s != nil {
		c.abandon(s, e.Err)
	}
	c.finish(f)
	return e
}

// readResponse reads heads until the final one.
func (c *Conn) readResponse(x *Exchange) (*response, error) {
	limit := x.Options.MaxHeadBytes
	left := limit
	var lax Lax
	res := new(response)
	for {
		n, err := c.readHead(left)
		if err != nil {
			if errors.Is(err, errHeadTooLarge) {
				err = HeadTooLarge(limit)
			}
			return nil, err
		}
		fr, err := ParseHead(&res.Response, c.x.buf[c.x.r:c.x.r+n], res.values[:], x.Request.Method,
			HeadOptions{Strict: x.Options.Strict, MaxFields: x.Options.MaxFields})
		if err != nil {
			return nil, err
		}
		c.x.r += n
		code := res.StatusCode
		if code >= 200 || code == http.StatusSwitchingProtocols {
			if fr.Lax |= lax; lax != 0 {
				fr.Reusable = false
			}
			c.x.framing = fr
			return res, nil
		}
		// RFC 9110 §15.2: interim responses come before the final one.
		left -= int64(n)
		lax |= fr.Lax
		if err := c.interim(x, res, code); err != nil {
			return nil, err
		}
		if t := x.Trace; t != nil && t.Got1xxResponse != nil {
			left = limit // somebody counts them, as with net/http
		}
		*res = response{}
	}
}

// interim tells of a 1xx response; 100 lets the request body go.
func (c *Conn) interim(x *Exchange, res *response, code int) error {
	t := x.Trace
	if code == http.StatusContinue {
		if t != nil && t.Got100Continue != nil {
			t.Got100Continue()
		}
		if s := c.x.sender; s != nil {
			s.release(true)
		}
	}
	if t != nil && t.Got1xxResponse != nil {
		return t.Got1xxResponse(code, mimeHeader(res.Header))
	}
	return nil
}

var errHeadTooLarge = errors.New("h1: head too large")

// readHead reads until buf[r:r+n] is a complete head, at most limit bytes long.
func (c *Conn) readHead(limit int64) (n int, err error) {
	seen := 0
	for {
		if b := c.x.buf[c.x.r:c.x.w]; len(b) > seen {
			if end := HeadEnd(b, seen); end >= 0 {
				if int64(end) > limit {
					return 0, errHeadTooLarge
				}
				return end, nil
			}
			seen = len(b)
		}
		if !c.makeRoom(int(limit)) {
			return 0, errHeadTooLarge
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
		if !c.x.gotByte {
			c.x.gotByte = true
			if t := c.x.trace; t != nil && t.GotFirstResponseByte != nil {
				t.GotFirstResponseByte()
			}
		}
	}
}

// fill reads what is there into the buffer, at least one byte.
func (c *Conn) fill() error {
	if c.x.readErr != nil {
		return c.x.readErr
	}
	if c.x.r == c.x.w && !c.tls && c.raw.direct {
		_, err := c.await()
		return err
	}
	if c.x.buf == nil {
		c.getBuffer()
	}
	for range 100 {
		n, err := c.read(c.x.buf[c.x.w:])
		c.x.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// attachBody gives the response its body and ends the exchange if the body is
// complete: then the connection is free before the caller has read a byte.
func (c *Conn) attachBody(res *response, x *Exchange) {
	fr := &c.x.framing
	res.TLS = c.state
	if s := c.x.sender; s != nil {
		// The final response lets a body go that waits for 100 Continue, unless
		// nothing more is to come on this connection.
		s.release(fr.Reusable && !c.x.close)
	}
	switch fr.Kind {
	case BodyNone:
		res.Body = http.NoBody
		c.finish(c.fateOf(true))
		return
	case BodyUpgrade:
		c.upgrade(res)
		return
	case BodyLength:
		if fr.Length == 0 {
			res.Body = http.NoBody
			c.finish(c.fateOf(true))
			return
		}
		c.x.left = fr.Length
		if int64(c.x.w-c.x.r) >= fr.Length {
			end := c.x.r + int(fr.Length)
			res.body.keep(c.x.buf, c.x.buf[c.x.r:end])
			c.x.r = end
			c.detachBuffer()
			break
		}
		c.x.left = fr.Length
		res.body.attach(c)
	case BodyChunked:
		if data, trailer, ok := c.wholeChunked(); ok {
			res.body.keep(c.x.buf, data)
			res.body.trailer = trailer
			c.detachBuffer()
			break
		}
		res.body.attach(c)
	default:
		res.body.attach(c)
	}
	res.body.res = &res.Response
	res.Body = &res.body
	if res.body.conn.Load() == nil {
		c.finish(c.fateOf(true))
	} else {
		c.owner.Lend(res, &res.known)
		c.owner.SetPhase(pool.PhaseBody)
	}
}

// detachBuffer leaves the buffer to a body that is complete in it. What follows
// the body in it nobody asked for.
func (c *Conn) detachBuffer() {
	if c.x.r != c.x.w {
		c.x.excess = true
	}
	c.x.buf, c.x.r, c.x.w = nil, 0, 0
}

// fateOf says what becomes of the connection after a response that was read to
// its end (complete), or not.
func (c *Conn) fateOf(complete bool) pool.Fate {
	fr := &c.x.framing
	f := pool.Fate{MaxLeft: fr.KeepAliveMax, Keep: true}
	switch {
	case !complete:
		f.Keep, f.Reason = false, pool.ReasonUnread
	case fr.Lax != 0, c.x.excess, c.x.r != c.x.w:
		f.Keep, f.Reason = false, pool.ReasonProtocol
	case !fr.Reusable, c.x.close, fr.KeepAliveTimeout == 0:
		f.Keep, f.Reason = false, pool.ReasonClose
	case fr.KeepAliveTimeout > 0:
		f.IdleFor = max(fr.KeepAliveTimeout/2, fr.KeepAliveTimeout-keepAliveMargin)
	}
	return f
}

// keepAliveMargin is taken off the idle timeout that the peer announces, for the
// way of the request and the coarseness of servers' timers.
const keepAliveMargin = 2 * time.Second
