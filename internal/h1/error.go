package h1

import (
	"errors"
	"fmt"
	"time"
)

// Error is an exchange that ended without a response. Err is what the caller is
// to see; the rest is what decides about another attempt.
type Error struct {
	Err      error
	Sent     bool // a byte of the request may have left
	Received bool // a byte of a response has arrived
	Network  bool // reading or writing failed, the peer closed included
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// HeaderTimeoutError: the response head did not come in time.
type HeaderTimeoutError struct{ After time.Duration }

func (e *HeaderTimeoutError) Error() string {
	return fmt.Sprintf("timeout awaiting response headers for %v", e.After)
}

// ErrServerClosed: the peer closed a connection that had carried a request before
// it sent a byte of the response to this one.
var ErrServerClosed = errors.New("server closed idle connection")

// BodyLengthError: the request body is not as long as its ContentLength says.
type BodyLengthError struct{ Want, Got int64 }

func (e *BodyLengthError) Error() string {
	return fmt.Sprintf("http: ContentLength=%d with Body length %d", e.Want, e.Got)
}
