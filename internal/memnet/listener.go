// Listeners: an address and the queue of connections dialled to it that no one
// has accepted yet. Tests and internal/origin call it through net.Listener.

package memnet

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
)

// listener is a net.Listener on a Network. Its state below addr is guarded by
// the network's mu.
type listener struct {
	network *Network
	addr    Addr
	key     Addr // its place in network.listeners
	backlog int

	queue     []*Conn   // dialled, not accepted; oldest first
	accepting int       // Accept calls that wait
	closed    bool      // no dial, no Accept any more
	changed   sync.Cond // queue, accepting or closed changed
}

// Listen announces addr with the network's backlog. addr is host:port; port 0
// chooses a free one (see the listener's Addr). Without a host, or with the
// unspecified address (0.0.0.0, ::), the listener takes every dial to the port
// that has no listener of its own. Every error is a *net.OpError; it wraps
// syscall.EADDRINUSE when the address has a listener.
func (n *Network) Listen(addr string) (net.Listener, error) {
	return n.ListenBacklog(addr, orDefault(n.Backlog, defaultBacklog))
}

// ListenBacklog is Listen with a backlog of the listener's own, in connections:
// zero or less means none, so that a dial waits for an Accept.
func (n *Network) ListenBacklog(addr string, backlog int) (net.Listener, error) {
	a, err := parseAddr(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: err}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.Port == 0 {
		port, ok := n.takePortLocked()
		if !ok {
			return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: a, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
		}
		a.Port = port
	}
	key := a
	if a.Host == "" {
		a.Host, key.Host = netip.IPv6Unspecified().String(), ""
	} else if a.AddrPort().Addr().IsUnspecified() {
		key.Host = ""
	}
	if n.listeners[key] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: a, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &listener{network: n, addr: a, key: key, backlog: max(backlog, 0)}
	l.changed.L = &n.mu
	if n.listeners == nil {
		n.listeners = make(map[Addr]*listener)
	}
	n.listeners[key] = l
	return l, nil
}

// Accept waits for a dial and returns the listener's end of it, a *Conn. It
// blocks until there is one or the listener is closed; then the error is a
// *net.OpError that wraps net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.accepting++
	l.changed.Broadcast()
	for len(l.queue) == 0 && !l.closed {
		l.changed.Wait()
	}
	l.accepting--
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	// No dial is woken here: the place in the queue replaces the one that this
	// Accept, no longer waiting, has taken back.
	l.network.countAcceptedLocked(c.local)
	return c, nil
}

// Close frees the address and wakes every Accept. Connections that were not
// accepted are reset, as a kernel does it; accepted ones live on. Dials that wait
// for the backlog are refused. The second Close returns an error that wraps
// net.ErrClosed.
func (l *listener) Close() error {
	queue, ok := l.shut()
	if !ok {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	for _, c := range queue {
		// Nobody else holds this end, so that it cannot be closed already.
		_ = c.Reset()
	}
	return nil
}

// shut takes the listener off the network and returns what nobody accepted.
func (l *listener) shut() ([]*Conn, bool) {
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.closed {
		return nil, false
	}
	l.closed = true
	delete(n.listeners, l.key)
	queue := l.queue
	l.queue = nil
	l.changed.Broadcast()
	return queue, true
}

// Addr returns the Addr listened at.
func (l *listener) Addr() net.Addr { return l.addr }

// roomLocked reports whether one more dial can be queued: an Accept that waits is
// as good as a place in the backlog.
func (l *listener) roomLocked() bool {
	return len(l.queue) < l.backlog+l.accepting
}
