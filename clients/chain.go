package clients

import "net/http"

// Chain puts handlers around rt, the first outermost. CloseIdleConnections of what it
// returns reaches rt, whether the handlers forward it or not, and Unwrap returns rt.
func Chain(rt http.RoundTripper, handlers ...Handler) http.RoundTripper {
	outer := rt
	for i := len(handlers) - 1; i >= 0; i-- {
		outer = handlers[i](outer)
	}
	return &chain{outer, rt}
}

type chain struct{ outer, inner http.RoundTripper }

func (c *chain) RoundTrip(req *http.Request) (*http.Response, error) { return c.outer.RoundTrip(req) }
func (c *chain) CloseIdleConnections()                               { closeIdle(c.inner) }

// Unwrap returns the RoundTripper that the handlers stand around.
func (c *chain) Unwrap() http.RoundTripper { return c.inner }

// forward is embedded in our handlers' RoundTrippers.
type forward struct{ next http.RoundTripper }

// CloseIdleConnections reaches the transport.
func (f forward) CloseIdleConnections() { closeIdle(f.next) }

// Unwrap returns what the handler wraps.
func (f forward) Unwrap() http.RoundTripper { return f.next }
