package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
)

const (
	head4 = "HTTP/1.1 200 OK\r\n" +
		"Date: Mon, 02 Nov 2026 10:00:00 GMT\r\n" +
		"Content-Type: application/json\r\n" +
		"Content-Length: 128\r\n" +
		"Etag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\r\n"
	head4Lower = "HTTP/1.1 200 OK\r\n" +
		"date: Mon, 02 Nov 2026 10:00:00 GMT\r\n" +
		"content-type: application/json\r\n" +
		"content-length: 128\r\n" +
		"etag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\r\n"
	head4Chunked = "HTTP/1.1 200 OK\r\n" +
		"Date: Mon, 02 Nov 2026 10:00:00 GMT\r\n" +
		"Content-Type: application/json\r\n" +
		"Transfer-Encoding: chunked\r\n" +
		"Connection: keep-alive\r\n\r\n"
	head12 = "HTTP/1.1 200 OK\r\n" +
		"Date: Mon, 02 Nov 2026 10:00:00 GMT\r\n" +
		"Server: nginx\r\n" +
		"Content-Type: application/json; charset=utf-8\r\n" +
		"Content-Length: 128\r\n" +
		"Connection: keep-alive\r\n" +
		"Cache-Control: private, max-age=0\r\n" +
		"Etag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n" +
		"Vary: Accept-Encoding\r\n" +
		"X-Request-Id: 6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0\r\n" +
		"Strict-Transport-Security: max-age=31536000\r\n" +
		"X-Content-Type-Options: nosniff\r\n" +
		"Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly\r\n\r\n"
)

var parseBenches = []struct{ name, head string }{
	{"fields=4", head4}, {"fields=4/case=lower", head4Lower}, {"fields=12", head12},
}

// BenchmarkParse measures one response head from bytes to http.Response.
func BenchmarkParse(b *testing.B) {
	for _, c := range parseBenches {
		head := []byte(c.head)
		b.Run(c.name+"/codec=berth", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				// The engine has the two in one allocation as well.
				exchange := new(struct {
					resp   http.Response
					values [12]string
				})
				if HeadEnd(head, 0) < 0 {
					b.Fatal("no end")
				}
				if _, err := ParseHead(&exchange.resp, head, exchange.values[:], "GET", HeadOptions{}); err != nil {
					b.Fatal(err)
				}
				sinkResponse = &exchange.resp
			}
		})
		b.Run(c.name+"/codec=nethttp", func(b *testing.B) {
			b.ReportAllocs()
			src := bytes.NewReader(head)
			br := bufio.NewReader(src)
			for b.Loop() {
				src.Reset(head)
				br.Reset(src)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					b.Fatal(err)
				}
				sinkResponse = resp
			}
		})
	}
}

var sinkResponse *http.Response

// benchRequest returns a GET whose head has n fields of its own, and four that
// every head has: request line, Host, User-Agent, Accept-Encoding.
func benchRequest(n int) (*http.Request, *RequestHead) {
	req := &http.Request{
		Method: "GET",
		URL:    &url.URL{Scheme: "http", Host: "api.example.com:8080", Path: "/v1/items/12345", RawQuery: "fields=name"},
		Header: http.Header{},
	}
	for i := range n {
		req.Header[fmt.Sprintf("X-Header-%02d", i*7%n)] = []string{"a value of some length"}
	}
	return req, &RequestHead{Extra: []Field{{"Accept-Encoding", "gzip"}}}
}

// BenchmarkWrite measures one request head from http.Request to bytes. net/http
// gets Accept-Encoding as a field of the request.
func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1, 4, 12} {
		b.Run(fmt.Sprintf("fields=%d/codec=berth", n), func(b *testing.B) {
			req, h := benchRequest(n)
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := AppendRequestHead(buf, req, h, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("fields=%d/codec=nethttp", n), func(b *testing.B) {
			req, _ := benchRequest(n)
			req.Header["Accept-Encoding"] = []string{"gzip"}
			bw := bufio.NewWriter(io.Discard)
			b.ReportAllocs()
			for b.Loop() {
				if err := req.Write(bw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkChunked measures decoding 64 KiB in chunks of the given size.
func BenchmarkChunked(b *testing.B) {
	for _, size := range []int{64, 4096} {
		var wire []byte
		for range 65536 / size {
			wire = append(append(AppendChunkHead(wire, size), make([]byte, size)...), "\r\n"...)
		}
		wire, _ = AppendLastChunk(wire, nil)
		out := make([]byte, 65536)
		b.Run(fmt.Sprintf("chunk=%d/codec=berth", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(65536)
			for b.Loop() {
				var c Chunked
				for in, out := wire, out; ; {
					n, err := c.Next(in)
					if err != nil {
						b.Fatal(err)
					}
					if in = in[n:]; c.Done() {
						break
					}
					k := copy(out, in[:min(c.Remaining, int64(len(in)))])
					in, out = in[k:], out[k:]
					c.Took(int64(k))
				}
			}
		})
		b.Run(fmt.Sprintf("chunk=%d/codec=nethttp", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(65536)
			src := bytes.NewReader(wire)
			br := bufio.NewReader(src)
			for b.Loop() {
				src.Reset(wire)
				br.Reset(src)
				if _, err := io.ReadFull(httputil.NewChunkedReader(br), out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
