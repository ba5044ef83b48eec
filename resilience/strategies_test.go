package resilience

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"testing"
)

// plumbing is a RoundTripper whose idle connections are closed.
type plumbing struct {
	stub
	closed bool
}

func (p *plumbing) CloseIdleConnections() { p.closed = true }

// Every strategy passes CloseIdleConnections on, can be looked through, sends the request
// that it was given without changing it, and leaves one alone that has no URL.
func TestStrategiesForwardWhatTheyAreNotAbout(t *testing.T) {
	for name, s := range map[string]interface{ Handler() (Handler, error) }{
		"breaker": Breaker{}, "concurrency": Concurrency{}, "concurrency per endpoint": Concurrency{PerEndpoint: true},
		"rate": Rate{PerSecond: 10}, "rate per endpoint": Rate{PerSecond: 10, PerEndpoint: true}, "hedge": Hedge{}, "quantile": Hedge{Quantile: 0.9},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plumbing{stub: answering(200)}
			rt := over(t, s, p)
			rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			if !p.closed {
				t.Error("CloseIdleConnections was not passed on")
			}
			if got := rt.(interface{ Unwrap() http.RoundTripper }).Unwrap(); got != http.RoundTripper(p) {
				t.Errorf("Unwrap returns %v", got)
			}
			req := stubRequest(t, t.Context(), "PUT", "http://a.test/p?q=1", bytes.NewReader([]byte("x")))
			before := *req
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if req.Body != before.Body || req.URL != before.URL || req.Context() != before.Context() || len(req.Header) != len(before.Header) {
				t.Error("the request was changed")
			}
			var u *url.Error
			_, err = over(t, s, failing(&url.Error{Op: "no url", Err: errStub})).RoundTrip(&http.Request{Method: "POST", Header: http.Header{}})
			if !errors.As(err, &u) {
				t.Errorf("a request without URL: %v, want what the RoundTripper below says", err)
			}
		})
	}
}
