package berth_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/berth-go/berth/internal/origin"
)

// peer is the server of one cell of the fault matrix: its first connection does
// wrong, all others are well-behaved.
type peer struct {
	t      *testing.T
	ln     *net.TCPListener
	secure bool
	fault  func(*peerConn)
	end    chan struct{} // closed when the cell is over: what stalls goes home
	said   chan struct{} // closed when the first word was said
	once   sync.Once
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []*net.TCPConn
	seen  map[string]int // requests whose head came, by their Id
}

// peerConn is one connection of a peer.
type peerConn struct {
	*peer
	tcp *net.TCPConn
	app net.Conn // tcp, or TLS over it
	r   *bufio.Reader
}

func newPeer(t *testing.T, secure bool, fault func(*peerConn)) *peer {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, ln: ln.(*net.TCPListener), secure: secure, fault: fault, end: make(chan struct{}), said: make(chan struct{}), seen: map[string]int{}}
	p.wg.Go(p.accept)
	return p
}

func (p *peer) url() string {
	if p.secure {
		return "https://" + p.ln.Addr().String()
	}
	return "http://" + p.ln.Addr().String()
}

func (p *peer) accept() {
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		first := len(p.conns) == 0
		p.conns = append(p.conns, nc.(*net.TCPConn))
		p.mu.Unlock()
		p.wg.Go(func() {
			c := &peerConn{peer: p, tcp: nc.(*net.TCPConn), app: nc}
			defer c.tcp.Close()
			if first {
				p.fault(c)
			} else {
				c.serve()
			}
		})
	}
}

// close ends the peer and all that it does.
func (p *peer) close() {
	close(p.end)
	p.ln.Close()
	p.mu.Lock()
	for _, c := range p.conns { // some would read megabytes more, slowly
		c.SetLinger(0)
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *peer) count(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[id]
}

func (p *peer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// handshake ends when TLS, if there is any, is set up.
func (c *peerConn) handshake() bool {
	if c.secure && c.app == net.Conn(c.tcp) {
		cert, _ := origin.Cert()
		sec := tls.Server(c.tcp, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
		if sec.Handshake() != nil {
			return false
		}
		c.app = sec
	}
	if c.r == nil {
		c.r = bufio.NewReader(c.app)
	}
	return true
}

// request reads a request to its end, and returns its Id.
func (c *peerConn) request() (id string, ok bool) {
	if !c.handshake() {
		return "", false
	}
	req, err := http.ReadRequest(c.r)
	if err != nil {
		return "", false
	}
	id = c.note(req)
	_, err = io.Copy(io.Discard, req.Body)
	return id, err == nil
}

func (c *peerConn) note(req *http.Request) string {
	id := req.Header.Get("Id")
	c.mu.Lock()
	c.seen[id]++
	c.mu.Unlock()
	return id
}

// answerTo is a whole response that says whose it is.
func answerTo(id string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
}

func (c *peerConn) write(s string) {
	io.WriteString(c.app, s)
	c.once.Do(func() { close(c.said) })
}

// serve is what a good server does.
func (c *peerConn) serve() {
	for {
		id, ok := c.request()
		if !ok {
			return
		}
		c.write(answerTo(id))
	}
}

// ---- the faults ----

func (c *peerConn) reset() {
	c.tcp.SetLinger(0)
	c.tcp.Close()
}

// halfClose ends what the peer says; it goes on to listen.
func (c *peerConn) halfClose() {
	if sec, ok := c.app.(*tls.Conn); ok {
		sec.CloseWrite()
	}
	c.tcp.CloseWrite()
	io.Copy(io.Discard, c.tcp)
}

func (c *peerConn) stall() { <-c.end }

func (c *peerConn) closeEarly() { c.app.Close() }

// goOn reads what comes and says nothing more.
func (c *peerConn) goOn() {
	if c.r != nil {
		io.Copy(io.Discard, c.r)
	}
	io.Copy(io.Discard, c.tcp)
}

// dribble writes a byte at a time.
func (c *peerConn) dribble(s string) {
	for i := range len(s) {
		if _, err := io.WriteString(c.app, s[i:i+1]); err != nil {
			return
		}
	}
}

// dribbling is a connection whose every write is cut into bytes, so that TLS
// dribbles too.
type dribbling struct{ net.Conn }

func (d dribbling) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}
