package berth

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/dial"
)

// Trace is told what connections do. A nil function costs nothing. Functions are
// called on the goroutine at work, with no lock held, several at a time; they must
// not block. What one request sees is net/http/httptrace's affair, which is served
// as well.
type Trace struct {
	Dialed  func(DialInfo)  // a dial has ended
	Closed  func(CloseInfo) // a connection is closed
	Retried func(RetryInfo) // a request is sent again on another connection
}

// ConnInfo tells connections apart.
type ConnInfo struct {
	Name   string // the host that was dialled
	Local  string // address and port
	Remote string
}

// DialInfo describes a dial. Err is nil when it succeeded.
type DialInfo struct {
	Endpoint string
	Conn     ConnInfo
	Duration time.Duration // name, connection and TLS
	Err      error
}

// CloseInfo describes the end of a connection.
type CloseInfo struct {
	Endpoint string
	Conn     ConnInfo
	Reason   string // as in Stats.Closes
	ByPeer   bool   // the server had closed first
}

// RetryInfo describes an attempt that is made again.
type RetryInfo struct {
	Endpoint string
	Err      error // of the attempt before
	Sent     bool  // something of it may have left
}

// hostPort is what httptrace's GetConn is told.
func (ep *endpoint) hostPort() string { return net.JoinHostPort(ep.key.host, ep.key.port) }

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
