package lab

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/berth-go/berth"
)

// The clients of sent-again that programs build around net/http.

// retrying retries as long as retry says so.
type retrying struct {
	next  http.RoundTripper
	retry func(error) bool
}

func (a *retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := a.next.RoundTrip(req)
		if err == nil || try == againTries || !a.retry(err) || req.Context().Err() != nil {
			return resp, err
		}
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req = req.Clone(req.Context())
			req.Body = body
		}
	}
}

// keepsOne is the simplest pool: it keeps one connection, does not look at it before it
// uses it again, and reads on where the answer before has ended.
type keepsOne struct {
	conn net.Conn
	r    *bufio.Reader
}

func (k *keepsOne) RoundTrip(req *http.Request) (*http.Response, error) {
	if k.conn == nil {
		var d net.Dialer
		c, err := d.DialContext(req.Context(), "tcp", req.URL.Host)
		if err != nil {
			return nil, err
		}
		k.conn, k.r = c, bufio.NewReader(c)
	}
	resp, err := k.exchange(req)
	if err != nil {
		k.drop()
	}
	return resp, err
}

func (k *keepsOne) exchange(req *http.Request) (*http.Response, error) {
	if err := req.Write(k.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(k.r, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, err
}

func (k *keepsOne) drop() {
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}

// refusedFirst makes clients of which every other dial goes where nobody listens.
func refusedFirst(make func(dialFunc) (http.RoundTripper, func(), error)) func() (http.RoundTripper, func(), error) {
	return func() (http.RoundTripper, func(), error) {
		nobody, err := deadAddress()
		if err != nil {
			return nil, nil, err
		}
		var (
			d net.Dialer
			n atomic.Int64
		)
		return make(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if n.Add(1)%2 == 1 {
				addr = nobody
			}
			return d.DialContext(ctx, network, addr)
		})
	}
}

// deadAddress is one of this host's where nobody listens.
func deadAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// HTTP/2 without TLS, by prior knowledge.
func h2only() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func oursH2() (http.RoundTripper, func(), error) { return newOurs(berth.Config{Protocols: h2only()}) }

func theirsH2() (http.RoundTripper, func(), error) {
	t := &http.Transport{Protocols: h2only()}
	return t, t.CloseIdleConnections, nil
}

// closesOnReset closes all connections as soon as one request fails.
func closesOnReset() (http.RoundTripper, func(), error) {
	var (
		d    net.Dialer
		mu   sync.Mutex
		open []net.Conn
	)
	t := &http.Transport{Protocols: h2only(), DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			open = append(open, c)
		}
		return c, err
	}}
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := t.RoundTrip(req)
		if err != nil {
			mu.Lock()
			closing := open
			open = nil
			mu.Unlock()
			for _, c := range closing {
				c.Close()
			}
		}
		return resp, err
	}), t.CloseIdleConnections, nil
}
