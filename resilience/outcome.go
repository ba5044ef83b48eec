package resilience

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"

	"github.com/berth-go/berth"
)

// Transient reports whether an attempt that ended so may do better when it is made again:
// a response of status 408, 429 or 5xx, or an error that is not the caller's own and not
// for good. It says nothing about whether the request may be sent twice. ctx is the
// request's: once it has ended, nothing is transient.
func Transient(ctx context.Context, resp *http.Response, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if err == nil {
		return resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, berth.ErrClosed) || errors.Is(err, berth.ErrRequestCanceled) {
		return false
	}
	return !permanent(err)
}

// permanent says that the same request will meet the same error: it is wrong itself, it
// is refused here, or the server's identity is.
func permanent(err error) bool {
	var (
		request *berth.RequestError
		refused *berth.AddrRefusedError
		open    *CircuitOpenError
		limit   *LimitError
		record  tls.RecordHeaderError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	return errors.As(err, &request) || errors.As(err, &refused) || errors.As(err, &open) || errors.As(err, &limit) ||
		errors.As(err, &record) || errors.As(err, &cert) || errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

// Repeatable reports whether the server may receive the request twice: its method is
// idempotent by RFC 9110 §9.2.2, or the caller says so by an idempotency key. A request
// that has not left, by [berth.NotSent], may be sent again in any case.
func Repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xkey := req.Header["X-Idempotency-Key"]
	return key || xkey
}

// rewindable reports whether the request's body can be sent once more.
func rewindable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}
