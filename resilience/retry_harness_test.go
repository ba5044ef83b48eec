package resilience

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// rtFunc is a RoundTripper that keeps to the contract as far as the request's body goes:
// it is closed.
type rtFunc func(req *http.Request) (*http.Response, error)

func (f rtFunc) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	return f(req)
}

// rtBody is a body that counts its closes.
type rtBody struct {
	io.Reader
	closed atomic.Int32
}

func newRTBody(s string) *rtBody { return &rtBody{Reader: strings.NewReader(s)} }

func (b *rtBody) Close() error { b.closed.Add(1); return nil }

// rtBodies makes bodies and remembers them.
type rtBodies struct {
	mu  sync.Mutex
	all []*rtBody
}

func (b *rtBodies) get() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body := newRTBody("abc")
	b.all = append(b.all, body)
	return body, nil
}

// wantClosed checks that there are n bodies, each closed once.
func (b *rtBodies) wantClosed(t *testing.T, n int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) != n {
		t.Errorf("%d bodies, want %d", len(b.all), n)
	}
	for i, body := range b.all {
		if c := body.closed.Load(); c != 1 {
			t.Errorf("body %d of %d was closed %d times", i+1, len(b.all), c)
		}
	}
}

// rtOutcome is what a scripted attempt meets.
type rtOutcome struct {
	status int
	after  string // Retry-After
	err    error
	takes  time.Duration
}

// rtScript is a RoundTripper that meets outcomes in turn, the last for ever, and remembers
// what it has seen. It is for one bubble.
type rtScript struct {
	outcomes []rtOutcome

	mu        sync.Mutex
	seen      []*http.Request
	starts    []time.Time
	responses []*rtBody
}

func (s *rtScript) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
		io.Copy(io.Discard, req.Body)
	}
	s.mu.Lock()
	o := s.outcomes[min(len(s.seen), len(s.outcomes)-1)]
	s.seen = append(s.seen, req)
	s.starts = append(s.starts, time.Now())
	s.mu.Unlock()
	if o.takes > 0 {
		select {
		case <-time.After(o.takes):
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	body := newRTBody("body")
	s.mu.Lock()
	s.responses = append(s.responses, body)
	s.mu.Unlock()
	resp := &http.Response{StatusCode: o.status, Header: http.Header{}, Body: body, Request: req}
	if o.after != "" {
		resp.Header.Set("Retry-After", o.after)
	}
	return resp, nil
}

// gaps returns the waits between attempts that take no time.
func (s *rtScript) gaps() (out []time.Duration) {
	for i := range s.starts[1:] {
		out = append(out, s.starts[i+1].Sub(s.starts[i]))
	}
	return out
}

func (s *rtScript) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// open returns how many responses were not closed, and fails when one was twice.
func (s *rtScript) open(t *testing.T) (n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.responses {
		switch b.closed.Load() {
		case 0:
			n++
		case 1:
		default:
			t.Errorf("a response was closed %d times", b.closed.Load())
		}
	}
	return n
}

func rtWrap(t testing.TB, r Retry, next http.RoundTripper) http.RoundTripper {
	t.Helper()
	h, err := r.Handler()
	if err != nil {
		t.Fatal(err)
	}
	return h(next)
}

func rtRequest(t testing.TB, ctx context.Context, method string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://user:secret@origin.test/v1/items?token=secret", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func rtAttempts(t *testing.T, err error) *AttemptsError {
	t.Helper()
	e, is := errors.AsType[*AttemptsError](err)
	if !is {
		t.Fatalf("error %v (%T), want an *AttemptsError", err, err)
	}
	return e
}

// rtRecord is a Trace that writes down what it is told, in order.
type rtRecord struct {
	mu     sync.Mutex
	events []string
}

func (r *rtRecord) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, s)
}

func (r *rtRecord) trace() *Trace {
	return &Trace{
		Attempt: func(i AttemptInfo) {
			s := i.Strategy + " " + i.Endpoint + " " + i.Attempt.text()
			if i.Final {
				s += " (final)"
			}
			r.add(s)
		},
		Wait:    func(i WaitInfo) { r.add("wait " + i.Strategy + " " + i.Waited.String() + " " + i.Why) },
		Breaker: func(BreakerInfo) { r.add("breaker") },
		Reject:  func(i RejectInfo) { r.add("reject " + i.Strategy + " " + i.Why) },
	}
}

// rtOverBerth runs f in a bubble with a berth.Transport over the in-memory network.
func rtOverBerth(t *testing.T, policy berth.Policy, h origin.Handler, f func(t *testing.T, tr *berth.Transport, o *origin.Origin)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		ln, err := n.Listen("origin.test:80")
		if err != nil {
			t.Fatal(err)
		}
		o := origin.New(ln).Handle(h)
		defer o.Close()
		tr, err := berth.New(berth.Config{Policy: policy, DialContext: n.DialContext})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		f(t, tr, o)
	})
}
