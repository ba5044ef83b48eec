package resilience

import (
	"errors"
	"net/http"
)

// forward is what every strategy's RoundTripper has in common: the next one, and the way
// to it for those who look for what lies below.
type forward struct{ next http.RoundTripper }

// CloseIdleConnections closes those of the RoundTripper below, if it has any;
// http.Client.CloseIdleConnections asks for it.
func (f forward) CloseIdleConnections() {
	if c, is := f.next.(interface{ CloseIdleConnections() }); is {
		c.CloseIdleConnections()
	}
}

// Unwrap returns the RoundTripper below.
func (f forward) Unwrap() http.RoundTripper { return f.next }

var errNoResponse = errors.New("berth: the RoundTripper below returned neither a response nor an error")

// send makes an attempt, and holds what comes back to the contract of RoundTrip: either a
// response or an error.
func (f forward) send(req *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(req)
	switch {
	case err != nil && resp != nil:
		discard(resp)
		return nil, err
	case err == nil && resp == nil:
		return nil, errNoResponse
	}
	return resp, err
}

// discard closes a response that nobody will see.
func discard(resp *http.Response) {
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
}
