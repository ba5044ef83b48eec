// Package memnet is an in-memory network for tests that run inside a
// testing/synctest bubble (design §3; conventions, Tests, rung 3).
//
// Whoever waits here — a Read for bytes, a Write for room, a dial for a place in
// the backlog, an Accept for a dial — waits on a sync.Cond, which a bubble counts
// as durably blocked; nothing spins and nothing sleeps, so time inside a bubble
// stands still until every goroutine waits and then moves on exactly.
//
// Connections behave as TCP connections do, with four differences that make
// tests exact: bytes arrive at once; a Write after the peer's Close fails at once
// instead of after a round trip; a Close with unread bytes never turns into a
// reset (call Reset for that); after a reset every call says ECONNRESET, where a
// kernel says it once.
//
// The tests of the whole module and internal/origin's call it; programs do not.
package memnet

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	// defaultBuffer is what Network.Buffer's zero means, in bytes.
	defaultBuffer = 64 << 10

	// defaultBacklog is what Network.Backlog's zero means, in connections.
	defaultBacklog = 128

	// firstPort and lastPort bound the ephemeral ports. RFC 6335 §6 gives the
	// dynamic range 49152–65535; it is begun at Linux's 32768 to have more.
	firstPort = 32768
	lastPort  = 65535
)

// Network is a set of listeners and the connections dialled to them. The zero
// value is an empty network, ready for use. Set the exported fields before the
// first use; the methods are safe for concurrent use. A Network belongs to the
// bubble that uses it and must not be shared between bubbles.
type Network struct {
	// OnDial, if not nil, runs in every DialContext before the connection is made,
	// on the dialling goroutine and with no lock held. addr is host:port with the
	// host in lower case. It may return an error (the dial fails with it), sleep (the
	// dial is late), or wait for ctx to end (the dial hangs).
	OnDial func(ctx context.Context, addr string) error

	// Buffer is how many bytes each direction of a connection holds before Write
	// blocks. Zero means 64 KiB; negative means no bound, so that Write never blocks.
	Buffer int

	// Backlog is how many dialled connections a listener of Listen holds until
	// Accept takes them; the dials beyond it wait. Zero means 128; negative means
	// none, so that a dial waits for an Accept.
	Backlog int

	// mu guards what follows, and every listener's state. No stream's lock is
	// taken, no hook runs and no connection closes while it is held.
	mu        sync.Mutex
	listeners map[Addr]*listener
	ports     map[uint16]bool // ephemeral ports in use
	lastUsed  uint16          // the ephemeral port given out last
	stats     map[Addr]*Stats
	total     Stats
}

// DialContext connects to the listener at addr. Its signature is that of
// http.Transport.DialContext, and the connection it returns is a *Conn.
//
// network is "tcp", "tcp4" or "tcp6"; addr is host:port, the port a number.
// It blocks as long as OnDial does, and then while the listener's backlog is
// full, until ctx ends. Every error is a *net.OpError: it wraps
// syscall.ECONNREFUSED when nobody listens at addr, syscall.EADDRNOTAVAIL when the
// ephemeral ports are used up, the context's error when ctx ended, and what
// OnDial returned (an OnDial that returns a *net.OpError is passed on as it is).
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := dialAddr(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	n.countDial(to)
	c, err := n.dial(ctx, to)
	if err != nil {
		n.countFailed(to)
		if op, ok := err.(*net.OpError); ok {
			return nil, op
		}
		return nil, &net.OpError{Op: "dial", Net: network, Addr: to, Err: err}
	}
	return c, nil
}

// dial runs the hook between two looks at the context, then connects.
func (n *Network) dial(ctx context.Context, to Addr) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n.OnDial != nil {
		if err := n.OnDial(ctx, to.String()); err != nil {
			return nil, err
		}
	}
	return n.connect(ctx, to)
}

// connect waits for room in the backlog, makes the two ends and queues the
// listener's. The dial is counted as open in the same critical section, so that
// no observer sees it in two states or in none.
func (n *Network) connect(ctx context.Context, to Addr) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[to]
	if l == nil {
		l = n.listeners[Addr{Port: to.Port}]
	}
	if l == nil {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	if !l.roomLocked() {
		stop := context.AfterFunc(ctx, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			l.changed.Broadcast()
		})
		defer stop()
		for !l.closed && ctx.Err() == nil && !l.roomLocked() {
			l.changed.Wait()
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.closed {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	port, ok := n.takePortLocked()
	if !ok {
		return nil, os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)
	}
	client, server := newPair(n, to.near(port), to, orDefault(n.Buffer, defaultBuffer))
	n.countOpenLocked(to)
	l.queue = append(l.queue, server)
	l.changed.Broadcast()
	return client, nil
}

// takePortLocked reserves the next free ephemeral port, or reports that there is
// none. Ports are given out in turn, so that one is used again as late as
// possible.
func (n *Network) takePortLocked() (uint16, bool) {
	const count = lastPort - firstPort + 1
	if len(n.ports) == count {
		return 0, false
	}
	if n.ports == nil {
		n.ports = make(map[uint16]bool)
	}
	for {
		if n.lastUsed < firstPort || n.lastUsed == lastPort {
			n.lastUsed = firstPort
		} else {
			n.lastUsed++
		}
		if !n.ports[n.lastUsed] {
			n.ports[n.lastUsed] = true
			return n.lastUsed, true
		}
	}
}

// orDefault applies the module's rule for settings: zero is the default;
// negative stays what it is.
func orDefault(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}
