package berth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"

	"github.com/berth-go/berth/internal/h1"
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
// Errors: *RequestError, *AcquireTimeoutError, *QueueFullError, *DialError,
// *ResourceError, *ProtocolError, *ResponseHeaderTimeoutError, *ServerClosedError,
// *ConnError, *ClosedError; the cause of the context when it was cancelled; what
// the request's own body said; tls.RecordHeaderError and errors of the network as
// they are.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.init()
	if err := checkRequest(req); err != nil {
		closeBody(req)
		return nil, err
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
	resp, err := t.roundTrip(req, &x)
	if err != nil {
		if x.Body != nil {
			x.Body.Close()
		}
		h1.AwaitClientTimeout(req, err)
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// roundTrip makes attempts until one has a response or a final error.
func (t *Transport) roundTrip(req *http.Request, x *h1.Exchange) (*http.Response, error) {
	ctx := req.Context()
	x.Trace = httptrace.ContextClientTrace(ctx)
	framing := x.Head.Framing
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		ep, err := t.endpointFor(req)
		if err != nil {
			return nil, err
		}
		x.Options = ep.options
		x.Head.Framing = framing
		x.Head.Close, x.Head.Extra = wantsClose(req, ep.policy)

		c, reused, err := ep.acquire(ctx, req, x.Trace)
		if err == pool.ErrForgotten {
			continue
		}
		if err != nil {
			return nil, err
		}
		x.Reused = reused
		resp, err := c.h1.RoundTrip(x)
		if err == nil {
			return resp, nil
		}
		e := err.(*h1.Error)
		if !retryable(req, e, reused) || !rewind(req, x) {
			return nil, ep.exchangeError(e, reused)
		}
		if tr := t.config.Trace; tr != nil && tr.Retried != nil {
			tr.Retried(RetryInfo{Endpoint: ep.name, Err: e.Err, Sent: e.Sent})
		}
	}
}

// wantsClose says whether the request ends its connection, and which field has to
// be added to say so: the engine writes Connection: close for Request.Close, but
// not twice.
func wantsClose(req *http.Request, p *Policy) (bool, []h1.Field) {
	if req.Close || h1.HasToken(req.Header["Connection"], "close") {
		return true, nil
	}
	if p.DisableKeepAlives && !h1.HasToken(req.Header["Connection"], "Upgrade") {
		return true, nil
	}
	return false, nil
}

// acquire leases a connection for the request.
func (ep *endpoint) acquire(ctx context.Context, req *http.Request, trace *httptrace.ClientTrace) (*conn, bool, error) {
	var gate *traceGate
	if trace != nil {
		if trace.GetConn != nil {
			trace.GetConn(ep.hostPort())
		}
		ctx, gate = withGate(ctx, trace)
	}
	r := pool.Request{Method: req.Method, Path: req.URL.Path, Cancel: h1.LegacyCancel(req)}
	r.Budget, r.BudgetIsDefault = or(ep.policy.AcquireTimeout, defaultAcquireTimeout, pool.Never), ep.policy.AcquireTimeout == 0
	l, err := ep.pool.Acquire(ctx, ep.t.now(), r)
	gate.close()
	if err != nil {
		if err == pool.ErrForgotten {
			return nil, false, err
		}
		return nil, false, ep.acquireError(req, err)
	}
	c := l.Conn().(*conn)
	c.lease = l
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.h1.NetConn(), Reused: l.Reused(), WasIdle: l.Reused() && l.Idle() > 0, IdleTime: l.Idle()})
	}
	return c, l.Reused(), nil
}

// retryable decides whether a request that got no response may be sent again.
func retryable(req *http.Request, e *h1.Error, reused bool) bool {
	switch {
	case !reused || !e.Network || e.Received:
		return false
	case !e.Sent:
		return true
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
	case errors.As(e.Err, &request):
		return &RequestError{Reason: request.Detail}
	case errors.As(e.Err, &length):
		return &RequestError{Reason: length.Error()}
	case e.Network && (e.Received || !e.Sent):
		return &ConnError{Endpoint: ep.name, Err: e.Err, sent: e.Sent}
	}
	return e.Err
}
