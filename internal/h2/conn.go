package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// Owner is told what becomes of a connection. Its methods must not block.
type Owner interface {
	// Capacity tells how many streams the peer allows at once, the first time and
	// whenever that changes.
	Capacity(streams int)

	// Gone tells once that no further request can start: the peer goes away, a
	// *GoAway, or the connection has ended. Streams in flight end by themselves. The
	// connection was of use if a response or a reset of a stream had come on it.
	Gone(why error, ofUse bool)
}

// Options bound a connection and its requests. All values are explicit: defaults
// belong to the caller.
type Options struct {
	MaxHeadBytes    int64         // of a response head, interim ones included
	HeaderTimeout   time.Duration // from the end of the request to the response head; ≤ 0 is none
	ContinueTimeout time.Duration // how long Expect: 100-continue holds the body back; ≤ 0 sends it at once
	PingAfter       time.Duration // without a frame from the peer, it is asked whether it lives; ≤ 0 never
	PingTimeout     time.Duration // the connection is given up when it does not answer for so long
	SettingsTimeout time.Duration // the peer's SETTINGS come within; ≤ 0 waits for ever
	MaxStreams      int           // at once, whatever the peer allows; ≤ 0 is what it allows
}

// Engine opens connections with the same Options. It is safe for concurrent use.
type Engine struct {
	opts Options
	t    http.Transport
}

type wireKey struct{}

// NewEngine returns an engine. windows sets the sizes of flow control windows and
// frames; nil is net/http's defaults. It holds nothing that would have to be closed.
func NewEngine(o Options, windows *http.HTTP2Config) *Engine {
	e := &Engine{opts: o}
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	e.t = http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(wireKey{}).(net.Conn), nil
		},
		Protocols:              p,
		DisableCompression:     true,
		MaxResponseHeaderBytes: o.MaxHeadBytes,
		ResponseHeaderTimeout:  max(o.HeaderTimeout, 0),
		ExpectContinueTimeout:  max(o.ContinueTimeout, 0),
		HTTP2:                  new(http.HTTP2Config),
	}
	if windows != nil {
		*e.t.HTTP2 = *windows
	}
	e.t.HTTP2.SendPingTimeout, e.t.HTTP2.PingTimeout = max(o.PingAfter, 0), o.PingTimeout
	return e
}

// Conn is the client's end of one HTTP/2 connection. It has one goroutine, which
// reads, and one for each request in flight.
type Conn struct {
	cc   *http.ClientConn
	wire *wire
}

// Open sends the connection preface over nc, which is an open connection to a peer
// that has agreed to HTTP/2, and returns before the peer's SETTINGS have come. The
// owner may be told of something before Open returns. hangUp closes nc, and is called
// once, when Open fails as well.
func (e *Engine) Open(ctx context.Context, nc net.Conn, hangUp func() error, owner Owner) (*Conn, error) {
	w := &wire{nc: nc, hangUp: hangUp, owner: owner, maxStreams: e.opts.MaxStreams}
	if d := e.opts.SettingsTimeout; d > 0 {
		w.settle = time.AfterFunc(d, func() { nc.SetDeadline(past) })
	}
	// The preface is small, but a peer that does not read can hold it up.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(past) })
	cc, err := e.t.NewClientConn(context.WithValue(context.Background(), wireKey{}, w.conn()), "http", "berth.invalid:80")
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		w.settled()
		if cc != nil {
			cc.Close()
		}
		w.close()
		return nil, err
	}
	return &Conn{cc: cc, wire: w}, nil
}

var past = time.Unix(1, 0)

// Live reports whether a request may start.
func (c *Conn) Live() bool { return !c.wire.stopped.Load() }

// Err returns what Gone tells: why no request may start, nil while one may, and
// whether the connection was of use.
func (c *Conn) Err() (why error, ofUse bool) { return c.wire.why() }

// Close closes the connection and cuts the requests in flight. It reports whether
// the peer had ended it before.
func (c *Conn) Close() (peerFirst bool) {
	c.wire.stopped.Store(true)
	c.wire.mu.Lock()
	peerFirst = c.wire.goAway != nil || c.wire.err != nil && c.wire.err != errEnded
	c.wire.closed = true
	c.wire.mu.Unlock()
	c.cc.Close()
	return peerFirst
}

// RoundTrip sends the request on a stream of its own. It blocks until the response
// head has come; the request's context ends it. The request's body is not closed in
// every case of an error: the caller sees to that. An error is an *Error, or the
// context's. The response body must be read to its end or closed.
func (c *Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := c.cc.RoundTrip(req)
	if err == nil {
		return res, nil
	}
	if why := ended(req.Context(), err); why != nil {
		return nil, why
	}
	return nil, c.classify(err)
}

// BodyError returns why a response body ended early whose Read said err: the cause
// of the request's context, ErrRequestCanceled, a *StreamError, a *ConnError, or
// what ended the connection.
func (c *Conn) BodyError(ctx context.Context, err error) error {
	if why := ended(ctx, err); why != nil {
		return why
	}
	if err == io.ErrUnexpectedEOF { // shorter than its Content-Length
		return err
	}
	return c.classify(err).Err
}

// ErrRequestCanceled: the request's deprecated Cancel channel was closed.
var ErrRequestCanceled = errors.New("net/http: request canceled")

// ended returns why the caller's side ended a request, or nil.
func ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && !isStream(err):
		return context.Cause(ctx)
	case err.Error() == saysCanceled:
		return ErrRequestCanceled
	}
	return nil
}
