// Lax: the deviations from RFC 9112 that a response is accepted with (design
// §11, "Strictness"). One rule for all of them: count it, never reuse the
// connection, and refuse the response when the policy is strict. ParseHead and
// Chunked set the bits; the connection reads them.

package h1

import "strings"

// Lax is a set of tolerated deviations. Zero is a response without any.
type Lax uint8

const (
	// LaxBareLF: a line of the head or of the trailer section ends in LF without
	// CR ("a recipient MAY recognize a single LF as a line terminator", RFC 9112
	// §2.2). Chunk lines are not covered: there a bare LF is an error.
	LaxBareLF Lax = 1 << iota

	// LaxObsFold: a field value continues on the next line; each fold was read as
	// one space (RFC 9112 §5.2).
	LaxObsFold

	// LaxNameSpace: a field name is followed by spaces before the colon, or holds
	// spaces (RFC 9112 §5.1).
	LaxNameSpace

	// LaxStatusLine: more than one space between version and status code (RFC
	// 9112 §4 lets a recipient split at whitespace).
	LaxStatusLine

	// LaxLengthAndCoding: Content-Length beside Transfer-Encoding; the coding won
	// (RFC 9112 §6.3, item 3).
	LaxLengthAndCoding

	// LaxRepeatedLength: Content-Length more than once, always the same (RFC 9110
	// §8.6).
	LaxRepeatedLength

	// LaxOldCoding: an HTTP/1.0 response with Transfer-Encoding, which was
	// ignored ("MUST treat the message as if the framing is faulty … and close
	// the connection", RFC 9112 §6.1).
	LaxOldCoding

	// LaxBodiless: a 1xx or 204 response, or a 2xx one to CONNECT, that announces
	// content by Transfer-Encoding or by a Content-Length above 0 (RFC 9110 §8.6,
	// RFC 9112 §6.1). It has none; a peer that sends some after all would be
	// read as the next response.
	LaxBodiless
)

var laxNames = [...]string{
	"line ends in a bare LF",
	"folded field line",
	"space in or after a field name",
	"surplus space in the status line",
	"both Content-Length and Transfer-Encoding",
	"repeated Content-Length",
	"Transfer-Encoding in an HTTP/1.0 response",
	"length of a body that the response cannot have",
}

// String names the deviations, comma-separated; it is empty for none.
func (l Lax) String() string {
	var names []string
	for i, name := range laxNames {
		if l&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
