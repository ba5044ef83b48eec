// How a request's body is framed (RFC 9112 §6): decided before the head is
// written, once per attempt.

package h1

import (
	"net/http"
	"strconv"
)

// RequestFraming is how a request body goes out. The zero value is a request
// without a body and without a length.
type RequestFraming struct {
	// Kind is BodyNone (nothing is sent, no length is named), BodyLength,
	// BodyChunked, or, for CONNECT alone, BodyUntilClose: bytes without framing.
	Kind BodyKind

	// Length is the number of body bytes for BodyLength; 0 sends Content-Length: 0
	// and no body. It is 0 for BodyNone and -1 otherwise.
	Length int64
}

// FrameRequest decides the framing of req's body. It reads nothing.
//
// probe tells that the body may be empty although its length is unknown, and that
// the method is one that servers expect no body with: the caller reads one byte
// first, and when there is none uses the zero RequestFraming instead of f, which
// holds for a body that is not empty.
//
// The error, a [*RequestError], is a length with a nil Body.
func FrameRequest(req *http.Request) (f RequestFraming, probe bool, err error) {
	if req.Body == nil && req.ContentLength != 0 {
		return f, false, &RequestError{
			Detail: "http: Request.ContentLength=" + strconv.FormatInt(req.ContentLength, 10) + " with nil Body",
		}
	}
	coding := ""
	if len(req.TransferEncoding) > 0 {
		coding = req.TransferEncoding[0]
	}
	length := req.ContentLength
	switch {
	case req.Body == nil:
		return frameEmpty(req, coding), false, nil
	case coding == "chunked":
		return RequestFraming{BodyChunked, -1}, false, nil
	case req.Body == http.NoBody:
		return frameEmpty(req, coding), false, nil
	case length > 0:
		return RequestFraming{BodyLength, length}, false, nil
	case req.Method == http.MethodConnect:
		return RequestFraming{BodyUntilClose, -1}, false, nil
	}
	// A body with ContentLength 0 is one of unknown length: http.NoBody says
	// that there is none.
	return RequestFraming{BodyChunked, -1}, coding == "" && usuallyEmpty(req.Method), nil
}

// frameEmpty frames a request without a body. Servers expect a length with POST,
// PUT and PATCH; "identity" asks for one with other methods as well.
func frameEmpty(req *http.Request, coding string) RequestFraming {
	switch req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return RequestFraming{BodyLength, 0}
	case "", http.MethodGet, http.MethodHead:
		return RequestFraming{}
	}
	if coding == "identity" && len(req.TransferEncoding) == 1 && req.Body != nil {
		return RequestFraming{BodyLength, 0}
	}
	return RequestFraming{}
}

// usuallyEmpty reports whether a request with this method rarely has a body, so
// that a server may be confused by one that is chunked and empty.
func usuallyEmpty(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
		return true
	}
	return false
}
