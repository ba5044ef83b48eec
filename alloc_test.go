package berth_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// A small GET with a cancellable context allocates six times, about 1.1 KB: the
// response with its body handle, the header's map twice, the text of the head, and
// two for the watch over the context.
func TestAllocationsOfAGet(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items under the race detector; .ci/run has a pass without it")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := origin.Fast(ln, []byte("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\nServer: x\r\nContent-Length: 128\r\n\r\n"+
		strings.Repeat("x", 128)), 0)
	defer o.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+ln.Addr().String()+"/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1024)
	get := func() {
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		if err != io.EOF {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	get()
	if n := testing.AllocsPerRun(500, get); n > 6 {
		t.Errorf("%v allocations a request, at most 6", n)
	}
}
