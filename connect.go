package berth

import (
	"context"
	"crypto/tls"
	"errors"
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
	start := ep.t.now()
	c, err := ep.connect(ctx)
	var (
		pc       pool.Conn = c
		capacity           = 1
	)
	if err == nil && c.speaksHTTP2() {
		pc, err = ep.openHTTP2(ctx, c, slot)
		capacity = pool.Unsettled
	}
	if tr := ep.t.config.Trace; tr != nil && tr.Dialed != nil {
		i := DialInfo{Endpoint: ep.name, Why: slot.Why().String(), Duration: time.Duration(ep.t.now() - start), Err: err}
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
	return pc, capacity, nil
}

// connect opens a connection up to where the protocol is known: a socket, the way
// through a proxy, TLS.
func (ep *endpoint) connect(ctx context.Context) (*conn, error) {
	if ep.tls != nil && ep.proxy == nil && ep.t.config.DialTLSContext != nil {
		return ep.dialTLS(ctx)
	}
	nc, err := ep.socket(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{ep: ep}
	own := ep.t.config.DialContext == nil
	var proxyState *tls.ConnectionState
	if ep.proxy != nil && ep.proxy.Scheme == "https" {
		if nc, proxyState, err = ep.secureProxy(ctx, nc); err != nil {
			return nil, &ProxyError{Proxy: proxyName(ep.proxy.URL), Err: proxyConnect(err)}
		}
	}
	if ep.proxy != nil && !ep.absolute {
		if err := ep.throughProxy(ctx, nc); err != nil {
			nc.Close()
			return nil, err
		}
	}
	c.h1.Init(nc, own, c)
	if ep.tls == nil {
		c.h1.SetState(proxyState)
		return c, nil
	}
	tc, err := dial.Handshake(ctx, c.h1.Raw(), ep.tls, ep.tlsTimeout())
	if err != nil {
		return nil, err
	}
	state := tc.ConnectionState()
	c.h1.UseTLS(tc, &state)
	return c, nil
}

func (ep *endpoint) tlsTimeout() time.Duration {
	return or(ep.policy.TLSTimeout, defaultTLSTimeout, 0)
}

// dialTLS has the caller's function open a connection that has TLS already. The
// handshake of a *tls.Conn is completed, since only that tells the protocol.
func (ep *endpoint) dialTLS(ctx context.Context) (*conn, error) {
	dctx, cancel, timeout := ep.dialContext(ctx)
	defer cancel()
	nc, err := ep.t.config.DialTLSContext(dctx, "tcp", net.JoinHostPort(ep.key.host, ep.key.port))
	if err != nil {
		return nil, dialCause(ctx, dctx, err, timeout)
	}
	if nc == nil {
		return nil, errNoConn
	}
	c := &conn{ep: ep}
	c.h1.Init(nc, false, c)
	switch tc := nc.(type) {
	case *tls.Conn:
		if err := dial.Complete(ctx, tc, ep.tlsTimeout()); err != nil {
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

var errNoConn = errors.New("dial function returned neither a connection nor an error")

// dialContext bounds a dial by the policy's timeout.
func (ep *endpoint) dialContext(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
	timeout := or(ep.policy.DialTimeout, defaultDialTimeout, 0)
	if timeout <= 0 {
		return ctx, func() {}, 0
	}
	dctx, cancel := context.WithTimeoutCause(ctx, timeout, &dialTimeout{timeout})
	return dctx, cancel, timeout
}

// dialCause says how long a dial took that was too slow, which the resolver's and
// the dialler's own errors do not.
func dialCause(ctx, dctx context.Context, err error, timeout time.Duration) error {
	if timeout > 0 && ctx.Err() == nil && dctx.Err() != nil {
		return context.Cause(dctx)
	}
	return err
}

// dialTimeout: resolving and connecting took longer than DialTimeout.
type dialTimeout struct{ after time.Duration }

func (e *dialTimeout) Error() string   { return "dial timeout after " + e.after.String() }
func (e *dialTimeout) Timeout() bool   { return true }
func (e *dialTimeout) Temporary() bool { return true }

// socket connects to the origin, or to the proxy that is in front of it.
func (ep *endpoint) socket(ctx context.Context) (net.Conn, error) {
	dctx, cancel, timeout := ep.dialContext(ctx)
	defer cancel()
	d := &ep.t.dialer
	switch {
	case ep.key.scheme == "unix":
		nc, err := d.ConnectUnix(dctx, ep.key.host)
		if err != nil {
			return nil, dialCause(ctx, dctx, err, timeout)
		}
		return nc, nil
	case ep.proxy == nil:
		nc, err := d.Connect(dctx, ep.key.host, ep.key.port, &ep.history)
		if err != nil {
			return nil, dialCause(ctx, dctx, err, timeout)
		}
		return nc, nil
	}
	host, port := ep.proxy.Hostname(), proxyPort(ep.proxy.URL)
	var (
		nc  net.Conn
		err error
	)
	if f := ep.t.config.DialTLSContext; f != nil && ep.proxy.Scheme == "https" {
		if nc, err = f(dctx, "tcp", net.JoinHostPort(host, port)); err == nil && nc == nil {
			err = errNoConn
		}
	} else {
		nc, err = d.Connect(dctx, host, port, &ep.history)
	}
	if err != nil {
		return nil, &ProxyError{Proxy: proxyName(ep.proxy.URL), Err: proxyConnect(dialCause(ctx, dctx, err, timeout))}
	}
	return nc, nil
}

// secureProxy has TLS spoken with an https proxy, unless the caller's function has
// done so already. It closes nc when it fails.
func (ep *endpoint) secureProxy(ctx context.Context, nc net.Conn) (net.Conn, *tls.ConnectionState, error) {
	var err error
	tc, is := nc.(*tls.Conn)
	switch {
	case ep.t.config.DialTLSContext == nil:
		tc, err = dial.Handshake(ctx, nc, ep.proxy.tls, ep.tlsTimeout())
	case is:
		err = dial.Complete(ctx, tc, ep.tlsTimeout())
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
func (c *conn) speaksHTTP2() bool {
	if s := c.h1.State(); s != nil && c.ep.tls != nil {
		return s.NegotiatedProtocol == "h2" && c.ep.protocols.http2
	}
	return c.ep.tls == nil && c.ep.protocols.h2c
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
func (ep *endpoint) openHTTP2(ctx context.Context, c *conn, slot *pool.Slot) (*muxConn, error) {
	m := &muxConn{conn: c, slot: slot, opened: ep.t.now()}
	hc, err := ep.t.http2.Open(ctx, c.h1.NetConn(), c.h1.HangUp, m)
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
		cfg := ep.t.pool
		cfg.Expect = n
		ep.pool.SetConfig(cfg)
		told = n
	}
}

// unknownStreams is what the first connection to a server is expected to carry that
// may speak HTTP/2: a burst waits for it, and no more than this many requests.
const unknownStreams = 1000

var _ h2.Owner = (*muxConn)(nil)
