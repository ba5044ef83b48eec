package h1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func someBody() io.ReadCloser { return io.NopCloser(strings.NewReader("x")) }

func TestFrameRequest(t *testing.T) {
	for _, c := range []struct {
		method string
		body   io.ReadCloser
		length int64
		coding []string
		want   string // kind, length, probe
	}{
		{"GET", nil, 0, nil, "none 0 false"},
		{"", nil, 0, nil, "none 0 false"},
		{"DELETE", nil, 0, nil, "none 0 false"},
		{"GET", http.NoBody, 0, nil, "none 0 false"},
		{"GET", http.NoBody, 5, nil, "none 0 false"},
		{"POST", nil, 0, nil, "length 0 false"},
		{"PUT", http.NoBody, 0, nil, "length 0 false"},
		{"PATCH", nil, 0, nil, "length 0 false"},
		{"POST", nil, 0, []string{"chunked"}, "length 0 false"},
		{"POST", http.NoBody, 0, []string{"chunked"}, "chunked -1 false"},
		{"DELETE", http.NoBody, 0, []string{"identity"}, "length 0 false"},
		{"GET", http.NoBody, 0, []string{"identity"}, "none 0 false"},
		{"DELETE", nil, 0, []string{"identity"}, "none 0 false"},
		{"GET", someBody(), 1, nil, "length 1 false"},
		{"POST", someBody(), 1, nil, "length 1 false"},
		{"POST", someBody(), 1, []string{"chunked"}, "chunked -1 false"},
		{"POST", someBody(), 1, []string{"gzip"}, "length 1 false"},
		{"POST", someBody(), 0, nil, "chunked -1 false"},
		{"POST", someBody(), -1, nil, "chunked -1 false"},
		{"FOO", someBody(), -1, nil, "chunked -1 false"},
		{"POST", someBody(), -1, []string{"identity"}, "chunked -1 false"},
		{"GET", someBody(), -1, nil, "chunked -1 true"},
		{"", someBody(), 0, nil, "chunked -1 true"},
		{"HEAD", someBody(), 0, nil, "chunked -1 true"},
		{"DELETE", someBody(), 0, nil, "chunked -1 true"},
		{"OPTIONS", someBody(), 0, nil, "chunked -1 true"},
		{"PROPFIND", someBody(), 0, nil, "chunked -1 true"},
		{"SEARCH", someBody(), 0, nil, "chunked -1 true"},
		{"GET", someBody(), -1, []string{"chunked"}, "chunked -1 false"},
		{"CONNECT", someBody(), -1, nil, "until close -1 false"},
		{"CONNECT", someBody(), 4, nil, "length 4 false"},
	} {
		req := &http.Request{Method: c.method, Body: c.body, ContentLength: c.length, TransferEncoding: c.coding}
		f, probe, err := FrameRequest(req)
		if got := fmt.Sprint(f.Kind, f.Length, probe); err != nil || got != c.want {
			t.Errorf("%s, length %d, coding %q, body %T: %s, %v, want %s", c.method, c.length, c.coding, c.body, got, err, c.want)
		}
	}
	_, _, err := FrameRequest(&http.Request{Method: "POST", ContentLength: 5})
	if want := "http: Request.ContentLength=5 with nil Body"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("length with nil Body: %v, want %q", err, want)
	}
}

// request builds a request that net/http did not check.
func request(method, rawURL string, h http.Header) *http.Request {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err)
	}
	return &http.Request{Method: method, URL: u, Header: h}
}

func TestAppendRequestHead(t *testing.T) {
	host := func(r *http.Request, h string) *http.Request { r.Host = h; return r }
	trailer := func(r *http.Request, h http.Header) *http.Request { r.Trailer = h; return r }
	for _, c := range []struct {
		name string
		req  *http.Request
		head RequestHead
		want string
	}{
		{"plain", request("", "http://a.example/", nil), RequestHead{},
			"GET / HTTP/1.1|Host: a.example|User-Agent: Go-http-client/1.1||"},
		{"query without a path", request("GET", "http://a.example:81?q=1", nil), RequestHead{},
			"GET /?q=1 HTTP/1.1|Host: a.example:81|User-Agent: Go-http-client/1.1||"},
		{"order", request("POST", "http://a.example/p", http.Header{
			"Zeta": {"1"}, "Alpha": {"2", "3"}, "User-Agent": {"me", "you"}, "Host": {"no"},
			"Content-Length": {"9"}, "Transfer-Encoding": {"no"}, "Trailer": {"no"},
		}), RequestHead{Framing: RequestFraming{BodyLength, 7}, Close: true, Extra: []Field{{"Accept-Encoding", "gzip"}, {"X", "y"}}},
			"POST /p HTTP/1.1|Host: a.example|User-Agent: me|Connection: close|Content-Length: 7|Alpha: 2|Alpha: 3|Zeta: 1|Accept-Encoding: gzip|X: y||"},
		{"blank user agent", request("GET", "http://a/", http.Header{"User-Agent": {""}}), RequestHead{},
			"GET / HTTP/1.1|Host: a||"},
		{"no user agent", request("GET", "http://a/", http.Header{"User-Agent": nil}), RequestHead{},
			"GET / HTTP/1.1|Host: a||"},
		{"own close", request("GET", "http://a/", http.Header{"Connection": {"x, Close"}, "User-Agent": nil}), RequestHead{Close: true},
			"GET / HTTP/1.1|Host: a|Connection: x, Close||"},
		{"chunked", trailer(request("POST", "http://a/", http.Header{"User-Agent": nil}), http.Header{"b": nil, "A": {"x"}}),
			RequestHead{Framing: RequestFraming{BodyChunked, -1}},
			"POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Trailer: A,B||"},
		{"trailer without chunks", trailer(request("POST", "http://a/", http.Header{"User-Agent": nil}), http.Header{"A": {"x"}}),
			RequestHead{Framing: RequestFraming{BodyLength, 0}},
			"POST / HTTP/1.1|Host: a|Content-Length: 0||"},
		{"proxy", request("GET", "http://a:8080/p?q", http.Header{"User-Agent": nil}), RequestHead{AbsoluteForm: true},
			"GET http://a:8080/p?q HTTP/1.1|Host: a:8080||"},
		{"CONNECT", request("CONNECT", "//a:443", http.Header{"User-Agent": nil}), RequestHead{Framing: RequestFraming{BodyUntilClose, -1}},
			"CONNECT a:443 HTTP/1.1|Host: a:443||"},
		{"punycode", request("GET", "http://bücher.example:81/", http.Header{"User-Agent": nil}), RequestHead{},
			"GET / HTTP/1.1|Host: xn--bcher-kva.example:81||"},
		{"zone", request("GET", "http://[fe80::1%25eth0]:81/", http.Header{"User-Agent": nil}), RequestHead{},
			"GET / HTTP/1.1|Host: [fe80::1]:81||"},
		{"own host", host(request("GET", "http://a/", http.Header{"User-Agent": nil}), "b"), RequestHead{},
			"GET / HTTP/1.1|Host: b||"},
		{"invalid host", host(request("GET", "http://a/", http.Header{"User-Agent": nil}), "b/ c"), RequestHead{},
			"GET / HTTP/1.1|Host: ||"},
		{"escaped path", request("GET", "http://a/x%2Fy%20z", http.Header{"User-Agent": nil}), RequestHead{},
			"GET /x%2Fy%20z HTTP/1.1|Host: a||"},
	} {
		got, err := AppendRequestHead([]byte("before "), c.req, &c.head, nil)
		if want := "before " + strings.ReplaceAll(c.want, "|", "\r\n"); err != nil || string(got) != want {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", c.name, got, err, want)
		}
	}
}

func TestManyFieldsAreSorted(t *testing.T) {
	h := http.Header{"User-Agent": nil}
	var want strings.Builder
	want.WriteString("GET / HTTP/1.1\r\nHost: a\r\n")
	for i := range 60 {
		name := fmt.Sprintf("X-%02d", i)
		h[name] = []string{"v"}
		want.WriteString(name + ": v\r\n")
	}
	want.WriteString("\r\n")
	got, err := AppendRequestHead(nil, request("GET", "http://a/", h), &RequestHead{}, nil)
	if err != nil || string(got) != want.String() {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestNothingSplitsAHead puts line breaks everywhere a caller can: the head either
// has the lines it should have, or is refused.
func TestNothingSplitsAHead(t *testing.T) {
	const evil = "x\r\nEvil: 1\r\n\r\nGET /evil HTTP/1.1\r\n\x00"
	base := func() *http.Request { return request("POST", "http://a/p", http.Header{}) }
	for name, change := range map[string]func(*http.Request, *RequestHead){
		"method":      func(r *http.Request, _ *RequestHead) { r.Method = "G " + evil },
		"host":        func(r *http.Request, _ *RequestHead) { r.Host = evil },
		"URL host":    func(r *http.Request, _ *RequestHead) { r.URL.Host = evil },
		"IDNA host":   func(r *http.Request, _ *RequestHead) { r.Host = "ü" + evil },
		"zone":        func(r *http.Request, _ *RequestHead) { r.Host = "[::1%" + evil + "]" },
		"scheme":      func(r *http.Request, h *RequestHead) { r.URL.Scheme = evil; h.AbsoluteForm = true },
		"proxy host":  func(r *http.Request, h *RequestHead) { r.Host = evil; h.AbsoluteForm = true },
		"path":        func(r *http.Request, _ *RequestHead) { r.URL.Path = "/" + evil },
		"raw path":    func(r *http.Request, _ *RequestHead) { r.URL.Path, r.URL.RawPath = "/"+evil, "/"+evil },
		"query":       func(r *http.Request, _ *RequestHead) { r.URL.RawQuery = evil },
		"opaque":      func(r *http.Request, _ *RequestHead) { r.URL.Opaque = evil },
		"authority":   func(r *http.Request, _ *RequestHead) { r.Method, r.URL = "CONNECT", &url.URL{Opaque: evil} },
		"user agent":  func(r *http.Request, _ *RequestHead) { r.Header["User-Agent"] = []string{evil} },
		"value":       func(r *http.Request, _ *RequestHead) { r.Header["A"] = []string{evil} },
		"name":        func(r *http.Request, _ *RequestHead) { r.Header[evil] = []string{"1"} },
		"extra value": func(_ *http.Request, h *RequestHead) { h.Extra = []Field{{"A", evil}} },
		"extra name":  func(_ *http.Request, h *RequestHead) { h.Extra = []Field{{evil, "1"}} },
		"trailer name": func(r *http.Request, h *RequestHead) {
			r.Trailer = http.Header{evil: nil}
			h.Framing = RequestFraming{BodyChunked, -1}
		},
		"second length": func(r *http.Request, h *RequestHead) { r.Header["content-length"] = []string{"9"} },
		"second coding": func(r *http.Request, h *RequestHead) { r.Header["transfer-encoding"] = []string{"chunked"} },
		"second host":   func(r *http.Request, h *RequestHead) { r.Header["HOST"] = []string{"b"} },
	} {
		req, h := base(), &RequestHead{Framing: RequestFraming{BodyLength, 1}}
		change(req, h)
		got, err := AppendRequestHead([]byte("before"), req, h, nil)
		if err != nil {
			if r := new(RequestError); !errors.As(err, &r) || string(got) != "before" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if strings.Contains(err.Error(), "Evil") && !strings.Contains(err.Error(), `\r\nEvil`) {
				t.Errorf("%s: the error repeats the break: %q", name, err)
			}
			continue
		}
		checkHead(t, name, strings.TrimPrefix(string(got), "before"))
	}
}

// checkHead verifies that head is one head: one request line of three words, field
// lines with token names, one empty line, no stray breaks, one of each field that
// frames.
func checkHead(t *testing.T, name, head string) {
	t.Helper()
	body, ok := strings.CutSuffix(head, "\r\n\r\n")
	if !ok {
		t.Errorf("%s: no empty line at the end of %q", name, head)
		return
	}
	counts := map[string]int{}
	for i, line := range strings.Split(body, "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") || line == "" {
			t.Errorf("%s: line %d is %q", name, i, line)
		}
		if i == 0 {
			if words := strings.Split(line, " "); len(words) != 3 || words[1] == "" || words[2] != "HTTP/1.1" {
				t.Errorf("%s: request line %q", name, line)
			}
			continue
		}
		field, _, ok := strings.Cut(line, ": ")
		if !ok || !isToken(field) || equalFold(field, "Evil") {
			t.Errorf("%s: field line %q", name, line)
		}
		counts[strings.ToLower(field)]++
	}
	if counts["host"] != 1 || counts["content-length"]+counts["transfer-encoding"] > 1 || counts["trailer"] > 1 {
		t.Errorf("%s: repeated framing in %q", name, head)
	}
}

func TestEveryFieldIsTraced(t *testing.T) {
	req := request("POST", "http://a/", http.Header{"B": {" 1\n", "2"}, "A": {"3"}, "C": nil, "bad name": {"x"}})
	req.Trailer = http.Header{"T": nil, "S": nil}
	for _, c := range []struct {
		framing RequestFraming
		want    []string
	}{
		{RequestFraming{BodyLength, 12}, []string{`Content-Length ["12"]`}},
		{RequestFraming{BodyChunked, -1}, []string{`Transfer-Encoding ["chunked"]`, `Trailer ["S" "T"]`}},
	} {
		var got []string
		trace := &httptrace.ClientTrace{WroteHeaderField: func(name string, values []string) {
			got = append(got, fmt.Sprintf("%s %q", name, values))
		}}
		h := &RequestHead{Framing: c.framing, Close: true, Extra: []Field{{"X", " y "}}}
		traced, err := AppendRequestHead(nil, req, h, trace)
		if err != nil {
			t.Fatal(err)
		}
		want := append([]string{`Host ["a"]`, `User-Agent ["Go-http-client/1.1"]`, `Connection ["close"]`}, c.want...)
		want = append(want, `A ["3"]`, `B ["1" "2"]`, `C []`, `X ["y"]`)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for name, trace := range map[string]*httptrace.ClientTrace{"no trace": nil, "no hook": {}} {
			if plain, err := AppendRequestHead(nil, req, h, trace); err != nil || string(plain) != string(traced) {
				t.Errorf("%s: %q, %v, want %q", name, plain, err, traced)
			}
		}
	}
}

func TestHostField(t *testing.T) {
	for in, want := range map[string]string{
		"a.example:80":       "a.example:80",
		"[::1]:80":           "[::1]:80",
		"[fe80::1%eth0]":     "[fe80::1]",
		"[fe80::1%25eth0]:1": "[fe80::1]:1",
		"[::1":               "[::1",
		"a/b":                "",
		"a b":                "",
		"a\r\nb":             "",
	} {
		req := &http.Request{URL: &url.URL{Host: in}}
		if got, err := hostField(req, false); err != nil || got != want {
			t.Errorf("hostField(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"a b", "ü b", "xn--ü"} {
		req := &http.Request{URL: &url.URL{Host: in}}
		if got, err := hostField(req, true); err == nil {
			t.Errorf("hostField(%q) for a proxy = %q, want an error", in, got)
		}
	}
}

func TestAppendRequestHeadWithoutURL(t *testing.T) {
	if _, err := AppendRequestHead(nil, new(http.Request), &RequestHead{}, nil); err == nil {
		t.Error("no error")
	}
}

func TestNegativeLengthPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic: the length would be written")
		}
	}()
	h := &RequestHead{Framing: RequestFraming{BodyLength, -1}}
	AppendRequestHead(nil, request("POST", "http://a/", nil), h, nil)
}
