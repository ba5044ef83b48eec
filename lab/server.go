package lab

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/berth-go/berth/internal/origin"
)

// answer is what the lab's servers say: a small response that closes nothing.
var answer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")

// question is what the raw loop asks.
const question = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"

// server answers every request after latency. It never closes first, so that the
// client's ways are what is seen.
type server struct {
	*origin.Origin
	addr netip.AddrPort
}

// serve starts a server that answers after latency.
func serve(experiment, variant byte, latency time.Duration) (*server, error) {
	ln, err := listen(experiment, variant)
	if err != nil {
		return nil, err
	}
	return &server{origin.Fast(ln, answer, latency), addrOf(ln)}, nil
}

// listen listens on a loopback address of its own, so that the sockets that a
// variant leaves behind do not mix with another's. Systems that have 127.0.0.1
// alone get that.
func listen(experiment, variant byte) (net.Listener, error) {
	host := "127.0.0.1"
	if runtime.GOOS == "linux" {
		host = fmt.Sprintf("127.71.%d.%d", experiment, variant)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("start the experiment's server: %w", err)
	}
	return ln, nil
}

func addrOf(ln net.Listener) netip.AddrPort { return ln.Addr().(*net.TCPAddr).AddrPort() }

func (s *server) url() string { return "http://" + s.addr.String() + "/" }
