package resilience

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

// act is what a stage does with an attempt: it lasts, and ends with a status or an error.
type act struct {
	lasts  time.Duration
	status int
	err    error
}

// stage is a RoundTripper that plays an act for each attempt, in their order, the last one
// for all that follow; it says how each went.
type stage struct {
	*testing.T
	acts  []act
	start time.Time

	mu     sync.Mutex
	log    []string
	bodies []*stageBody
	ctxs   []context.Context
	sent   []string // request bodies
}

// stageBody is a response body that knows whether its request's context had ended when it
// was read.
type stageBody struct {
	io.Reader
	ctx    context.Context
	closed atomic.Int32
}

func (b *stageBody) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.Reader.Read(p)
}

func (b *stageBody) Close() error { b.closed.Add(1); return nil }

func (s *stage) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Since(s.start))+fmt.Sprintf(format, args...))
}

func (s *stage) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	n := len(s.ctxs)
	s.ctxs = append(s.ctxs, req.Context())
	s.mu.Unlock()
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			s.Errorf("attempt %d: request body: %v", n+1, err)
		}
		req.Body.Close()
		s.mu.Lock()
		s.sent = append(s.sent, string(b))
		s.mu.Unlock()
	}
	a := s.acts[min(n, len(s.acts)-1)]
	s.note("%d begins", n+1)
	select {
	case <-time.After(a.lasts):
	case <-req.Context().Done():
		s.note("%d ends: %v", n+1, context.Cause(req.Context()))
		return nil, context.Cause(req.Context())
	}
	if a.err != nil {
		return nil, a.err
	}
	body := &stageBody{Reader: strings.NewReader(fmt.Sprint("body ", n+1)), ctx: req.Context()}
	s.mu.Lock()
	s.bodies = append(s.bodies, body)
	s.mu.Unlock()
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: body, Request: req}, nil
}

// begun is how many attempts there were.
func (s *stage) begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ctxs)
}

func (s *stage) want(lines ...string) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.log, lines) {
		s.Errorf("what happened:\n%s\nwant\n%s", strings.Join(s.log, "\n"), strings.Join(lines, "\n"))
	}
}

// play runs f in a bubble with a client of a hedge over the acts. At its end every
// response body has to be closed once, and every attempt's context to have ended.
func play(t *testing.T, h Hedge, acts []act, f func(s *stage, rt http.RoundTripper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, acts: acts, start: time.Now()}
		f(s, over(t, h, s))
		synctest.Wait()
		for i, b := range s.bodies {
			if n := b.closed.Load(); n != 1 {
				t.Errorf("response body %d was closed %d times", i+1, n)
			}
		}
		for i, ctx := range s.ctxs {
			if ctx.Err() == nil {
				t.Errorf("the context of attempt %d has not ended", i+1)
			}
		}
	})
}

// fetch returns the body, and the time until the head.
func (s *stage) fetch(rt http.RoundTripper, req *http.Request) (string, time.Duration) {
	s.Helper()
	start := time.Now()
	resp, err := rt.RoundTrip(req)
	took := time.Since(start)
	if err != nil {
		return err.Error(), took
	}
	if resp.Request != req {
		s.Error("the response is of another request")
	}
	synctest.Wait() // whatever still happens must not end the body
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "body: " + err.Error(), took
	}
	resp.Body.Close()
	return fmt.Sprint(resp.StatusCode, " ", string(b)), took
}

func (s *stage) get(rt http.RoundTripper) (string, time.Duration) {
	s.Helper()
	return s.fetch(rt, stubRequest(s.T, s.Context(), "GET", "http://a.test/p?secret=1", nil))
}

const outrun = "another attempt has answered: context canceled"

func TestHedgeFirstOutcomeWins(t *testing.T) {
	const second = time.Second
	down := errors.New("reset by peer")
	open := &CircuitOpenError{Endpoint: "http://a.test"}
	all := Budget{Ratio: -1}
	for _, c := range []struct {
		name string
		h    Hedge
		acts []act
		want string
		took time.Duration
		log  []string
	}{
		{"in time", Hedge{}, []act{{2*second - 1, 200, nil}}, "200 body 1", 2*second - 1,
			[]string{"0s 1 begins"}},
		{"the hedge, exactly after Delay", Hedge{}, []act{{9 * second, 200, nil}, {second, 200, nil}}, "200 body 2", 3 * second,
			[]string{"0s 1 begins", "2s 2 begins", "3s 1 ends: " + outrun}},
		{"the first, beside a hedge", Hedge{}, []act{{3 * second, 200, nil}, {5 * second, 200, nil}}, "200 body 1", 3 * second,
			[]string{"0s 1 begins", "2s 2 begins", "3s 2 ends: " + outrun}},
		{"three hedges, a delay each", Hedge{MaxHedges: 3, Delay: second, Budget: all}, []act{{9 * second, 200, nil}, {9 * second, 200, nil}, {9 * second, 200, nil}, {second, 204, nil}}, "204 body 4", 4 * second,
			[]string{"0s 1 begins", "1s 2 begins", "2s 3 begins", "3s 4 begins", "4s ends"}},
		{"all at once", Hedge{MaxHedges: 2, Delay: -1, Budget: all}, []act{{3 * second, 200, nil}}, "", 3 * second,
			[]string{"0s begins", "0s begins", "0s begins"}},
		{"an outcome that is final, though a failure", Hedge{}, []act{{9 * second, 200, nil}, {second, 404, nil}}, "404 body 2", 3 * second,
			[]string{"0s 1 begins", "2s 2 begins", "3s 1 ends: " + outrun}},
		{"a failure is replaced at once", Hedge{}, []act{{second, 503, nil}, {second, 200, nil}}, "200 body 2", 2 * second,
			[]string{"0s 1 begins", "1s 2 begins"}},
		{"so is an error", Hedge{}, []act{{second, 0, down}, {second, 200, nil}}, "200 body 2", 2 * second,
			[]string{"0s 1 begins", "1s 2 begins"}},
		{"so is an open circuit", Hedge{}, []act{{second, 0, open}, {second, 200, nil}}, "200 body 2", 2 * second,
			[]string{"0s 1 begins", "1s 2 begins"}},
		{"after a failure the delay begins anew", Hedge{MaxHedges: 2, Budget: all}, []act{{second, 503, nil}, {9 * second, 200, nil}, {second, 200, nil}}, "200 body 3", 4 * second,
			[]string{"0s 1 begins", "1s 2 begins", "3s 3 begins", "4s 2 ends: " + outrun}},
		{"a failed hedge is replaced beside the first", Hedge{MaxHedges: 2, Budget: all}, []act{{9 * second, 200, nil}, {second, 500, nil}, {second, 200, nil}}, "200 body 3", 4 * second,
			[]string{"0s 1 begins", "2s 2 begins", "3s 3 begins", "4s 1 ends: " + outrun}},
		{"a failed first is held for a hedge that succeeds", Hedge{}, []act{{3 * second, 503, nil}, {2 * second, 200, nil}}, "200 body 2", 4 * second,
			[]string{"0s 1 begins", "2s 2 begins"}},
		{"and returned when it does not", Hedge{}, []act{{3 * second, 503, nil}, {2 * second, 0, down}}, "503 body 1", 4 * second,
			[]string{"0s 1 begins", "2s 2 begins"}},
		{"the last response of two", Hedge{}, []act{{3 * second, 503, nil}, {2 * second, 500, nil}}, "500 body 2", 4 * second,
			[]string{"0s 1 begins", "2s 2 begins"}},
		{"the last response, after an error", Hedge{}, []act{{second, 0, down}, {second, 502, nil}}, "502 body 2", 2 * second,
			[]string{"0s 1 begins", "1s 2 begins"}},
		{"one error alone", Hedge{Budget: Budget{MinPerSecond: -1}}, []act{{second, 0, down}}, "reset by peer", second,
			[]string{"0s 1 begins"}},
		{"no connection is not replaced", Hedge{}, []act{{second, 0, &berth.QueueFullError{}}}, (&berth.QueueFullError{}).Error(), second,
			[]string{"0s 1 begins"}},
		{"nor does it end a hedge", Hedge{}, []act{{3 * second, 0, &berth.QueueFullError{}}, {2 * second, 200, nil}}, "200 body 2", 4 * second,
			[]string{"0s 1 begins", "2s 2 begins"}},
		{"an error for good ends all", Hedge{}, []act{{9 * second, 200, nil}, {second, 0, &berth.RequestError{Reason: "wrong"}}}, "wrong", 3 * second,
			[]string{"0s 1 begins", "2s 2 begins", "3s 1 ends: " + outrun}},
		{"a hedge that would queue is dropped", Hedge{}, []act{{5 * second, 200, nil}, {0, 0, &berth.WouldQueueError{}}}, "200 body 1", 5 * second,
			[]string{"0s 1 begins", "2s 2 begins"}},
		{"so is one that a limit refuses", Hedge{}, []act{{5 * second, 200, nil}, {0, 0, &LimitError{}}}, "200 body 1", 5 * second,
			[]string{"0s 1 begins", "2s 2 begins"}},
		{"a first that a limit refuses is not replaced", Hedge{}, []act{{0, 0, &LimitError{Limit: "x"}}}, (&LimitError{Limit: "x"}).Error(), 0,
			[]string{"0s 1 begins"}},
		{"what was dropped leaves its place to a failure", Hedge{}, []act{{3 * second, 503, nil}, {0, 0, &berth.WouldQueueError{}}, {second, 200, nil}}, "200 body 3", 4 * second,
			[]string{"0s 1 begins", "2s 2 begins", "3s 3 begins"}},
		{"dropped when nothing else runs any more: one may queue", Hedge{}, []act{{3 * second, 0, down}, {2 * second, 0, &berth.WouldQueueError{}}, {second, 200, nil}}, "200 body 3", 5 * second,
			[]string{"0s 1 begins", "2s 2 begins", "4s 3 begins"}},
		{"dropped hedges are at most MaxHedges", Hedge{MaxHedges: 2}, []act{{9 * second, 200, nil}, {0, 0, &berth.WouldQueueError{}}}, "200 body 1", 9 * second,
			[]string{"0s 1 begins", "2s 2 begins", "4s 3 begins"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, c.h, c.acts, func(s *stage, rt http.RoundTripper) {
				got, took := s.get(rt)
				synctest.Wait()
				switch c.name { // several at the same moment: their order is open
				case "all at once":
					if !strings.HasPrefix(got, "200 body ") || s.begun() != 3 {
						t.Errorf("got %q of %d attempts", got, s.begun())
					}
					for i, l := range s.log[:3] {
						if !strings.HasPrefix(l, "0s ") {
							t.Errorf("attempt %d: %s", i+1, l)
						}
					}
				case "three hedges, a delay each":
					if !slices.Equal(s.log[:4], c.log[:4]) || len(s.log) != 7 {
						t.Errorf("what happened:\n%s", strings.Join(s.log, "\n"))
					}
					fallthrough
				default:
					if got != c.want {
						t.Errorf("got %q, want %q", got, c.want)
					}
					if len(s.log) != 7 {
						s.want(c.log...)
					}
				}
				if took != c.took {
					t.Errorf("after %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestHedgeTellsOfAllThatFailed(t *testing.T) {
	down := errors.New("reset by peer")
	play(t, Hedge{MaxHedges: 2, Budget: Budget{Ratio: -1}}, []act{{time.Second, 503, nil}, {3 * time.Second, 0, down}, {0, 0, &berth.DialError{Err: down}}}, func(s *stage, rt http.RoundTripper) {
		_, err := rt.RoundTrip(stubRequest(t, s.Context(), "GET", "http://a.test/p?secret=1", nil))
		var e *AttemptsError
		if !errors.As(err, &e) {
			t.Fatalf("error %v, want *AttemptsError", err)
		}
		if e.Method != "GET" || e.Endpoint != "http://a.test" || e.Path != "/p" || e.Strategy != "hedge" || e.Stopped != "retries" || e.Elapsed != 4*time.Second {
			t.Errorf("%+v", e)
		}
		var got []string
		for _, a := range e.Attempts {
			got = append(got, fmt.Sprintf("%d at %v for %v: %d %v, sent %v, hedge %v", a.N, a.Start, a.Duration, a.Status, a.Err, a.Sent, a.Hedge))
		}
		want := []string{
			"1 at 0s for 1s: 503 <nil>, sent true, hedge false",
			"3 at 3s for 0s: 0 " + (&berth.DialError{Err: down}).Error() + ", sent false, hedge true",
			"2 at 1s for 3s: 0 reset by peer, sent true, hedge false",
		}
		if !slices.Equal(got, want) {
			t.Errorf("attempts:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if !errors.Is(err, down) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v", err)
		}
	})
}

func TestHedgeTrace(t *testing.T) {
	var log []string
	var mu sync.Mutex
	tr := &Trace{
		Attempt: func(i AttemptInfo) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf("%s %s %d: %d %v, at %v for %v, hedge %v, final %v", i.Endpoint, i.Strategy, i.N, i.Status, i.Err, i.Start, i.Duration, i.Hedge, i.Final))
		},
		Reject: func(i RejectInfo) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf("%s %s refused: %s", i.Endpoint, i.Strategy, i.Why))
		},
	}
	const second = time.Second
	for _, c := range []struct {
		name string
		h    Hedge
		acts []act
		want []string
	}{
		{"alone", Hedge{}, []act{{second, 200, nil}}, []string{
			"http://a.test hedge 1: 200 <nil>, at 0s for 1s, hedge false, final true"}},
		{"outrun", Hedge{}, []act{{3 * second, 200, nil}, {9 * second, 0, nil}}, []string{
			"http://a.test hedge 1: 200 <nil>, at 0s for 3s, hedge false, final true",
			"http://a.test hedge 2: 0 " + outrun + ", at 2s for 1s, hedge true, final false"}},
		{"replaced", Hedge{}, []act{{second, 503, nil}, {second, 200, nil}}, []string{
			"http://a.test hedge 1: 503 <nil>, at 0s for 1s, hedge false, final false",
			"http://a.test hedge 2: 200 <nil>, at 1s for 1s, hedge false, final true"}},
		{"held, and of no use", Hedge{}, []act{{3 * second, 503, nil}, {2 * second, 200, nil}}, []string{
			"http://a.test hedge 1: 503 <nil>, at 0s for 3s, hedge false, final false",
			"http://a.test hedge 2: 200 <nil>, at 2s for 2s, hedge true, final true"}},
		{"held, and returned", Hedge{}, []act{{3 * second, 503, nil}, {2 * second, 0, errStub}}, []string{
			"http://a.test hedge 1: 503 <nil>, at 0s for 3s, hedge false, final true",
			"http://a.test hedge 2: 0 connection reset, at 2s for 2s, hedge true, final false"}},
		{"failed", Hedge{}, []act{{second, 0, errStub}}, []string{
			"http://a.test hedge 1: 0 connection reset, at 0s for 1s, hedge false, final false",
			"http://a.test hedge 2: 0 connection reset, at 1s for 1s, hedge false, final true"}},
		{"queue", Hedge{}, []act{{3 * second, 200, nil}, {0, 0, &berth.WouldQueueError{}}}, []string{
			"http://a.test hedge refused: queue",
			"http://a.test hedge 1: 200 <nil>, at 0s for 3s, hedge false, final true"}},
		{"budget", Hedge{Budget: Budget{MinPerSecond: -1}}, []act{{3 * second, 200, nil}}, []string{
			"http://a.test hedge refused: budget",
			"http://a.test hedge 1: 200 <nil>, at 0s for 3s, hedge false, final true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log = nil
			c.h.Trace = tr
			play(t, c.h, c.acts, func(s *stage, rt http.RoundTripper) {
				req := stubRequest(t, s.Context(), "GET", "http://a.test/", nil)
				if resp, err := rt.RoundTrip(req); err == nil {
					mu.Lock()
					told := slices.ContainsFunc(log, func(l string) bool { return strings.HasSuffix(l, "final true") })
					mu.Unlock()
					if !told {
						t.Error("Trace was not told of the outcome before RoundTrip returned")
					}
					resp.Body.Close()
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				slices.Sort(log)
				slices.Sort(c.want)
				if !slices.Equal(log, c.want) {
					t.Errorf("told:\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(c.want, "\n"))
				}
			})
		})
	}
}

// Hedges are a share of the requests; what a dropped one took comes back.
func TestHedgeBudget(t *testing.T) {
	slow := []act{{3 * time.Second, 200, nil}}
	t.Run("share", func(t *testing.T) {
		play(t, Hedge{Budget: Budget{Ratio: 0.5, MinPerSecond: -1}}, slow, func(s *stage, rt http.RoundTripper) {
			for range 8 {
				s.get(rt)
			}
			if n := s.begun() - 8; n != 4 {
				t.Errorf("%d hedges for 8 requests, want 4", n)
			}
		})
	})
	t.Run("dropped", func(t *testing.T) {
		const second = time.Second
		acts := []act{{5 * second, 200, nil}, {0, 0, &berth.WouldQueueError{}}, {5 * second, 200, nil}, {second, 200, nil}, {5 * second, 200, nil}}
		play(t, Hedge{Budget: Budget{Ratio: 0.001, MinPerSecond: 0.001}}, acts, func(s *stage, rt http.RoundTripper) {
			for i, want := range []string{"200 body 1", "200 body 4", "200 body 5"} {
				if got, _ := s.get(rt); got != want {
					t.Errorf("request %d: %s, want %s", i+1, got, want)
				}
			}
		})
	})
}

func TestHedgeSendsOnceWhatIsNotToBeRepeated(t *testing.T) {
	const url = "http://a.test/"
	for _, c := range []struct {
		name     string
		h        Hedge
		req      func(t *testing.T) *http.Request
		attempts int
	}{
		{"GET", Hedge{}, func(t *testing.T) *http.Request { return stubRequest(t, t.Context(), "GET", url, nil) }, 2},
		{"PUT with GetBody", Hedge{}, func(t *testing.T) *http.Request {
			return stubRequest(t, t.Context(), "PUT", url, strings.NewReader("hello"))
		}, 2},
		{"PUT with a stream", Hedge{}, func(t *testing.T) *http.Request { return stubRequest(t, t.Context(), "PUT", url, newCountedBody()) }, 1},
		{"POST", Hedge{}, func(t *testing.T) *http.Request {
			return stubRequest(t, t.Context(), "POST", url, strings.NewReader("hello"))
		}, 1},
		{"POST with a key", Hedge{}, func(t *testing.T) *http.Request {
			req := stubRequest(t, t.Context(), "POST", url, strings.NewReader("hello"))
			req.Header.Set("Idempotency-Key", "k")
			return req
		}, 2},
		{"POST, unsafe", Hedge{Unsafe: true}, func(t *testing.T) *http.Request {
			return stubRequest(t, t.Context(), "POST", url, strings.NewReader("hello"))
		}, 2},
		{"stream, unsafe", Hedge{Unsafe: true}, func(t *testing.T) *http.Request { return stubRequest(t, t.Context(), "POST", url, newCountedBody()) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{T: t, acts: []act{{5 * time.Second, 200, nil}, {time.Second, 200, nil}}, start: time.Now()}
				if _, err := over(t, c.h, s).RoundTrip(c.req(t)); err != nil {
					t.Fatal(err)
				}
				if n := s.begun(); n != c.attempts {
					t.Errorf("%d attempts, want %d", n, c.attempts)
				}
			})
		})
	}
}

// The first attempt sends the request's body, others a new one each; all are closed.
func TestHedgeBodies(t *testing.T) {
	for _, c := range []struct {
		name   string
		second error // of GetBody
		acts   []act
		made   int
	}{
		{"hedged", nil, []act{{9 * time.Second, 200, nil}, {time.Second, 200, nil}}, 1},
		{"replaced", nil, []act{{time.Second, 503, nil}, {9 * time.Second, 200, nil}, {time.Second, 200, nil}}, 2},
		{"cannot be had", errStub, []act{{9 * time.Second, 200, nil}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var why []string
			h := Hedge{MaxHedges: 2, Budget: Budget{Ratio: -1}, Trace: &Trace{Reject: func(i RejectInfo) { why = append(why, i.Why) }}}
			play(t, h, c.acts, func(s *stage, rt http.RoundTripper) {
				first := newCountedBody()
				var made []*countedBody
				req := stubRequest(t, s.Context(), "PUT", "http://a.test/", first)
				req.ContentLength = 4
				req.GetBody = func() (io.ReadCloser, error) {
					if c.second != nil {
						return nil, c.second
					}
					made = append(made, newCountedBody())
					return made[len(made)-1], nil
				}
				if got, _ := s.fetch(rt, req); !strings.HasPrefix(got, "200") {
					t.Errorf("got %s", got)
				}
				if len(made) != c.made {
					t.Errorf("%d bodies were made, want %d", len(made), c.made)
				}
				for i, b := range append(made, first) {
					if b.closed.Load() != 1 {
						t.Errorf("request body %d was closed %d times", i, b.closed.Load())
					}
				}
				synctest.Wait()
				for _, b := range s.sent {
					if b != "body" {
						t.Errorf("sent %q", b)
					}
				}
				if c.second != nil && !slices.Equal(why, []string{"body"}) {
					t.Errorf("refused: %v", why)
				}
			})
		})
	}
}

// The request's context ends it at any point, and all attempts with it.
func TestHedgeEndsWithItsContext(t *testing.T) {
	why := errors.New("why")
	const second = time.Second
	for _, c := range []struct {
		name string
		at   time.Duration
		acts []act
	}{
		{"before it begins", 0, []act{{9 * second, 200, nil}}},
		{"the first runs", second, []act{{9 * second, 200, nil}}},
		{"both run", 3 * second, []act{{9 * second, 200, nil}}},
		{"at the moment of the hedge", 2 * second, []act{{9 * second, 200, nil}}},
		{"the first has failed, the hedge runs", 4 * second, []act{{3 * second, 503, nil}, {9 * second, 200, nil}}},
		{"the first has failed without response", 4 * second, []act{{3 * second, 0, errStub}, {9 * second, 200, nil}}},
		{"a failure was replaced", 2 * second, []act{{second, 503, nil}, {9 * second, 200, nil}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, Hedge{}, c.acts, func(s *stage, rt http.RoundTripper) {
				ctx, cancel := context.WithCancelCause(s.Context())
				if c.at == 0 {
					cancel(why)
				} else {
					time.AfterFunc(c.at, func() { cancel(why) })
				}
				got, took := s.fetch(rt, stubRequest(t, ctx, "GET", "http://a.test/", nil))
				if got != "why" || took != c.at {
					t.Errorf("%s after %v, want the cause after %v", got, took, c.at)
				}
				synctest.Wait() // what began at the same moment has begun
				n := s.begun()
				time.Sleep(time.Minute)
				if s.begun() != n {
					t.Error("attempts were made after the end")
				}
			})
		})
	}
	t.Run("the RoundTripper below is deaf, on the hedge's side", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int32
			early, late := newCountedBody(), newCountedBody()
			rt := over(t, Hedge{}, stub(func(req *http.Request) (*http.Response, error) {
				if calls.Add(1) == 1 {
					time.Sleep(3 * time.Second)
					resp := stubResponse(503)
					resp.Body = early
					return resp, nil
				}
				time.Sleep(time.Hour)
				resp := stubResponse(200)
				resp.Body = late
				return resp, nil
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			start := time.Now()
			_, err := rt.RoundTrip(stubRequest(t, ctx, "GET", "http://a.test/", nil))
			if err != context.DeadlineExceeded || time.Since(start) != 4*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if early.closed.Load() != 1 {
				t.Error("the failed response was not closed")
			}
			time.Sleep(time.Hour)
			if late.closed.Load() != 1 {
				t.Error("a response that came too late was not closed")
			}
		})
	})
}

// A hedge may still look at its request when the caller has had the response, and changes
// the request for the next.
func TestHedgeHasARequestOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var saw string
		rt := over(t, Hedge{}, stub(func(req *http.Request) (*http.Response, error) {
			if calls.Add(1) == 1 {
				time.Sleep(3 * time.Second)
				return stubResponse(200), nil
			}
			<-req.Context().Done()
			time.Sleep(time.Second)
			saw = req.Header.Get("X")
			return nil, context.Cause(req.Context())
		}))
		req := stubRequest(t, t.Context(), "GET", "http://a.test/", nil)
		req.Header.Set("X", "first")
		if _, err := rt.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X", "second")
		time.Sleep(time.Second)
		synctest.Wait()
		if saw != "first" {
			t.Errorf("the hedge saw %q of its header, want what was sent", saw)
		}
	})
}

// A winner's context lasts as long as its body, which can be read in peace after the
// losers were cancelled; Close alone ends it too.
func TestHedgeContextEndsWithTheBody(t *testing.T) {
	for _, how := range []string{"read", "close", "none"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ctx context.Context
				rt := over(t, Hedge{}, stub(func(req *http.Request) (*http.Response, error) {
					ctx = req.Context()
					resp := stubResponse(200)
					if how != "none" {
						resp.Body = io.NopCloser(strings.NewReader("abc"))
					}
					return resp, nil
				}))
				resp, err := rt.RoundTrip(stubRequest(t, t.Context(), "GET", "http://a.test/", nil))
				if err != nil {
					t.Fatal(err)
				}
				if ended := ctx.Err() != nil; ended != (how == "none") {
					t.Errorf("at the head the context has ended: %v", ended)
				}
				if how == "read" {
					if _, err := io.ReadAll(resp.Body); err != nil {
						t.Error(err)
					}
				} else {
					resp.Body.Close()
				}
				if ctx.Err() == nil {
					t.Error("the context has not ended with the body")
				}
			})
		})
	}
}

// stream is the body of a connection that has switched protocols.
type stream struct {
	io.Reader
	bytes.Buffer
}

func (s *stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }
func (s *stream) Close() error               { return nil }

func TestHedgeLeavesAStreamWritable(t *testing.T) {
	below := &stream{Reader: strings.NewReader("in")}
	rt := over(t, Hedge{}, stub(func(*http.Request) (*http.Response, error) {
		resp := stubResponse(101)
		resp.Body = below
		return resp, nil
	}))
	resp, err := rt.RoundTrip(stubRequest(t, t.Context(), "GET", "http://a.test/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rw, is := resp.Body.(io.ReadWriteCloser)
	if !is {
		t.Fatalf("the body is a %T", resp.Body)
	}
	if _, err := rw.Write([]byte("out")); err != nil || below.String() != "out" {
		t.Errorf("wrote %q: %v", below.String(), err)
	}
}

// When the RoundTripper below panics, the others end and the panic goes on.
func TestHedgePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		ended := false
		rt := over(t, Hedge{}, stub(func(req *http.Request) (*http.Response, error) {
			if calls.Add(1) == 1 {
				time.Sleep(3 * time.Second)
				panic("below")
			}
			<-req.Context().Done()
			ended = true
			return nil, context.Cause(req.Context())
		}))
		func() {
			defer func() {
				if recover() != "below" {
					t.Error("no panic")
				}
			}()
			rt.RoundTrip(stubRequest(t, t.Context(), "GET", "http://a.test/", nil))
		}()
		synctest.Wait()
		if !ended || calls.Load() != 2 {
			t.Errorf("%d attempts, the hedge has ended: %v", calls.Load(), ended)
		}
	})
}

func TestHedgeValidates(t *testing.T) {
	wantConfigError(t, Hedge{MaxHedges: 11}, "Hedge.MaxHedges")
	wantConfigError(t, Hedge{Delay: 24*time.Hour + 1}, "Hedge.Delay")
	wantConfigError(t, Hedge{Quantile: 1}, "Hedge.Quantile")
	wantConfigError(t, Hedge{Quantile: 0.5, Delay: -1}, "Hedge.Quantile")
	over(t, Hedge{MaxHedges: 10, Delay: 24 * time.Hour, Quantile: 0.99}, nil)
	p := &plumbing{}
	if rt := over(t, Hedge{MaxHedges: -1}, p); rt != http.RoundTripper(p) {
		t.Errorf("without hedges: %T, want what is below", rt)
	}
}

// After 100 requests the hedge begins when the attempt takes longer than most did, and no
// later than Delay.
func TestHedgeAtAQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lasts := 50 * time.Millisecond
		var began []time.Duration
		var start time.Time
		var mu sync.Mutex
		rt := over(t, Hedge{Quantile: 0.9, Budget: Budget{Ratio: -1}}, stub(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			began = append(began, time.Since(start))
			mu.Unlock()
			select {
			case <-time.After(lasts):
				return stubResponse(200), nil
			case <-req.Context().Done():
				return nil, context.Cause(req.Context())
			}
		}))
		send := func(n int, d time.Duration) {
			t.Helper()
			lasts = d
			for range n {
				mu.Lock()
				start, began = time.Now(), nil
				mu.Unlock()
				if err := ask(t, rt, "http://a.test/"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		send(99, 50*time.Millisecond)
		send(1, 3*time.Second)
		if want := []time.Duration{0, 2 * time.Second}; !slices.Equal(began, want) {
			t.Errorf("before 100 are known attempts begin at %v, want %v", began, want)
		}
		send(1, 3*time.Second)
		if len(began) != 2 || began[1] < 50*time.Millisecond || began[1] > 54*time.Millisecond {
			t.Errorf("then at %v, want the hedge after 50 to 54 ms", began)
		}
		send(2000, 40*time.Millisecond)
		if len(began) != 1 {
			t.Errorf("one that is fast as ever is hedged: %v", began)
		}
		// When all turn slow, the hedges follow up to Delay, and do not feed on themselves.
		send(2500, 5*time.Second)
		if want := []time.Duration{0, 2 * time.Second}; !slices.Equal(began, want) {
			t.Errorf("when all take 5s attempts begin at %v, want %v", began, want)
		}
	})
}

// What a hedge has outrun counts with the time that it had had: else the slow would not
// count at all, and a fifth of the requests would be hedged at the quantile of the others.
func TestHedgeQuantileKnowsOfTheOutrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts, requests atomic.Int32
		var start time.Time
		var hedged atomic.Int64
		rt := over(t, Hedge{Quantile: 0.9, Budget: Budget{Ratio: -1}}, stub(func(req *http.Request) (*http.Response, error) {
			lasts := 10 * time.Millisecond
			if attempts.Add(1) > 1 {
				hedged.Store(int64(time.Since(start)))
			} else if requests.Add(1)%5 == 0 {
				lasts = time.Minute
			}
			select {
			case <-time.After(lasts):
				return stubResponse(200), nil
			case <-req.Context().Done():
				return nil, context.Cause(req.Context())
			}
		}))
		for range 5000 {
			start = time.Now()
			attempts.Store(0)
			if err := ask(t, rt, "http://a.test/"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if d := time.Duration(hedged.Load()); d < 100*time.Millisecond || d > 2*time.Second {
			t.Errorf("the last hedge began after %v: far below 100ms, the 0.9-quantile is that of the fast", d)
		}
	})
}

// Many requests, hedged all the time, in real time, for the race detector.
func TestHedgeUnderLoad(t *testing.T) {
	var open atomic.Int64
	rt := over(t, Hedge{MaxHedges: 3, Delay: time.Nanosecond, Budget: Budget{Ratio: -1}}, stub(func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("X") != "y" {
			t.Error("header lost")
		}
		switch n := open.Add(1); {
		case n%7 == 0:
			open.Add(-1)
			return nil, errStub
		case n%11 == 0:
			open.Add(-1)
			return nil, &berth.WouldQueueError{}
		case n%5 == 0:
			open.Add(-1)
			return stubResponse(503), nil
		}
		resp := stubResponse(200)
		resp.Body = &loadBody{Reader: strings.NewReader("x"), open: &open}
		return resp, nil
	}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				req := stubRequest(t, t.Context(), "PUT", "http://a.test/", strings.NewReader("abc"))
				req.Header.Set("X", "y")
				resp, err := rt.RoundTrip(req)
				if err == nil {
					io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				req.Header.Set("X", "z") // the caller's again
			}
		})
	}
	wg.Wait()
}

type loadBody struct {
	io.Reader
	open *atomic.Int64
	once sync.Once
}

func (b *loadBody) Close() error { b.once.Do(func() { b.open.Add(-1) }); return nil }

func BenchmarkHedge(b *testing.B) {
	b.Run("delay", func(b *testing.B) { benchStrategy(b, Hedge{}) })
	b.Run("quantile", func(b *testing.B) { benchStrategy(b, Hedge{Quantile: 0.95}) })
}
