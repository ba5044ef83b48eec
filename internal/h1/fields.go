// Field names, values and tokens (RFC 9110 §5.1, §5.5, §5.6): the character
// classes, the canonical spelling of names, and the checks that both the parser
// and the writer use. Everything here is pure and safe for concurrent use.

package h1

import (
	"encoding/binary"
	"net/http"
	"strconv"
)

// Character classes, one bit each.
const (
	classToken = 1 << iota // tchar, RFC 9110 §5.6.2
	classLower             // a-z
	classUpper             // A-Z
	classHost              // may stand in the Host field
	classPath              // stands for itself in a URL path
)

var class = func() (t [256]uint8) {
	add := func(bits uint8, chars string) {
		for i := range len(chars) {
			t[chars[i]] |= bits
		}
	}
	const (
		digits = "0123456789"
		lower  = "abcdefghijklmnopqrstuvwxyz"
		upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	)
	add(classToken|classHost|classPath, digits)
	add(classToken|classHost|classPath|classLower, lower)
	add(classToken|classHost|classPath|classUpper, upper)
	add(classToken, "!#$%&'*+-.^_`|~")
	// RFC 3986 §3.2: unreserved, sub-delims, and what IP literals and ports need.
	add(classHost, "-._~!$&'()*+,;=%:[]")
	// RFC 3986 §3.3, without those that net/url escapes in a path.
	add(classPath, "-._~$&+,/:;=@")
	return t
}()

func isToken(s string) bool {
	for i := range len(s) {
		if class[s[i]]&classToken == 0 {
			return false
		}
	}
	return len(s) > 0
}

// ValidMethod reports whether s is a method name: a token (RFC 9110 §9.1). The
// empty string, which net/http takes for GET, is none.
func ValidMethod(s string) bool { return isToken(s) }

// InvalidField looks for a field that must not be sent. It returns "" when there
// is none, else which one, in words that continue "invalid header" or "invalid
// trailer": field name "a b", field value for "Cookie". The value itself is not
// told, because it may be a secret.
func InvalidField(h http.Header) string {
	for name, values := range h {
		if !isToken(name) {
			return "field name " + strconv.Quote(name)
		}
		for _, v := range values {
			for i := range len(v) {
				if !isValueByte(v[i]) {
					return "field value for " + strconv.Quote(name)
				}
			}
		}
	}
	return ""
}

// HasToken reports whether one of the comma-separated lists in values has the
// element token, letter case aside (RFC 9110 §5.6.1). token must be ASCII.
func HasToken(values []string, token string) bool {
	for _, v := range values {
		for rest, more := v, true; more; {
			var element string
			element, rest, more = cutElement(rest)
			if equalFold(element, token) {
				return true
			}
		}
	}
	return false
}

// cutElement splits the first element off a comma-separated list. more is false
// when it was the last one.
func cutElement(list string) (element, rest string, more bool) {
	for i := range len(list) {
		if list[i] == ',' {
			return trimOWS(list[:i]), list[i+1:], true
		}
	}
	return trimOWS(list), "", false
}

// trimOWS removes optional whitespace (RFC 9110 §5.6.3) at both ends.
func trimOWS[T string | []byte](s T) T {
	for len(s) > 0 && isOWS(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isOWS(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }

// equalFold compares ASCII strings, letter case aside. Unlike strings.EqualFold
// it folds nothing outside ASCII: the Kelvin sign is no k.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if class[c]&classUpper != 0 {
		return c | 0x20
	}
	return c
}

// isValueByte reports whether c may stand in a field value: VCHAR, SP, HTAB or
// obs-text (RFC 9110 §5.5).
func isValueByte(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }

// isValue reports whether every byte of b may stand in a field value.
func isValue(b []byte) bool {
	for len(b) >= 8 {
		if hasControl(binary.LittleEndian.Uint64(b)) {
			for _, c := range b[:8] {
				if !isValueByte(c) {
					return false
				}
			}
		}
		b = b[8:]
	}
	for _, c := range b {
		if !isValueByte(c) {
			return false
		}
	}
	return true
}

// hasControl reports whether one of the eight bytes of x is below 0x20 or 0x7f:
// HTAB and whatever a value must not hold. A byte's top bit in the result of a
// subtraction is set, and was not before, when the byte was the smaller one.
func hasControl(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	del := x ^ 0x7f*ones
	return ((x-0x20*ones)&^x|(del-ones)&^del)&tops != 0
}

// canonical returns the name of a field as a map key, spelled the way
// [http.CanonicalHeaderKey] does, and whether it is one. b and s are the same
// bytes: a name that is canonical already is returned as s, one that is known
// from a table, so that both cost nothing.
//
// A name with spaces in it or after it is reported as spaced and returned as it
// is, because net/http does so and programs look such names up. The fields that
// decide how the message is read are the exception: spaces after their name are
// dropped, so that all see the same message that a proxy makes of it (RFC 9112
// §5.1: "MUST remove any such whitespace").
func canonical(b []byte, s string) (name string, spaced, ok bool) {
	wrong := uint8(classLower) // the class that would not be canonical here
	same := true
	for _, c := range b {
		k := class[c]
		if k&classToken == 0 {
			if c != ' ' {
				return "", false, false
			}
			spaced = true
		}
		if k&wrong != 0 {
			same = false
		}
		wrong = classUpper
		if c == '-' {
			wrong = classLower
		}
	}
	if len(b) == 0 {
		return "", false, false
	}
	if spaced {
		return canonicalSpaced(s), true, true
	}
	if same {
		return s, false, true
	}
	return respell(b), false, true
}

func canonicalSpaced(s string) string {
	t := trimOWS(s)
	for _, name := range [...]string{"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Trailer"} {
		if equalFold(t, name) {
			return name
		}
	}
	return s
}

// respell returns the token b in canonical spelling.
func respell(b []byte) string {
	var stack [64]byte
	buf := append(stack[:0], b...)
	first := true
	for i, c := range buf {
		if k := class[c]; first && k&classLower != 0 || !first && k&classUpper != 0 {
			buf[i] = c ^ 0x20
		}
		first = c == '-'
	}
	if name, ok := knownNames[string(buf)]; ok {
		return name
	}
	return string(buf)
}

// knownNames are the names that servers and gateways send in lower case often
// enough to be worth not allocating.
var knownNames = func() map[string]string {
	m := make(map[string]string)
	for _, name := range [...]string{
		"Accept-Ch", "Accept-Ranges", "Access-Control-Allow-Credentials",
		"Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
		"Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
		"Access-Control-Max-Age", "Age", "Allow", "Alt-Svc", "Cache-Control",
		"Cf-Cache-Status", "Cf-Ray", "Connection", "Content-Disposition",
		"Content-Encoding", "Content-Language", "Content-Length", "Content-Location",
		"Content-Range", "Content-Security-Policy", "Content-Type",
		"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Date", "Etag",
		"Expect-Ct", "Expires", "Grpc-Message", "Grpc-Status", "Keep-Alive",
		"Last-Modified", "Link", "Location", "Nel", "P3p", "Permissions-Policy",
		"Pragma", "Proxy-Authenticate", "Ratelimit-Limit", "Ratelimit-Remaining",
		"Ratelimit-Reset", "Referrer-Policy", "Report-To", "Retry-After", "Server",
		"Server-Timing", "Set-Cookie", "Strict-Transport-Security", "Te",
		"Timing-Allow-Origin", "Traceparent", "Tracestate", "Trailer",
		"Transfer-Encoding", "Upgrade", "Vary", "Via", "Warning",
		"Www-Authenticate", "X-Amz-Cf-Id", "X-Amz-Cf-Pop", "X-Amz-Id-2",
		"X-Amz-Request-Id", "X-Amzn-Requestid", "X-Amzn-Trace-Id", "X-Aspnet-Version",
		"X-Cache", "X-Cache-Hits", "X-Content-Type-Options", "X-Correlation-Id",
		"X-Dns-Prefetch-Control", "X-Envoy-Upstream-Service-Time", "X-Frame-Options",
		"X-Ms-Request-Id", "X-Ms-Version", "X-Permitted-Cross-Domain-Policies",
		"X-Powered-By", "X-Ratelimit-Limit", "X-Ratelimit-Remaining",
		"X-Ratelimit-Reset", "X-Request-Id", "X-Response-Time", "X-Runtime",
		"X-Served-By", "X-Timer", "X-Trace-Id", "X-Xss-Protection",
	} {
		m[name] = name
	}
	return m
}()
