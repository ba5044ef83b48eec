package berth_test

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// A small GET with a cancellable context allocates four times, less than 1 KB: the
// response with its body handle, the header's map twice, and the text of the head.
// On a machine so busy that a response takes longer than the watch is patient, the
// watch costs more: the least of some tries counts.
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
	for name, cfg := range map[string]berth.Config{"zero": {}, "http.DefaultTransport's": fromDefault(), "steered": {
		MaxConns: 10, Policy: berth.Policy{MaxConnsPerHost: 5, Order: berth.Spread, Close: berth.CloseServerFirst, MinIdle: 1},
		Rules: []berth.Rule{{Match: "127.0.0.1", Policy: berth.Policy{MaxConns: 5}}, {Match: "*"}},
	}} {
		t.Run(name, func(t *testing.T) { allocationsOfAGet(t, cfg, ln.Addr().String()) })
	}
}

func fromDefault() berth.Config {
	cfg, _ := berth.FromTransport(nil)
	return cfg
}

func allocationsOfAGet(t *testing.T, cfg berth.Config, addr string) {
	tr := mustNew(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(berth.WithGroup(ctx, "group"), "GET", "http://"+addr+"/path", nil)
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
	least := func(f func()) float64 {
		n := math.Inf(1)
		for range 5 {
			n = min(n, testing.AllocsPerRun(100, f))
		}
		return n
	}
	if n := least(get); n > 4 {
		t.Errorf("%v allocations a request, at most 4", n)
	}
	// A context of its own for each request makes no difference: nobody asks it for
	// its channel, and nothing is registered with it.
	template := req
	own := func(f func()) func() {
		return func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req = template.WithContext(ctx)
			f()
		}
	}
	if n := least(own(get)) - least(own(func() {})); n > 4 {
		t.Errorf("%v allocations a request with a context of its own, at most 4", n)
	}
}
