package berth_test

import (
	"bytes"
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
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// halfAnswer begins a long body and goes no further.
func halfAnswer(c *origin.Conn) {
	c.ReadRequest()
	c.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf")
	c.Stall()
}

// hold leases a connection and keeps it until the end of the test.
func (r *rig) hold(path string) *http.Response {
	r.Helper()
	resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", path, nil))
	if err != nil {
		r.Fatal(err)
	}
	r.held = append(r.held, resp)
	return resp
}

// The starved caller reads which limit bound, who holds the connections, and what
// to do, and nothing that is a secret.
func TestStarvedCallerIsToldWhoHoldsTheConnections(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 2}, halfAnswer, func(r *rig) {
		r.hold("/v1/export?token=secret")
		time.Sleep(time.Minute)
		r.hold("/v1/list")
		for range 3 {
			ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
			defer cancel()
			go r.tr.RoundTrip(r.request(ctx, "GET", "/wait", nil))
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		_, err := r.tr.RoundTrip(r.request(ctx, "GET", "/starved", nil))
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is {
			r.Fatalf("error %v (%T)", err, err)
		}
		if e.Limit != "endpoint max 2" || e.Ahead != 3 || e.Waited != 2*time.Second || e.Stats.Leased != 2 || e.Stats.Waiting != 4 ||
			len(e.Oldest) != 2 || e.Oldest[0].Path != "/v1/export" || e.Oldest[0].Held != time.Minute+2*time.Second ||
			e.Oldest[0].Phase != "body unread" || e.Oldest[0].Unread != time.Minute+2*time.Second || !e.Oldest[0].Suspect || e.Oldest[1].Suspect ||
			e.Reason != berth.ReasonEndpoint || e.Verdict != berth.VerdictLeaked || !e.Timeout() || !berth.NotSent(err) || !errors.Is(err, context.DeadlineExceeded) {
			r.Errorf("%+v", e)
		}
		for _, want := range []string{"no connection to http://origin.test after 2s (limit: endpoint max 2)", "2 leased, 0 idle, 0 dialing",
			"4 waiting", "oldest lease 1m2s: GET /v1/export, body unread for 1m2s, acquired at ", "starved_test.go:", "likely leak",
			"1 of 2 leases have a body that nobody reads", "leaked: read to its end, or close, the body of GET /v1/export", "BERTH1001"} {
			if !strings.Contains(err.Error(), want) {
				r.Errorf("the text lacks %q:\n%v", want, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			r.Errorf("the text tells the query:\n%v", err)
		}
	})
}

// AcquireTimeout: two minutes when the context has no deadline, none when it has,
// and what the policy says otherwise.
func TestAcquireTimeout(t *testing.T) {
	for _, tc := range []struct {
		policy, deadline, want time.Duration
	}{
		{0, 0, 2 * time.Minute},
		{0, time.Hour, time.Hour},
		{3 * time.Second, time.Hour, 3 * time.Second},
		{3 * time.Second, 0, 3 * time.Second},
		{-1, time.Hour, time.Hour},
	} {
		bubble(t, berth.Policy{MaxConns: 1, AcquireTimeout: tc.policy}, halfAnswer, func(r *rig) {
			r.hold("/")
			ctx := r.Context()
			if tc.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.deadline)
				defer cancel()
			}
			start := time.Now()
			_, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
			if _, is := errors.AsType[*berth.AcquireTimeoutError](err); !is || time.Since(start) != tc.want || !errors.Is(err, context.DeadlineExceeded) {
				r.Errorf("%+v: after %v: %v", tc, time.Since(start), err)
			}
		})
	}
}

func TestQueueFull(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1, MaxWaiters: 1}, halfAnswer, func(r *rig) {
		r.hold("/")
		ctx, cancel := context.WithCancel(r.Context())
		go r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		synctest.Wait()
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if e, is := errors.AsType[*berth.QueueFullError](err); !is || e.Waiting != 1 || e.MaxConns != 1 || !berth.NotSent(err) {
			r.Errorf("error %v", err)
		}
		cancel()
		synctest.Wait()
	})
}

// After three failures in a row with nothing open a request fails at once with the
// last failure; a success ends that.
func TestDialBackOff(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve(ok("a")), func(r *rig) {
		refuse := true
		r.net.OnDial = func(context.Context, string) error {
			if refuse {
				return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			return nil
		}
		fail := func() *berth.DialError {
			_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
			e, is := errors.AsType[*berth.DialError](err)
			if !is || !errors.Is(err, syscall.ECONNREFUSED) || !berth.NotSent(err) {
				r.Fatalf("error %v (%T)", err, err)
			}
			return e
		}
		for i := range 3 {
			if e := fail(); e.Backoff != 0 || e.Failures != i+1 {
				r.Errorf("attempt %d: %+v", i+1, e)
			}
		}
		start := time.Now()
		if e := fail(); e.Backoff != 200*time.Millisecond || time.Since(start) != 0 {
			r.Errorf("during back-off: %+v after %v", e, time.Since(start))
		}
		r.wantDials(3)
		refuse = false
		time.Sleep(200 * time.Millisecond)
		r.get("/")
	})
}

// When the kernel refuses a port and the endpoint has a connection, that is the
// limit: the request waits for it. With none it fails, and says of what the host
// has run out.
func TestKernelThatRefusesAPort(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRNOTAVAIL: "ports", syscall.EADDRINUSE: "ports", syscall.EMFILE: "descriptors", syscall.ENOBUFS: "memory",
	} {
		synctest.Test(t, func(t *testing.T) {
			n, refuse := &memnet.Network{}, false
			r := newRig(t, berth.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if refuse {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errno}
				}
				return n.DialContext(ctx, network, addr)
			}}, origin.Serve(ok("")))
			ln, _ := n.Listen("origin.test:80")
			o := origin.New(ln).Handle(origin.Serve(ok(strings.Repeat("x", 10_000))))
			held := r.hold("/")
			refuse = true
			time.AfterFunc(3*time.Second, func() { io.Copy(io.Discard, held.Body) })
			start := time.Now()
			r.get("/")
			if d := time.Since(start); d != 3*time.Second {
				t.Errorf("%v: served after %v, want the connection that came free after 3s", errno, d)
			}
			if s := r.stats(); s.Dials.Exhausted == 0 || s.Dials.Failed != 0 {
				t.Errorf("%v: dials %+v", errno, s.Dials)
			}
			r.tr.CloseIdleConnections()
			synctest.Wait()
			_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
			e, is := errors.AsType[*berth.PortsExhaustedError](err)
			if !is || e.Resource != want || !errors.Is(err, errno) || !berth.NotSent(err) || !strings.Contains(err.Error(), e.Code()) {
				t.Errorf("%v with nothing open: %v (%T)", errno, err, err)
			}
			o.Close()
			r.close()
		})
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The logger hears once for an endpoint that requests wait longer than a second.
func TestLoggerHearsOnceOfStarvation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		r := newRig(t, berth.Config{Policy: berth.Policy{MaxConns: 1}, Logger: slog.New(slog.NewTextHandler(&out, nil))}, halfAnswer)
		r.hold("/?secret")
		for range 2 {
			ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
			r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
			cancel()
		}
		if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), `endpoint=http://origin.test reason=endpoint-limit limit="endpoint max 1" verdict=leaked`) {
			t.Errorf("the log has %d lines:\n%s", n, out.String())
		}
		r.close()
	})
}

func TestCloseFailsWaitersAndLetsRequestsFinish(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, origin.Latency(2*time.Second, ok("a")), func(r *rig) {
		results := make(chan error, 2)
		for range 2 {
			go func() {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if err == nil {
					io.Copy(io.Discard, resp.Body)
				}
				results <- err
			}()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		r.tr.Close()
		if err := <-results; !errors.Is(err, berth.ErrClosed) || !berth.NotSent(err) {
			r.Errorf("the waiter: %v", err)
		}
		if err := <-results; err != nil {
			r.Errorf("the active request: %v", err)
		}
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		if _, is := errors.AsType[*berth.ClosedError](err); !is {
			r.Errorf("after Close: %v", err)
		}
	})
}

func TestShutdownServesWhoWaits(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, origin.Latency(2*time.Second, ok("a")), func(r *rig) {
		results := make(chan error, 2)
		for range 2 {
			go func() {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if err == nil {
					io.Copy(io.Discard, resp.Body)
				}
				results <- err
			}()
			synctest.Wait()
		}
		short, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if err := r.tr.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
			r.Errorf("a shutdown that ran out of time: %v", err)
		}
		start := time.Now()
		if err := r.tr.Shutdown(r.Context()); err != nil || time.Since(start) != 3*time.Second {
			r.Errorf("shutdown: %v after %v", err, time.Since(start))
		}
		for range 2 {
			if err := <-results; err != nil {
				r.Errorf("a request that was accepted: %v", err)
			}
		}
	})
}

// An endpoint that holds nothing is forgotten, and comes back.
func TestIdleEndpointIsForgotten(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve(ok("a")), func(r *rig) {
		r.get("/")
		if len(r.tr.Endpoints()) != 1 {
			r.Fatal("no endpoint after a request")
		}
		time.Sleep(time.Minute + 2*time.Minute + time.Second) // idle timeout, then the time to forget
		if eps := r.tr.Endpoints(); len(eps) != 0 {
			r.Errorf("still there: %v", eps)
		}
		r.get("/")
		if s := r.stats(); s.Requests != 1 || len(r.tr.Endpoints()) != 1 {
			r.Errorf("after it came back: %+v", s)
		}
	})
}

// A connection that the server closes while idle is found by the sweep and does
// not stay in CLOSE_WAIT.
func TestSweepFindsWhatTheServerClosed(t *testing.T) {
	h := func(c *origin.Conn) { c.ReadRequest(); c.Write(ok("a")); c.Sleep(time.Second) }
	bubble(t, berth.Policy{}, h, func(r *rig) {
		r.get("/")
		time.Sleep(10*time.Second + time.Millisecond)
		if s := r.stats(); s.Idle != 0 || s.Closes["peer"] != 1 || s.ClosedByPeer != 1 {
			r.Errorf("%+v", s)
		}
	})
}
