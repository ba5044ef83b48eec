package h2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// Error is a request that got no response. Err is what the caller is to see; the
// rest is what decides about another attempt.
type Error struct {
	Err error

	// Unprocessed: the peer has certainly not acted upon the request: it was not
	// sent, refused (RFC 9113 §8.7), or behind the last stream of a GOAWAY.
	Unprocessed bool

	// Lost: the connection ended with the request in flight.
	Lost bool

	// Late: PROTOCOL_ERROR, which is how some servers reset a stream that came too
	// late for their shutdown (golang/go#47635), and others a request that they will
	// never like.
	Late bool
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// StreamError: the peer has reset the stream of this request.
type StreamError struct {
	Code uint32 // RFC 9113 §7
	Err  error  // as net/http made it: golang.org/x/net/http2's StreamError by errors.As
}

func (e *StreamError) Error() string { return "server reset the stream: " + codeName(e.Code) }

func (e *StreamError) Unwrap() error { return e.Err }

// ConnError: the connection ended in a way that HTTP/2 does not allow.
type ConnError struct{ Err error }

func (e *ConnError) Error() string { return e.Err.Error() }

func (e *ConnError) Unwrap() error { return e.Err }

// RequestError: the request cannot be sent over HTTP/2. Detail holds no value of it.
type RequestError struct{ Detail string }

func (e *RequestError) Error() string { return e.Detail }

// stream has the shape of golang.org/x/net/http2's StreamError, which net/http's
// own converts itself to, by errors.As, field by field.
type stream struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e stream) Error() string { return "stream " + codeName(e.Code) }

// fromPeer reports whether the peer has reset the stream; else ClientConn did.
func (e stream) fromPeer() bool { return e.Cause != nil && e.Cause.Error() == saysFromPeer }

const (
	codeProtocol       = 0x1
	codeRefusedStream  = 0x7
	codeHTTP11Required = 0xd
)

// What net/http says, by errors that have no name outside it. A test makes each of
// them happen, so that a Go release that words them otherwise is found out.
const (
	saysUnusable  = "http2: client conn not usable"
	saysNotOpened = "http2: client conn could not be established"
	saysClosed    = "http2: client conn is closed"
	saysGoAway    = "http2: Transport received Server's graceful shutdown GOAWAY"
	saysGoAwayErr = "http2: Transport received GOAWAY from server"
	saysLost      = "http2: client connection lost"
	saysForced    = "http2: client connection force closed via ClientConn.Close"
	saysConnError = "connection error: "
	saysTooLarge  = "http2: frame too large"
	saysGoneAway  = "http2: server sent GOAWAY and closed the connection"
	saysTimeout   = "http2: timeout awaiting response headers"
	saysCanceled  = "net/http: request canceled"
	saysInvalid   = "http2: invalid "
	saysTooMany   = "http2: request header list larger than peer's advertised limit"
	saysFromPeer  = "received from peer"
)

// ErrHeaderTimeout: the response head did not come in time.
var ErrHeaderTimeout = errors.New("timeout awaiting response headers")

// ErrPingTimeout: the peer did not answer a PING.
var ErrPingTimeout = errors.New("server answers no ping: connection lost")

// classify makes an Error of what ClientConn returned.
func (c *Conn) classify(err error) *Error {
	var s stream
	text := err.Error()
	switch {
	case text == saysUnusable, text == saysNotOpened:
		return &Error{Err: c.cause(err), Unprocessed: true, Lost: true}
	case text == saysGoAway, strings.HasPrefix(text, saysGoAwayErr):
		return &Error{Err: c.cause(err), Unprocessed: true, Lost: true}
	case errors.As(err, &s):
		if !s.fromPeer() { // the peer broke the protocol on this stream
			return &Error{Err: &ConnError{Err: err}}
		}
		return &Error{Err: &StreamError{Code: s.Code, Err: err}, Unprocessed: s.Code == codeRefusedStream, Late: s.Code == codeProtocol}
	case text == saysLost:
		return &Error{Err: ErrPingTimeout, Lost: true}
	case text == saysForced, text == saysClosed, strings.HasPrefix(text, saysGoneAway), isNetwork(err):
		return &Error{Err: c.cause(err), Lost: true}
	case strings.HasPrefix(text, saysConnError), strings.Contains(text, saysTooLarge):
		return &Error{Err: &ConnError{Err: err}}
	case text == saysTimeout:
		return &Error{Err: ErrHeaderTimeout}
	case strings.HasPrefix(text, saysInvalid):
		detail, _, _ := strings.Cut(strings.TrimPrefix(text, "http2: "), ": ") // what follows are values
		return &Error{Err: &RequestError{Detail: "net/http: " + detail}, Unprocessed: true}
	case text == saysTooMany:
		return &Error{Err: &RequestError{Detail: "request header fields are larger than the server takes"}, Unprocessed: true}
	}
	var flood *FloodError
	if errors.As(err, &flood) {
		return &Error{Err: &ConnError{Err: err}}
	}
	return &Error{Err: err}
}

// isStream reports whether the peer has reset the stream.
func isStream(err error) bool {
	var s stream
	return errors.As(err, &s) && s.fromPeer()
}

func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}

// cause is what really ended the connection, as far as the wire knows.
func (c *Conn) cause(err error) error {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	switch {
	case c.wire.goAway != nil:
		return c.wire.goAway
	case c.wire.err != nil && c.wire.err != io.EOF:
		return c.wire.err
	case c.wire.err == io.EOF:
		return fmt.Errorf("server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}
