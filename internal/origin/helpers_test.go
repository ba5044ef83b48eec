// What the tests of this package share: an origin in a bubble's network or on
// loopback, and a client that sends bytes.

package origin

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/internal/memnet"
)

const (
	okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	getRequest = "GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n"
)

// bubble runs f inside a synctest bubble with an origin at origin.test:80 that
// runs h. The bubble fails the test if a goroutine is left after Close.
func bubble(t *testing.T, h Handler, f func(t *testing.T, n *memnet.Network, o *Origin)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		o := New(listen(t, n)).Handle(h)
		defer o.Close()
		f(t, n, o)
	})
}

func listen(t *testing.T, n *memnet.Network) net.Listener {
	t.Helper()
	ln, err := n.Listen("origin.test:80")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// client is a connection that a test writes bytes to and reads responses from.
type client struct {
	*memnet.Conn
	br *bufio.Reader
}

func connect(t *testing.T, n *memnet.Network) *client {
	t.Helper()
	nc, err := n.DialContext(t.Context(), "tcp", "origin.test:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{nc.(*memnet.Conn), bufio.NewReader(nc)}
}

func (c *client) send(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// response reads the response to a request of the method.
func (c *client) response(t *testing.T, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return res, string(body)
}

// wantOK reads the answer that okResponse is.
func (c *client) wantOK(t *testing.T) {
	t.Helper()
	if res, body := c.response(t, "GET"); res.StatusCode != 200 || body != "ok" {
		t.Fatalf("answer is %s %q, want 200 ok", res.Status, body)
	}
}

// wantRest checks everything that comes until the origin closes.
func (c *client) wantRest(t *testing.T, want string) {
	t.Helper()
	if got, err := io.ReadAll(c.br); string(got) != want || err != nil {
		t.Fatalf("rest of the connection is %q, %v, want %q", got, err, want)
	}
}

func wantElapsed(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Errorf("took %v, want %v", got, want)
	}
}
