package origin

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/internal/memnet"
)

// fast runs f in a bubble with a Fast origin at origin.test:80.
func fast(t *testing.T, latency time.Duration, f func(t *testing.T, n *memnet.Network, o *Origin)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		o := Fast(listen(t, n), []byte(okResponse), latency)
		defer o.Close()
		f(t, n, o)
	})
}

func post(length int) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nCONTENT-length:  %d \r\n\r\n%s", length, strings.Repeat("b", length))
}

func TestFastFindsTheEndOfRequests(t *testing.T) {
	requests := []string{
		getRequest,
		post(0), post(1), post(fastBuffer - 60), post(fastBuffer), post(10 * fastBuffer),
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n\r\n\r\n", // a body that looks like an end
		"GET /" + strings.Repeat("p", fastBuffer-40) + " HTTP/1.1\r\nHost: h\r\n\r\n",
		getRequest,
	}
	all := strings.Join(requests, "")
	for _, size := range []int{1, 2, 3, 7, 100, fastBuffer, len(all)} {
		t.Run(fmt.Sprintf("in writes of %d", size), func(t *testing.T) {
			fast(t, 0, func(t *testing.T, n *memnet.Network, o *Origin) {
				c := connect(t, n)
				for rest := all; rest != ""; {
					k := min(size, len(rest))
					c.send(t, rest[:k])
					rest = rest[k:]
				}
				for range requests {
					c.wantOK(t)
				}
				synctest.Wait()
				if n, err := c.Pending(); n != 0 || err != nil || c.br.Buffered() != 0 {
					t.Errorf("more than one answer a request: %d and %d bytes, %v", c.br.Buffered(), n, err)
				}
				if got := o.Stats(); got.Requests != len(requests) || got.Open != 1 {
					t.Errorf("%+v, want %d requests and an open connection", got, len(requests))
				}
			})
		})
	}
}

func TestFastFindsAnEndThatArrivesInParts(t *testing.T) {
	request := post(3)
	for cut := 1; cut < len(request); cut++ {
		fast(t, 0, func(t *testing.T, n *memnet.Network, o *Origin) {
			c := connect(t, n)
			for _, part := range []string{request[:cut], request[cut:] + request[:cut], request[cut:]} {
				c.send(t, part)
				synctest.Wait()
			}
			c.wantOK(t)
			c.wantOK(t)
		})
	}
	fast(t, 0, func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		for i := range len(request) {
			c.send(t, request[i:i+1])
			synctest.Wait()
		}
		c.wantOK(t)
	})
}

func TestFastReadsTheWholeBodyBeforeItAnswers(t *testing.T) {
	fast(t, 0, func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab")
		synctest.Wait()
		if n, _ := c.Pending(); n != 0 {
			t.Error("answered before the last byte")
		}
		c.send(t, "c")
		c.wantOK(t)
	})
}

func TestFastRefusesWhatItCannotDelimit(t *testing.T) {
	for _, tc := range []struct {
		name, head string
		status     int
	}{
		{"chunked", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 501},
		{"no number", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400},
		{"a sign", "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400},
		{"negative", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
		{"empty", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400},
		{"beyond 64 bits", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
		{"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
		{"long head", "GET /" + strings.Repeat("p", fastBuffer), 431},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fast(t, 0, func(t *testing.T, n *memnet.Network, o *Origin) {
				c := connect(t, n)
				c.send(t, tc.head)
				if res, _ := c.response(t, "POST"); res.StatusCode != tc.status || !res.Close {
					t.Errorf("answer is %s, close %v, want %d and close", res.Status, res.Close, tc.status)
				}
				c.wantRest(t, "")
				if got := o.Stats().Requests; got != 0 {
					t.Errorf("%d requests counted", got)
				}
			})
		})
	}
}

func TestFastEndsWhenTheClientGoes(t *testing.T) {
	for _, sent := range []string{"", "GET / HT", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhe", getRequest} {
		fast(t, time.Second, func(t *testing.T, n *memnet.Network, o *Origin) {
			c := connect(t, n)
			c.send(t, sent)
			c.Close()
			time.Sleep(time.Minute)
			if got := o.Stats(); got.Open != 0 || got.Accepted != 1 {
				t.Errorf("after %q: %+v", sent, got)
			}
		})
	}
}

func TestFastCloseEndsTheLatency(t *testing.T) {
	fast(t, time.Hour, func(t *testing.T, n *memnet.Network, o *Origin) {
		connect(t, n).send(t, getRequest)
		synctest.Wait()
		start := time.Now()
		o.Close()
		wantElapsed(t, start, 0)
	})
}

// TestFastServesManyAtOnce is the lab's load: two hundred requests at a time, each
// 80 ms at the server, five rounds.
func TestFastServesManyAtOnce(t *testing.T) {
	const clients, rounds, latency = 200, 5, 80 * time.Millisecond
	fast(t, latency, func(t *testing.T, n *memnet.Network, o *Origin) {
		tr := &http.Transport{DialContext: n.DialContext, MaxIdleConnsPerHost: clients}
		defer tr.CloseIdleConnections()
		start := time.Now()
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range rounds {
					res, err := (&http.Client{Transport: tr}).Get("http://origin.test/")
					if err != nil {
						t.Errorf("request: %v", err)
						return
					}
					if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil {
						t.Errorf("body is %q, %v", body, err)
					}
					res.Body.Close()
				}
			})
		}
		wg.Wait()
		wantElapsed(t, start, rounds*latency)
		if got := o.Stats(); got.Requests != clients*rounds || got.MaxOpen > clients {
			t.Errorf("%+v, want %d requests on at most %d connections", got, clients*rounds, clients)
		}
	})
}

func TestFastWorksOnTCP(t *testing.T) {
	o := Fast(listenTCP(t), []byte(okResponse), 0)
	defer o.Close()
	tr := new(http.Transport)
	defer tr.CloseIdleConnections()
	for range 10 {
		res, err := (&http.Client{Transport: tr}).Post("http://"+o.Addr()+"/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil {
			t.Fatalf("body is %q, %v", body, err)
		}
		res.Body.Close()
	}
	if got := o.Stats(); got.Accepted != 1 || got.Requests != 10 {
		t.Errorf("%+v, want 10 requests on one connection", got)
	}
}

func TestFastAllocatesNothingPerRequest(t *testing.T) {
	head := []byte(post(0))
	if got := testing.AllocsPerRun(100, func() {
		if _, status := contentLength(head); status != 0 {
			t.Fatal(status)
		}
	}); got != 0 {
		t.Errorf("%v allocations to find a length", got)
	}
}
