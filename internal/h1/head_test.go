package h1

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse parses a head that is written without its last empty line.
func parse(t *testing.T, head, method string, o HeadOptions) (*http.Response, Framing, error) {
	t.Helper()
	b := []byte(head + "\r\n")
	if end := HeadEnd(b, 0); end != len(b) {
		t.Fatalf("HeadEnd(%q) = %d, want %d", b, end, len(b))
	}
	resp := new(http.Response)
	f, err := ParseHead(resp, b, make([]string, 4), method, o)
	return resp, f, err
}

func TestHeadEndFindsTheEmptyLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int
	}{
		{"", -1},
		{"\r", -1},
		{"\n", 1},
		{"\r\n", 2},
		{"\r\nHTTP", 2},
		{"HTTP/1.1 200 OK\r\n", -1},
		{"HTTP/1.1 200 OK\r\n\r", -1},
		{"HTTP/1.1 200 OK\r\n\r\n", 19},
		{"HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\n", 19},
		{"HTTP/1.1 200 OK\n\n", 17},
		{"HTTP/1.1 200 OK\r\n\n", 18},
		{"HTTP/1.1 200 OK\n\r\n", 18},
		{"A\r\nB\r\r\n\r\n", 9},
		{"A\r\n\r\r\n\n", 7},
		{"A\r\n \r\n\r\n", 8},
	} {
		if got := HeadEnd([]byte(c.in), 0); got != c.want {
			t.Errorf("HeadEnd(%q, 0) = %d, want %d", c.in, got, c.want)
		}
		if got := headEndByByte([]byte(c.in)); got != c.want {
			t.Errorf("HeadEnd(%q), a byte at a time, = %d, want %d", c.in, got, c.want)
		}
	}
}

// headEndByByte calls HeadEnd as a connection does whose peer sends single bytes.
func headEndByByte(b []byte) int {
	from := 0
	for n := range len(b) + 1 {
		if end := HeadEnd(b[:n], from); end >= 0 {
			return end
		}
		from = n
	}
	return -1
}

func TestParseHeadFillsTheResponse(t *testing.T) {
	resp, f, err := parse(t, "HTTP/1.1 404 Not Found\r\n"+
		"content-type: text/plain\r\n"+
		"Content-Length:  12 \r\n"+
		"set-cookie: a=1\r\n"+
		"Set-Cookie: b=2\r\n"+
		"x-unknown-thing:\r\n"+
		"Keep-Alive: timeout=5, max=3\r\n", "GET", HeadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := &http.Response{
		Status: "404 Not Found", StatusCode: 404,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":    {"text/plain"},
			"Content-Length":  {"12"},
			"Set-Cookie":      {"a=1", "b=2"},
			"X-Unknown-Thing": {""},
			"Keep-Alive":      {"timeout=5, max=3"},
		},
		ContentLength: 12,
	}
	if !reflect.DeepEqual(resp, want) {
		t.Errorf("got  %+v\nwant %+v", resp, want)
	}
	wantFraming := Framing{Kind: BodyLength, Length: 12, Reusable: true, KeepAliveTimeout: 5 * time.Second, KeepAliveMax: 3}
	if f != wantFraming {
		t.Errorf("framing %+v, want %+v", f, wantFraming)
	}
}

func TestValuesDoNotShareSpareCapacity(t *testing.T) {
	resp, _, err := parse(t, "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\n", "GET", HeadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"A": "1", "B": "2", "C": "3", "D": "4", "E": "5", "F": "6"} {
		resp.Header.Add(name, "more")
		if got := resp.Header[name]; len(got) != 2 || got[0] != want {
			t.Errorf("%s = %q after Add, want %q first", name, got, want)
		}
	}
}

func TestFraming(t *testing.T) {
	const ok11, ok10 = "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n"
	for _, c := range []struct {
		head   string
		method string // GET if empty
		want   string // kind, length, reuse
		cl     int64
		close  bool
		lax    Lax
	}{
		{ok11, "", "until close -1 false", -1, true, 0},
		{ok11 + "Content-Length: 5\r\n", "", "length 5 true", 5, false, 0},
		{ok11 + "Content-Length: 0\r\n", "", "none 0 true", 0, false, 0},
		{ok11 + "Content-Length: 005\r\n", "", "length 5 true", 5, false, 0},
		{ok11 + "Content-Length: 9223372036854775807\r\n", "", "length 9223372036854775807 true", 1<<63 - 1, false, 0},
		{ok11 + "Transfer-Encoding: chunked\r\n", "", "chunked -1 true", -1, false, 0},
		{ok11 + "Transfer-Encoding: CHUNKED\r\n", "", "chunked -1 true", -1, false, 0},
		{"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n", "", "length 5 true", 5, false, 0},
		{"HTTP/1.1 200\r\nContent-Length: 5\r\n", "", "length 5 true", 5, false, 0},

		{ok11 + "Connection: close\r\nContent-Length: 5\r\n", "", "length 5 false", 5, true, 0},
		{ok11 + "Connection: foo, CLOSE\r\nContent-Length: 5\r\n", "", "length 5 false", 5, true, 0},
		{ok11 + "Connection: keep-alive\r\nConnection: close\r\nContent-Length: 5\r\n", "", "length 5 false", 5, true, 0},
		{ok11 + "Connection: closed\r\nContent-Length: 5\r\n", "", "length 5 true", 5, false, 0},
		{ok10 + "Content-Length: 5\r\n", "", "length 5 false", 5, true, 0},
		{ok10 + "Connection: Keep-Alive\r\nContent-Length: 5\r\n", "", "length 5 true", 5, false, 0},
		{ok10 + "Connection: keep-alive, close\r\nContent-Length: 5\r\n", "", "length 5 false", 5, true, 0},
		{ok10 + "Connection: keep-alive\r\n", "", "until close -1 false", -1, true, 0},
		{ok11 + "Keep-Alive: timeout=0\r\nContent-Length: 5\r\n", "", "length 5 false", 5, false, 0},
		{ok11 + "Keep-Alive: max=0\r\nContent-Length: 5\r\n", "", "length 5 false", 5, false, 0},
		{ok11 + "Keep-Alive: timeout=-1\r\nContent-Length: 5\r\n", "", "length 5 true", 5, false, 0},

		{ok11 + "Content-Length: 5\r\n", "HEAD", "none 0 true", 5, false, 0},
		{ok11, "HEAD", "none 0 true", -1, false, 0},
		{ok11 + "Transfer-Encoding: chunked\r\n", "HEAD", "none 0 true", -1, false, 0},
		{ok11 + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "HEAD", "none 0 false", 5, false, LaxLengthAndCoding},
		{"HTTP/1.1 204 No Content\r\n", "", "none 0 true", 0, false, 0},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", "", "none 0 true", 0, false, 0},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n", "", "none 0 false", 0, false, LaxBodiless},
		{"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", "", "none 0 false", 0, false, LaxBodiless},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n", "", "none 0 true", 0, false, 0},
		{"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", "", "none 0 true", 0, false, 0},
		{"HTTP/1.1 100 Continue\r\n", "", "none 0 true", 0, false, 0},
		{"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n", "", "none 0 false", 0, false, LaxBodiless},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n", "", "upgrade -1 false", 0, false, 0},
		{ok11, "CONNECT", "until close -1 false", -1, true, 0},
		{ok11 + "Content-Length: 0\r\n", "CONNECT", "until close -1 false", -1, true, 0},
		{ok11 + "Content-Length: 5\r\n", "CONNECT", "until close -1 false", -1, true, LaxBodiless},
		{"HTTP/1.1 403 No\r\nContent-Length: 5\r\n", "CONNECT", "length 5 true", 5, false, 0},

		{ok11 + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "", "chunked -1 false", -1, false, LaxLengthAndCoding},
		{ok11 + "Content-Length: 5\r\nContent-Length: 5\r\n", "", "length 5 false", 5, false, LaxRepeatedLength},
		{ok10 + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nConnection: keep-alive\r\n", "", "length 5 false", 5, false, LaxOldCoding},
		{ok10 + "Transfer-Encoding: gzip\r\n", "", "until close -1 false", -1, true, LaxOldCoding},
		{"HTTP/1.1 200 OK\nContent-Length: 5\r\n", "", "length 5 false", 5, false, LaxBareLF},
		{ok11 + "Content-Length: 5\n", "", "length 5 false", 5, false, LaxBareLF},
		{ok11 + "Content-Length:\r\n 5\r\n", "", "length 5 false", 5, false, LaxObsFold},
		{ok11 + "A : b\r\nContent-Length: 5\r\n", "", "length 5 false", 5, false, LaxNameSpace},
		{ok11 + "A b: c\r\nContent-Length: 5\r\n", "", "length 5 false", 5, false, LaxNameSpace},
		{ok11 + "Content-Length : 5\r\n", "", "length 5 false", 5, false, LaxNameSpace},
		{ok11 + "transfer-encoding : chunked\r\n", "", "chunked -1 false", -1, false, LaxNameSpace},
		{"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n", "", "length 5 false", 5, false, LaxStatusLine},
	} {
		method := c.method
		if method == "" {
			method = "GET"
		}
		resp, f, err := parse(t, c.head, method, HeadOptions{})
		if err != nil {
			t.Errorf("%s %q: %v", method, c.head, err)
			continue
		}
		if got := fmt.Sprint(f.Kind, f.Length, f.Reusable); got != c.want {
			t.Errorf("%s %q: %s, want %s", method, c.head, got, c.want)
		}
		if resp.ContentLength != c.cl || resp.Close != c.close || f.Lax != c.lax {
			t.Errorf("%s %q: ContentLength %d, Close %v, lax %q; want %d, %v, %q",
				method, c.head, resp.ContentLength, resp.Close, f.Lax, c.cl, c.close, c.lax)
		}
		_, _, err = parse(t, c.head, method, HeadOptions{Strict: true})
		if refused := isKind(err, Refused); refused != (c.lax != 0) {
			t.Errorf("%s %q, strict: %v, want a refusal: %v", method, c.head, err, c.lax != 0)
		}
	}
}

func isKind(err error, k Kind) bool {
	var p *ProtocolError
	return errors.As(err, &p) && p.Kind == k
}

func TestParseHeadRejects(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		head string
		kind Kind
	}{
		{"", Malformed},
		{"HTTP/1.1\r\n", Malformed},
		{"HTTP/1.1 \r\n", Malformed},
		{"HTTP/1.1 20\r\n", Malformed},
		{"HTTP/1.1 2000 OK\r\n", Malformed},
		{"HTTP/1.1 099 OK\r\n", Malformed},
		{"HTTP/1.1 000 OK\r\n", Malformed},
		{"HTTP/1.1 +20 OK\r\n", Malformed},
		{"HTTP/1.1 -20 OK\r\n", Malformed},
		{"HTTP/1.1 20x OK\r\n", Malformed},
		{"HTTP/1.1\t200 OK\r\n", Malformed},
		{"HTTP/1.1 200\tOK\r\n", Malformed},
		{"HTTP/1.1 200 OK\r\r\n", Malformed},
		{"HTTP/1.1 200 O\x00K\r\n", Malformed},
		{"HTTP/0.9 200 OK\r\n", Malformed},
		{"HTTP/2.0 200 OK\r\n", Malformed},
		{"HTTP/1.10 200 OK\r\n", Malformed},
		{"HTTP/1.x 200 OK\r\n", Malformed},
		{"HTTP/1 200 OK\r\n", Malformed},
		{"http/1.1 200 OK\r\n", Malformed},
		{"ICY 200 OK\r\n", Malformed},

		{ok + " A: b\r\n", Malformed},
		{ok + "\tA: b\r\n", Malformed},
		{ok + "A\r\n", Malformed},
		{ok + "A\r\n : b\r\n", Malformed},
		{ok + ": b\r\n", Malformed},
		{ok + "A\t: b\r\n", Malformed},
		{ok + "A\x00: b\r\n", Malformed},
		{ok + "Ä: b\r\n", Malformed},
		{ok + "A: b\x00\r\n", Malformed},
		{ok + "A: b\rc\r\n", Malformed},
		{ok + "A: b\r\r\n", Malformed},
		{ok + "A: b\x7f\r\n", Malformed},
		{ok + "A: b\x1b[m\r\n", Malformed},
		{ok + "A: b\r\n c\x00d\r\n", Malformed},

		{ok + "Content-Length: 5\r\nContent-Length: 6\r\n", BadFraming},
		{ok + "Content-Length: 5\r\nContent-Length: 05\r\n", BadFraming},
		{ok + "Content-Length : 5\r\nContent-Length: 6\r\n", BadFraming},
		{ok + "Content-Length:\r\n", BadFraming},
		{ok + "Content-Length: +5\r\n", BadFraming},
		{ok + "Content-Length: -5\r\n", BadFraming},
		{ok + "Content-Length: 5, 5\r\n", BadFraming},
		{ok + "Content-Length: 0x5\r\n", BadFraming},
		{ok + "Content-Length: 5_0\r\n", BadFraming},
		{ok + "Content-Length: 9223372036854775808\r\n", BadFraming},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nContent-Length: 6\r\n", BadFraming},
		{ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BadFraming},
		{ok + "Transfer-Encoding: gzip, chunked\r\n", BadFraming},
		{ok + "Transfer-Encoding: identity\r\n", BadFraming},
		{ok + "Transfer-Encoding:\r\n", BadFraming},
		{ok + "Transfer-Encoding: \x0bchunked\r\n", Malformed},
		{ok + "Transfer-Encoding: chunked\r\nTrailer: a, content-length\r\n", Malformed},
	} {
		if _, _, err := parse(t, c.head, "GET", HeadOptions{}); !isKind(err, c.kind) {
			t.Errorf("%q: %v, want %v", c.head, err, c.kind)
		}
	}
	if _, err := ParseHead(new(http.Response), []byte(ok+"A: b\r\n"), nil, "GET", HeadOptions{}); !isKind(err, Malformed) {
		t.Errorf("head without its empty line: %v, want %v", err, Malformed)
	}
}

func TestErrorQuotesOnlyLengthsThatLookLikeNumbers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for head, want := range map[string]string{
		"Content-Length: +3\r\n":                               `read response head: bad Content-Length "+3"`,
		"Content-Length: secret\r\n":                           `read response head: bad Content-Length`,
		"Content-Length: -" + strings.Repeat("1", 24) + "\r\n": `read response head: bad Content-Length`,
		"Transfer-Encoding: secret\r\n":                        `read response head: unsupported Transfer-Encoding`,
	} {
		if _, _, err := parse(t, ok+head, "GET", HeadOptions{}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", head, err, want)
		}
	}
}

func TestMaxFieldsBoundsAHead(t *testing.T) {
	head := func(n int) string { return "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", n) }
	for _, c := range []struct {
		limit, n int
		ok       bool
	}{
		{3, 3, true}, {3, 4, false},
		{0, DefaultMaxFields, true}, {0, DefaultMaxFields + 1, false},
		{-1, DefaultMaxFields + 1, true},
	} {
		resp, _, err := parse(t, head(c.n), "GET", HeadOptions{MaxFields: c.limit})
		if c.ok && (err != nil || len(resp.Header["A"]) != c.n) {
			t.Errorf("limit %d, %d fields: %d, %v", c.limit, c.n, len(resp.Header["A"]), err)
		}
		if !c.ok && !isKind(err, TooLarge) {
			t.Errorf("limit %d, %d fields: %v, want %v", c.limit, c.n, err, TooLarge)
		}
	}
}

func TestFoldsAreReadAsOneSpaceEach(t *testing.T) {
	for in, want := range map[string]string{
		"A: b\r\n c\r\n":               "b c",
		"A: b \r\n \t c \r\n\td\r\n":   "b c d",
		"A:\r\n b\r\n":                 "b",
		"A:\r\n \r\n b\r\n":            "b",
		"A: b\r\n \r\n":                "b ",
		"A: b\r\n \r\n c\r\nB: c\r\n":  "b  c",
		"B: c\r\nA: b\n c\r\nC: d\r\n": "b c",
	} {
		resp, f, err := parse(t, "HTTP/1.1 200 OK\r\n"+in, "GET", HeadOptions{})
		if err != nil || resp.Header["A"][0] != want || f.Lax&LaxObsFold == 0 {
			t.Errorf("%q: %q, lax %q, %v; want %q", in, resp.Header["A"], f.Lax, err, want)
		}
	}
}

func TestDeclaredTrailersAreKeysWithoutValues(t *testing.T) {
	resp, _, err := parse(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: md5, ,x-sum\r\nTrailer: z\r\n", "GET", HeadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (http.Header{"Md5": nil, "X-Sum": nil, "Z": nil}); !reflect.DeepEqual(resp.Trailer, want) {
		t.Errorf("Trailer %v, want %v", resp.Trailer, want)
	}
	if _, ok := resp.Header["Trailer"]; ok {
		t.Error("the header still has the Trailer field")
	}
}

func TestLaxNamesEachDeviation(t *testing.T) {
	for i := range 8 {
		if s := Lax(1 << i).String(); s == "" || strings.Contains(s, ",") {
			t.Errorf("Lax(1<<%d) = %q", i, s)
		}
	}
	if got, want := (LaxBareLF | LaxObsFold).String(), "line ends in a bare LF, folded field line"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range map[Kind]string{Malformed: "malformed", BadFraming: "bad framing", TooLarge: "too large", Refused: "refused", 9: "kind 9"} {
		if got := k.String(); got != want {
			t.Errorf("Kind(%d) = %q, want %q", k, got, want)
		}
	}
	if got := BodyKind(9).String(); got != "kind 9" {
		t.Errorf("BodyKind(9) = %q", got)
	}
}

func TestHeadTooLargeNamesTheLimit(t *testing.T) {
	err := HeadTooLarge(10 << 20)
	if !isKind(err, TooLarge) || !strings.Contains(err.Error(), "server response headers exceeded 10485760 bytes; aborted") {
		t.Errorf("%v", err)
	}
}
