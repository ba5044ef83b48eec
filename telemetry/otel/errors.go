package otelberth

import (
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/berth-go/berth/clients"
)

// errorType is clients.ErrorType, but for a server that closes in place of an answer, which
// is response_ended as in .NET: io.EOF has no type that would tell.
func errorType(resp *http.Response, err error) string {
	kind := clients.ErrorType(resp, err)
	if kind == "errors.errorString" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return "response_ended"
	}
	return kind
}

// lookupError names a resolver's error as getaddrinfo does.
func lookupError(err error) string {
	dns, is := errors.AsType[*net.DNSError](err)
	switch {
	case is && dns.IsNotFound:
		return "host_not_found"
	case is && dns.IsTimeout:
		return "timeout"
	case is && dns.IsTemporary:
		return "try_again"
	}
	return errorType(nil, err)
}
