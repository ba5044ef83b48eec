package berth_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/berth-go/berth"
)

// Connections of every kind carry every kind of request: with a descriptor, with
// a wrapper around one, and without any.
func TestConnectionsWithAndWithoutADescriptor(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/big" {
			w.Write(make([]byte, 1<<20))
			return
		}
		if r.URL.Path == "/chunked" {
			for range 5 {
				fmt.Fprint(w, "chunk")
				w.(http.Flusher).Flush()
			}
			return
		}
		fmt.Fprintf(w, "%s %d", r.Method, n)
	})
	for _, secure := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(h)
		pipes := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
		pipeServer := httptest.NewUnstartedServer(h)
		pipeServer.Listener.Close()
		pipeServer.Listener = pipes
		for _, s := range []*httptest.Server{srv, pipeServer} {
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			defer s.Close()
		}
		var d net.Dialer
		for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
			"socket": d.DialContext,
			"wrapped": func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := d.DialContext(ctx, network, addr)
				return struct{ net.Conn }{c}, err
			},
			"pipe": func(context.Context, string, string) (net.Conn, error) { return pipes.dial() },
		} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				cfg := berth.Config{DialContext: dial}
				if secure {
					cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
				}
				tr, err := berth.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				exchange := func(method, path string, body io.Reader, want int, text string) {
					t.Helper()
					req, _ := http.NewRequest(method, srv.URL+path, body)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatalf("%s %s: %v", method, path, err)
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || len(b) != want || text != "" && string(b) != text {
						t.Errorf("%s %s: %d bytes %.20q, %v", method, path, len(b), b, err)
					}
					// Whoever sent the body may be the last to let go of the connection.
					ep, _ := tr.Endpoint(srv.URL)
					waitFor(t, func() bool { return ep.Stats().Leased == 0 })
				}
				exchange("GET", "/", nil, 5, "GET 0")
				exchange("GET", "/big", nil, 1<<20, "")
				exchange("GET", "/chunked", nil, 25, "")
				for _, n := range []int{0, 1, 5000, 20_000, 1 << 20} {
					text := fmt.Sprintf("POST %d", n)
					exchange("POST", "/", bytes.NewReader(make([]byte, n)), len(text), text)
					exchange("POST", "/", io.LimitReader(zeros{}, int64(n)), len(text), text)
				}
				ep, _ := tr.Endpoint(srv.URL)
				if s := ep.Stats(); s.Dials.OK != 1 || s.Idle != 1 {
					t.Errorf("%d dials, %d idle, closes %v; want one connection for all", s.Dials.OK, s.Idle, s.Closes)
				}
			})
		}
	}
}

// pipeListener serves net.Pipe: no descriptor and no buffer.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial() (net.Conn, error) {
	c, s := net.Pipe()
	select {
	case l.conns <- s:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
