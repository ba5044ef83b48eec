package resilience

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// takes is a server whose response head takes so long.
func takes(d time.Duration) trip {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return answerTo(req, 200, "done"), nil
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
	}
}

func answerTo(req *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Request: req, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func getOf(t testing.TB, ctx context.Context) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://api.example/v1/things?secret=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func wrapped(t testing.TB, s interface{ Handler() (Handler, error) }, next http.RoundTripper) http.RoundTripper {
	t.Helper()
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	return h(next)
}

func TestTimeoutEndsWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rejected []RejectInfo
		rt := wrapped(t, Timeout{After: time.Second, Trace: &Trace{Reject: func(i RejectInfo) { rejected = append(rejected, i) }}}, takes(2*time.Second))
		start := time.Now()
		_, err := rt.RoundTrip(getOf(t, t.Context()))
		if took := time.Since(start); took != time.Second {
			t.Errorf("ended after %v", took)
		}
		var late *TimeoutError
		if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) || !late.Timeout() || late.Elapsed != time.Second {
			t.Fatalf("%#v", err)
		}
		if want := "berth: http://api.example: timeout of 1s [BERTH1019]"; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		if len(rejected) != 1 || rejected[0] != (RejectInfo{"http://api.example", "timeout", "total"}) {
			t.Errorf("%+v", rejected)
		}
	})
}

// The time goes on after the head only where it was asked to.
func TestTimeoutAndTheBody(t *testing.T) {
	slow := trip(func(req *http.Request) (*http.Response, error) {
		resp, err := takes(time.Second)(req)
		resp.Body = &slowBody{ctx: req.Context(), takes: 5 * time.Second}
		return resp, err
	})
	for _, body := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			resp, err := wrapped(t, Timeout{After: 2 * time.Second, Body: body}, slow).RoundTrip(getOf(t, t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			text, err := io.ReadAll(resp.Body)
			if !body && (err != nil || string(text) != "x" || time.Since(start) != 5*time.Second) {
				t.Errorf("%q, %v after %v", text, err, time.Since(start))
			}
			var late *TimeoutError
			if body && (!errors.As(err, &late) || time.Since(start) != time.Second) {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			resp.Body.Close()
		})
	}
}

// slowBody is a body whose one byte takes so long, and whose reads end with the context.
type slowBody struct {
	ctx   context.Context
	takes time.Duration
	read  bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.read {
		return 0, io.EOF
	}
	select {
	case <-time.After(b.takes):
		b.read = true
		return copy(p, "x"), nil
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
}

func (b *slowBody) Close() error { return nil }

// After the head the context lives on: a body that is cut by the caller says so.
func TestTimeoutLeavesTheCallersCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("user went away")
		for _, after := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(after, func() { cancel(why) })
			rt := wrapped(t, Timeout{After: time.Minute}, trip(func(req *http.Request) (*http.Response, error) {
				resp, err := takes(time.Second)(req)
				if err == nil {
					resp.Body = &slowBody{ctx: req.Context(), takes: time.Hour}
				}
				return resp, err
			}))
			resp, err := rt.RoundTrip(getOf(t, ctx))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			if err != why {
				t.Errorf("cancelled after %v: %v", after, err)
			}
		}
	})
}

// The nearer of two deadlines ends a request, and tells whose it was.
func TestTimeoutsNested(t *testing.T) {
	for _, tc := range []struct{ total, attempt, caller time.Duration }{
		{3 * time.Second, time.Second, 0}, {time.Second, 3 * time.Second, 0}, {3 * time.Second, 2 * time.Second, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			total, attempt := Timeout{After: tc.total, scope: "total"}, Timeout{After: tc.attempt, scope: "attempt"}
			rt := wrapped(t, total, wrapped(t, attempt, takes(time.Minute)))
			ctx := t.Context()
			if tc.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.caller)
				defer cancel()
			}
			start := time.Now()
			_, err := rt.RoundTrip(getOf(t, ctx))
			if took := time.Since(start); took != time.Second {
				t.Errorf("%+v: ended after %v", tc, took)
			}
			late, is := errors.AsType[*TimeoutError](err)
			switch {
			case tc.caller > 0:
				if is || err != context.DeadlineExceeded {
					t.Errorf("the caller's own deadline: %v", err)
				}
			case !is || late.After != time.Second || errors.As(late.Err, new(*TimeoutError)):
				t.Errorf("%+v: %v", tc, err)
			}
		})
	}
}

// http.Client's redirects are one request: each does not get the whole time anew.
func TestTimeoutCoversRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hops := 0
		rt := wrapped(t, Timeout{After: 5 * time.Second}, trip(func(req *http.Request) (*http.Response, error) {
			hops++
			resp, err := takes(2 * time.Second)(req)
			if err == nil {
				resp.StatusCode = 302
				resp.Header.Set("Location", "/again")
			}
			return resp, err
		}))
		start := time.Now()
		_, err := (&http.Client{Transport: rt}).Do(getOf(t, t.Context()))
		if took := time.Since(start); took != 5*time.Second || hops != 3 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d hops, %v after %v", hops, err, took)
		}
	})
}

// The context keeps the contract of one, asked early or late, from many goroutines.
func TestTimedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
		defer cancel()
		of := &Timeout{After: time.Second}
		quiet := &timed{parent: parent, deadline: time.Now().Add(time.Second), of: of}
		watched := &timed{parent: parent, deadline: time.Now().Add(time.Second), of: of}
		child, stop := context.WithCancel(watched)
		defer stop()
		var fired sync.WaitGroup
		fired.Add(1)
		context.AfterFunc(watched, fired.Done)
		for _, c := range []*timed{quiet, watched} {
			if d, ok := c.Deadline(); !ok || time.Until(d) != time.Second || c.Err() != nil || c.Value(key{}) != "v" || c.Value(of) != c {
				t.Errorf("at first: %v", c.Err())
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		fired.Wait()
		for range 2 {
			if quiet.Err() != context.DeadlineExceeded || watched.Err() != context.DeadlineExceeded || child.Err() == nil {
				t.Errorf("late: %v, %v, %v", quiet.Err(), watched.Err(), child.Err())
			}
			if !errors.Is(context.Cause(child), context.DeadlineExceeded) {
				t.Errorf("the cause of a child is %v", context.Cause(child))
			}
			cancel() // changes nothing any more
			synctest.Wait()
		}
		select {
		case <-quiet.Done():
		default:
			t.Error("Done was asked for late, and is open")
		}
		after := &timed{parent: parent, deadline: time.Now().Add(time.Second), of: of}
		if after.Err() != context.Canceled {
			t.Errorf("the parent's end: %v", after.Err())
		}
	})
}

// Asked for Done or not: no timer stays, and none fires into another request.
func TestTimedUnderRace(t *testing.T) {
	rt := wrapped(t, Timeout{After: 10 * time.Millisecond, Body: true}, trip(func(req *http.Request) (*http.Response, error) {
		select {
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		case <-time.After(time.Duration(len(req.URL.Path)) * time.Millisecond):
			return answerTo(req, 200, "body"), nil
		}
	}))
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 20 {
				ctx, cancel := context.WithCancel(context.Background())
				req := getOf(t, ctx)
				req.URL.Path = strings.Repeat("/", (i+j)%18)
				if i%4 == 0 {
					go cancel()
				}
				resp, err := rt.RoundTrip(req)
				if err == nil {
					io.ReadAll(resp.Body)
					resp.Body.Close()
				} else if !errors.Is(err, context.Canceled) && !errors.As(err, new(*TimeoutError)) {
					t.Errorf("%v", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestTimeoutValidates(t *testing.T) {
	for after, ok := range map[time.Duration]bool{0: false, time.Millisecond: false, 10 * time.Millisecond: true, 24 * time.Hour: true, 25 * time.Hour: false, -1: true} {
		_, err := Timeout{After: after}.Handler()
		var e *berth.ConfigError
		if (err == nil) != ok || err != nil && (!errors.As(err, &e) || e.Field != "Timeout.After") {
			t.Errorf("%v: %v", after, err)
		}
	}
}

// A 101 has a connection for a body.
func TestTimeoutKeepsUpgradedConnectionsWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b duplex
		rt := wrapped(t, Timeout{After: time.Second, Body: true}, trip(func(req *http.Request) (*http.Response, error) {
			resp := answerTo(req, 101, "")
			resp.Body = &b
			return resp, nil
		}))
		resp, err := rt.RoundTrip(getOf(t, t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		w, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("%T", resp.Body)
		}
		time.Sleep(time.Minute)
		if _, err := w.Write([]byte("frame")); err != nil || b.String() != "frame" || resp.Request.Context().Err() != nil {
			t.Errorf("%q, %v, %v", b.String(), err, resp.Request.Context().Err())
		}
		resp.Body.Close()
	})
}

type duplex struct{ strings.Builder }

func (*duplex) Read([]byte) (int, error) { return 0, io.EOF }
func (*duplex) Close() error             { return nil }
