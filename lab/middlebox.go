package lab

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/origin"
)

// What lies between a client and a server, a balancer or a NAT or a firewall, and forgets
// connections. It is simulated at the server's end of them; silence calls it.

// oblivion is what becomes of a connection that was forgotten.
type oblivion int

const (
	// dropped: the kernel throws away what arrives for it, before TCP sees it, and so
	// nothing is acknowledged either. Linux.
	dropped oblivion = iota
	// swallowed: what arrives is acknowledged and goes nowhere, as behind a balancer
	// that ends TCP connections itself.
	swallowed
	// refused: the next bytes are answered by a reset.
	refused
)

// middlebox is the listener of a server that is reached through it.
type middlebox struct {
	net.Listener
	how  oblivion
	idle time.Duration // after which a silent connection is forgotten; 0 never

	mu       sync.Mutex
	conns    map[*passing]struct{} // open ones
	mute     bool                  // connections are forgotten as they come
	accepted int
	err      error // the first that could not be forgotten

	quit chan struct{}
	wg   sync.WaitGroup
}

// newMiddlebox puts one in front of a listener. Close ends what it has started.
func newMiddlebox(ln net.Listener, how oblivion, idle time.Duration) *middlebox {
	m := &middlebox{Listener: ln, how: how, idle: idle, conns: map[*passing]struct{}{}, quit: make(chan struct{})}
	if how == dropped && idle > 0 {
		m.wg.Go(m.expire)
	}
	return m
}

func (m *middlebox) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &passing{TCPConn: c.(*net.TCPConn), box: m, last: time.Now(), forgotten: m.mute}
	m.accepted++
	m.conns[p] = struct{}{}
	return p, nil
}

// Close is called by the server's Close, and by it alone.
func (m *middlebox) Close() error {
	m.mu.Lock()
	select {
	case <-m.quit:
	default:
		close(m.quit)
	}
	m.mu.Unlock()
	m.wg.Wait()
	return m.Listener.Close()
}

// forget forgets every connection that is open.
func (m *middlebox) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.conns {
		m.forgetLocked(p)
	}
}

// blind has it swallow all that comes from now on, on new connections.
func (m *middlebox) blind() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute = true
}

func (m *middlebox) forgetLocked(p *passing) {
	if p.forgotten {
		return
	}
	p.forgotten = true
	if m.how == dropped {
		if err := deafen(p.TCPConn); err != nil && m.err == nil {
			m.err = err
		}
	}
}

// expire forgets what was silent for too long: segments count, and so do those that bring
// no data.
func (m *middlebox) expire() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.quit:
			return
		case <-tick.C:
		}
		now := time.Now()
		m.mu.Lock()
		for p := range m.conns {
			n, err := segments(p.TCPConn)
			switch {
			case err != nil:
				if m.err == nil && !errors.Is(err, net.ErrClosed) {
					m.err = err
				}
			case n != p.segments:
				p.segments, p.last = n, now
			case now.Sub(p.last) >= m.idle:
				m.forgetLocked(p)
			}
		}
		m.mu.Unlock()
	}
}

// counts returns how many connections came, and what went wrong.
func (m *middlebox) counts() (accepted int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accepted, m.err
}

// passing is a connection through the middlebox. What is its own is guarded by the box's mu.
type passing struct {
	*net.TCPConn
	box *middlebox

	segments  uint32
	last      time.Time // something passed
	forgotten bool
}

// passes notes that bytes came, or go, and says whether they do so.
func (p *passing) passes() bool {
	p.box.mu.Lock()
	defer p.box.mu.Unlock()
	now := time.Now()
	if p.box.how == refused && p.box.idle > 0 && now.Sub(p.last) > p.box.idle {
		p.forgotten = true
	}
	p.last = now
	return !p.forgotten
}

func (p *passing) Read(b []byte) (int, error) {
	for {
		n, err := p.TCPConn.Read(b)
		if n == 0 || p.passes() || p.box.how == dropped {
			return n, err
		}
		if p.box.how == refused {
			p.Close()
			return 0, net.ErrClosed
		}
	}
}

func (p *passing) Write(b []byte) (int, error) {
	if p.box.how != refused && !p.passes() {
		return len(b), nil
	}
	return p.TCPConn.Write(b)
}

// ReadFrom hides that of TCPConn, which goes around Write.
func (p *passing) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{p}, r)
}

// Close leaves nothing in the kernel of a connection whose peer cannot be heard.
func (p *passing) Close() error {
	p.box.mu.Lock()
	gone := p.forgotten
	delete(p.box.conns, p)
	p.box.mu.Unlock()
	if gone {
		p.SetLinger(0)
	}
	return p.TCPConn.Close()
}

// beyond is a server that is reached through a middlebox.
type beyond struct {
	*middlebox
	addr   netip.AddrPort
	scheme string
	server *http.Server
	done   chan struct{}
}

// serveBeyond starts one; over TLS it speaks HTTP/2, with at most so many streams at once
// on a connection, 0 being Go's own limit. handler may be nil: then it says ok.
func serveBeyond(ln net.Listener, how oblivion, idle time.Duration, http2 bool, streams int, handler http.Handler) *beyond {
	if handler == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "ok")
		})
	}
	b := &beyond{middlebox: newMiddlebox(ln, how, idle), addr: addrOf(ln), scheme: "http", done: make(chan struct{}),
		server: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}}
	serve := b.server.Serve
	if http2 {
		c, _ := origin.Cert()
		b.scheme = "https"
		b.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{c}}
		b.server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
		serve = func(ln net.Listener) error { return b.server.ServeTLS(ln, "", "") }
	}
	go func() { // ended by Close
		defer close(b.done)
		serve(b.middlebox)
	}()
	return b
}

func (b *beyond) url() string { return b.scheme + "://" + b.addr.String() + "/" }

func (b *beyond) Close() error {
	err := b.server.Close()
	<-b.done
	return err
}

// clientTLS trusts the lab's servers, whatever their address.
func clientTLS() *tls.Config {
	_, roots := origin.Cert()
	return &tls.Config{RootCAs: roots, ServerName: "lab.test"}
}
