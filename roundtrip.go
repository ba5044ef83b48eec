package berth

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/h2"
	"github.com/berth-go/berth/internal/pool"
)

// RoundTrip sends the request and returns its response, whose body must be read
// to its end or closed. It does not change the request, closes its body in every
// case, and returns a response of its own. It blocks until the response head has
// arrived; the request's context ends it at any point. Redirects, cookies and
// authentication are http.Client's.
//
// A request is sent again, on another connection, only if its connection had been
// used before and nothing of the request can have been acted upon: nothing was
// sent, or the method is idempotent and no byte of a response came.
//
// Over HTTP/2 the first is not asked: what the server has refused, or left out when
// it went away, is sent again whatever the method, and an idempotent request whose
// connection was lost up to three times.
//
// Errors: *RequestError, *AcquireTimeoutError, *QueueFullError, *WouldQueueError,
// *TooManyGroupsError, *DialError (with a *ProxyError in it if a proxy is to blame),
// *AddrRefusedError, *PortsExhaustedError, *ProtocolError, *StreamError,
// *ResponseHeaderTimeoutError, *ServerClosedError, *ConnError, *ClosedError; the cause of the context when it was cancelled; what the request's
// own body said; tls.RecordHeaderError and errors of the network as they are.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.roundTripIn(req, groupOf(req.Context()))
}

// roundTripIn sends the request over connections of a group.
func (t *Transport) roundTripIn(req *http.Request, group *Group) (*http.Response, error) {
	t.init()
	if err := checkFields(req); err != nil {
		closeBody(req)
		return nil, err
	}
	original := req
	if t.alternate.Load() != nil {
		resp, next, err := t.tryAlternate(req)
		if next == nil {
			return resp, err
		}
		req = next
	}
	if err := checkRequest(req); err != nil {
		closeBody(req)
		return nil, err
	}
	if req.URL.Scheme == "unix" {
		var err error
		if req, err = overUnix(req); err != nil {
			closeBody(original)
			return nil, err
		}
	}
	framing, probe, err := h1.FrameRequest(req)
	if err != nil {
		closeBody(req)
		return nil, &RequestError{Reason: err.Error()}
	}
	x := h1.Exchange{Request: req, Head: h1.RequestHead{Framing: framing}, Probe: probe}
	if req.Body != nil && (req.Body != http.NoBody || framing.Kind == h1.BodyChunked) {
		x.Body = h1.NewRequestBody(req.Body)
	}
	resp, err := t.roundTrip(req, &x, group)
	if err != nil {
		if x.Body != nil {
			x.Body.Close()
		}
		h1.AwaitClientTimeout(req, err)
		return nil, err
	}
	resp.Request = original
	return resp, nil
}

// maxSent bounds how often a request is sent over HTTP/2 that a server may have looked
// at each time: one that brings a server down should not do so again and again.
const maxSent = 3

// maxAttempts bounds how often a request is sent whose server says each time that
// it has not looked at it. Those behind a GOAWAY are many when a server takes one
// request per connection.
const maxAttempts = 100

// roundTrip makes attempts until one has a response or a final error.
func (t *Transport) roundTrip(req *http.Request, x *h1.Exchange, group *Group) (*http.Response, error) {
	ctx := req.Context()
	x.Trace = httptrace.ContextClientTrace(ctx)
	framing := x.Head.Framing
	gzip := wantsGzip(req, &t.edition.Load().config)
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		ep, err := t.endpointFor(req, group)
		if err != nil {
			return nil, err
		}
		f := ep.now.Load()
		x.Options = &f.engine
		x.Head.Framing = framing
		x.Head.Close = wantsClose(req, &f.policy)
		x.Head.Extra = ep.fields[0]
		if gzip {
			x.Head.Extra = ep.fields[1]
		}
		x.Head.AbsoluteForm = ep.absolute
		x.Head.DropProxyAuth = ep.dropsProxyAuth(f, req)

		l, err := ep.acquire(ctx, f, req, x.Trace, group.isHasty())
		if err == pool.ErrForgotten {
			continue
		}
		if err != nil {
			return nil, err
		}
		if l.Last() {
			if _, is := l.Conn().(*conn); is {
				x.Head.Close = true
			}
		}
		reused := l.Reused()
		x.Reused = reused
		resp, mux, err := exchange(f, x, l, gzip)
		if err == nil {
			if gzip && resp.Body != http.NoBody {
				ep.inflate(resp)
			}
			return resp, nil
		}
		e := err.(*h1.Error)
		if attempt >= maxAttempts || !retryable(req, e, attempt, reused, mux) || !rewind(req, x) {
			return nil, ep.exchangeError(e, reused)
		}
		if tr := f.config.Trace; tr != nil && tr.Retried != nil {
			tr.Retried(RetryInfo{Endpoint: ep.name, Err: e.Err, Sent: e.Sent})
		}
		if mux && !pause(ctx, e, attempt) {
			return nil, context.Cause(ctx)
		}
	}
}

// exchange sends the request on the connection that it was lent, and says whether
// that speaks HTTP/2. An error is an *h1.Error.
func exchange(f *inForce, x *h1.Exchange, l *pool.Lease, gzip bool) (*http.Response, bool, error) {
	if c, ok := l.Conn().(*conn); ok {
		c.lease = l
		if tr := f.config.Trace; tr != nil && tr.Leak != nil {
			c.tell().req.Store(x.Request)
		}
		resp, err := c.h1.RoundTrip(x)
		return resp, false, err
	}
	resp, err := l.Conn().(*muxConn).roundTrip(x, l, gzip)
	if err != nil {
		return nil, true, err
	}
	return resp, true, nil
}

// pause waits before a request is sent again that the server refused, longer each
// time: it may be overloaded. Other connections are tried at once. It reports false
// when ctx ended the wait.
func pause(ctx context.Context, e *h1.Error, attempt int) bool {
	var refused *h2.StreamError
	if !errors.As(e.Err, &refused) || attempt < 2 {
		return true
	}
	d := min(5*time.Millisecond<<min(attempt, 10), time.Second)
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wantsClose says whether the request ends its connection. The engine writes
// Connection: close then, unless the request's own fields say so.
func wantsClose(req *http.Request, p *Policy) bool {
	c := req.Header["Connection"]
	return req.Close || h1.HasToken(c, "close") || p.DisableKeepAlives && !h1.HasToken(c, "Upgrade")
}

// acquire leases a connection for the request.
func (ep *endpoint) acquire(ctx context.Context, f *inForce, req *http.Request, trace *httptrace.ClientTrace, hasty bool) (*pool.Lease, error) {
	var gate *traceGate
	if trace != nil {
		if trace.GetConn != nil {
			trace.GetConn(ep.hostPort(req))
		}
		ctx, gate = withGate(ctx, trace)
	}
	r := pool.Request{Method: req.Method, Path: req.URL.Path, Cancel: h1.LegacyCancel(req), Hasty: hasty}
	r.Budget, r.BudgetIsDefault = f.budget, f.budgetIsDefault
	start := ep.t.now()
	l, err := ep.pool.Acquire(ctx, start, r)
	gate.close()
	if err != nil {
		if err == pool.ErrForgotten {
			return nil, err
		}
		final := ep.acquireError(err)
		if tr := f.config.Trace; tr != nil && tr.GaveUp != nil {
			tr.GaveUp(ep.gaveUp(req.Context(), start, err, final))
		}
		return nil, final
	}
	if l.Sampled() {
		ep.t.callSite(l)
	}
	if tr := f.config.Trace; tr != nil && tr.Acquired != nil {
		tr.Acquired(ep.acquired(req.Context(), l, start))
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: tied(l).h1.NetConn(), Reused: l.Reused(), WasIdle: l.Reused() && l.Idle() > 0, IdleTime: l.Idle()})
	}
	return l, nil
}

// tied returns what a lent connection has in common, whatever it speaks.
func tied(l *pool.Lease) *conn { return connOf(l.Conn()) }

// connOf is tied for a connection of the pool; nil for nil.
func connOf(c pool.Conn) *conn {
	if m, ok := c.(*muxConn); ok {
		return m.conn
	}
	own, _ := c.(*conn)
	return own
}

// retryable decides whether a request that got no response may be sent again. A new
// HTTP/1.1 connection that fails says that the server does; over HTTP/2 it may just
// have gone away with all its streams.
func retryable(req *http.Request, e *h1.Error, attempt int, reused, mux bool) bool {
	switch {
	case !reused && !mux || !e.Network || e.Received:
		return false
	case !e.Sent:
		return true
	case mux && attempt >= maxSent:
		return false
	}
	return replayable(req)
}

// replayable reports whether the request may be received twice: its method is
// idempotent by RFC 9110 §9.2.2 and usual for that, or the caller says so by an
// idempotency key.
func replayable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xkey := req.Header["X-Idempotency-Key"]
	return key || xkey
}

// rewind prepares the body for another attempt and reports whether it can.
func rewind(req *http.Request, x *h1.Exchange) bool {
	if x.Body == nil || x.Body.Untouched() {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	x.Body.Close()
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	x.Body = h1.NewRequestBody(body)
	return true
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// exchangeError makes the caller's error of an exchange that got no response.
func (ep *endpoint) exchangeError(e *h1.Error, reused bool) error {
	var (
		protocol *h1.ProtocolError
		broken   *h2.ConnError
		reset    *h2.StreamError
		request  *h1.RequestError
		length   *h1.BodyLengthError
		header   *h1.HeaderTimeoutError
	)
	switch {
	case e.Err == h1.ErrServerClosed:
		return &ServerClosedError{Endpoint: ep.name}
	case errors.As(e.Err, &header):
		return &ResponseHeaderTimeoutError{Endpoint: ep.name, After: header.After}
	case errors.As(e.Err, &protocol):
		return &ProtocolError{Endpoint: ep.name, Err: protocol}
	case errors.As(e.Err, &broken):
		return &ProtocolError{Endpoint: ep.name, Err: broken}
	case errors.As(e.Err, &reset):
		return &StreamError{Endpoint: ep.name, ErrorCode: reset.Code, Err: reset, sent: e.Sent}
	case errors.As(e.Err, &request):
		return &RequestError{Reason: request.Detail}
	case errors.As(e.Err, &length):
		return &RequestError{Reason: length.Error()}
	case e.Network && (e.Received || !e.Sent):
		return &ConnError{Endpoint: ep.name, Err: e.Err, sent: e.Sent}
	}
	return e.Err
}
