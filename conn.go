package berth

import (
	"strings"
	"time"

	"github.com/berth-go/berth/internal/h1"
	"github.com/berth-go/berth/internal/pool"
)

// conn ties a connection of the engine to its place in the pool: it is the pool's
// Conn and the engine's Owner.
type conn struct {
	h1    h1.Conn
	ep    *endpoint
	lease *pool.Lease // of the exchange that runs; nil between exchanges
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
	if why != pool.ReasonUpgrade {
		peerFirst = c.h1.Close()
	}
	c.closed(why, peerFirst)
	return peerFirst
}

// closed tells of the connection's end.
func (c *conn) closed(why pool.Reason, peerFirst bool) {
	if tr := c.ep.t.config.Trace; tr != nil && tr.Closed != nil {
		tr.Closed(CloseInfo{Endpoint: c.ep.name, Conn: c.info(), Reason: why.String(), ByPeer: peerFirst})
	}
}

// logUnsolicited tells of what a server sent on an idle connection, as net/http
// does. 408 Request Timeout is how some say goodbye.
func (c *conn) logUnsolicited() {
	junk := c.h1.Unsolicited()
	log := c.ep.t.config.Logger
	if len(junk) == 0 || log == nil || strings.HasPrefix(junk, "HTTP/1.1 408") || strings.HasPrefix(junk, "HTTP/1.0 408") {
		return
	}
	log.Warn("berth: unsolicited response on an idle connection", "endpoint", c.ep.name, "strings", len(junk))
}

// info tells the connection apart. The addresses are asked for when somebody wants
// them: a caller's own connection may have none.
func (c *conn) info() ConnInfo {
	nc := c.h1.NetConn()
	return ConnInfo{Name: c.ep.key.host, Local: addrString(nc.LocalAddr()), Remote: addrString(nc.RemoteAddr())}
}

// ---- for the engine ----

func (c *conn) SetPhase(p pool.Phase) { c.lease.SetPhase(p) }

func (c *conn) Touch() { c.lease.Touch(c.ep.t.now()) }

func (c *conn) BodyError(e *h1.ProtocolError) error {
	return &ProtocolError{Endpoint: c.ep.name, Err: e}
}

// Done gives the connection back.
func (c *conn) Done(f pool.Fate) {
	l := c.lease
	c.lease = nil
	l.Release(c.ep.t.now(), f)
}
