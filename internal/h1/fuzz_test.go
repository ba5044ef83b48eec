package h1

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// FuzzParseHead gives the same response to ParseHead and to http.ReadResponse.
func FuzzParseHead(f *testing.F) {
	for _, head := range []string{
		"",
		"\r\n",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
		"HTTP/1.1 200\r\ncontent-length:0005 \r\nCONTENT-LENGTH: 0005\r\n",
		"HTTP/1.1  200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nContent-Length: 1\r\n",
		"HTTP/1.0 200 OK\r\nConnection: close, keep-alive\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a,B, ,c-d\r\nContent-Length: 9\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: content-length\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
		"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nEtag: \"x\"\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nConnection: Close\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\n",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nCache-Control: private\r\n",
		"HTTP/1.1 200 OK\nA: b\nC:d\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\td \r\n \r\nB : c\r\nD e: f\r\n",
		"HTTP/1.1 200 OK\r\n A: b\r\n",
		"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=0\r\nSet-Cookie: a\r\nset-cookie: b\r\n",
		"HTTP/1.3 999 \r\nContent-Length : 5\r\n: x\r\n",
		"HTTP/2.0 000 OK\r\nA: \x00\r\nB: \x7f\r\nC: \xff\r\n\r\r\n",
	} {
		for _, method := range []string{"GET", "HEAD", "CONNECT"} {
			f.Add([]byte(head+"\r\nhello"), method)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, method string) {
		c := parseBoth(in, method)
		if got := headEndByByte(in); got != c.end {
			t.Errorf("end of head %d at once, %d by the byte", c.end, got)
		}
		if d := c.difference(); d != "" && !toleratedHead(c) {
			t.Errorf("%s %q: %s", method, in, d)
		}
		if c.end < 0 {
			return
		}
		if p := new(ProtocolError); c.oursErr != nil && !errors.As(c.oursErr, &p) {
			t.Errorf("error is a %T: %v", c.oursErr, c.oursErr)
		}
		if c.framing.Reusable && (c.framing.Lax != 0 || c.ours.Close) {
			t.Errorf("reusable with %+v, Close %v", c.framing, c.ours.Close)
		}
		// Strict refuses exactly what was tolerated, and changes nothing else.
		strict := new(http.Response)
		framing, err := ParseHead(strict, bytes.Clone(in[:c.end]), nil, method, HeadOptions{Strict: true})
		if (err == nil) != (c.oursErr == nil && c.framing.Lax == 0) {
			t.Errorf("strict: %v; lax: %v, %q", err, c.oursErr, c.framing.Lax)
		}
		if err == nil && (framing != c.framing || !reflect.DeepEqual(strict, c.ours)) {
			t.Errorf("strict: %+v %+v; lax: %+v %+v", framing, strict, c.framing, c.ours)
		}
	})
}

// FuzzChunked gives the same chunked body to Chunked, whole and in pieces, and to
// http.ReadResponse.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"", "0\r\n\r\n", "0\r\n\r\nrest", "0\r\n\n", "0\n\n",
		"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
		"5;a=b\r\nhello\r\n5 \r\nworld\r\n000;x\r\nA: b\r\nC: d\r\n\r\n",
		"1 ;a\r\nx\r\n0\r\n\r\n", "1;\x01\r\nx\r\n0\r\n\r\n", "1;\rx\r\n0\r\n\r\n",
		"1\r\nxx\r\n0\r\n\r\n", "1\r\nx\n0\r\n\r\n", "1\nx\r\n0\r\n\r\n",
		"7fffffffffffffff\r\nx", "ffffffffffffffff\r\nx", "10000000000000000\r\nx", "g\r\n",
		"0\r\nA: b\nC: d\n\r\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\nA : b\r\nA : c\r\n\r\n",
		"0\r\nA: b\r\n", "0\r\nA\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := decodeBoth(in)
		if d := c.difference(); d != "" && !toleratedChunk(c) {
			t.Errorf("%q: %s", in, d)
		}
		for _, step := range []int{1, 3} {
			d := decode(in, step, false)
			if d.done != c.ours.done || d.data != c.ours.data || d.lax != c.ours.lax ||
				(d.err == nil) != (c.ours.err == nil) || d.err != nil && d.err.Error() != c.ours.err.Error() ||
				d.done && (d.rest != c.ours.rest || !reflect.DeepEqual(d.trailer, c.ours.trailer)) {
				t.Errorf("%q in steps of %d: %+v, at once: %+v", in, step, d, c.ours)
			}
		}
		strict := decode(in, len(in), true)
		if strict.done != (c.ours.done && c.ours.lax == 0) {
			t.Errorf("%q strict: %v, lax: %v %q", in, strict.err, c.ours.err, c.ours.lax)
		}
	})
}

// FuzzRequestHead gives the same request to AppendRequestHead and to
// (*http.Request).Write, and checks that the head is one head.
func FuzzRequestHead(f *testing.F) {
	const closes, proxied, hasBody, isChunked, hasTrailer, noBody, identity = 1, 2, 4, 8, 16, 32, 64
	f.Add("GET", "http", "a.example", "/", "", "q=1", "", "", "X-A", "b", "", uint8(0), int64(0))
	f.Add("", "http", "a.example:80", "", "", "", "", "b.example", "User-Agent", "", "", uint8(closes), int64(0))
	f.Add("POST", "https", "bücher.example:1", "/ü", "/%C3%BC", "", "", "", "Connection", "close", "Md5", uint8(hasBody|isChunked|hasTrailer), int64(-1))
	f.Add("PUT", "http", "[fe80::1%25eth0]", "/a b", "/a%20b", "a b", "", "", "Host", "x", "Trailer", uint8(hasBody|hasTrailer|proxied), int64(0))
	f.Add("CONNECT", "", "a:443", "", "", "", "", "", "content-length", "5", "", uint8(hasBody), int64(-1))
	f.Add("OPTIONS", "http", "a", "*", "", "", "", "", "a", "\r\nb\x00\t", "", uint8(proxied), int64(0))
	f.Add("GET", "http", "a", "/x", "", "", "//b/c", "", "bad name", "v", "", uint8(hasBody), int64(3))
	f.Add("G T", "ht tp", "a b", "x\r\n", "/%", "\x7f", "o\n", "\xff", "\r\n", "", "a b", uint8(0xff), int64(7))
	f.Add("DELETE", "http", "a", "/x;y=z@:$&+,", "", "", "", "", "User-Agent", " me\n", "", uint8(hasBody|identity), int64(0))
	f.Add("PATCH", "http", "a", "/%2F", "/%2f", "", "", "", "Te", "trailers", "", uint8(hasBody|noBody), int64(0))
	f.Fuzz(func(t *testing.T, method, scheme, host, path, rawPath, query, opaque, reqHost, name, value, trailer string, flags uint8, length int64) {
		build := func() *http.Request {
			r := &http.Request{
				Method: method,
				URL:    &url.URL{Scheme: scheme, Host: host, Path: path, RawPath: rawPath, RawQuery: query, Opaque: opaque},
				Host:   reqHost,
				Header: http.Header{"Accept": {"*/*"}, name: {value, "second"}},
				Close:  flags&closes != 0, ContentLength: length,
			}
			if flags&hasBody != 0 {
				r.Body = io.NopCloser(strings.NewReader(value))
			}
			if flags&noBody != 0 {
				r.Body = http.NoBody
			}
			if flags&isChunked != 0 {
				r.TransferEncoding = []string{"chunked"}
			} else if flags&identity != 0 {
				r.TransferEncoding = []string{"identity"}
			}
			if flags&hasTrailer != 0 {
				r.Trailer = http.Header{trailer: nil, "Z": nil}
			}
			return r
		}
		c := writeBoth(build, flags&proxied != 0)
		if d := c.difference(); d != "" && !toleratedRequest(c) {
			t.Errorf("%s", d)
		}
		if c.oursErr != nil {
			if r := new(RequestError); !errors.As(c.oursErr, &r) {
				t.Errorf("error is a %T: %v", c.oursErr, c.oursErr)
			}
			return
		}
		if !equalFold(name, "Evil") {
			checkHead(t, "fuzz", c.ours)
		}
	})
}
