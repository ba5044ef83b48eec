package dial

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync"
	"time"
)

// TLSTimeoutError: the peer did not finish the TLS handshake in time.
type TLSTimeoutError struct{ After time.Duration }

func (e *TLSTimeoutError) Error() string {
	return fmt.Sprintf("TLS handshake timeout after %v", e.After)
}

// Timeout reports true.
func (e *TLSTimeoutError) Timeout() bool { return true }

// Temporary reports true, as errors of timeouts do.
func (e *TLSTimeoutError) Temporary() bool { return true }

// Handshake runs TLS as a client over conn and returns the TLS connection. It
// closes conn when it fails. timeout ≤ 0 leaves only ctx to end it. httptrace
// hooks in ctx are called.
func Handshake(ctx context.Context, conn net.Conn, cfg *tls.Config, timeout time.Duration) (*tls.Conn, error) {
	tc := tls.Client(conn, cfg)
	if err := Complete(ctx, tc, timeout); err != nil {
		return nil, err
	}
	return tc, nil
}

// Complete is Handshake for a TLS connection that somebody else has made; it may
// have been completed already.
func Complete(ctx context.Context, tc *tls.Conn, timeout time.Duration) error {
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	hctx := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		hctx, cancel = context.WithTimeoutCause(ctx, timeout, &TLSTimeoutError{After: timeout})
		defer cancel()
	}
	err := tc.HandshakeContext(hctx)
	if err != nil && hctx.Err() != nil {
		err = context.Cause(hctx)
	}
	if trace != nil && trace.TLSHandshakeDone != nil {
		var state tls.ConnectionState
		if err == nil {
			state = tc.ConnectionState()
		}
		trace.TLSHandshakeDone(state, err)
	}
	if err != nil {
		if raw := tc.NetConn(); raw != nil {
			raw.Close()
		}
	}
	return err
}

// SessionCache remembers the TLS sessions of one endpoint. crypto/tls keys a cache
// by server name alone: a shared one would let sessions cross ports, client
// certificates and groups. It takes memory from the first session on.
type SessionCache struct {
	mu  sync.Mutex
	lru tls.ClientSessionCache
}

// sessionsKept is enough for an endpoint's connections to resume one after the
// other: a TLS 1.3 server sends one or two tickets a connection, under one key.
const sessionsKept = 4

// Get returns the session for key.
func (s *SessionCache) Get(key string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		return nil, false
	}
	return s.lru.Get(key)
}

// Put remembers the session for key; nil forgets it.
func (s *SessionCache) Put(key string, cs *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		if cs == nil {
			return
		}
		s.lru = tls.NewLRUClientSessionCache(sessionsKept)
	}
	s.lru.Put(key, cs)
}
