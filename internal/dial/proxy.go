package dial

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// TunnelError: a proxy did not open the way to the target.
type TunnelError struct {
	Status string // its answer to CONNECT, without the code's number; "" when there was none
	Code   int
	Err    error
}

func (e *TunnelError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	if e.Status == "" {
		return "unknown status code"
	}
	return e.Status
}

func (e *TunnelError) Unwrap() error { return e.Err }

// Tunnel is what Connect asks a proxy for.
type Tunnel struct {
	Target       string        // host:port
	Header       http.Header   // of the CONNECT request; not changed
	MaxHeadBytes int64         // of the answer
	Timeout      time.Duration // ≤ 0 is none

	// Answered, if not nil, sees the answer before it is judged and may refuse it.
	Answered func(req *http.Request, resp *http.Response) error
}

// Open asks the proxy at the other end of conn for a tunnel (RFC 9110 §9.3.6). It
// blocks until the proxy has answered, the time is up, or ctx ends. The connection
// is the caller's to close when it fails. The error is a *TunnelError, or what
// Answered said.
func (t *Tunnel) Open(ctx context.Context, conn net.Conn) error {
	return bounded(ctx, conn, t.Timeout, func() error { return t.open(conn) })
}

func (t *Tunnel) open(conn net.Conn) error {
	h := t.Header
	if h == nil {
		h = http.Header{}
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: t.Target}, Host: t.Target, Header: h}
	if err := req.Write(conn); err != nil {
		return &TunnelError{Err: err}
	}
	limit := &io.LimitedReader{R: conn, N: t.MaxHeadBytes}
	r := bufio.NewReader(limit)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		if limit.N <= 0 {
			err = errors.New("proxy's answer exceeds " + strconv.FormatInt(t.MaxHeadBytes, 10) + " bytes of headers")
		}
		return &TunnelError{Err: err}
	}
	if t.Answered != nil {
		if err := t.Answered(req, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode != http.StatusOK {
		return &TunnelError{Code: resp.StatusCode, Status: statusText(resp)}
	}
	if r.Buffered() > 0 {
		// Whoever speaks first through a tunnel is the client: these bytes are not
		// the target's.
		return &TunnelError{Err: errors.New("proxy sent bytes behind its answer to CONNECT")}
	}
	return nil
}

// statusText returns the status line without its number.
func statusText(resp *http.Response) string {
	if s := resp.Status; len(s) > 4 {
		return s[4:]
	}
	return ""
}

// bounded runs a dialogue on conn, which it ends by a deadline when ctx or the
// time does. No deadline is left behind.
func bounded(ctx context.Context, conn net.Conn, timeout time.Duration, talk func() error) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, &ProxyTimeoutError{After: timeout})
		defer cancel()
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := talk()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// ProxyTimeoutError: the proxy did not open the way in time.
type ProxyTimeoutError struct{ After time.Duration }

func (e *ProxyTimeoutError) Error() string { return "proxy did not answer within " + e.After.String() }

// Timeout reports true.
func (e *ProxyTimeoutError) Timeout() bool { return true }

// Temporary reports true, as errors of timeouts do.
func (e *ProxyTimeoutError) Temporary() bool { return true }
