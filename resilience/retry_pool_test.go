package resilience

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

const rtOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// rtFailsFirst answers the first request of all connections with first, and leaves that
// connection to itself when hang is set; every other with 200.
func rtFailsFirst(first string, hang bool) origin.Handler {
	failed := false
	return func(c *origin.Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil {
				return
			}
			answer := rtOK
			if !failed {
				failed, answer = true, first
			}
			if c.Write(answer) != nil {
				return
			}
			if hang && answer == first {
				c.Stall()
				return
			}
		}
	}
}

// A 503 whose body nobody reads, and a pool of one connection: the retry does not starve
// for the connection that its own first attempt holds. Where the body ends, even that very
// connection is used again.
func TestC76RetryDoesNotStarveItself(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first string
		hang  bool
		conns int
	}{
		{"short body", "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", false, 1},
		{"long body", "HTTP/1.1 503 Busy\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000), false, 1},
		{"body that does not end", "HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\nbusy", true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policy := berth.Policy{MaxConns: 1, AcquireTimeout: time.Second}
			rtOverBerth(t, policy, rtFailsFirst(tc.first, tc.hang), func(t *testing.T, tr *berth.Transport, o *origin.Origin) {
				c := &http.Client{Transport: rtWrap(t, Retry{NoJitter: true}, tr)}
				resp, err := c.Get("http://origin.test/")
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if s := o.Stats(); string(b) != "ok" || s.Accepted != tc.conns || s.Requests != 2 {
					t.Errorf("%q over %d connections with %d requests, want %d with 2", b, s.Accepted, s.Requests, tc.conns)
				}
			})
		})
	}
}

// While one request waits between its attempts, another has the only connection.
func TestConnectionIsFreeDuringTheWait(t *testing.T) {
	policy := berth.Policy{MaxConns: 1, AcquireTimeout: time.Second}
	h := rtFailsFirst("HTTP/1.1 503 Busy\r\nRetry-After: 10\r\nContent-Length: 4\r\n\r\nbusy", false)
	rtOverBerth(t, policy, h, func(t *testing.T, tr *berth.Transport, o *origin.Origin) {
		start := time.Now()
		client := rtWrap(t, Retry{}, tr)
		first := make(chan error)
		go func() {
			resp, err := client.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
			if err == nil {
				resp.Body.Close()
			}
			first <- err
		}()
		synctest.Wait()
		ep, err := tr.Endpoint("http://origin.test")
		if err != nil {
			t.Fatal(err)
		}
		if s := ep.Stats(); o.Stats().Requests != 1 || s.Leased+s.Draining != 0 || s.Idle != 1 {
			t.Errorf("in the wait after %d requests: %d leased, %d draining, %d idle", o.Stats().Requests, s.Leased, s.Draining, s.Idle)
		}
		resp, err := client.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("the second request took %v", d)
		}
		if err := <-first; err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("the first request, after %v: %v", time.Since(start), err)
		}
		if s := o.Stats(); s.Accepted != 1 || s.Requests != 3 {
			t.Errorf("%d connections, %d requests", s.Accepted, s.Requests)
		}
	})
}

// A pool that starves, and a request that joins its queue again and again: the error says
// that the server was never asked, and what the pool says.
func TestRetriesOverAStarvedPool(t *testing.T) {
	policy := berth.Policy{MaxConns: 1, AcquireTimeout: time.Second, LeakAfter: -1}
	h := func(c *origin.Conn) {
		c.ReadRequest()
		c.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf")
		c.Stall()
	}
	rtOverBerth(t, policy, h, func(t *testing.T, tr *berth.Transport, o *origin.Origin) {
		held, err := tr.RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Body.Close()
		// A POST, that it is safe to send again because nothing of it ever left.
		req := rtRequest(t, t.Context(), "POST", strings.NewReader("abc"))
		_, err = rtWrap(t, Retry{NoJitter: true}, tr).RoundTrip(req)
		e := rtAttempts(t, err)
		if e.Stopped != "retries" || len(e.Attempts) != 4 || e.Elapsed != 18*time.Second || e.Waited != 14*time.Second {
			t.Errorf("stopped by %q after %d attempts, %v, of that %v between them", e.Stopped, len(e.Attempts), e.Elapsed, e.Waited)
		}
		if !berth.NotSent(err) || !e.Timeout() || o.Stats().Requests != 1 {
			t.Errorf("not sent %v, timeout %v, %d requests", berth.NotSent(err), e.Timeout(), o.Stats().Requests)
		}
		for i, a := range e.Attempts {
			if a.Waited != time.Second || a.Sent || a.N != i+1 {
				t.Errorf("attempt %d: %+v", i+1, a)
			}
		}
		pool, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is {
			t.Fatalf("%v unwraps to no *berth.AcquireTimeoutError", err)
		}
		story := err.Error()
		for _, want := range []string{
			"berth: retry: POST http://origin.test/v1/items: 4 attempts in 18s\n",
			"\n  1: at 0s, for 1s: berth: no connection to http://origin.test after 1s (limit: endpoint max 1)\n",
			"\n  4: at 17s, for 1s: berth: no connection to",
			"\n  waited 4s for a connection, 14s between attempts\n",
			"\n  the server was never asked: 4 of 4 attempts got no connection, and each joined the queue again and made it longer\n  -> " + pool.Advice() + "\n",
			"\n  the last in full: berth: no connection to http://origin.test after 1s (limit: endpoint max 1)\n    1 leased, 0 idle",
			"[BERTH1001]\n  -> more attempts make the queue longer: see to the connections first [BERTH1020]",
		} {
			if !strings.Contains(story, want) {
				t.Errorf("the story lacks %q", want)
			}
		}
		if n := strings.Count(story, "1 leased"); n != 1 {
			t.Errorf("the pool's story is told %d times", n)
		}
		if strings.Contains(story, "secret") {
			t.Error("the story tells a secret")
		}
		if t.Failed() {
			t.Log(story)
		}
	})
}

// A dial that fails sends nothing: even a body that cannot be had again has been closed
// then, and the error says so.
func TestUntouchedBodyThatIsClosed(t *testing.T) {
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		t.Fatal(err)
	}
	tr.Close()
	gone := rtFunc(func(*http.Request) (*http.Response, error) { return nil, &berth.DialError{Err: io.EOF} })
	body := newRTBody("abc")
	_, err = rtWrap(t, Retry{}, gone).RoundTrip(rtRequest(t, t.Context(), "POST", body))
	e := rtAttempts(t, err)
	if e.Stopped != "body" || !berth.NotSent(err) || !strings.Contains(err.Error(), "nothing was sent, but the body is closed") {
		t.Errorf("error %v", err)
	}
	if body.closed.Load() != 1 {
		t.Errorf("the body was closed %d times", body.closed.Load())
	}
	// A transport that is closed is for good.
	if _, err := rtWrap(t, Retry{}, tr).RoundTrip(rtRequest(t, t.Context(), "GET", nil)); !errors.Is(err, berth.ErrClosed) || len(err.Error()) != len(berth.ErrClosed.Error()) {
		t.Errorf("error %v, want that of the transport as it is", err)
	}
}

// Each attempt has a deadline of its own inside the request's: what it cuts is sent again.
func TestAttemptThatIsCutIsMadeAgain(t *testing.T) {
	stalls := func(c *origin.Conn) {
		if c.N() > 0 {
			origin.Serve(rtOK)(c)
			return
		}
		c.ReadRequest()
		c.Stall()
	}
	rtOverBerth(t, berth.Policy{MaxConns: 1}, stalls, func(t *testing.T, tr *berth.Transport, o *origin.Origin) {
		cut := rtFunc(func(req *http.Request) (*http.Response, error) {
			ctx, cancel := context.WithTimeout(req.Context(), 10*time.Second)
			resp, err := tr.RoundTrip(req.WithContext(ctx))
			if err != nil {
				cancel()
				return nil, err
			}
			resp.Body = rtOnClose2{resp.Body, cancel}
			return resp, nil
		})
		start := time.Now()
		resp, err := rtWrap(t, Retry{NoJitter: true}, cut).RoundTrip(rtRequest(t, t.Context(), "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if d := time.Since(start); d != 12*time.Second || o.Stats().Requests != 2 {
			t.Errorf("after %v and %d requests", d, o.Stats().Requests)
		}
	})
}

// rtOnClose2 is a body whose close does something more.
type rtOnClose2 struct {
	io.ReadCloser
	f func()
}

func (b rtOnClose2) Close() error { defer b.f(); return b.ReadCloser.Close() }
