package berth_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// Trace is told of dials, closes with reason and who was first, and of attempts
// that are made again.
func TestTraceHearsOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu      sync.Mutex
			dials   []berth.DialInfo
			closes  []berth.CloseInfo
			retries []berth.RetryInfo
		)
		r := newRig(t, berth.Config{Trace: &berth.Trace{
			Dialed:  func(i berth.DialInfo) { mu.Lock(); defer mu.Unlock(); dials = append(dials, i) },
			Closed:  func(i berth.CloseInfo) { mu.Lock(); defer mu.Unlock(); closes = append(closes, i) },
			Retried: func(i berth.RetryInfo) { mu.Lock(); defer mu.Unlock(); retries = append(retries, i) },
		}}, afterOne)
		r.get("/")
		r.get("/")
		time.Sleep(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(dials) != 2 || dials[0].Err != nil || dials[0].Endpoint != rigURL || dials[0].Conn.Remote != "origin.test:80" ||
			dials[0].Conn.Local == dials[1].Conn.Local {
			t.Errorf("dials %+v", dials)
		}
		if len(retries) != 1 || !retries[0].Sent {
			t.Errorf("retries %+v", retries)
		}
		if len(closes) != 2 || closes[0].Reason != "error" || !closes[0].ByPeer || closes[1].Reason != "idle" || closes[1].ByPeer ||
			closes[0].Conn != dials[0].Conn {
			t.Errorf("closes %+v", closes)
		}
		r.close()
	})
}

// Row 18: bytes that nobody asked for end an idle connection and are logged, but
// for the 408 by which some servers say goodbye.
func TestUnsolicitedBytesAreLogged(t *testing.T) {
	for junk, lines := range map[string]int{"HTTP/1.1 500 Oops\r\n\r\n": 1, "HTTP/1.1 408 Request Timeout\r\n\r\n": 0} {
		synctest.Test(t, func(t *testing.T) {
			var out syncBuffer
			r := newRig(t, berth.Config{Logger: slog.New(slog.NewTextHandler(&out, nil))}, origin.Garbage(ok("a"), time.Second, junk))
			r.get("/")
			time.Sleep(2 * time.Second)
			r.get("/")
			r.wantDials(2)
			if n := strings.Count(out.String(), "unsolicited response"); n != lines {
				t.Errorf("%q is logged %d times:\n%s", junk, n, out.String())
			}
			r.close()
		})
	}
}

// A record that a TLS server sends unasked is seen, whether it arrives with the
// response or later; tickets of a session are no such record.
func TestUnsolicitedBytesUnderTLS(t *testing.T) {
	_, roots := origin.Cert()
	for name, h := range map[string]origin.Handler{
		"with the response": origin.Garbage(ok("a"), 0, "JUNK"),
		"later":             origin.Garbage(ok("a"), 20*time.Millisecond, "JUNK"),
		"none":              origin.Serve(ok("a")),
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			o := origin.New(origin.TLS(ln)).Handle(h)
			defer o.Close()
			tr, err := berth.New(berth.Config{TLS: tlsConfig(roots)})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			for range 2 {
				resp, err := (&http.Client{Transport: tr}).Get("https://" + ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if string(b) != "a" || err != nil {
					t.Errorf("body %q, %v", b, err)
				}
				wait := time.NewTimer(60 * time.Millisecond) // the peer's record is on its way
				<-wait.C
			}
			ep, _ := tr.Endpoint("https://" + ln.Addr().String())
			want := uint64(2)
			if name == "none" {
				want = 1
			}
			if s := ep.Stats(); s.Dials.OK != want {
				t.Errorf("%d dials, want %d; closes %v", s.Dials.OK, want, s.Closes)
			}
		})
	}
}

// A server that cannot be reached is named, with what to do.
func TestUnreachableServerIsNamedWithTheRemedy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	_, err = (&http.Client{Transport: tr}).Get("http://" + addr + "/?secret")
	var e *berth.DialError
	if !errors.As(err, &e) || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(e.Error(), addr) ||
		!strings.Contains(e.Error(), "nothing listens there") || strings.Contains(e.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

// Every connection has an identity of its own, which its dial, its requests and its end
// tell, and an age.
func TestTraceKnowsConnectionsApart(t *testing.T) {
	type born struct {
		at time.Time
		n  int
	}
	conns := map[uint64]born{}
	var closed []berth.CloseInfo
	trace := &berth.Trace{
		Dialed: func(i berth.DialInfo) {
			if _, twice := conns[i.Conn.ID]; twice || i.Conn.ID == 0 {
				t.Errorf("connection %d once more", i.Conn.ID)
			}
			if i.Server != (berth.Server{Scheme: "http", Host: "origin.test", Port: "80"}) {
				t.Errorf("%+v", i.Server)
			}
			conns[i.Conn.ID] = born{at: time.Now()}
		},
		Acquired: func(i berth.AcquireInfo) {
			b, known := conns[i.Conn.ID]
			if !known || i.Context.Value(traceKey{}) != "request" {
				t.Errorf("a request on connection %d, which nobody has opened; %v", i.Conn.ID, i.Context)
			}
			b.n++
			conns[i.Conn.ID] = b
		},
		Closed: func(i berth.CloseInfo) { closed = append(closed, i) },
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Trace: trace, Policy: berth.Policy{MaxRequestsPerConn: 2}}, origin.Serve(ok("hello")))
		for range 4 {
			resp, err := r.tr.RoundTrip(r.request(context.WithValue(t.Context(), traceKey{}, "request"), "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			time.Sleep(time.Second)
		}
		r.close()
	})
	if len(conns) != 2 || len(closed) != 2 {
		t.Fatalf("%d connections, %d closed", len(conns), len(closed))
	}
	for _, c := range closed {
		if conns[c.Conn.ID].n != 2 || c.Age != time.Second || c.HTTP2 {
			t.Errorf("%+v carried %d requests", c, conns[c.Conn.ID].n)
		}
	}
}

type traceKey struct{}
