package berth

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/pool"
)

// conn ties a connection of the engine to its place in the pool: it is the pool's
// Conn and the engine's Owner.
type conn struct {
	h1    h1.Conn
	ep    *endpoint
	dest  *dial.Dest           // what it is counted for; nil when that is not known
	lease *pool.Lease          // of the exchange that runs; nil between exchanges
	told  atomic.Pointer[told] // nil until somebody asks: most connections have none
}

// told is what a connection has for Config.Trace.
type told struct {
	opened int64                        // by the transport's clock, and like no other's
	info   atomic.Pointer[ConnInfo]     // nil until a request is told of it, which each then is
	req    atomic.Pointer[http.Request] // of the exchange that runs, if Trace.Leak is to be told of it
}

// ---- for the pool ----

// Reserve looks whether the server has closed the idle connection.
func (c *conn) Reserve(idle time.Duration) pool.Verdict {
	if c.h1.Usable(idle, livenessAfter) {
		return pool.Ready
	}
	c.logUnsolicited()
	return pool.Dead
}

// Probe looks whether the server has closed the idle connection.
func (c *conn) Probe() bool {
	if c.h1.Probe(sweepPeriod) {
		return true
	}
	c.logUnsolicited()
	return false
}

// Close closes the connection, unless it was handed over to the caller.
func (c *conn) Close(why pool.Reason) (peerFirst bool) {
	how := dial.EndedByUs
	if why != pool.ReasonUpgrade {
		switch {
		case c.Lingers(why):
			c.h1.AwaitPeer(serverFirstWait)
		case c.resets(why):
			how = dial.EndedByRST
		}
		peerFirst = c.h1.Close()
	}
	c.closed(why, how, peerFirst, false)
	return peerFirst
}

// serverFirstWait is how long a server may take to close a connection that it was asked
// to close.
const serverFirstWait = time.Second

// Lingers says that the server is given time to close the connection first: its exchange
// ended well, and one side had announced that it was the last.
func (c *conn) Lingers(why pool.Reason) bool {
	return why == pool.ReasonClose && c.ep.now.Load().policy.Close == CloseServerFirst
}

// Place is the address and port at the other end, where Berth has chosen it out of
// several.
func (c *conn) Place() string {
	host := c.ep.key.host
	if c.ep.proxy != nil {
		host = c.ep.proxy.Hostname()
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return c.dest.Name()
}

// resets has the connection be closed by RST, if the policy wants it and nothing can be
// lost by it, and says so.
func (c *conn) resets(why pool.Reason) bool {
	switch c.ep.now.Load().policy.Close {
	case CloseReset:
	case CloseAuto:
		if !c.dest.Scarce() {
			return false
		}
	default:
		return false
	}
	switch why {
	case pool.ReasonIdle, pool.ReasonLifetime, pool.ReasonRequests, pool.ReasonSurplus, pool.ReasonLimit, pool.ReasonEvict,
		pool.ReasonShutdown, pool.ReasonReconnect, pool.ReasonAddress, pool.ReasonStolen, pool.ReasonClose:
	default:
		return false // something was under way, or the server has closed it
	}
	nc := c.h1.Socket()
	for {
		switch v := nc.(type) {
		case interface{ SetLinger(int) error }:
			return v.SetLinger(0) == nil
		case interface{ NetConn() net.Conn }:
			nc = v.NetConn()
		default:
			return false
		}
	}
}

// closed tells of the connection's end.
func (c *conn) closed(why pool.Reason, how dial.Ending, peerFirst, http2 bool) {
	if peerFirst && how == dial.EndedByUs {
		how = dial.EndedByPeer
	}
	c.dest.Closed(how)
	if tr := c.ep.now.Load().config.Trace; tr != nil && tr.Closed != nil {
		tr.Closed(CloseInfo{Endpoint: c.ep.name, Server: c.ep.key.server(), Conn: c.info(), Reason: why.String(), ByPeer: peerFirst,
			Age: time.Duration(max(c.ep.t.now()-c.tell().opened, 0)), HTTP2: http2})
	}
}

// logUnsolicited tells of what a server sent on an idle connection, as net/http
// does. 408 Request Timeout is how some say goodbye.
func (c *conn) logUnsolicited() {
	junk := c.h1.Unsolicited()
	log := c.ep.now.Load().config.Logger
	if len(junk) == 0 || log == nil || strings.HasPrefix(junk, "HTTP/1.1 408") || strings.HasPrefix(junk, "HTTP/1.0 408") {
		return
	}
	log.Warn("berth: unsolicited response on an idle connection", "endpoint", c.ep.name, "strings", len(junk))
}

// tell returns what the connection has for Config.Trace, from now on if it had nothing.
func (c *conn) tell() *told {
	if t := c.told.Load(); t != nil {
		return t
	}
	t := &told{opened: c.ep.t.nextConn()}
	if !c.told.CompareAndSwap(nil, t) {
		return c.told.Load()
	}
	return t
}

// info tells the connection apart.
func (c *conn) info() ConnInfo {
	t := c.tell()
	if i := t.info.Load(); i != nil {
		return *i
	}
	nc := c.h1.NetConn()
	return ConnInfo{ID: uint64(t.opened), Name: c.ep.key.host, Local: addrString(nc.LocalAddr()), Remote: addrString(nc.RemoteAddr())}
}

// keptInfo is info, remembered: each request is told of it.
func (c *conn) keptInfo() ConnInfo {
	t := c.tell()
	i := t.info.Load()
	if i == nil {
		i = new(ConnInfo)
		*i = c.info()
		t.info.Store(i)
	}
	return *i
}

// ---- for the engine ----

func (c *conn) SetPhase(p pool.Phase) { c.lease.SetPhase(p) }

func (c *conn) Touch() { c.lease.Touch(c.ep.t.now()) }

func (c *conn) Lend(b pool.Body, room *pool.Known) {
	c.lease.Touch(c.ep.t.now()) // its head has come
	c.lease.Lend(b, room)
	c.ep.watchBodies()
}

func (c *conn) Context() context.Context {
	if t := c.told.Load(); t != nil {
		if req := t.req.Load(); req != nil {
			return req.Context()
		}
	}
	return nil
}

func (c *conn) BeginRead() { c.lease.BeginRead() }
func (c *conn) EndRead()   { c.lease.EndRead() }

func (c *conn) BodyError(e *h1.ProtocolError) error {
	return &ProtocolError{Endpoint: c.ep.name, Err: e}
}

// Done gives the connection back.
func (c *conn) Done(f pool.Fate) {
	l := c.lease
	c.lease = nil
	if t := c.told.Load(); t != nil && t.req.Load() != nil {
		t.req.Store(nil)
	}
	l.Release(c.ep.t.now(), f)
}
