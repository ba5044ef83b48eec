// Package http2 holds a type that http.Client takes for a RoundTripper which honours
// contexts.
//
// http.Client ends a request with its Timeout by the request's context alone if it
// knows the RoundTripper: http.Transport, and whatever type is spelled
// *http2.Transport. For every other one it starts a goroutine and a timer besides,
// and closes Request.Cancel. This package exists for the spelling.
package http2

import "net/http"

// Transport is another RoundTripper by a name that http.Client knows.
type Transport struct{ rt RoundTripper }

// RoundTripper is what a Transport is made of.
type RoundTripper interface {
	http.RoundTripper
	CloseIdleConnections()
}

// Known returns rt by that name. rt must honour the contexts of requests.
func Known(rt RoundTripper) *Transport { return &Transport{rt} }

// RoundTrip sends the request.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) { return t.rt.RoundTrip(req) }

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() { t.rt.CloseIdleConnections() }
