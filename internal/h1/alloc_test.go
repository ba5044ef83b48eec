package h1

import (
	"net/http"
	"testing"
)

func skipUnderRace(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
}

func TestParseHeadAllocations(t *testing.T) {
	skipUnderRace(t)
	for _, c := range []struct {
		name string
		head string
		max  float64 // the text, the map and its groups
	}{
		{"4 fields", head4, 3},
		{"4 fields in lower case", head4Lower, 3},
		{"4 fields, chunked", head4Chunked, 3},
		{"12 fields", head12, 5},
	} {
		b := []byte(c.head)
		var exchange struct {
			resp   http.Response
			values [16]string
		}
		got := testing.AllocsPerRun(100, func() {
			if _, err := ParseHead(&exchange.resp, b, exchange.values[:], "GET", HeadOptions{}); err != nil {
				t.Fatal(err)
			}
		})
		if got > c.max {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.max)
		}
	}
}

func TestAppendRequestHeadDoesNotAllocate(t *testing.T) {
	skipUnderRace(t)
	for _, n := range []int{0, 4, 12, 16} {
		req, h := benchRequest(n)
		buf := make([]byte, 0, 4096)
		if got := testing.AllocsPerRun(100, func() {
			if _, err := AppendRequestHead(buf, req, h, nil); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("%d fields: %v allocations", n, got)
		}
	}
}

func TestChunkedDoesNotAllocate(t *testing.T) {
	skipUnderRace(t)
	body := []byte("5;ext\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
	var c Chunked
	buf := make([]byte, 0, 64)
	if got := testing.AllocsPerRun(100, func() {
		c = Chunked{}
		for b := body; !c.Done(); {
			n, err := c.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			b = b[n+int(c.Remaining):]
			c.Took(c.Remaining)
		}
		if _, err := AppendLastChunk(AppendChunkHead(buf, 4096), nil); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestHelpersDoNotAllocate(t *testing.T) {
	skipUnderRace(t)
	h := http.Header{"Connection": {"keep-alive, Upgrade"}, "A": {"some value"}}
	req, _ := benchRequest(4)
	if got := testing.AllocsPerRun(100, func() {
		if HasToken(h["Connection"], "close") || InvalidField(h) != "" || !ValidMethod("GET") || HeadEnd([]byte(head4), 0) < 0 {
			t.Fatal("wrong answer")
		}
		if _, _, err := FrameRequest(req); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
