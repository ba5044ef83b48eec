package clients

import (
	"net/http"
	"net/url"
)

// DefaultHeader sends the fields of h with every request that does not have them itself,
// but not to another origin that a redirect leads to: credentials may stand there.
func DefaultHeader(h http.Header) Handler { return defaultHeader(h, nil) }

// defaultHeader sends h to the origin of base alone, if there is one.
func defaultHeader(h http.Header, base *url.URL) Handler {
	own := canonical(h)
	only := origin(base)
	return func(next http.RoundTripper) http.RoundTripper {
		return &headerAdder{forward{next}, own, only}
	}
}

type headerAdder struct {
	forward
	header http.Header
	only   string // the origin that they go to; "" for any
}

func (a *headerAdder) RoundTrip(req *http.Request) (*http.Response, error) {
	if !a.trusts(req) {
		return a.next.RoundTrip(req)
	}
	out := *req
	out.Header = make(http.Header, len(req.Header)+len(a.header))
	for name, values := range a.header {
		out.Header[name] = values
	}
	for name, values := range req.Header {
		out.Header[name] = values
	}
	return a.next.RoundTrip(&out)
}

// trusts says that the request goes where the fields may.
func (a *headerAdder) trusts(req *http.Request) bool {
	if a.only != "" {
		return origin(req.URL) == a.only
	}
	return sameOrigin(req)
}

// sameOrigin says that no redirect has led the request to another origin than the first.
func sameOrigin(req *http.Request) bool {
	first := req
	for range 100 { // http.Client follows far fewer, unless it was told to
		if first.Response == nil || first.Response.Request == nil {
			break
		}
		first = first.Response.Request
	}
	return first == req || origin(first.URL) == origin(req.URL)
}

// with returns a shallow copy of the request that has one more field.
func with(req *http.Request, name, value string) *http.Request {
	out := *req
	out.Header = make(http.Header, len(req.Header)+2)
	for k, v := range req.Header {
		out.Header[k] = v
	}
	out.Header[name] = []string{value}
	return &out
}
