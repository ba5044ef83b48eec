// Errors of the wire codec: what a peer sent wrong (ProtocolError) and what
// cannot be sent at all (RequestError). The connection wraps the first, the
// transport returns the second to the caller before anything is written.

package h1

import "strconv"

// Kind says what sort of rule a peer broke.
type Kind uint8

const (
	// Malformed is a violation of the grammar: a status line, field line, chunk
	// line or trailer that cannot be read.
	Malformed Kind = iota + 1

	// BadFraming is a message whose end cannot be known for certain: conflicting
	// or unreadable lengths, a transfer coding that is not exactly "chunked".
	BadFraming

	// TooLarge is a message that passes a bound: too many fields, a chunk line, a
	// trailer section or a chunk that is too long.
	TooLarge

	// Refused is a deviation that is tolerated otherwise and that Strict rejects.
	Refused
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case Malformed:
		return "malformed"
	case BadFraming:
		return "bad framing"
	case TooLarge:
		return "too large"
	case Refused:
		return "refused"
	}
	return "kind " + strconv.Itoa(int(k))
}

// ProtocolError is a peer's violation of HTTP/1.1. The connection it came from
// must be closed. It is immutable.
type ProtocolError struct {
	Op     string // what was being read: "read response head", "read chunked body"
	Kind   Kind
	Detail string // the broken rule; holds no field value, except a Content-Length that consists of digits and signs
}

// Error returns the operation and the broken rule.
func (e *ProtocolError) Error() string { return e.Op + ": " + e.Detail }

const (
	opHead  = "read response head"
	opChunk = "read chunked body"
)

func headError(k Kind, detail string) error {
	return &ProtocolError{Op: opHead, Kind: k, Detail: detail}
}

// HeadTooLarge returns the error for a response whose heads, interim ones
// included, pass limit bytes. The text is the one that [net/http.Transport] has.
func HeadTooLarge(limit int64) error {
	return &ProtocolError{
		Op:     opHead,
		Kind:   TooLarge,
		Detail: "net/http: server response headers exceeded " + strconv.FormatInt(limit, 10) + " bytes; aborted",
	}
}

// RequestError is a request that cannot be put on the wire without changing its
// meaning or that of the next request. The fault is the caller's, nothing was
// written, and a retry cannot help. It is immutable.
type RequestError struct {
	Detail string // the broken rule; holds no field value and no part of the URL
}

// Error returns the broken rule.
func (e *RequestError) Error() string { return "write request head: " + e.Detail }
