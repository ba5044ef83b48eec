package origin

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/internal/memnet"
)

func TestServeAnswersUntilAskedToClose(t *testing.T) {
	const closing = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	for _, tc := range []struct {
		name, response string
		requests       []string
		want           string
	}{
		{"client closes", okResponse, []string{getRequest, getRequest, closing, getRequest}, strings.Repeat(okResponse, 3)},
		{"response closes", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
			[]string{getRequest, getRequest}, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"no other end", "HTTP/1.1 200 OK\r\n\r\nuntil close", []string{getRequest, getRequest}, "HTTP/1.1 200 OK\r\n\r\nuntil close"},
		{"interim first", "HTTP/1.1 103 Early Hints\r\n\r\n" + okResponse, []string{getRequest, closing},
			strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n"+okResponse, 2)},
		{"no response at all", "hello", []string{getRequest, closing}, "hellohello"},
		{"body read first", okResponse, []string{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", "abc", closing},
			strings.Repeat(okResponse, 2)},
		{"broken request", okResponse, []string{getRequest, "nonsense\r\n\r\n", getRequest}, okResponse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, Serve(tc.response), func(t *testing.T, n *memnet.Network, o *Origin) {
				c := connect(t, n)
				c.send(t, strings.Join(tc.requests, ""))
				c.wantRest(t, tc.want)
			})
		})
	}
}

func TestLatencyWaitsBeforeEachAnswer(t *testing.T) {
	bubble(t, Latency(80*time.Millisecond, okResponse), func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		time.Sleep(time.Second)
		for range 3 {
			start := time.Now()
			c.send(t, getRequest)
			c.wantOK(t)
			wantElapsed(t, start, 80*time.Millisecond)
		}
	})
}

func TestCloseAfterClosesUnannounced(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, CloseAfter(n, okResponse), func(t *testing.T, net *memnet.Network, o *Origin) {
				c := connect(t, net)
				for range n {
					c.send(t, getRequest)
					c.wantOK(t)
				}
				c.wantRest(t, "")
				if got := o.Stats().Requests; got != n {
					t.Errorf("%d requests read, want %d", got, n)
				}
			})
		})
	}
}

func TestEchoReturnsTheBody(t *testing.T) {
	bubble(t, Echo(), func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
		if res, body := c.response(t, "POST"); body != "hi" || res.Header.Get("Content-Type") != "text/x" {
			t.Errorf("echo is %q of %q", body, res.Header.Get("Content-Type"))
		}
		c.send(t, "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
		if res, body := c.response(t, "HEAD"); body != "" || res.ContentLength != 4 {
			t.Errorf("echo to HEAD is %q, length %d, want no body, length 4", body, res.ContentLength)
		}
		c.send(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if _, body := c.response(t, "GET"); body != "" {
			t.Errorf("echo of nothing is %q", body)
		}
		c.wantRest(t, "")
	})
}

func TestReadyMadeScriptsAskForAnExpectedBody(t *testing.T) {
	bubble(t, Echo(), func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		if res, _ := c.response(t, "POST"); res.StatusCode != 100 {
			t.Fatalf("first answer is %s, want 100", res.Status)
		}
		c.send(t, "hi")
		if _, body := c.response(t, "POST"); body != "hi" {
			t.Errorf("echo is %q", body)
		}
	})
}

func TestChunkedWritesChunksAndTrailer(t *testing.T) {
	const big = 300
	chunks := []string{"one", "", strings.Repeat("x", big)}
	trailer := http.Header{"X-Sum": {"7"}, "X-Also": {"a", "b"}}
	bubble(t, Chunked(chunks, trailer), func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, getRequest)
		res, body := c.response(t, "GET")
		if body != strings.Join(chunks, "") {
			t.Errorf("body is %q", body)
		}
		if res.Trailer.Get("X-Sum") != "7" || len(res.Trailer["X-Also"]) != 2 {
			t.Errorf("trailer is %v, want %v", res.Trailer, trailer)
		}
		c.send(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		c.wantRest(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Also, X-Sum\r\n\r\n"+
			"3\r\none\r\n12c\r\n"+chunks[2]+"\r\n0\r\nX-Also: a\r\nX-Also: b\r\nX-Sum: 7\r\n\r\n")
	})
	bubble(t, Chunked(nil, nil), func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		c.wantRest(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	})
}

func TestEarlyAnswersBeforeTheBody(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
	t.Run("and goes on", func(t *testing.T) {
		bubble(t, Early(okResponse), func(t *testing.T, n *memnet.Network, o *Origin) {
			c := connect(t, n)
			for range 2 {
				c.send(t, head)
				c.wantOK(t)
				c.send(t, "hello")
			}
			synctest.Wait()
			if got := o.Stats(); got.Open != 1 || got.Requests != 2 {
				t.Errorf("%+v, want two requests on an open connection", got)
			}
		})
	})
	t.Run("and closes", func(t *testing.T) {
		const no = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
		bubble(t, Early(no), func(t *testing.T, n *memnet.Network, o *Origin) {
			c := connect(t, n)
			c.send(t, head)
			c.wantRest(t, no)
			c.send(t, "hello")
			synctest.Wait()
			if got := o.Stats().Open; got != 1 {
				t.Error("the origin closed before the client did")
			}
			c.Close()
			synctest.Wait()
			if got := o.Stats().Open; got != 0 {
				t.Error("the origin is open after the client closed")
			}
		})
	})
}

func TestGarbageFollowsTheResponse(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		bubble(t, Garbage(okResponse, 0, "junk"), func(t *testing.T, n *memnet.Network, o *Origin) {
			c := connect(t, n)
			c.send(t, getRequest)
			c.wantOK(t)
			if n := c.br.Buffered(); n != len("junk") {
				t.Errorf("%d bytes came with the response, want the junk", n)
			}
			c.br.Discard(len("junk"))
			c.send(t, getRequest)
			c.wantOK(t)
		})
	})
	t.Run("later", func(t *testing.T) {
		bubble(t, Garbage(okResponse, time.Second, "junk"), func(t *testing.T, n *memnet.Network, o *Origin) {
			c := connect(t, n)
			start := time.Now()
			c.send(t, getRequest)
			c.wantOK(t)
			wantElapsed(t, start, 0)
			junk := make([]byte, 4)
			if _, err := io.ReadFull(c.br, junk); err != nil || string(junk) != "junk" {
				t.Fatalf("%q, %v", junk, err)
			}
			wantElapsed(t, start, time.Second)
		})
	})
}

func TestSequenceGoesByOrdinal(t *testing.T) {
	say := func(s string) Handler { return func(c *Conn) { c.Write(s) } }
	bubble(t, Sequence(say("first"), say("second"), say("rest")), func(t *testing.T, n *memnet.Network, o *Origin) {
		for _, want := range []string{"first", "second", "rest", "rest"} {
			connect(t, n).wantRest(t, want)
		}
	})
}

// TestScriptsEndWhenTheClientGoes checks every ready-made script against a client
// that disappears, in each state it can leave the script in.
func TestScriptsEndWhenTheClientGoes(t *testing.T) {
	scripts := map[string]Handler{
		"Serve":      Serve(okResponse),
		"Latency":    Latency(time.Second, okResponse),
		"CloseAfter": CloseAfter(5, okResponse),
		"Echo":       Echo(),
		"Chunked":    Chunked([]string{"a", "b"}, nil),
		"Early":      Early(okResponse),
		"Garbage":    Garbage(okResponse, time.Second, "junk"),
	}
	for name, h := range scripts {
		for _, sent := range []string{"", "GET / HT", getRequest, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe",
			"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"} {
			for _, settled := range []bool{false, true} {
				bubble(t, h, func(t *testing.T, n *memnet.Network, o *Origin) {
					c := connect(t, n)
					c.send(t, sent)
					if settled {
						synctest.Wait()
					}
					c.Close()
					time.Sleep(time.Minute)
					if got := o.Stats(); got.Open != 0 || got.Accepted != 1 {
						t.Errorf("%s after %q, settled %v: %+v", name, sent, settled, got)
					}
				})
			}
		}
	}
}
