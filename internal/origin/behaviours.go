// Ready-made scripts: the origins that tests need again and again. Each function
// returns a Handler; a response is the bytes of a whole response message.

package origin

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Serve answers every request on a connection with the same bytes, after it has
// read the request's body. It closes the connection when the request or the
// response asks for it, or when the response has no other end.
//
// The bytes are the same for every method: a response to HEAD has a body that
// belongs to no one.
func Serve(response string) Handler {
	return Latency(0, response)
}

// Latency is Serve with a wait of d before each answer, counted from the end of
// the request.
func Latency(d time.Duration, response string) Handler {
	last := closes(response)
	return func(c *Conn) {
		for {
			r, ok := c.next()
			if !ok || d > 0 && !c.Sleep(d) || c.Write(response) != nil || last || r.Close {
				return
			}
		}
	}
}

// CloseAfter answers n requests of each connection and then closes it without
// having said so. Zero closes it as soon as it is accepted.
func CloseAfter(n int, response string) Handler {
	return func(c *Conn) {
		for range n {
			if _, ok := c.next(); !ok || c.Write(response) != nil {
				return
			}
		}
	}
}

// Echo answers with 200 and the body of the request, which it has read to its
// end. The Content-Type is the request's.
func Echo() Handler {
	return func(c *Conn) {
		for {
			r, ok := c.next()
			if !ok {
				return
			}
			var b strings.Builder
			b.WriteString("HTTP/1.1 200 OK\r\n")
			if v := r.Header.Get("Content-Type"); v != "" {
				fmt.Fprintf(&b, "Content-Type: %s\r\n", v)
			}
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(r.Content))
			if r.Method != http.MethodHead {
				b.Write(r.Content)
			}
			if c.Write(b.String()) != nil || r.Close {
				return
			}
		}
	}
}

// Chunked answers with 200 and a chunked body: each chunk is written by itself,
// empty ones are left out, because they would end the body. A trailer, if not
// empty, follows, announced in the head.
func Chunked(chunks []string, trailer http.Header) Handler {
	var head, end strings.Builder
	head.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
	if len(trailer) > 0 {
		names := slices.Sorted(maps.Keys(trailer))
		fmt.Fprintf(&head, "Trailer: %s\r\n", strings.Join(names, ", "))
	}
	head.WriteString("\r\n")
	end.WriteString("0\r\n")
	// A strings.Builder returns no error.
	_ = trailer.Write(&end)
	end.WriteString("\r\n")

	parts := []string{head.String()}
	for _, chunk := range chunks {
		if chunk != "" {
			parts = append(parts, fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk))
		}
	}
	parts = append(parts, end.String())
	return func(c *Conn) {
		for {
			r, ok := c.next()
			if !ok {
				return
			}
			for _, part := range parts {
				if c.Write(part) != nil {
					return
				}
			}
			if r.Close {
				return
			}
		}
	}
}

// Early answers as soon as it has the head of a request. It reads the body
// afterwards and goes on with the next request; if the connection is to close, it
// closes its own direction first and takes what still comes, so that the answer
// is not lost in a reset (RFC 9112 §9.6). An origin that never reads the body is
// a script: ReadHead, Write, Stall.
func Early(response string) Handler {
	last := closes(response)
	return func(c *Conn) {
		for {
			r, err := c.ReadHead()
			if err != nil || c.Write(response) != nil {
				return
			}
			if last || r.Close {
				if c.CloseWrite() == nil {
					_, _ = io.Copy(io.Discard, c)
				}
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
	}
}

// Garbage answers every request and adds bytes that belong to no response: with a
// delay of zero in the same write, otherwise so much later, when the connection
// may be idle.
func Garbage(response string, delay time.Duration, junk string) Handler {
	return func(c *Conn) {
		for {
			if _, ok := c.next(); !ok {
				return
			}
			if delay <= 0 {
				if c.Write(response+junk) != nil {
					return
				}
				continue
			}
			if c.Write(response) != nil || !c.Sleep(delay) || c.Write(junk) != nil {
				return
			}
		}
	}
}

// Sequence gives the first connection the first handler, the second the second,
// and every later one the last.
func Sequence(handlers ...Handler) Handler {
	if len(handlers) == 0 {
		panic("origin: sequence of no handlers")
	}
	return func(c *Conn) { handlers[min(c.N(), len(handlers)-1)](c) }
}

// next reads a whole request, after it has asked for the body if the client waits
// for that (RFC 9110 §10.1.1). It reports false when the connection is of no
// more use.
func (c *Conn) next() (*Request, bool) {
	r, err := c.ReadHead()
	if err != nil {
		return nil, false
	}
	if r.ContentLength != 0 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		if c.Write("HTTP/1.1 100 Continue\r\n\r\n") != nil {
			return nil, false
		}
	}
	return r, r.readContent() == nil
}

// closes reports whether the connection ends with the response: it says so, or
// its body has no other end. Interim responses before it are passed over. Bytes
// that are no response close nothing.
func closes(response string) bool {
	br := bufio.NewReader(strings.NewReader(response))
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return false
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res.Close
		}
	}
}
