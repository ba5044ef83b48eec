package berth

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/berth-go/berth/internal/h1"
)

// checkRequest refuses what cannot be sent, in net/http's order, before anything
// touches the network; what is registered for a scheme is asked after the first of
// them. Values are not told: they may be secrets.
func checkRequest(req *http.Request) error {
	switch scheme := req.URL.Scheme; {
	case scheme != "http" && scheme != "https" && scheme != "unix":
		return &RequestError{Reason: "unsupported protocol scheme " + strconv.Quote(scheme)}
	case req.Method != "" && !h1.ValidMethod(req.Method):
		return &RequestError{Reason: fmt.Sprintf("net/http: invalid method %q", req.Method)}
	case req.URL.Host == "" && scheme != "unix":
		return &RequestError{Reason: "http: no Host in request URL"}
	}
	return nil
}

// checkFields refuses a request without the parts of one, or with header or trailer
// fields that would not stay what they are.
func checkFields(req *http.Request) error {
	if req.URL == nil {
		return &RequestError{Reason: "http: nil Request.URL"}
	}
	if req.Header == nil {
		return &RequestError{Reason: "http: nil Request.Header"}
	}
	switch req.URL.Scheme {
	case "http", "https", "unix":
		if bad := h1.InvalidField(req.Header); bad != "" {
			return &RequestError{Reason: "net/http: invalid header " + bad}
		}
		if bad := h1.InvalidField(req.Trailer); bad != "" {
			return &RequestError{Reason: "net/http: invalid trailer " + bad}
		}
	}
	return nil
}
