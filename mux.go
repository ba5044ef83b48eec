package berth

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/h2"
	"github.com/berth-go/berth/internal/pool"
)

// muxConn ties an HTTP/2 connection to its place in the pool: it is the pool's Conn
// and the HTTP/2 side's Owner.
type muxConn struct {
	*conn  // its socket and endpoint
	h2     *h2.Conn
	slot   *pool.Slot
	opened int64

	headerTimeout time.Duration // it was opened with
}

// ---- for the pool ----

// Reserve says whether a stream may be opened. That there is room for it the pool
// knows.
func (m *muxConn) Reserve(time.Duration) pool.Verdict {
	if m.h2.Live() {
		return pool.Ready
	}
	m.Gone(m.h2.Err())
	return pool.Dead
}

// Probe says whether the peer still takes requests.
func (m *muxConn) Probe() bool { return m.h2.Live() }

// Close closes the connection.
func (m *muxConn) Close(why pool.Reason) (peerFirst bool) {
	how := dial.EndedByUs
	if m.resets(why) {
		how = dial.EndedByRST
	}
	peerFirst = m.h2.Close()
	m.closed(why, how, peerFirst, true)
	return peerFirst
}

// ---- for the HTTP/2 side ----

// Capacity tells the pool how many streams the connection takes, and what to
// expect of the endpoint's next ones.
func (m *muxConn) Capacity(n int) {
	m.ep.expect(max(n, 1))
	m.ep.pool.SetCapacity(m.slot, n)
}

// greeting is how old a connection may be for its end to count as the peer turning
// away whoever comes.
const greeting = 5 * time.Second

// Gone tells the pool that no further request can start. Whoever notices first
// does so: what is told later says nothing new.
func (m *muxConn) Gone(why error, ofUse bool) {
	var dud error
	if !ofUse && time.Duration(m.ep.t.now()-m.opened) < greeting {
		dud = why
	}
	m.ep.pool.PeerClosed(m.slot, dud)
}

// ---- requests ----

// roundTrip sends the request on a stream. The lease is given back when the
// response body has ended, or at once when there is none.
func (m *muxConn) roundTrip(x *h1.Exchange, l *pool.Lease, gzip bool) (*http.Response, *h1.Error) {
	fate := pool.Fate{Keep: true, MaxLeft: -1}
	req, body, bad := m.request(x, gzip)
	if bad != nil {
		return nil, m.failed(bad, l, fate)
	}
	l.SetPhase(pool.PhaseAwaiting)
	if x.Head.Close {
		fate.Keep, fate.Reason = false, pool.ReasonClose
	}
	res, err := m.h2.RoundTrip(req)
	if err != nil {
		return nil, m.failed(err, l, fate)
	}
	body.answered()
	if res.Body == http.NoBody {
		l.Release(m.ep.t.now(), fate)
		if s := m.h1.State(); s != nil {
			res.TLS = s
		}
		return res, nil
	}
	out := &muxResponse{Response: *res, body: muxBody{rc: res.Body, from: res, m: m, lease: l, fate: fate, req: req}}
	out.body.to = &out.Response
	out.Body = &out.body
	if s := m.h1.State(); s != nil {
		out.TLS = s
	}
	l.Touch(m.ep.t.now())
	l.Lend(out, &out.known)
	l.SetPhase(pool.PhaseBody)
	m.ep.watchBodies()
	return &out.Response, nil
}

// muxResponse is what the caller has: net/http's stream refers to the response that it made
// itself, so that the collector could not tell when the caller has forgotten that.
type muxResponse struct {
	http.Response
	body  muxBody
	known pool.Known
}

// WhenForgotten is pool.Body's.
func (r *muxResponse) WhenForgotten(f func(*pool.Watch), w *pool.Watch) { runtime.AddCleanup(r, f, w) }

// Context is pool.Body's.
func (r *muxResponse) Context() context.Context { return r.body.req.Context() }

// Abandon is pool.Body's: what Close would do.
func (r *muxResponse) Abandon(l *pool.Lease) func() {
	rc, m, fate := r.body.rc, r.body.m, r.body.fate
	return func() {
		rc.Close()
		l.Release(m.ep.t.now(), fate)
	}
}

// request returns the request as it is sent: the caller's, or a copy with what
// differs. The error is an *h1.RequestError.
func (m *muxConn) request(x *h1.Exchange, gzip bool) (*http.Request, *heldBody, error) {
	req := x.Request
	u, err := cleanURL(req.URL)
	if err != nil {
		return nil, nil, err
	}
	auth := x.Head.DropProxyAuth && hasProxyAuth(req.Header)
	if x.Body == nil && !gzip && !auth && u == req.URL {
		return req, nil, nil
	}
	c := *req
	c.URL = u
	if gzip || auth {
		c.Header = maps.Clone(req.Header)
		if gzip {
			c.Header["Accept-Encoding"] = []string{"gzip"}
		}
		if auth {
			maps.DeleteFunc(c.Header, func(name string, _ []string) bool { return isProxyAuth(name) })
		}
	}
	var body *heldBody
	if x.Body != nil {
		body = &heldBody{b: x.Body, length: -1}
		if x.Head.Framing.Kind == h1.BodyLength {
			body.length = x.Head.Framing.Length
		}
		c.Body = body
	}
	return &c, body, nil
}

func hasProxyAuth(h http.Header) bool {
	for name := range h {
		if isProxyAuth(name) {
			return true
		}
	}
	return false
}

// isProxyAuth knows the field in whatever case: HTTP/2 sends names in lower case.
func isProxyAuth(name string) bool { return strings.EqualFold(name, "Proxy-Authorization") }

// cleanURL returns u, or a copy of it whose blanks are escaped: the two fields that
// net/url passes on as they are may hold what a gateway in front of an HTTP/1.1
// server would make two requests of. The error is an *h1.RequestError.
func cleanURL(u *url.URL) (*url.URL, error) {
	blank := false
	for _, s := range [...]string{u.Opaque, u.RawQuery} {
		for i := range len(s) {
			if c := s[i]; c < ' ' || c == 0x7f {
				return nil, &h1.RequestError{Detail: "net/http: can't write control character in Request.URL"}
			} else if c == ' ' {
				blank = true
			}
		}
	}
	if !blank {
		return u, nil
	}
	c := *u
	c.Opaque = strings.ReplaceAll(c.Opaque, " ", "%20")
	c.RawQuery = strings.ReplaceAll(c.RawQuery, " ", "%20")
	return &c, nil
}

// failed ends the lease of a request without a response.
func (m *muxConn) failed(err error, l *pool.Lease, fate pool.Fate) *h1.Error {
	out := &h1.Error{Err: err, Sent: true}
	var e *h2.Error
	var bad *h2.RequestError
	switch {
	case err == h2.ErrRequestCanceled:
		out.Err = h1.ErrRequestCanceled
	case errors.As(err, new(*h1.RequestError)):
		out.Sent = false
	case errors.As(err, &bad):
		out.Err, out.Sent = &h1.RequestError{Detail: bad.Detail}, false
	case errors.As(err, &e):
		out.Err, out.Network, out.Sent = e.Err, e.Lost || e.Unprocessed || e.Late, !e.Unprocessed
		if e.Lost || e.Late { // after a PROTOCOL_ERROR net/http takes no further request on a connection
			fate.Keep, fate.Reason = false, pool.ReasonError
		}
		if errors.Is(e.Err, h2.ErrHeaderTimeout) {
			out.Err = &h1.HeaderTimeoutError{After: m.headerTimeout}
		}
	}
	if !m.h2.Live() {
		m.Gone(m.h2.Err())
	}
	fate.Unanswered = !errors.As(err, new(*h2.StreamError))
	l.Release(m.ep.t.now(), fate)
	return out
}

// heldBody keeps a request body open that was never read, as long as no response
// has come: another attempt may send it. It sees to it that the body is as long as
// it says.
type heldBody struct {
	b      *h1.RequestBody
	length int64 // -1 when it is not known
	read   int64

	mu    sync.Mutex // guards what follows
	asked bool       // to be closed
	heard bool       // a response has come
}

func (h *heldBody) Read(p []byte) (int, error) {
	n, err := h.b.Read(p)
	h.read += int64(n)
	if h.length >= 0 && (h.read > h.length || err == io.EOF && h.read < h.length) {
		return 0, &h1.BodyLengthError{Want: h.length, Got: h.read}
	}
	return n, err
}

func (h *heldBody) Close() error {
	h.mu.Lock()
	h.asked = true
	keep := !h.heard && h.b.Untouched()
	h.mu.Unlock()
	if keep {
		return nil
	}
	return h.b.Close()
}

// answered lets the body be closed. h may be nil.
func (h *heldBody) answered() {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.heard = true
	asked := h.asked
	h.mu.Unlock()
	if asked {
		h.b.Close()
	}
}

// muxBody is a response body. Its end is the end of the lease.
type muxBody struct {
	rc   io.ReadCloser
	from *http.Response // net/http's, which gets the trailers
	to   *http.Response // the caller's
	m    *muxConn
	fate pool.Fate
	req  *http.Request

	mu      sync.Mutex  // guards what follows
	lease   *pool.Lease // nil when it has been given back
	reading bool        // the lease has been told so
}

func (b *muxBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	began := b.lease != nil && !b.reading
	if began {
		b.reading = true
		b.lease.BeginRead()
	}
	b.mu.Unlock()
	n, err := b.rc.Read(p)
	b.mu.Lock()
	if b.lease != nil {
		if began {
			b.reading = false
			b.lease.EndRead()
		}
		if n > 0 {
			b.lease.Touch(b.m.ep.t.now())
		}
	}
	b.mu.Unlock()
	if err != nil {
		if err == io.EOF {
			b.to.Trailer = b.from.Trailer
		} else {
			err = b.failed(err)
		}
		b.end()
	}
	return n, err
}

// failed makes the caller's error.
func (b *muxBody) failed(err error) error {
	err = b.m.h2.BodyError(b.req.Context(), err)
	var (
		reset  *h2.StreamError
		broken *h2.ConnError
	)
	switch {
	case err == h2.ErrRequestCanceled:
		return h1.ErrRequestCanceled
	case errors.As(err, &reset):
		return &StreamError{Endpoint: b.m.ep.name, ErrorCode: reset.Code, Err: reset, sent: true}
	case errors.As(err, &broken):
		return &ProtocolError{Endpoint: b.m.ep.name, Err: broken}
	}
	h1.AwaitClientTimeout(b.req, err)
	return err
}

func (b *muxBody) Close() error {
	err := b.rc.Close()
	b.end()
	return err
}

func (b *muxBody) end() {
	b.mu.Lock()
	l := b.lease
	b.lease = nil
	if l != nil && b.reading {
		l.EndRead()
	}
	b.mu.Unlock()
	if l != nil {
		l.Release(b.m.ep.t.now(), b.fate)
	}
}
