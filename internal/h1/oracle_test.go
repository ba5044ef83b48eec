// The codec against net/http: the same bytes or the same request go through both,
// and the outcomes are compared. Where they differ on purpose, the difference
// stands in one of the lists below, with its reason, the condition under which it
// is expected, and an example that pins it.

package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// Heads.

// headCase is one response given to both parsers.
type headCase struct {
	in     []byte
	method string

	end       int // of the head, -1 if there is none
	ours      *http.Response
	framing   Framing
	oursErr   error
	theirs    *http.Response
	theirsErr error
	rest      int // bytes that http.ReadResponse left, when it says there is no body
}

func parseBoth(in []byte, method string) headCase {
	c := headCase{in: in, method: method, end: HeadEnd(in, 0), ours: new(http.Response)}
	br := bufio.NewReader(bytes.NewReader(in))
	c.theirs, c.theirsErr = http.ReadResponse(br, &http.Request{Method: method})
	if c.theirsErr == nil && c.theirs.Body == http.NoBody {
		left, _ := io.ReadAll(br)
		c.rest = len(left)
	}
	if c.end < 0 {
		c.oursErr = io.ErrUnexpectedEOF
		return c
	}
	c.framing, c.oursErr = ParseHead(c.ours, bytes.Clone(in[:c.end]), make([]string, 3), method, HeadOptions{})
	return c
}

// difference says how the outcomes differ; "" if they do not.
func (c headCase) difference() string {
	if (c.oursErr == nil) != (c.theirsErr == nil) {
		return fmt.Sprintf("verdict: ours %v, net/http %v", c.oursErr, c.theirsErr)
	}
	if c.oursErr != nil {
		return ""
	}
	o, t := c.ours, c.theirs
	for _, f := range []struct {
		name         string
		ours, theirs any
	}{
		{"Proto", o.Proto, t.Proto},
		{"ProtoMajor", o.ProtoMajor, t.ProtoMajor},
		{"ProtoMinor", o.ProtoMinor, t.ProtoMinor},
		{"Status", o.Status, t.Status},
		{"StatusCode", o.StatusCode, t.StatusCode},
		{"Header", o.Header, t.Header},
		{"ContentLength", o.ContentLength, t.ContentLength},
		{"TransferEncoding", o.TransferEncoding, t.TransferEncoding},
		{"Close", o.Close, t.Close},
		{"Trailer", o.Trailer, t.Trailer},
		{"no body", c.framing.Kind == BodyNone || c.framing.Kind == BodyUpgrade, t.Body == http.NoBody},
	} {
		if !reflect.DeepEqual(f.ours, f.theirs) {
			return fmt.Sprintf("%s: ours %#v, net/http %#v", f.name, f.ours, f.theirs)
		}
	}
	if t.Body == http.NoBody && c.rest != len(c.in)-c.end {
		return fmt.Sprintf("end of head: ours %d, net/http %d", c.end, len(c.in)-c.rest)
	}
	return ""
}

func (c headCase) refusedFor(detail string) bool {
	var p *ProtocolError
	return errors.As(c.oursErr, &p) && p.Detail == detail && c.theirsErr == nil
}

var spacedFraming = regexp.MustCompile(`(?im)^(content-length|transfer-encoding|connection|keep-alive|trailer) +:`)

var headDifferences = []struct {
	name, reason string
	holds        func(headCase) bool
	in, method   string
}{
	{
		"status code below 100",
		"RFC 9110 §15 has no such codes; net/http takes 000 and even a sign, after which nobody agrees on interim responses",
		func(c headCase) bool { return c.refusedFor("malformed status code") && c.theirs.StatusCode < 100 },
		"HTTP/1.1 +99 OK\r\n\r\n", "GET",
	},
	{
		"major version other than 1",
		"a peer that says HTTP/2.0 in an HTTP/1.1 status line follows no framing we know",
		func(c headCase) bool {
			return c.refusedFor("malformed or unsupported HTTP version") && c.theirs.ProtoMajor != 1
		},
		"HTTP/2.0 200 OK\r\n\r\n", "GET",
	},
	{
		"control character in the status line",
		"NUL and bare CR must not pass anywhere in a head, and a reason phrase has no other control characters either (RFC 9112 §4)",
		func(c headCase) bool { return c.refusedFor("control character in the status line") },
		"HTTP/1.1 200 O\rK\r\n\r\n", "GET",
	},
	{
		"number of fields",
		"net/http bounds the bytes of a head only; a field of three bytes costs it thirty times as much",
		func(c headCase) bool { return c.refusedFor("too many fields") },
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("a:\n", DefaultMaxFields+1) + "\r\n", "GET",
	},
	{
		"space after the name of a framing field",
		"net/http takes \"Content-Length :\" for an unknown field; every proxy reads it as Content-Length, and so do we, without reuse",
		func(c headCase) bool { return c.end >= 0 && spacedFraming.Match(c.in[:c.end]) },
		"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", "GET",
	},
	{
		"length of a tunnel",
		"RFC 9112 §6.3 item 2: a client ignores Content-Length and Transfer-Encoding of a 2xx response to CONNECT",
		func(c headCase) bool {
			return c.method == http.MethodConnect && c.oursErr == nil &&
				c.ours.StatusCode/100 == 2 && c.framing.Kind == BodyUntilClose
		},
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "CONNECT",
	},
}

func TestHeadDifferencesFromNetHTTP(t *testing.T) {
	for _, d := range headDifferences {
		t.Run(d.name, func(t *testing.T) {
			c := parseBoth([]byte(d.in), d.method)
			if c.difference() == "" || !d.holds(c) {
				t.Errorf("%q: difference %q, expected: %v", d.in, c.difference(), d.holds(c))
			}
		})
	}
}

func toleratedHead(c headCase) bool {
	for _, d := range headDifferences {
		if d.holds(c) {
			return true
		}
	}
	return false
}

// Chunked bodies.

// chunkCase is one chunked body given to both decoders.
type chunkCase struct {
	in           []byte
	ours, theirs decoded
}

func decodeBoth(in []byte) chunkCase {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	c := chunkCase{in: in, ours: decode(in, len(in), false)}
	br := bufio.NewReader(io.MultiReader(strings.NewReader(head), bytes.NewReader(in)))
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		panic(err)
	}
	data, err := io.ReadAll(resp.Body)
	c.theirs.data, c.theirs.err, c.theirs.done = string(data), err, err == nil
	left, _ := io.ReadAll(br)
	c.theirs.rest, c.theirs.trailer = string(left), resp.Trailer
	return c
}

func (c chunkCase) difference() string {
	o, t := c.ours, c.theirs
	if o.done != t.done {
		return fmt.Sprintf("verdict: ours %v %v, net/http %v %v", o.done, o.err, t.done, t.err)
	}
	if !strings.HasPrefix(o.data, t.data) && !strings.HasPrefix(t.data, o.data) {
		return fmt.Sprintf("data: ours %q, net/http %q", o.data, t.data)
	}
	if !o.done {
		return ""
	}
	if o.data != t.data || o.rest != t.rest {
		return fmt.Sprintf("data and rest: ours %q %q, net/http %q %q", o.data, o.rest, t.data, t.rest)
	}
	if len(o.trailer)+len(t.trailer) > 0 && !reflect.DeepEqual(o.trailer, t.trailer) {
		return fmt.Sprintf("trailer: ours %q, net/http %q", o.trailer, t.trailer)
	}
	return ""
}

func (c chunkCase) refusedFor(detail string) bool {
	var p *ProtocolError
	return errors.As(c.ours.err, &p) && p.Detail == detail
}

var spacedExtension = regexp.MustCompile(`(?i)[0-9a-f][ \t]+;`)

var chunkDifferences = []struct {
	name, reason string
	holds        func(chunkCase) bool
	in           string
}{
	{
		"whitespace before an extension",
		"RFC 9112 §7.1.1 has BWS there, which \"a recipient MUST parse\" (RFC 9110 §5.6.3)",
		func(c chunkCase) bool { return spacedExtension.Match(c.in) && c.theirs.err != nil },
		"1 ;a\r\nx\r\n0\r\n\r\n",
	},
	{
		"control character in an extension",
		"no extension may have one; NUL ends a line for some peers",
		func(c chunkCase) bool { return c.refusedFor("control character in a chunk extension") },
		"1;\x00\r\nx\r\n0\r\n\r\n",
	},
	{
		"bare LF in the trailer section",
		"RFC 9112 §2.2 lets a recipient end field lines at LF; net/http does, but only when CRLF CRLF follows somewhere in its buffer",
		func(c chunkCase) bool { return c.ours.done && c.ours.lax&LaxBareLF != 0 && !c.theirs.done },
		"0\r\nA: b\n\n",
	},
	{
		"space before the colon of a framing field in the trailer section",
		"as in the head, the field is what other recipients take it for; net/http keeps the space in its name",
		func(c chunkCase) bool {
			return c.ours.done && c.theirs.done && spacedFraming.Match(c.in) && c.ours.lax != 0
		},
		"0\r\nContent-Length : 5\r\n\r\n",
	},
}

func TestChunkDifferencesFromNetHTTP(t *testing.T) {
	for _, d := range chunkDifferences {
		t.Run(d.name, func(t *testing.T) {
			c := decodeBoth([]byte(d.in))
			if c.difference() == "" || !d.holds(c) {
				t.Errorf("%q: difference %q, expected: %v", d.in, c.difference(), d.holds(c))
			}
		})
	}
}

func toleratedChunk(c chunkCase) bool {
	for _, d := range chunkDifferences {
		if d.holds(c) {
			return true
		}
	}
	return false
}

// TestChunkSizesAboveInt63AreRefusedAtOnce pins what needs no entry above: net/http
// takes sizes up to 1<<64-1, but no body ever reaches such an end.
func TestChunkSizesAboveInt63AreRefusedAtOnce(t *testing.T) {
	const in = "8000000000000000\r\nabc"
	if d := decode([]byte(in), len(in), false); d.data != "" || !isKind(d.err, TooLarge) {
		t.Errorf("ours: %q, %v", d.data, d.err)
	}
	data, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(in)))
	if string(data) != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("net/http: %q, %v", data, err)
	}
}

// TestChunkBoundsAreThoseOfNetHTTP stands on both sides of every bound; inputs this
// long do not suit a fuzzer.
func TestChunkBoundsAreThoseOfNetHTTP(t *testing.T) {
	fill := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name string
		in   func(n int) string
		most int // the largest n accepted
	}{
		{"trailer", func(n int) string { return "0\r\nA: " + fill(n) + "\r\n\r\n" }, maxTrailer - len("A: \r\n\r\n")},
		{"size line", func(n int) string { return "1;" + fill(n) + "\r\na\r\n0\r\n\r\n" }, maxChunkLine - len("1;\r\n")},
		{"last size line", func(n int) string { return "0;" + fill(n) + "\r\n\r\n" }, maxChunkLine - len("0;\r\n")},
		// A line of 100 bytes and the CRLF after the data are 102, of which 16+2 are free.
		{"overhead", func(n int) string { return strings.Repeat("1;"+fill(98)+"\r\na\r\n", n) + "0\r\n\r\n" }, maxExcess / (102 - 18)},
		// The last chunk adds to it and is not held against it.
		{"overhead and last chunk", func(n int) string {
			return strings.Repeat("1;"+fill(98)+"\r\na\r\n", n) + "0;" + fill(4000) + "\r\n\r\n"
		}, maxExcess / (102 - 18)},
		{"digits", func(n int) string { return strings.Repeat("0", n-1) + "1\r\na\r\n0\r\n\r\n" }, 16},
	} {
		for n, ok := range map[int]bool{c.most: true, c.most + 1: false} {
			got := decodeBoth([]byte(c.in(n)))
			if d := got.difference(); d != "" || got.ours.done != ok {
				t.Errorf("%s of %d: accepted %v, want %v; difference %.200q", c.name, n, got.ours.done, ok, d)
			}
		}
	}
}

// Request heads.

// requestCase is one request given to both writers.
type requestCase struct {
	req   *http.Request
	proxy bool

	ours, theirs       string
	oursErr, theirsErr error
}

// writeBoth writes the head of the request that build returns, which is called
// for each writer because net/http consumes the body.
func writeBoth(build func() *http.Request, proxy bool) requestCase {
	c := requestCase{req: build(), proxy: proxy}
	c.ours, c.oursErr = writeOurs(build(), proxy)
	theirs := build()
	var buf bytes.Buffer
	if proxy {
		c.theirsErr = theirs.WriteProxy(&buf)
	} else {
		c.theirsErr = theirs.Write(&buf)
	}
	if c.theirsErr != nil && strings.HasPrefix(c.theirsErr.Error(), "http: ContentLength=") {
		c.theirsErr = nil // a body of the wrong length is not the head's concern
	}
	head, _, _ := strings.Cut(buf.String(), "\r\n\r\n")
	c.theirs = head + "\r\n\r\n"
	return c
}

func writeOurs(req *http.Request, proxy bool) (string, error) {
	f, probe, err := FrameRequest(req)
	if err != nil {
		return "", err
	}
	if probe {
		var b [1]byte
		if _, err := io.ReadFull(req.Body, b[:]); err == io.EOF {
			f = RequestFraming{}
		}
	}
	head, err := AppendRequestHead(nil, req, &RequestHead{Framing: f, Close: req.Close, AbsoluteForm: proxy}, nil)
	return string(head), err
}

func (c requestCase) difference() string {
	if (c.oursErr == nil) != (c.theirsErr == nil) {
		return fmt.Sprintf("verdict: ours %v, net/http %v", c.oursErr, c.theirsErr)
	}
	if c.oursErr == nil && c.ours != c.theirs {
		return fmt.Sprintf("ours     %q\nnet/http %q", c.ours, c.theirs)
	}
	return ""
}

func (c requestCase) absolute() bool {
	return c.proxy && c.req.URL.Scheme != "" && c.req.URL.Opaque == ""
}

func (c requestCase) authority() bool {
	return !c.absolute() && c.req.Method == http.MethodConnect && c.req.URL.Path == ""
}

func example(change func(*http.Request)) func() *http.Request {
	return func() *http.Request {
		r := &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "a", Path: "/"}, Header: http.Header{}}
		change(r)
		return r
	}
}

var requestDifferences = []struct {
	name, reason string
	holds        func(requestCase) bool
	proxy        bool
	example      func() *http.Request
}{
	{
		"invalid method", "net/http leaves it to its callers, and a method with a line break splits the head",
		func(c requestCase) bool { return c.req.Method != "" && !isToken(c.req.Method) },
		false, example(func(r *http.Request) { r.Method = "G T" }),
	},
	{
		"space in the target", "the target ends at the first space, so that net/http's request line has words to spare; %20 is what was meant",
		func(c requestCase) bool {
			u := *c.req.URL
			return strings.Contains(u.RequestURI()+u.Scheme+u.Opaque, " ")
		},
		false, example(func(r *http.Request) { r.URL.RawQuery = "q=a b" }),
	},
	{
		"path without a slash", "in the absolute form it would be taken for a part of the host, in the origin form it is no target",
		func(c requestCase) bool {
			p := c.req.URL.EscapedPath()
			return c.req.URL.Opaque == "" && p != "" && p[0] != '/' && !c.authority()
		},
		true, example(func(r *http.Request) { r.URL.Path = "b.example/" }),
	},
	{
		"asterisk through a proxy", "RFC 9112 §3.2.4: a proxy gets an empty path, net/http appends the asterisk to the host",
		func(c requestCase) bool { return c.absolute() && c.req.URL.RequestURI() == "*" },
		true, example(func(r *http.Request) { r.Method, r.URL.Path = "OPTIONS", "*" }),
	},
	{
		"empty target", "CONNECT without a host has nothing between its spaces",
		func(c requestCase) bool { return c.authority() && c.oursErr != nil },
		false, example(func(r *http.Request) { r.Method, r.URL = "CONNECT", &url.URL{} }),
	},
	{
		"framing by a key that is not canonical", "net/http writes a map key \"content-length\" beside its own Content-Length",
		func(c requestCase) bool {
			for name := range c.req.Header {
				if isWrittenElsewhere(name) && http.CanonicalHeaderKey(name) != name {
					return true
				}
			}
			return false
		},
		false, example(func(r *http.Request) { r.Header["content-length"] = []string{"7"} }),
	},
	{
		"NUL in a value", "RFC 9110 §5.5 counts it with CR and LF; net/http leaves it to its callers",
		func(c requestCase) bool {
			for _, values := range c.req.Header {
				if strings.Contains(strings.Join(values, ""), "\x00") {
					return true
				}
			}
			return false
		},
		false, example(func(r *http.Request) { r.Header["A"] = []string{"b\x00c"} }),
	},
	{
		"close among other words", "Connection is a comma-separated list in all its lines; net/http looks at the first one and takes spaces for commas",
		func(c requestCase) bool {
			return c.req.Close && strings.Contains(strings.ToLower(strings.Join(c.req.Header["Connection"], ",")), "close")
		},
		false, example(func(r *http.Request) { r.Close, r.Header["Connection"] = true, []string{"x", "close"} }),
	},
	{
		"invalid trailer name", "net/http leaves it to its callers, and the Trailer field repeats the name",
		func(c requestCase) bool { return strings.Contains(fmt.Sprint(c.oursErr), "invalid trailer field name") },
		false, example(func(r *http.Request) {
			r.Method, r.Body, r.Trailer = "POST", someBody(), http.Header{"a b": nil}
		}),
	},
	{
		"body of unknown length with another coding", "net/http sends it without any framing: the server takes it for the next request",
		func(c requestCase) bool {
			te := c.req.TransferEncoding
			return len(te) > 0 && te[0] != "chunked" && c.req.Body != nil && c.req.Body != http.NoBody && c.req.ContentLength <= 0
		},
		false, example(func(r *http.Request) {
			r.Method, r.Body, r.TransferEncoding = "POST", someBody(), []string{"identity"}
		}),
	},
}

func TestRequestDifferencesFromNetHTTP(t *testing.T) {
	for _, d := range requestDifferences {
		t.Run(d.name, func(t *testing.T) {
			c := writeBoth(d.example, d.proxy)
			if c.difference() == "" || !d.holds(c) {
				t.Errorf("difference %q, expected: %v", c.difference(), d.holds(c))
			}
		})
	}
}

func toleratedRequest(c requestCase) bool {
	for _, d := range requestDifferences {
		if d.holds(c) {
			return true
		}
	}
	return false
}

func TestEachDifferenceHasAReason(t *testing.T) {
	seen := map[string]bool{}
	check := func(name, reason string) {
		if seen[name] || len(reason) < 20 {
			t.Errorf("difference %q: named twice, or without a reason", name)
		}
		seen[name] = true
	}
	for _, d := range headDifferences {
		check(d.name, d.reason)
	}
	for _, d := range chunkDifferences {
		check(d.name, d.reason)
	}
	for _, d := range requestDifferences {
		check(d.name, d.reason)
	}
}
