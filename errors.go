package berth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/pool"
)

// ErrRequestCanceled: the deprecated Request.Cancel ended the request.
var ErrRequestCanceled = h1.ErrRequestCanceled

// ErrRequestCanceledWaiting: Request.Cancel ended the wait for a connection.
var ErrRequestCanceledWaiting = errors.New("net/http: request canceled while waiting for connection")

// ErrClosed matches a *ClosedError by errors.Is.
var ErrClosed = errors.New("berth: transport is closed")

// NotSent reports whether err says that no byte of the request left this host: it
// may be sent again, whatever its method. False means that nobody knows.
func NotSent(err error) bool {
	var n interface{ NotSent() bool }
	return errors.As(err, &n) && n.NotSent()
}

// notSent is embedded in the errors of requests that never left.
type notSent struct{}

// NotSent reports true.
func (notSent) NotSent() bool { return true }

// RequestError: the request itself cannot be sent. The caller is at fault. Code
// BERTH1011.
type RequestError struct {
	notSent
	Reason string // without any value of the request
}

func (e *RequestError) Error() string { return e.Reason }

// Code returns BERTH1011.
func (e *RequestError) Code() string { return "BERTH1011" }

// DialError: no connection to the endpoint could be opened. It unwraps to what the
// resolver, the kernel, the peer or TLS said. Code BERTH1003.
type DialError struct {
	notSent
	Endpoint string
	Failures int           // dials that failed in a row
	Backoff  time.Duration // until the next attempt, when none was made for this request; else 0
	Err      error
}

func (e *DialError) Error() string {
	if e.Backoff > 0 {
		return fmt.Sprintf("berth: dial %s: no attempt for another %v after %d failures, the last: %v [BERTH1003]",
			e.Endpoint, e.Backoff.Round(time.Millisecond), e.Failures, e.Err)
	}
	return fmt.Sprintf("berth: dial %s: %v%s [BERTH1003]", e.Endpoint, e.Err, dialAdvice(e.Err))
}

// dialAdvice says what to do about a failed dial, where that is known.
func dialAdvice(err error) string {
	var (
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return ": check the host's name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return ": nothing listens there; check address and port, and that the server runs"
	case errors.As(err, &unknown):
		return ": add its authority to Config.TLS.RootCAs"
	case errors.As(err, &name):
		return ": check the host's name, or set Config.TLS.ServerName"
	case errors.As(err, &timeout) && timeout.Timeout():
		return ": no answer; check route and firewall, or raise DialTimeout and TLSTimeout"
	}
	return ""
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Code returns BERTH1003.
func (e *DialError) Code() string { return "BERTH1003" }

// Timeout reports whether the dial took too long.
func (e *DialError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Temporary reports what Timeout does; net.Error asks for it.
func (e *DialError) Temporary() bool { return e.Timeout() }

// PortsExhaustedError: this host has no port, descriptor or memory left for a connection,
// or a budget beyond it has no port, and the endpoint has no connection to wait for. It
// unwraps to the kernel's errno where the kernel has refused: EADDRNOTAVAIL when all ports
// to the destination are taken, EADDRINUSE when those of a local address are, EMFILE and
// ENFILE for descriptors, ENOBUFS and ENOMEM for memory. Codes BERTH1004 (ports),
// BERTH1005 (descriptors), BERTH1006 (memory).
type PortsExhaustedError struct {
	notSent
	Endpoint string
	Resource string // "ports", "descriptors" or "memory"

	// Usage is what this transport's connections take, for ports; Ports is 0 when the
	// destination is not known.
	Usage PortUsage

	// InUse and TimeWait are the TCP sockets of the whole host, those in TIME_WAIT apart;
	// negative where it does not tell.
	InUse, TimeWait int

	Limit int // of descriptors; 0 when it is not known
	Err   error
}

func (e *PortsExhaustedError) Error() string {
	var have string
	u := e.Usage
	switch {
	case e.Resource == "ports" && u.Ports > 0 && u.Budget:
		have = fmt.Sprintf("; the budget has %d, %d live and %d held", u.Ports, u.Live, u.Held)
	case e.Resource == "ports" && u.Ports > 0:
		have = fmt.Sprintf("; of %d to %s this transport has %d live and %d in TIME_WAIT", u.Ports, u.Destination, u.Live, u.Held)
	case e.Limit > 0:
		have = fmt.Sprintf("; the process may have %d", e.Limit)
	}
	if e.Resource != "descriptors" && !u.Budget && e.InUse >= 0 {
		have += fmt.Sprintf("; the host has %d TCP sockets and %d in TIME_WAIT", e.InUse, e.TimeWait)
	}
	return fmt.Sprintf("berth: dial %s: out of %s: %v%s: %s [%s]", e.Endpoint, e.Resource, e.Err, have, e.remedy(), e.Code())
}

func (e *PortsExhaustedError) remedy() string {
	switch {
	case e.Resource == "descriptors":
		return "too many files and sockets are open; look for bodies that are never closed, or raise the limit (ulimit -n)"
	case e.Resource == "memory":
		return "the kernel has no memory for another socket; close idle connections or raise its limits"
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "sockets that were bound before they connect hold every port of the local address; add LocalAddrs"
	}
	return "connections are opened faster than their ports come back; share one transport, read bodies to their end, set Close to auto, or add LocalAddrs"
}

// Unwrap returns the cause.
func (e *PortsExhaustedError) Unwrap() error { return e.Err }

// Code returns BERTH1004, BERTH1005 or BERTH1006.
func (e *PortsExhaustedError) Code() string {
	return map[string]string{"ports": "BERTH1004", "descriptors": "BERTH1005", "memory": "BERTH1006"}[e.Resource]
}

// Timeout reports false: waiting longer is not what helps.
func (e *PortsExhaustedError) Timeout() bool { return false }

// Temporary reports true: what is taken comes back.
func (e *PortsExhaustedError) Temporary() bool { return true }

// ProtocolError: the server broke HTTP/1.1 or HTTP/2, in head or body, and what it
// meant is not certain, or it floods. The connection is closed; over HTTP/2, if the
// fault was one stream's, that alone. Code BERTH1007.
type ProtocolError struct {
	Endpoint string
	Err      error
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("berth: %s: %v [BERTH1007]", e.Endpoint, e.Err)
}

// Unwrap returns the cause.
func (e *ProtocolError) Unwrap() error { return e.Err }

// Code returns BERTH1007.
func (e *ProtocolError) Code() string { return "BERTH1007" }

// ResponseHeaderTimeoutError: the response head did not come within
// Policy.ResponseHeaderTimeout. It is a timeout, and context.DeadlineExceeded by
// errors.Is. Code BERTH1008.
type ResponseHeaderTimeoutError struct {
	Endpoint string
	After    time.Duration
}

func (e *ResponseHeaderTimeoutError) Error() string {
	return fmt.Sprintf("berth: %s: timeout awaiting response headers after %v [BERTH1008]", e.Endpoint, e.After)
}

// Code returns BERTH1008.
func (e *ResponseHeaderTimeoutError) Code() string { return "BERTH1008" }

// Timeout reports true.
func (e *ResponseHeaderTimeoutError) Timeout() bool { return true }

// Temporary reports true; net.Error asks for it.
func (e *ResponseHeaderTimeoutError) Temporary() bool { return true }

// Is reports true for context.DeadlineExceeded.
func (e *ResponseHeaderTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// StreamError: the server has reset the request's HTTP/2 stream (RFC 9113 §5.4.2).
// Other requests on the connection go on. It unwraps to net/http's own error, which
// golang.org/x/net/http2.StreamError can be had of by errors.As. Code BERTH1015.
type StreamError struct {
	Endpoint  string
	ErrorCode uint32 // RFC 9113 §7
	Err       error
	sent      bool
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("berth: %s: %v [BERTH1015]", e.Endpoint, e.Err)
}

// Unwrap returns the cause.
func (e *StreamError) Unwrap() error { return e.Err }

// Code returns BERTH1015.
func (e *StreamError) Code() string { return "BERTH1015" }

// NotSent reports whether the server has certainly not acted upon the request.
func (e *StreamError) NotSent() bool { return !e.sent }

// ServerClosedError: the server closed a connection that it had used before, just
// as a request was sent on it, and the request cannot be sent again safely. Code
// BERTH1009.
type ServerClosedError struct{ Endpoint string }

func (e *ServerClosedError) Error() string {
	return fmt.Sprintf("berth: %s: server closed idle connection as the request was sent [BERTH1009]", e.Endpoint)
}

// Code returns BERTH1009.
func (e *ServerClosedError) Code() string { return "BERTH1009" }

// ConnError: the connection broke before the request had left, or within the
// response head. It unwraps to what the network said. Code BERTH1012.
type ConnError struct {
	Endpoint string
	Err      error
	sent     bool
}

func (e *ConnError) Error() string {
	at := "while the response head was read"
	if !e.sent {
		at = "before the request was sent"
	}
	return fmt.Sprintf("berth: %s: connection broken %s: %v", e.Endpoint, at, e.Err)
}

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Err }

// Code returns BERTH1012.
func (e *ConnError) Code() string { return "BERTH1012" }

// NotSent reports whether nothing of the request left.
func (e *ConnError) NotSent() bool { return !e.sent }

// ClosedError: the transport was closed, or is being shut down. Code BERTH1013.
type ClosedError struct{ notSent }

func (e *ClosedError) Error() string { return ErrClosed.Error() }

// Is reports true for ErrClosed.
func (e *ClosedError) Is(target error) bool { return target == ErrClosed }

// Code returns BERTH1013.
func (e *ClosedError) Code() string { return "BERTH1013" }

// dialError makes the caller's error of a failed dial. tls.RecordHeaderError stays
// as it is: http.Client knows it by its type.
func (ep *endpoint) dialError(e *pool.DialError) error {
	if err, ok := e.Err.(tls.RecordHeaderError); ok && e.Backoff == 0 {
		return err
	}
	if r, is := errors.AsType[*AddrRefusedError](e.Err); is {
		return r
	}
	if r := dial.Exhausted(e.Err); r != dial.None {
		return ep.exhaustedError(r, e.Err)
	}
	return &DialError{Endpoint: ep.name, Failures: e.Failures, Backoff: e.Backoff, Err: e.Err}
}
