package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/berth-go/berth"
)

// load is what a worker does over and over: one request, its answer read to the
// end or closed unread.
type load struct {
	addr   string
	path   string
	tls    bool
	http2  bool
	body   int // bytes of the request body
	unread bool
	conns  int  // at most; 0 for no limit
	keep   int  // idle connections kept by clients that must be told
	buffer int  // size in which bodies are read
	count  bool // the dials

	deadline time.Duration // of each request; 0 is none
}

func (l load) url() string {
	scheme := "http://"
	if l.tls {
		scheme = "https://"
	}
	return scheme + l.addr + l.path
}

// client makes workers. Each is used by one goroutine.
type client struct {
	dials  atomic.Int64
	worker func() (func() error, error)
	close  func()
}

// clientNames are the clients that can be measured.
var clientNames = []string{"berth", "net/http", "fasthttp", "raw"}

// strict is net/http with HTTP2Config.StrictMaxConcurrentRequests: a request waits for
// a stream where net/http otherwise opens a connection.
const strict = "net/http strict"

func newClient(name string, l load) (*client, error) {
	c := &client{close: func() {}}
	switch name {
	case "berth", berthDialed:
		dial := c.counter(l)
		if name == berthDialed {
			dial = c.dial
		}
		tr, err := berth.New(berth.Config{TLS: clientTLS(l), DialContext: dial, DisableCompression: true, Policy: berth.Policy{MaxConns: l.conns}})
		if err != nil {
			return nil, err
		}
		c.useRoundTripper(tr, l)
		c.close = func() { tr.Close() }
	case "net/http", strict:
		tr := &http.Transport{DialContext: c.counter(l), TLSClientConfig: clientTLS(l), DisableCompression: true,
			MaxConnsPerHost: l.conns, MaxIdleConnsPerHost: l.keep, IdleConnTimeout: 90 * time.Second}
		if l.http2 {
			tr.Protocols = new(http.Protocols)
			tr.Protocols.SetHTTP2(true)
			tr.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: name == strict}
		}
		c.useRoundTripper(tr, l)
		c.close = tr.CloseIdleConnections
	case "fasthttp":
		c.useFast(l)
	case rawParked:
		c.worker = func() (func() error, error) { return c.parkedWorker(l) }
	case callerAlone:
		c.useNothing(l)
	case "raw":
		c.worker = func() (func() error, error) { return c.rawWorker(l) }
	default:
		return nil, fmt.Errorf("no client %q", name)
	}
	return c, nil
}

func clientTLS(l load) *tls.Config {
	// The server's certificate is made in its own process; what is measured here
	// begins after the handshake.
	protocol := "http/1.1"
	if l.http2 {
		protocol = "h2"
	}
	return &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{protocol}}
}

// counter returns a dial function where dials are counted: elsewhere clients use
// their own.
func (c *client) counter(l load) func(context.Context, string, string) (net.Conn, error) {
	if l.count {
		return c.dial
	}
	return nil
}

// dial counts.
func (c *client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.dials.Add(1)
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// useRoundTripper does what a careful caller does: a context of its own that ends
// with the request, the body read to its end and closed.
func (c *client) useRoundTripper(rt http.RoundTripper, l load) {
	c.worker = func() (func() error, error) {
		next, err := requests(l)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, l.buffer)
		return func() error {
			req, cancel := next()
			defer cancel()
			resp, err := rt.RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			if l.unread {
				return nil
			}
			for err == nil {
				_, err = resp.Body.Read(buf)
			}
			if err != io.EOF {
				return err
			}
			return nil
		}, nil
	}
}

// requests returns what makes a worker's next request. It is the caller's share of
// the cost, and measured alone to be taken off the allocations.
func requests(l load) (func() (*http.Request, context.CancelFunc), error) {
	url := l.url()
	if l.body > 0 {
		data := make([]byte, l.body)
		return func() (*http.Request, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
			if err != nil {
				panic(err) // the template's URL was parsed before
			}
			return req, cancel
		}, nil
	}
	template, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return func() (*http.Request, context.CancelFunc) {
		if l.deadline > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), l.deadline)
			return template.WithContext(ctx), cancel
		}
		ctx, cancel := context.WithCancel(context.Background())
		return template.WithContext(ctx), cancel
	}, nil
}

func (c *client) useFast(l load) {
	conns := l.conns
	if conns == 0 {
		conns = l.keep
	}
	hc := &fasthttp.HostClient{Addr: l.addr, IsTLS: l.tls, TLSConfig: clientTLS(l), MaxConns: conns, MaxConnWaitTimeout: time.Minute,
		MaxIdleConnDuration: 90 * time.Second,
		Dial:                func(addr string) (net.Conn, error) { return c.dial(context.Background(), "tcp", addr) }}
	c.close = hc.CloseIdleConnections
	c.worker = func() (func() error, error) {
		data := make([]byte, l.body)
		url := l.url()
		return func() error {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.SetRequestURI(url)
			if l.body > 0 {
				req.Header.SetMethod(fasthttp.MethodPost)
				req.SetBodyRaw(data)
			}
			if err := hc.Do(req, resp); err != nil {
				return err
			}
			if resp.StatusCode() != fasthttp.StatusOK {
				return fmt.Errorf("status %d", resp.StatusCode())
			}
			return nil
		}, nil
	}
}

// rawWorker writes fixed bytes and reads as many as the response has: the floor.
func (c *client) rawWorker(l load) (func() error, error) {
	nc, err := c.dial(context.Background(), "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	if l.tls {
		nc = tls.Client(nc, clientTLS(l))
	}
	request := rawRequest(l)
	want := len(responses[l.path[1]])
	buf := make([]byte, l.buffer)
	return func() error {
		if _, err := nc.Write(request); err != nil {
			return err
		}
		for left := want; left > 0; {
			n, err := nc.Read(buf)
			if left -= n; err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// rawRequest is a request as bytes.
func rawRequest(l load) []byte {
	var msg strings.Builder
	method := "GET"
	if l.body > 0 {
		method = "POST"
	}
	fmt.Fprintf(&msg, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Go-http-client/1.1\r\n", method, l.path, l.addr)
	if l.body > 0 {
		fmt.Fprintf(&msg, "Content-Length: %d\r\n", l.body)
	}
	msg.WriteString("\r\n")
	return append([]byte(msg.String()), make([]byte, l.body)...)
}
