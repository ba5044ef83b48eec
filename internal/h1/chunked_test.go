package h1

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// decoded is what a chunked body was read as.
type decoded struct {
	data    string
	rest    string // bytes after the body
	done    bool   // false: it ended early, or err
	err     error
	trailer http.Header
	lax     Lax
}

// decode drives a Chunked the way a body reader does. step is the number of bytes
// that arrive at once.
func decode(in []byte, step int, strict bool) decoded {
	c := Chunked{Strict: strict}
	var d decoded
	var data []byte
	pos, have := 0, 0
	for !c.Done() && d.err == nil {
		n, err := c.Next(in[pos:have])
		pos += n
		if d.err = err; err != nil {
			break
		}
		take := int(min(c.Remaining, int64(have-pos)))
		data = append(data, in[pos:pos+take]...)
		pos += take
		c.Took(int64(take))
		if n == 0 && take == 0 && !c.Done() {
			if have == len(in) {
				break
			}
			have = min(have+step, len(in))
		}
	}
	d.data, d.rest, d.done = string(data), string(in[pos:]), c.Done()
	d.trailer, d.lax = c.Trailer(), c.Lax()
	return d
}

func TestChunkedDecodes(t *testing.T) {
	long := strings.Repeat("x", maxChunkLine-len("1;\r\n"))
	for _, c := range []struct {
		in, data, rest string
		trailer        http.Header
		lax            Lax
	}{
		{"0\r\n\r\n", "", "", nil, 0},
		{"0\r\n\r\nHTTP/1.1", "", "HTTP/1.1", nil, 0},
		{"3\r\nabc\r\n0\r\n\r\n", "abc", "", nil, 0},
		{"3\r\n\r\n\r\r\n0\r\n\r\n", "\r\n\r", "", nil, 0},
		{"00000003\r\nabc\r\n000\r\n\r\n", "abc", "", nil, 0},
		{"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", "", nil, 0},
		{"3;ext\r\nabc\r\n0;a=\"b;c\"\r\n\r\n", "abc", "", nil, 0},
		{"3 \t\r\nabc\r\n0\t ; a\r\n\r\n", "abc", "", nil, 0},
		{"1;" + long + "\r\na\r\n0\r\n\r\n", "a", "", nil, 0},
		{"0\r\nA: b\r\nc-d:e\r\nA:f\r\n\r\nrest", "", "rest", http.Header{"A": {"b", "f"}, "C-D": {"e"}}, 0},
		{"0\r\nA: b\nC: d\r\n\n", "", "", http.Header{"A": {"b"}, "C": {"d"}}, LaxBareLF},
		{"0\r\n\n", "", "", nil, LaxBareLF},
		{"0\r\nA: b\r\n c\r\n\r\n", "", "", http.Header{"A": {"b c"}}, LaxObsFold},
		{"0\r\nA : b\r\n\r\n", "", "", http.Header{"A ": {"b"}}, LaxNameSpace},
	} {
		for _, step := range []int{1, 2, 3, 7, len(c.in)} {
			d := decode([]byte(c.in), step, false)
			want := decoded{data: c.data, rest: c.rest, done: true, trailer: c.trailer, lax: c.lax}
			if !reflect.DeepEqual(d, want) {
				t.Errorf("%.60q in steps of %d:\ngot  %+v\nwant %+v", c.in, step, d, want)
			}
			if d := decode([]byte(c.in), step, true); isKind(d.err, Refused) != (c.lax != 0) {
				t.Errorf("%.60q, strict: %v, want a refusal: %v", c.in, d.err, c.lax != 0)
			}
		}
	}
}

func TestChunkedRejects(t *testing.T) {
	ext := strings.Repeat("x", maxChunkLine)
	for _, c := range []struct {
		in   string
		kind Kind
	}{
		{"\r\n", Malformed},
		{";a\r\n", Malformed},
		{" 3\r\n", Malformed},
		{"x\r\n", Malformed},
		{"-1\r\n", Malformed},
		{"+1\r\n", Malformed},
		{"0x3\r\n", Malformed},
		{"3_\r\n", Malformed},
		{"3\nabc\r\n", Malformed},
		{"3;a\nabc\r\n", Malformed},
		{"3\rabc", Malformed},
		{"3;a\rb\r\nabc", Malformed},
		{"3;a\x00\r\nabc", Malformed},
		{"3 4\r\nabc", Malformed},
		{"3\r\nabcd\r\n", Malformed},
		{"3\r\nabc\n", Malformed},
		{"3\r\nabc\rX", Malformed},
		{"0\r\n A: b\r\n\r\n", Malformed},
		{"0\r\nA\r\n\r\n", Malformed},
		{"0\r\nA(: b\r\n\r\n", Malformed},
		{"0\r\nA: \x00\r\n\r\n", Malformed},
		{"0\r\nA: b\rc\r\n\r\n", Malformed},
		{"8000000000000000\r\n", TooLarge},
		{"ffffffffffffffff\r\n", TooLarge},
		{"10000000000000000\r\n", TooLarge},
		{"00000000000000000\r\n", TooLarge},
		{"1;" + ext, TooLarge},
		{"1;" + ext[:maxChunkLine-3] + "\r\na\r\n", TooLarge},
		{"0\r\nA: " + ext, TooLarge},
		{strings.Repeat("1;"+ext[:1000]+"\r\na\r\n", 20), TooLarge},
	} {
		for _, step := range []int{1, 2, 3, 7, len(c.in)} {
			if d := decode([]byte(c.in), step, false); !isKind(d.err, c.kind) {
				t.Errorf("%.60q in steps of %d: %v, want %v", c.in, step, d.err, c.kind)
			}
		}
	}
}

func TestChunkedErrorIsFinal(t *testing.T) {
	var c Chunked
	_, first := c.Next([]byte("x"))
	n, again := c.Next([]byte("0\r\n\r\n"))
	if first == nil || n != 0 || !errors.Is(again, first) {
		t.Errorf("Next after %v: %d, %v", first, n, again)
	}
}

func TestChunkedLargestSize(t *testing.T) {
	var c Chunked
	if _, err := c.Next([]byte("7fffffffffffffff\r\n")); err != nil || c.Remaining != 1<<63-1 {
		t.Errorf("Remaining %d, %v", c.Remaining, err)
	}
}

func TestChunkedAcceptsSingleBytesAndTrailerUpToTheBound(t *testing.T) {
	in := strings.Repeat("1\r\nx\r\n", 100_000) + "0\r\n"
	trailer := "A: " + strings.Repeat("y", maxTrailer-len("A: \r\n\r\n")) + "\r\n\r\n"
	d := decode([]byte(in+trailer), 1000, false)
	if !d.done || len(d.data) != 100_000 || len(d.trailer) != 1 {
		t.Errorf("done %v with %d bytes and trailer %d, %v", d.done, len(d.data), len(d.trailer), d.err)
	}
	d = decode([]byte(in+"B"+trailer), 1000, false)
	if !isKind(d.err, TooLarge) {
		t.Errorf("trailer a byte above the bound: %v", d.err)
	}
}

func TestTookMoreThanRemainingPanics(t *testing.T) {
	for _, n := range []int64{4, -1} {
		var c Chunked
		if _, err := c.Next([]byte("3\r\n")); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Took(%d) of 3 did not panic", n)
				}
			}()
			c.Took(n)
		}()
	}
}

func TestMergeTrailer(t *testing.T) {
	for _, c := range []struct{ declared, received, want http.Header }{
		{nil, nil, nil},
		{nil, http.Header{"A": {"1"}}, http.Header{"A": {"1"}}},
		{http.Header{"A": nil, "B": nil}, nil, http.Header{"A": nil, "B": nil}},
		{http.Header{"A": nil, "B": nil}, http.Header{"A": {"1"}, "C": {"2"}}, http.Header{"A": {"1"}, "B": nil, "C": {"2"}}},
	} {
		resp := &http.Response{Trailer: c.declared}
		if MergeTrailer(resp, c.received); !reflect.DeepEqual(resp.Trailer, c.want) {
			t.Errorf("got %v, want %v", resp.Trailer, c.want)
		}
	}
}

func TestAppendedChunksDecodeToTheSame(t *testing.T) {
	var wire []byte
	var want strings.Builder
	for _, n := range []int{1, 9, 10, 15, 16, 17, 255, 256, 4096, 65536} {
		data := strings.Repeat("x", n)
		want.WriteString(data)
		head := AppendChunkHead(nil, n)
		if string(head) != fmt.Sprintf("%x\r\n", n) {
			t.Errorf("AppendChunkHead(%d) = %q", n, head)
		}
		wire = append(append(append(wire, head...), data...), "\r\n"...)
	}
	wire, err := AppendLastChunk(wire, http.Header{"B": {"1", " 2\r\nX: y "}, "A": {"3"}, "C": nil})
	if err != nil {
		t.Fatal(err)
	}
	d := decode(wire, 10, true)
	trailer := http.Header{"A": {"3"}, "B": {"1", "2  X: y"}}
	if !d.done || d.data != want.String() || d.rest != "" || !reflect.DeepEqual(d.trailer, trailer) {
		t.Errorf("done %v, %d bytes of %d, rest %q, trailer %v, %v", d.done, len(d.data), want.Len(), d.rest, d.trailer, d.err)
	}
}

func TestAppendLastChunkSortsTrailers(t *testing.T) {
	got, err := AppendLastChunk([]byte("x"), http.Header{"B": {"1"}, "A": {"2", "3"}})
	if want := "x0\r\nA: 2\r\nA: 3\r\nB: 1\r\n\r\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := AppendLastChunk(nil, nil); err != nil || string(got) != "0\r\n\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAppendLastChunkRefusesNamesThatFrame(t *testing.T) {
	for _, name := range []string{"Content-Length", "transfer-encoding", "Trailer", "a b", "A\r\nB", ""} {
		got, err := AppendLastChunk([]byte("x"), http.Header{name: {"1"}})
		if r := new(RequestError); !errors.As(err, &r) || string(got) != "x" {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func TestAppendChunkHeadPanicsOnAnEmptyChunk(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic: an empty chunk would end the body")
		}
	}()
	AppendChunkHead(nil, 0)
}
