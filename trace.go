package berth

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/pool"
)

// Trace is told what connections do. A nil function costs nothing. Functions are
// called on the goroutine at work, several at a time; they must not block, and must
// not call [Transport.Apply] or [Endpoint.SetPolicy], which may be at work. Nothing
// else is locked meanwhile. What one request sees is net/http/httptrace's affair, which is served
// as well.
type Trace struct {
	Resolved func(ResolveInfo) // a resolver has been asked for a name, for a dial or while connections to it are open
	Dialed   func(DialInfo)    // a dial has ended
	Acquired func(AcquireInfo) // a request has got its connection
	GaveUp   func(GiveUpInfo)  // a request gets no connection
	Closed   func(CloseInfo)   // a connection is closed
	Retried  func(RetryInfo)   // a request is sent again on another connection
	Leak     func(LeakInfo)    // a response body looks forgotten, or was
}

// ConnInfo tells connections apart.
type ConnInfo struct {
	ID     uint64 // no other connection of the transport has it
	Name   string // the host that was dialled
	Local  string // address and port
	Remote string
}

// DialInfo describes a dial. Err is nil when it succeeded.
type DialInfo struct {
	Endpoint string
	Server   Server
	Conn     ConnInfo
	Why      string        // "demand": a request had to wait; "trial": the same, after dials that failed; "successor": of a connection near the end of its lifetime; "ready": for MinIdle or Warm
	HTTP2    bool          // what the connection speaks
	Start    time.Time     // when it began
	Duration time.Duration // name, connection, proxy and TLS
	Err      error

	// The parts of it that took place, a part that failed included. Of a dial that waited for
	// a port in between, those of the last attempt.
	Name    DialPhase // the resolver was asked, or somebody else's question waited for
	Connect DialPhase // addresses were raced, or a dial function of the configuration's called
	Proxy   DialPhase // TLS with the proxy, CONNECT, SOCKS
	TLS     DialPhase // with the origin
}

// DialPhase is when a part of a dial took place; zero when it did not.
type DialPhase struct {
	Start    time.Time
	Duration time.Duration
	Failed   bool
}

func (i *DialInfo) timed(t *dial.Times) {
	if t != nil {
		i.Name, i.Connect = DialPhase(t[dial.PartName]), DialPhase(t[dial.PartConnect])
		i.Proxy, i.TLS = DialPhase(t[dial.PartProxy]), DialPhase(t[dial.PartTLS])
	}
}

// ResolveInfo describes one question to a resolver. Answers that are remembered are none.
type ResolveInfo struct {
	Name     string // the host's, or the proxy's
	Server   Server // of the endpoint that asked: others may use the answer
	Addrs    int
	TTL      time.Duration // as it was answered; 0 when it is not known
	Duration time.Duration
	Err      error
}

// resolved has tr be told of what resolvers say.
func (ep *endpoint) resolved(tr *Trace) func(dial.Asked) {
	return func(a dial.Asked) {
		tr.Resolved(ResolveInfo{Name: a.Host, Server: ep.key.server(), Addrs: a.Addrs, TTL: max(a.TTL, 0), Duration: a.Took, Err: a.Err})
	}
}

// AcquireInfo describes how a request came by its connection.
type AcquireInfo struct {
	Context  context.Context // the request's
	Endpoint string
	Server   Server
	Conn     ConnInfo
	Queued   bool          // it had to wait
	Waited   time.Duration // in the queue, a dial included
	Chosen   string        // "idle": it was free; "shared": it had room beside other requests; "released": another request gave it back; "dialed": it was opened meanwhile
	Requests uint64        // that it carried before
	Idle     time.Duration // how long it had been unused
}

// GiveUpInfo describes a request that gets no connection: its wait has ended without one, or
// it was turned away.
type GiveUpInfo struct {
	Context  context.Context // the request's
	Endpoint string
	Server   Server
	Queued   bool          // it has waited; else it was turned away at once: queue full, not to queue, dials held back after failures, transport closed
	Waited   time.Duration // 0 unless Queued
	Err      error         // the request's
}

// gaveUp describes a request that asked at start and was told err, which the caller is told
// as final.
func (ep *endpoint) gaveUp(ctx context.Context, start int64, err, final error) GiveUpInfo {
	i := GiveUpInfo{Context: ctx, Endpoint: ep.name, Server: ep.key.server(), Err: final}
	failed, dialed := errors.AsType[*pool.DialError](err)
	switch {
	case err == pool.ErrQueueFull, err == pool.ErrWouldQueue, err == pool.ErrClosed, dialed && failed.Backoff > 0:
	default:
		i.Queued, i.Waited = true, time.Duration(ep.t.now()-start)
	}
	return i
}

// CloseInfo describes the end of a connection.
type CloseInfo struct {
	Endpoint string
	Server   Server
	Conn     ConnInfo
	Reason   string        // as in Stats.Closes
	ByPeer   bool          // the server had closed first
	Age      time.Duration // since it was open; or, if it was before Config.Trace was set, since that was first told of it
	HTTP2    bool          // what it spoke
}

// RetryInfo describes an attempt that is made again.
type RetryInfo struct {
	Endpoint string
	Err      error // of the attempt before
	Sent     bool  // something of it may have left
}

// acquired describes a lease that was granted since start.
func (ep *endpoint) acquired(ctx context.Context, l *pool.Lease, start int64) AcquireInfo {
	i := AcquireInfo{Context: ctx, Endpoint: ep.name, Server: ep.key.server(), Conn: tied(l).keptInfo(), Queued: l.Waited(),
		Waited: time.Duration(ep.t.now() - start), Requests: l.Before(), Idle: l.Idle()}
	switch {
	case l.Waited() && i.Requests == 0:
		i.Chosen = "dialed"
	case l.Shared():
		i.Chosen = "shared"
	case l.Waited():
		i.Chosen = "released"
	default:
		i.Chosen = "idle"
	}
	return i
}

// hostPort is what httptrace's GetConn is told.
func (ep *endpoint) hostPort(req *http.Request) string {
	switch {
	case ep.absolute: // the key has the proxy only
		if k, err := makeKey(req.URL.Scheme, req.URL.Host); err == nil {
			return net.JoinHostPort(k.host, k.port)
		}
		return req.URL.Host
	case ep.key.scheme == "unix":
		return ep.key.host
	}
	return net.JoinHostPort(ep.key.host, ep.key.port)
}

// traceGate lets the hooks of a request's httptrace through to its dial, as long
// as the request waits for it. A dial may outlive its request; hooks may not.
type traceGate struct {
	trace  *httptrace.ClientTrace
	closed atomic.Bool
}

type gateKey struct{}

// withGate puts a gate for trace into the context that a dial inherits.
func withGate(ctx context.Context, trace *httptrace.ClientTrace) (context.Context, *traceGate) {
	g := &traceGate{trace: trace}
	return context.WithValue(ctx, gateKey{}, g), g
}

func (g *traceGate) close() {
	if g != nil {
		g.closed.Store(true)
	}
}

func (g *traceGate) open() bool { return !g.closed.Load() }

// gatedTrace replaces the request's trace in a dial's context by one behind the
// gate. Without a gate there is no trace.
func gatedTrace(ctx context.Context) context.Context {
	g, ok := ctx.Value(gateKey{}).(*traceGate)
	if !ok {
		return ctx
	}
	return dial.ReplaceTrace(ctx, g.gated())
}

// gated returns the hooks of a dial, behind the gate.
func (g *traceGate) gated() *httptrace.ClientTrace {
	t := g.trace
	out := &httptrace.ClientTrace{}
	if f := t.DNSStart; f != nil {
		out.DNSStart = func(i httptrace.DNSStartInfo) {
			if g.open() {
				f(i)
			}
		}
	}
	if f := t.DNSDone; f != nil {
		out.DNSDone = func(i httptrace.DNSDoneInfo) {
			if g.open() {
				f(i)
			}
		}
	}
	if f := t.ConnectStart; f != nil {
		out.ConnectStart = func(network, addr string) {
			if g.open() {
				f(network, addr)
			}
		}
	}
	if f := t.ConnectDone; f != nil {
		out.ConnectDone = func(network, addr string, err error) {
			if g.open() {
				f(network, addr, err)
			}
		}
	}
	if f := t.TLSHandshakeStart; f != nil {
		out.TLSHandshakeStart = func() {
			if g.open() {
				f()
			}
		}
	}
	if f := t.TLSHandshakeDone; f != nil {
		out.TLSHandshakeDone = func(s tls.ConnectionState, err error) {
			if g.open() {
				f(s, err)
			}
		}
	}
	return out
}
