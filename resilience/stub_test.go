package resilience

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-go/berth"
)

// stub is a RoundTripper that closes the request's body, as it has to.
type stub func(*http.Request) (*http.Response, error)

func (f stub) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	return f(req)
}

// answering is a stub's answer without a body.
func answering(status int) stub {
	return func(*http.Request) (*http.Response, error) { return stubResponse(status), nil }
}

func stubResponse(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}
}

// failing is a stub's error.
func failing(err error) stub {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

var errStub = errors.New("connection reset")

// over wraps next, and fails the test when the strategy is not valid.
func over(t testing.TB, s interface{ Handler() (Handler, error) }, next http.RoundTripper) http.RoundTripper {
	t.Helper()
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	return h(next)
}

func stubRequest(t testing.TB, ctx context.Context, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// countedBody counts how often it is closed.
type countedBody struct {
	io.Reader
	closed atomic.Int32
}

func (b *countedBody) Close() error { b.closed.Add(1); return nil }

func newCountedBody() *countedBody { return &countedBody{Reader: strings.NewReader("body")} }

// wantConfigError checks that the strategy is refused for that field.
func wantConfigError(t *testing.T, s interface{ Handler() (Handler, error) }, field string) {
	t.Helper()
	_, err := s.Handler()
	var e *berth.ConfigError
	if !errors.As(err, &e) || e.Field != field {
		t.Errorf("%+v: error %v, want one of field %s", s, err, field)
	}
}

// ask sends a GET and returns the error.
func ask(t testing.TB, rt http.RoundTripper, url string) error {
	t.Helper()
	resp, err := rt.RoundTrip(stubRequest(t, t.Context(), "GET", url, nil))
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// benchStrategy measures what a strategy adds to a RoundTripper that does nothing.
func benchStrategy(b *testing.B, s interface{ Handler() (Handler, error) }) {
	resp := stubResponse(200)
	rt := over(b, s, stub(func(*http.Request) (*http.Response, error) { return resp, nil }))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	req := stubRequest(b, ctx, "GET", "http://api.example.com/", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rt.RoundTrip(req); err != nil {
			b.Fatal(err)
		}
	}
}
