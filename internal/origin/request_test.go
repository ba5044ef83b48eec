package origin

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/berth-go/berth/internal/memnet"
)

// script runs f as the handler of one connection, on which the bytes come and
// then the client's half close.
func script(t *testing.T, sent string, f func(c *Conn)) {
	t.Helper()
	ran := false
	h := func(c *Conn) {
		ran = true
		f(c)
	}
	bubble(t, h, func(t *testing.T, n *memnet.Network, o *Origin) {
		c := connect(t, n)
		c.send(t, sent)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})
	if !ran {
		t.Fatal("the script did not run")
	}
}

func TestReadRequestGivesHeadAndContent(t *testing.T) {
	for _, tc := range []struct {
		name, head, body string
		content          string
		trailer          string
	}{
		{"no body", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "", "", ""},
		{"length", "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", "hello", "hello", ""},
		{"length zero", "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "", "", ""},
		{"chunked", "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
			"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "abcde", ""},
		{"trailer", "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
			"1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n", "a", "7"},
		{"long line", "GET /" + strings.Repeat("p", 10000) + " HTTP/1.1\r\nHost: h\r\n\r\n", "", "", ""},
		{"bare LF", "GET / HTTP/1.1\nHost: h\n\n", "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// A second request shows that exactly the first was taken.
			script(t, tc.head+tc.body+getRequest, func(c *Conn) {
				r, err := c.ReadRequest()
				if err != nil {
					t.Errorf("ReadRequest: %v", err)
					return
				}
				if string(r.Head) != tc.head {
					t.Errorf("Head is %q, want %q", r.Head, tc.head)
				}
				if string(r.Content) != tc.content {
					t.Errorf("Content is %q, want %q", r.Content, tc.content)
				}
				if again, _ := io.ReadAll(r.Body); string(again) != tc.content {
					t.Errorf("Body reads %q again, want %q", again, tc.content)
				}
				if got := r.Trailer.Get("X-Sum"); got != tc.trailer {
					t.Errorf("trailer is %q, want %q", got, tc.trailer)
				}
				if r, err := c.ReadRequest(); err != nil || string(r.Head) != getRequest {
					t.Errorf("second request: %q, %v", r.Head, err)
				}
				if _, err := c.ReadRequest(); err != io.EOF {
					t.Errorf("after the last request: %v, want bare io.EOF", err)
				}
				if got := c.origin.Stats().Requests; got != 2 {
					t.Errorf("%d requests counted, want 2", got)
				}
			})
		})
	}
}

func TestReadHeadLeavesTheBody(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
	t.Run("as a stream", func(t *testing.T) {
		script(t, head+"hello"+getRequest, func(c *Conn) {
			r, err := c.ReadHead()
			if err != nil || r.Content != nil {
				t.Errorf("ReadHead: content %q, %v", r.Content, err)
				return
			}
			if body, err := io.ReadAll(r.Body); string(body) != "hello" || err != nil {
				t.Errorf("Body: %q, %v", body, err)
			}
			if _, err := c.ReadHead(); err != nil {
				t.Errorf("second request: %v", err)
			}
		})
	})
	t.Run("as bytes", func(t *testing.T) {
		script(t, head+"hello", func(c *Conn) {
			c.ReadHead()
			if rest, err := io.ReadAll(c); string(rest) != "hello" || err != nil {
				t.Errorf("on the wire: %q, %v", rest, err)
			}
		})
	})
}

func TestReadRequestReportsWhatIsWrong(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: h\r\n"
	for _, tc := range []struct {
		name, sent string
		want       error // nil: any
		content    string
	}{
		{"ends in the head", "GET / HTTP/1.1\r\nHo", io.ErrUnexpectedEOF, ""},
		{"ends before the empty line", "GET / HTTP/1.1\r\nHost: h\r\n", io.ErrUnexpectedEOF, ""},
		{"ends in the body", post + "Content-Length: 5\r\n\r\nhel", io.ErrUnexpectedEOF, "hel"},
		{"ends in a chunk", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", io.ErrUnexpectedEOF, "hel"},
		{"ends before the trailer", post + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", io.ErrUnexpectedEOF, "a"},
		{"bad trailer", post + "Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n", nil, ""},
		{"stray empty line", "\r\n" + getRequest, nil, ""},
		{"no request", "hello\r\n\r\n", nil, ""},
		{"two lengths", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", nil, ""},
		{"endless head", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			script(t, tc.sent, func(c *Conn) {
				r, err := c.ReadRequest()
				if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("error is %v, want %v", err, tc.want)
				}
				if err == io.EOF {
					t.Error("a broken request looks like the end of the connection")
				}
				if !strings.HasPrefix(tc.sent, string(r.Head)) || len(r.Head) == 0 {
					t.Errorf("Head is %q, want what arrived", r.Head)
				}
				if string(r.Content) != tc.content {
					t.Errorf("Content is %q, want %q", r.Content, tc.content)
				}
			})
		})
	}
}
