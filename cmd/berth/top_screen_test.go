package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/kb"
	"github.com/berth-go/berth/top"
)

// The whole screen over a program that is read: it ends by a key, after -n intervals, and
// with its context.
func TestTopScreenRuns(t *testing.T) {
	h, _ := topStarts()
	srv := httptest.NewServer(h)
	defer srv.Close()
	for _, tc := range []struct {
		name  string
		count int
		keys  string
	}{{"by a key", 0, "c?\x03"}, {"after intervals", 2, ""}} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := source.Parse(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			in, keys := io.Pipe()
			defer keys.Close()
			go io.WriteString(keys, tc.keys)
			var out bytes.Buffer
			o := topOptions{interval: 100 * time.Millisecond, count: tc.count, say: topWords(kb.English)}
			if err := topScreen(t.Context(), []*source.Source{s}, o, in, &out); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "\x1b[?1049l") {
				t.Error("the alternate screen is not left")
			}
		})
	}
	t.Run("with its context", func(t *testing.T) {
		s, err := source.Parse(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		in, keys := io.Pipe()
		defer keys.Close()
		out := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }) // at the first picture
		if err := topScreen(ctx, []*source.Source{s}, topOptions{interval: time.Hour, say: topWords(kb.English)}, in, out); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		gone := httptest.NewServer(h)
		gone.Close()
		s, err := source.Parse(gone.URL)
		if err != nil {
			t.Fatal(err)
		}
		err = topScreen(t.Context(), []*source.Source{s}, topOptions{interval: time.Second, say: topWords(kb.English)}, nil, io.Discard)
		if _, ok := errors.AsType[*lookError](err); !ok || !strings.Contains(err.Error(), "is the program running") {
			t.Errorf("%v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTopLinesEndWhenTheyCannotBeWritten(t *testing.T) {
	h, _ := topStarts()
	srv := httptest.NewServer(h)
	defer srv.Close()
	broken := errors.New("broken")
	for _, json := range []bool{false, true} {
		s, err := source.Parse(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		out := writerFunc(func([]byte) (int, error) { return 0, broken })
		o := topOptions{interval: 100 * time.Millisecond, json: json, sort: top.ByName, say: topWords(kb.English)}
		if err := topLines(t.Context(), []*source.Source{s}, o, out, io.Discard); !errors.Is(err, broken) {
			t.Errorf("json %v: %v", json, err)
		}
	}
}

func TestTopAddress(t *testing.T) {
	for a, want := range map[string]string{
		"localhost:6061":      "http://localhost:6061",
		"[::1]:6061/debug":    "http://[::1]:6061/debug",
		"https://x/y":         "https://x/y",
		"unix:/run/berth":     "unix:/run/berth",
		"unix:///run/x":       "unix:///run/x",
		"user:pass@host:1/?q": "http://user:pass@host:1/?q",
		"nonsense":            "nonsense",
	} {
		if got := topAddress(a); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}
