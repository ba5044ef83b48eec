package berth

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h2"
	"github.com/berth-go/berth/internal/pool"
)

// Dial opens a connection for the pool.
func (ep *endpoint) Dial(ctx context.Context, slot *pool.Slot) (pool.Conn, int, error) {
	ctx = gatedTrace(ctx)
	if g := groupOf(ctx); g.isHasty() { // requests that the caller's functions make are others
		ctx = context.WithValue(ctx, groupKey{}, newGroup(g.name))
	}
	start := ep.t.now()
	var times *dial.Times
	if tr := ep.now.Load().config.Trace; tr != nil && tr.Dialed != nil {
		times = new(dial.Times)
	}
	var (
		f   *inForce
		c   *conn
		err error
	)
	var (
		wait portWait
		aim  dial.Aim
	)
	defer aim.Release()
	defer func() { ep.t.portless.CompareAndDelete(ep, &wait) }()
	for again := true; again; again = err != nil && ep.awaitPort(ctx, slot, err, f, &wait) {
		f = ep.now.Load() // while it waited for a port there may have come more
		aim.Release()
		if times != nil {
			*times = dial.Times{}
		}
		c, err = ep.connect(ctx, f, &aim, times)
	}
	if err == nil && f.config.Trace != nil {
		c.tell() // when it was opened
	}
	var (
		pc       pool.Conn = c
		capacity           = 1
	)
	if err == nil && c.speaksHTTP2(f) {
		if pc, err = ep.openHTTP2(ctx, f, c, slot); err != nil {
			c.dest.Closed(dial.EndedByUs)
		}
		capacity = pool.Unsettled
	}
	if tr := f.config.Trace; tr != nil && tr.Dialed != nil {
		i := DialInfo{Endpoint: ep.name, Server: ep.key.server(), Why: slot.Why().String(), Start: ep.t.base.Add(time.Duration(start)),
			Duration: time.Duration(ep.t.now() - start), Err: err}
		i.timed(times)
		if err == nil {
			i.Conn = c.info()
			i.HTTP2 = capacity != 1
		}
		tr.Dialed(i)
	}
	if err != nil {
		return nil, 0, err
	}
	if capacity == 1 {
		ep.expect(1)
	}
	ep.watchName(f, c.dest)
	return pc, capacity, nil
}

// connect opens a connection up to where the protocol is known: a socket, the way
// through a proxy, TLS.
func (ep *endpoint) connect(ctx context.Context, f *inForce, aim *dial.Aim, times *dial.Times) (c *conn, err error) {
	if f.client != nil && ep.proxy == nil && f.config.DialTLSContext != nil && f.socket == "" {
		return ep.dialTLS(ctx, f, times)
	}
	nc, dest, err := ep.socket(ctx, f, aim, times)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			dest.Closed(dial.EndedByUs)
		}
	}()
	c = &conn{ep: ep, dest: dest}
	own := f.config.DialContext == nil
	var proxyState *tls.ConnectionState
	if ep.proxy != nil && ep.proxy.Scheme == "https" {
		times.Begin(dial.PartProxy)
		nc, proxyState, err = ep.secureProxy(ctx, f, nc)
		if times.End(dial.PartProxy, err); err != nil {
			return nil, &ProxyError{Proxy: proxyName(ep.proxy), Err: proxyConnect(err)}
		}
	}
	if ep.proxy != nil && !ep.absolute {
		times.Begin(dial.PartProxy)
		err := ep.throughProxy(ctx, f, nc)
		if times.End(dial.PartProxy, err); err != nil {
			nc.Close()
			return nil, err
		}
	}
	c.h1.Init(nc, own, c)
	if f.client == nil {
		c.h1.SetState(proxyState)
		return c, nil
	}
	times.Begin(dial.PartTLS)
	tc, err := dial.Handshake(ctx, c.h1.Raw(), f.client, f.tlsTimeout())
	if times.End(dial.PartTLS, err); err != nil {
		return nil, err
	}
	state := tc.ConnectionState()
	c.h1.UseTLS(tc, &state)
	return c, nil
}

func (f *inForce) tlsTimeout() time.Duration {
	return or(f.policy.TLSTimeout, defaultTLSTimeout, 0)
}

// dialTLS has the caller's function open a connection that has TLS already. The
// handshake of a *tls.Conn is completed, since only that tells the protocol.
func (ep *endpoint) dialTLS(ctx context.Context, f *inForce, times *dial.Times) (*conn, error) {
	dctx, cancel, timeout := f.dialContext(ctx)
	defer cancel()
	t := ep.target(f)
	t.Times = times
	nc, err := f.dialer.By(dctx, f.config.DialTLSContext, t)
	if err != nil {
		return nil, dialCause(ctx, dctx, err, timeout)
	}
	c := &conn{ep: ep}
	c.h1.Init(nc, false, c)
	switch tc := nc.(type) {
	case *tls.Conn:
		times.Begin(dial.PartTLS)
		err := dial.Complete(ctx, tc, f.tlsTimeout())
		if times.End(dial.PartTLS, err); err != nil {
			return nil, err
		}
		s := tc.ConnectionState()
		c.h1.SetState(&s)
	case interface{ ConnectionState() tls.ConnectionState }:
		s := tc.ConnectionState()
		c.h1.SetState(&s)
	}
	return c, nil
}

// dialContext bounds a dial by the policy's timeout.
func (f *inForce) dialContext(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
	timeout := or(f.policy.DialTimeout, defaultDialTimeout, 0)
	if timeout <= 0 {
		return ctx, func() {}, 0
	}
	dctx, cancel := context.WithTimeoutCause(ctx, timeout, &dialTimeout{timeout})
	return dctx, cancel, timeout
}

// dialCause says how long a dial took that was too slow, which the resolver's and
// the dialler's own errors do not.
func dialCause(ctx, dctx context.Context, err error, timeout time.Duration) error {
	if timeout > 0 && ctx.Err() == nil && dctx.Err() != nil && dial.Exhausted(err) == dial.None && !refused(err) {
		return context.Cause(dctx)
	}
	return err
}

// dialTimeout: resolving and connecting took longer than DialTimeout.
type dialTimeout struct{ after time.Duration }

func (e *dialTimeout) Error() string   { return "dial timeout after " + e.after.String() }
func (e *dialTimeout) Timeout() bool   { return true }
func (e *dialTimeout) Temporary() bool { return true }

// socket connects to the origin, or to the proxy that is in front of it. The destination
// is nil where no port was counted.
func (ep *endpoint) socket(ctx context.Context, f *inForce, aim *dial.Aim, times *dial.Times) (nc net.Conn, dest *dial.Dest, err error) {
	dctx, cancel, timeout := f.dialContext(ctx)
	defer cancel()
	d := f.dialer
	path := ""
	switch {
	case ep.key.scheme == "unix":
		path = ep.key.host
	case ep.proxy == nil:
		path = f.socket
	}
	secure := f.config.DialTLSContext
	t := ep.target(f)
	t.Times = times
	switch {
	case path != "":
		if err = ep.ask(f, AddrInfo{Socket: path}); err == nil {
			times.Begin(dial.PartConnect)
			nc, err = d.ConnectUnix(dctx, path)
			times.End(dial.PartConnect, err)
		}
	case ep.proxy != nil && ep.proxy.Scheme == "https" && secure != nil:
		nc, err = d.By(dctx, secure, t)
	default:
		t.Aim = aim
		nc, dest, err = d.Connect(dctx, t)
	}
	if err == nil {
		return nc, dest, nil
	}
	err = dialCause(ctx, dctx, err, timeout)
	if ep.proxy != nil && path == "" && !refused(err) {
		err = &ProxyError{Proxy: proxyName(ep.proxy), Err: proxyConnect(err)}
	}
	return nil, nil, err
}

// secureProxy has TLS spoken with an https proxy, unless the caller's function has
// done so already. It closes nc when it fails.
func (ep *endpoint) secureProxy(ctx context.Context, f *inForce, nc net.Conn) (net.Conn, *tls.ConnectionState, error) {
	var err error
	tc, is := nc.(*tls.Conn)
	switch {
	case f.config.DialTLSContext == nil:
		tc, err = dial.Handshake(ctx, nc, f.proxyTLS, f.tlsTimeout())
	case is:
		err = dial.Complete(ctx, tc, f.tlsTimeout())
	default:
		return nc, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	s := tc.ConnectionState()
	return tc, &s, nil
}

// proxyConnect wraps an error on the way to a proxy as net/http does.
func proxyConnect(err error) error { return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err} }

// speaksHTTP2 says which protocol a new connection is for.
func (c *conn) speaksHTTP2(f *inForce) bool {
	if s := c.h1.State(); s != nil && f.client != nil {
		return s.NegotiatedProtocol == "h2" && f.protocols.http2
	}
	return f.client == nil && f.protocols.h2c
}

// protocols are those that an endpoint's connections may speak.
type protocols struct{ http1, http2, h2c bool }

// protocolsFor decides by net/http's rules; nil allows HTTP/1 and HTTP/2 over TLS.
func protocolsFor(p *http.Protocols) protocols {
	if p == nil {
		return protocols{http1: true, http2: true}
	}
	return protocols{http1: p.HTTP1(), http2: p.HTTP2(), h2c: p.UnencryptedHTTP2() && !p.HTTP1()}
}

// http2Disabled says that the process was started with HTTP/2 switched off for
// clients, which operators do without a change of the program.
func http2Disabled() bool {
	for setting := range strings.SplitSeq(os.Getenv("GODEBUG"), ",") {
		if setting == "http2client=0" {
			return true
		}
	}
	return false
}

// alpn lists what TLS offers, the preferred first.
func (p protocols) alpn() []string {
	switch {
	case p.http2 && p.http1:
		return []string{"h2", "http/1.1"}
	case p.http2:
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

// openHTTP2 begins HTTP/2 on a connection.
func (ep *endpoint) openHTTP2(ctx context.Context, f *inForce, c *conn, slot *pool.Slot) (*muxConn, error) {
	m := &muxConn{conn: c, slot: slot, opened: ep.t.now(), headerTimeout: f.streams.HeaderTimeout}
	hc, err := f.http2.Open(ctx, c.h1.NetConn(), c.h1.HangUp, m)
	if err != nil {
		return nil, err
	}
	m.h2 = hc
	return m, nil
}

// expect has the pool reckon with so many requests at once on a connection that
// has not told yet how many it takes.
func (ep *endpoint) expect(n int) {
	if int(ep.expected.Swap(int32(n))) == n {
		return
	}
	for told := 0; told != n; n = int(ep.expected.Load()) { // another connection may say otherwise meanwhile
		ep.pool.SetExpect(n)
		told = n
	}
}

// unknownStreams is what the first connection to a server is expected to carry that
// may speak HTTP/2: a burst waits for it, and no more than this many requests.
const unknownStreams = 1000

var _ h2.Owner = (*muxConn)(nil)
