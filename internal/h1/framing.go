// Where a response ends, and whether the connection outlives it (RFC 9112 §6.3,
// §9.3). ParseHead calls it after the fields are read. The order of the rules is
// the RFC's; the resulting fields of http.Response are those of net/http.

package h1

import (
	"net/http"
	"strconv"
	"time"
)

// BodyKind says how the end of a body is found.
type BodyKind uint8

const (
	BodyNone       BodyKind = iota // there is none, or it is empty
	BodyLength                     // Framing.Length bytes
	BodyChunked                    // chunked transfer coding, with a trailer section
	BodyUntilClose                 // everything until the connection ends
	BodyUpgrade                    // 101: what follows is another protocol
)

// String returns the kind in words.
func (k BodyKind) String() string {
	switch k {
	case BodyNone:
		return "none"
	case BodyLength:
		return "length"
	case BodyChunked:
		return "chunked"
	case BodyUntilClose:
		return "until close"
	case BodyUpgrade:
		return "upgrade"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Framing is what a response head says about the bytes that follow it.
type Framing struct {
	Kind BodyKind

	// Length is the number of body bytes, 0 for BodyNone, -1 when it is unknown.
	// It differs from Response.ContentLength, which for HEAD tells the length
	// that the body would have.
	Length int64

	// Reusable: the peer keeps the connection open after this response, its end
	// is certain, and nothing had to be tolerated. It knows nothing of the
	// request, of bytes beyond the body, or of deviations in the trailer section.
	Reusable bool

	// Lax holds the deviations that were tolerated.
	Lax Lax

	// KeepAliveTimeout is how long the peer keeps the connection idle, by the
	// Keep-Alive field: -1 when it does not say, 0 when not at all.
	KeepAliveTimeout time.Duration

	// KeepAliveMax is how many more requests the peer takes, by the Keep-Alive
	// field: -1 when it does not say, 0 for none.
	KeepAliveMax int
}

// frame decides from resp's status, version and header, normalises the header
// and sets ContentLength, TransferEncoding, Close and Trailer. values is storage,
// see [one].
func frame(resp *http.Response, method string, has seen, values *[]string) (Framing, error) {
	f := Framing{Kind: BodyNone, KeepAliveTimeout: -1, KeepAliveMax: -1}
	h := resp.Header
	resp.TransferEncoding, resp.Trailer = nil, nil

	if has&seenPragma != 0 {
		// As net/http has it: "Pragma: no-cache" means Cache-Control: no-cache to
		// those who look there only (RFC 9111 §5.4).
		if h["Pragma"][0] == "no-cache" && h["Cache-Control"] == nil {
			h["Cache-Control"] = one(values, "no-cache")
		}
	}
	persistent := decidePersistence(resp, has)
	if has&seenKeepAlive != 0 {
		f.KeepAliveTimeout, f.KeepAliveMax = parseKeepAlive(h["Keep-Alive"])
		if f.KeepAliveTimeout == 0 || f.KeepAliveMax == 0 {
			persistent = false
		}
	}

	chunked, err := decideCoding(resp, &f, has, values)
	if err != nil {
		return f, err
	}
	length, err := decideLength(h, &f, has)
	if err != nil {
		return f, err
	}
	tunnel := method == http.MethodConnect && resp.StatusCode/100 == 2
	head := method == http.MethodHead
	noBody := resp.StatusCode/100 == 1 || resp.StatusCode == 204 || resp.StatusCode == 304

	switch {
	case tunnel:
		// "A client MUST ignore any Content-Length or Transfer-Encoding header
		// fields received in such a message" (RFC 9112 §6.3, item 2).
		if has&seenCoding != 0 || length > 0 {
			f.Lax |= LaxBodiless
		}
		chunked, resp.TransferEncoding = false, nil
		f.Kind, f.Length = BodyUntilClose, -1
		resp.ContentLength, resp.Close = -1, true
	case head || noBody:
		resp.ContentLength = 0
		if head {
			resp.ContentLength = length
		}
		if (has&seenCoding != 0 || length > 0) && (resp.StatusCode/100 == 1 || resp.StatusCode == 204) {
			f.Lax |= LaxBodiless
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			f.Kind, f.Length = BodyUpgrade, -1
		}
	case chunked:
		delete(h, "Content-Length")
		f.Kind, f.Length = BodyChunked, -1
		resp.ContentLength = -1
	case length > 0:
		f.Kind, f.Length = BodyLength, length
		resp.ContentLength = length
	case length == 0:
		resp.ContentLength = 0
	default:
		f.Kind, f.Length = BodyUntilClose, -1
		resp.ContentLength, resp.Close = -1, true
	}
	if chunked && has&seenLength != 0 {
		f.Lax |= LaxLengthAndCoding
	}
	if chunked && has&seenTrailer != 0 {
		if err := declareTrailer(resp); err != nil {
			return f, err
		}
	}
	f.Reusable = persistent && f.Kind != BodyUntilClose && f.Kind != BodyUpgrade
	return f, nil
}

// decidePersistence applies RFC 9112 §9.3: "close" ends the connection, HTTP/1.1
// keeps it otherwise, HTTP/1.0 only with "keep-alive". It sets resp.Close and,
// as net/http does, drops the Connection field that an HTTP/1.1 "close" is in.
func decidePersistence(resp *http.Response, has seen) bool {
	closes, keeps := false, false
	if has&seenConnection != 0 {
		tokens := resp.Header["Connection"]
		closes, keeps = HasToken(tokens, "close"), HasToken(tokens, "keep-alive")
	}
	if resp.ProtoMinor == 0 {
		resp.Close = closes || !keeps
		return !resp.Close
	}
	if resp.Close = closes; closes {
		delete(resp.Header, "Connection")
	}
	return !closes
}

// decideCoding takes Transfer-Encoding out of the header and reports whether the
// message is chunked. The only field accepted is a single one that says chunked
// and nothing else: every other stack of codings is read differently by
// different peers, and a client that sends no TE field is offered none.
func decideCoding(resp *http.Response, f *Framing, has seen, values *[]string) (chunked bool, err error) {
	if has&seenCoding == 0 {
		return false, nil
	}
	codings := resp.Header["Transfer-Encoding"]
	delete(resp.Header, "Transfer-Encoding")
	if resp.ProtoMinor == 0 {
		f.Lax |= LaxOldCoding
		return false, nil
	}
	if len(codings) != 1 {
		return false, headError(BadFraming, "more than one Transfer-Encoding")
	}
	if !equalFold(codings[0], "chunked") {
		return false, headError(BadFraming, "unsupported Transfer-Encoding")
	}
	resp.TransferEncoding = one(values, "chunked")
	return true, nil
}

// decideLength returns the Content-Length, -1 if there is none. It is checked
// even where it does not count, and repeated ones are merged: "a recipient … MUST
// either reject the message as invalid or replace the duplicated field values
// with a single valid Content-Length" (RFC 9110 §8.6).
func decideLength(h http.Header, f *Framing, has seen) (int64, error) {
	if has&seenLength == 0 {
		return -1, nil
	}
	lengths := h["Content-Length"]
	first := trimOWS(lengths[0])
	for _, other := range lengths[1:] {
		if trimOWS(other) != first {
			return -1, headError(BadFraming, "conflicting Content-Length fields")
		}
	}
	if first == "" {
		return -1, headError(BadFraming, "empty Content-Length")
	}
	n, err := strconv.ParseUint(first, 10, 63)
	if err != nil {
		return -1, headError(BadFraming, "bad Content-Length"+quoteNumber(first))
	}
	if len(lengths) > 1 {
		f.Lax |= LaxRepeatedLength
		lengths[0] = first
		h["Content-Length"] = lengths[:1:1]
	}
	return int64(n), nil
}

// quoteNumber quotes s after a space if it is short and looks like a number; what
// else a peer put there is not repeated.
func quoteNumber(s string) string {
	if len(s) > 24 {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && c != '+' && c != '-' {
			return ""
		}
	}
	return " " + strconv.Quote(s)
}
