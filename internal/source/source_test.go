package source

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// What is wrong with a source has a kind, by which callers say what helps.
func TestKindsOfErrors(t *testing.T) {
	var status, text atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status.Load().(int))
		io.WriteString(w, text.Load().(string))
	}))
	defer srv.Close()
	s, err := Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, text string
		status     int
		kind       Kind
		want       string
	}{
		{"a status", "", 503, Status, "status 503"},
		{"HTML", " \n<!DOCTYPE html>", 200, NoReport, "HTML"},
		{"nothing", "", 200, NoReport, "not the JSON"},
		{"other JSON", `{"status":"ok"}`, 200, NoReport, "schema 0"},
		{"a list", `[]`, 200, NoReport, "not the JSON"},
		{"a younger one", `{"schema":2,"pid":"now a text"}`, 200, OtherSchema, "schema 2; this berth knows 1"},
		{"a wrong type", `{"schema":1,"pid":"x"}`, 200, NoReport, "not the JSON"},
	} {
		status.Store(tc.status)
		text.Store(tc.text)
		var v struct {
			PID int `json:"pid"`
		}
		e, ok := errors.AsType[*Error](s.Read(t.Context(), &v))
		if !ok || e.Kind != tc.kind || !strings.Contains(e.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, e)
		}
	}
	srv.Close()
	if e, ok := errors.AsType[*Error](s.Read(t.Context(), new(any))); !ok || e.Kind != Unreachable {
		t.Errorf("closed: %v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Read(ctx, new(any)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// KeepAlive reads over one connection, TCP or Unix; without it each read has its own.
func TestKeepAlive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("no Unix sockets: %v", err)
	}
	var opened atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"schema":1,"pid":7}`) })
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	go srv.Config.Serve(unix)
	for _, from := range []string{srv.URL, "unix:" + path, "unix://" + path} {
		for _, keep := range []bool{false, true} {
			s, err := Parse(from)
			if err != nil {
				t.Fatal(err)
			}
			want := int64(3)
			if keep {
				s.KeepAlive()
				want = 1
			}
			opened.Store(0)
			for range 3 {
				var v struct {
					PID int `json:"pid"`
				}
				if err := s.Read(t.Context(), &v); err != nil || v.PID != 7 {
					t.Errorf("%s: pid %d, %v", from, v.PID, err)
				}
			}
			if n := opened.Load(); n != want {
				t.Errorf("%s, kept %v: %d connections", from, keep, n)
			}
			s.Close()
		}
	}
}

func TestNamesShowNoCredentials(t *testing.T) {
	s, err := Parse("http://user:secret@127.0.0.1:1/debug?key=secret#secret")
	if err != nil {
		t.Fatal(err)
	}
	if s.Name() != "http://127.0.0.1:1/debug" {
		t.Errorf("name %q", s.Name())
	}
	if err := s.Read(t.Context(), new(any)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if got := Clean("a\x1b[2J\nb\xff" + strings.Repeat("字", 300)); strings.ContainsAny(got, "\x1b\n") || len([]rune(got)) != 200 {
		t.Errorf("%q", got)
	}
}
