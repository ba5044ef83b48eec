package berth_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/berth-go/berth/internal/origin"
)

// proxyServer is a proxy on a loopback socket: HTTP with absolute-form and CONNECT,
// over TLS if secure, or SOCKS5. It asks for user and password if it has them.
type proxyServer struct {
	t        *testing.T
	ln       net.Listener
	scheme   string
	user     string // "name:password"
	answer   string // to CONNECT, in place of what it would say
	loopback string // what the clients ask for is sent here

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns int
	asked []string        // methods with their targets
	heads []*http.Request // of requests to the proxy itself
}

func newProxy(t *testing.T, scheme string, change func(*proxyServer)) *proxyServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxyServer{t: t, ln: ln, scheme: scheme}
	if change != nil {
		change(p)
	}
	if scheme == "https" {
		cert, _ := origin.Cert()
		p.ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	p.wg.Go(func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			p.mu.Unlock()
			p.wg.Go(func() {
				defer c.Close()
				if strings.HasPrefix(scheme, "socks5") {
					p.socks(c)
				} else {
					p.http(c)
				}
			})
		}
	})
	t.Cleanup(func() { p.ln.Close() }) // connections end with their clients
	return p
}

// url is the proxy's address for a client that has its password.
func (p *proxyServer) url() *url.URL {
	u := &url.URL{Scheme: p.scheme, Host: p.ln.Addr().String()}
	if p.user != "" {
		name, password, _ := strings.Cut(p.user, ":")
		u.User = url.UserPassword(name, password)
	}
	return u
}

func (p *proxyServer) use() func(*http.Request) (*url.URL, error) { return http.ProxyURL(p.url()) }

func (p *proxyServer) note(what string, head *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, what)
	if head != nil {
		p.heads = append(p.heads, head)
	}
}

// seen returns what was asked for, and how many connections came.
func (p *proxyServer) seen() (asked []string, heads []*http.Request, conns int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.heads, p.conns
}

func (p *proxyServer) dial(addr string) (net.Conn, error) {
	if p.loopback != "" {
		addr = p.loopback
	}
	return net.Dial("tcp", addr)
}

func (p *proxyServer) http(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		p.note(req.Method+" "+req.RequestURI, req)
		if p.user != "" && req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(p.user)) {
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		if req.Method == "CONNECT" {
			if p.answer != "" {
				io.WriteString(c, p.answer)
				return
			}
			to, err := p.dial(req.Host)
			if err != nil {
				io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
				return
			}
			io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			p.splice(c, r, to)
			return
		}
		to, err := p.dial(req.URL.Host)
		if err != nil {
			io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		req.Header.Del("Proxy-Authorization")
		req.Write(to)
		resp, err := http.ReadResponse(bufio.NewReader(to), req)
		if err == nil {
			resp.Write(c)
		}
		to.Close()
		if err != nil {
			return
		}
	}
}

func (p *proxyServer) socks(c net.Conn) {
	r := bufio.NewReader(c)
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil || head[0] != 5 {
		return
	}
	methods := make([]byte, head[1])
	io.ReadFull(r, methods)
	if p.user == "" {
		c.Write([]byte{5, 0})
	} else {
		if !strings.Contains(string(methods), "\x02") {
			c.Write([]byte{5, 0xff})
			return
		}
		c.Write([]byte{5, 2})
		io.ReadFull(r, head)
		name := make([]byte, head[1])
		io.ReadFull(r, name)
		n, _ := r.ReadByte()
		password := make([]byte, n)
		io.ReadFull(r, password)
		if string(name)+":"+string(password) != p.user {
			c.Write([]byte{1, 1})
			return
		}
		c.Write([]byte{1, 0})
	}
	req := make([]byte, 4)
	if _, err := io.ReadFull(r, req); err != nil {
		return
	}
	var host string
	switch req[3] {
	case 1, 4:
		ip := make([]byte, map[byte]int{1: 4, 4: 16}[req[3]])
		io.ReadFull(r, ip)
		host = net.IP(ip).String()
	case 3:
		n, _ := r.ReadByte()
		name := make([]byte, n)
		io.ReadFull(r, name)
		host = string(name)
	}
	port := make([]byte, 2)
	io.ReadFull(r, port)
	addr := net.JoinHostPort(host, fmt.Sprint(binary.BigEndian.Uint16(port)))
	p.note("SOCKS "+addr, nil)
	to, err := p.dial(addr)
	if err != nil {
		c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 80})
	p.splice(c, r, to)
}

func (p *proxyServer) splice(c net.Conn, r io.Reader, to net.Conn) {
	p.wg.Go(func() { io.Copy(c, to); c.Close() })
	io.Copy(to, r)
	to.Close()
}
