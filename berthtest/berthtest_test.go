package berthtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/berthtest"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// recorder is a test that is told of failures.
type recorder struct{ failures []string }

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func slow(c *origin.Conn) {
	c.ReadRequest()
	c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
	c.Sleep(time.Second)
	c.Write(strings.Repeat("x", 100000))
	c.Stall()
}

func TestAssertNoLeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n memnet.Network
		ln, err := n.Listen("origin.test:80")
		if err != nil {
			t.Fatal(err)
		}
		o := origin.New(ln).Handle(slow)
		defer o.Close()
		tr, err := berth.New(berth.Config{DialContext: n.DialContext})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()

		resp, err := (&http.Client{Transport: tr}).Get("http://origin.test/v1/export?secret")
		if err != nil {
			t.Fatal(err)
		}
		var r recorder
		berthtest.AssertNoLeaks(&r, tr)
		if len(r.failures) != 1 || !strings.Contains(r.failures[0], "GET http://origin.test/v1/export, body unread for 5s, from berthtest/berthtest_test.go:") ||
			strings.Contains(r.failures[0], "secret") {
			t.Errorf("an open body: %q", r.failures)
		}

		r = recorder{}
		go func() { // ends in time
			time.Sleep(2 * time.Second)
			resp.Body.Close()
		}()
		berthtest.AssertNoLeaks(&r, tr)
		if len(r.failures) != 0 {
			t.Errorf("a body that is closed in time: %q", r.failures)
		}
	})
}

// A body that the collector had to find is a failure, though its connection is free again.
func TestAssertNoLeaksTellsOfReclaimedBodies(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 4<<20)) }))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	func() {
		if _, err := (&http.Client{Transport: tr}).Get(srv.URL); err != nil {
			t.Fatal(err)
		}
	}()
	for end := time.Now().Add(30 * time.Second); len(tr.Leaks()) == 0; {
		runtime.GC()
		if time.Now().After(end) {
			t.Fatal("it is not found")
		}
	}
	var r recorder
	berthtest.AssertNoLeaks(&r, tr)
	if len(r.failures) != 1 || !strings.Contains(r.failures[0], "1 response bodies of "+srv.URL+" were forgotten, from berthtest/berthtest_test.go:") {
		t.Errorf("%q", r.failures)
	}
}
