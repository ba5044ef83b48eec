// The status line (RFC 9112 §4). ParseHead calls it with the first line of a
// response head.

package h1

import (
	"net/http"
	"strings"
)

// parseStatusLine reads line, the same bytes as text, without its line end:
//
//	status-line = HTTP-version SP status-code SP [ reason-phrase ]
//
// The SP after the code may be missing along with the phrase, as many servers
// have it. The minor version may be any digit: one above what we know is
// "processed as if it was in the highest minor version … to which the recipient
// is conformant" (RFC 9110 §2.5), which is 1. Another major version is an error,
// and so is a status code that is not three digits from 100 on (RFC 9110 §15).
func parseStatusLine(resp *http.Response, line []byte, text string) (Lax, error) {
	proto, rest, ok := strings.Cut(text, " ")
	if !ok {
		return 0, headError(Malformed, "malformed status line")
	}
	if !isValue(line) {
		return 0, headError(Malformed, "control character in the status line")
	}
	if len(proto) != len("HTTP/1.1") || proto[:7] != "HTTP/1." || !isDigit(proto[7]) {
		return 0, headError(Malformed, "malformed or unsupported HTTP version")
	}
	var lax Lax
	for len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
		lax = LaxStatusLine
	}
	if len(rest) < 3 || len(rest) > 3 && rest[3] != ' ' ||
		rest[0] < '1' || rest[0] > '9' || !isDigit(rest[1]) || !isDigit(rest[2]) {
		return 0, headError(Malformed, "malformed status code")
	}
	resp.Proto = proto
	resp.ProtoMajor, resp.ProtoMinor = 1, int(proto[7]-'0')
	resp.Status = rest
	resp.StatusCode = int(rest[0]-'0')*100 + int(rest[1]-'0')*10 + int(rest[2]-'0')
	return lax, nil
}

func isDigit(c byte) bool { return c-'0' <= 9 }
