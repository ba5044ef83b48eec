// The request head (RFC 9112 §3, §5): request line and fields, byte for byte as
// net/http writes them. Exchanges append it to the connection's write buffer, in
// front of a body that is small and in memory.
//
// Nothing that a caller puts into the request can end the head early or add a
// field to it: names and the method are tokens or refused, the target and the
// host are checked, and CR, LF and NUL in a value become spaces.

package h1

import (
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
)

// Field is one field line.
type Field struct{ Name, Value string }

// RequestHead is what the engine adds to a request's own head.
type RequestHead struct {
	Framing RequestFraming

	// Close sends Connection: close, unless the request's own field says so.
	Close bool

	// AbsoluteForm sends the target with scheme and host, as a plain HTTP proxy
	// wants it.
	AbsoluteForm bool

	// DropProxyAuth leaves the request's own Proxy-Authorization out: it is not for
	// an origin behind a tunnel (RFC 9110 §11.7.2), and Extra may have another.
	DropProxyAuth bool

	// Extra follows the request's own fields, in this order. Names must be
	// tokens and none of those that the head has anyway.
	Extra []Field
}

const proxyAuthorization = "Proxy-Authorization"

const defaultUserAgent = "Go-http-client/1.1"

// AppendRequestHead appends the head of req with its final empty line. A method
// of "" is GET. Errors are [*RequestError], and dst is then returned as it came.
// When trace has a WroteHeaderField hook it is called for every field, in order;
// no other hook is.
//
// It does not allocate when dst has room, no hook is set, the path needs no
// escaping, and there are at most 16 fields and no trailer.
func AppendRequestHead(dst []byte, req *http.Request, h *RequestHead, trace *httptrace.ClientTrace) ([]byte, error) {
	if req.URL == nil {
		return dst, &RequestError{Detail: "http: nil Request.URL"}
	}
	method := req.Method
	if method == "" {
		method = http.MethodGet
	} else if !isToken(method) {
		return dst, &RequestError{Detail: "invalid method " + strconv.Quote(method)}
	}
	host, err := hostField(req, h.AbsoluteForm)
	if err != nil {
		return dst, err
	}
	trailer, err := trailerField(req, h)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(append(dst, method...), ' ')
	if dst, err = appendTarget(dst, req, host, h.AbsoluteForm); err != nil {
		return dst[:start], err
	}
	dst = append(dst, " HTTP/1.1\r\n"...)

	w := headWriter{dst: dst, dropProxyAuth: h.DropProxyAuth}
	if trace != nil {
		w.wrote = trace.WroteHeaderField
	}
	w.field("Host", host)
	w.userAgent(req.Header)
	if h.Close && !HasToken(req.Header["Connection"], "close") {
		w.field("Connection", "close")
	}
	w.framing(h.Framing)
	if len(trailer) > 0 {
		w.dst = appendField(w.dst, "Trailer", strings.Join(trailer, ","))
		if w.wrote != nil {
			w.wrote("Trailer", trailer)
		}
	}
	w.own(req.Header)
	for _, f := range h.Extra {
		if isToken(f.Name) {
			w.field(f.Name, f.Value)
		}
	}
	return append(w.dst, '\r', '\n'), nil
}

// trailerField returns the names for the Trailer field, canonical and sorted.
// Only a chunked body can have trailers.
func trailerField(req *http.Request, h *RequestHead) ([]string, error) {
	if len(req.Trailer) == 0 || h.Framing.Kind != BodyChunked {
		return nil, nil
	}
	names, err := trailerNames(req.Trailer)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		names[i] = http.CanonicalHeaderKey(name)
	}
	slices.Sort(names)
	return names, nil
}

// headWriter appends fields to dst and tells wrote, when it is not nil.
type headWriter struct {
	dst           []byte
	dropProxyAuth bool
	wrote         func(name string, values []string)
}

func (w *headWriter) field(name, value string) {
	start := len(w.dst) + len(name) + len(": ")
	w.dst = appendField(w.dst, name, value)
	if w.wrote != nil {
		w.wrote(name, []string{string(w.dst[start : len(w.dst)-2])})
	}
}

// userAgent writes the first of the request's own values, or the default one. A
// blank value sends none.
func (w *headWriter) userAgent(h http.Header) {
	agent := defaultUserAgent
	if own, ok := h["User-Agent"]; ok {
		agent = ""
		if len(own) > 0 {
			agent = own[0]
		}
	}
	if agent != "" {
		w.field("User-Agent", agent)
	}
}

func (w *headWriter) framing(f RequestFraming) {
	switch f.Kind {
	case BodyLength:
		if f.Length < 0 {
			panic("h1: a body with a length has one")
		}
		const name = "Content-Length"
		w.dst = strconv.AppendInt(append(w.dst, name+": "...), f.Length, 10)
		w.dst = append(w.dst, '\r', '\n')
		if w.wrote != nil {
			w.wrote(name, []string{strconv.FormatInt(f.Length, 10)})
		}
	case BodyChunked:
		w.field("Transfer-Encoding", "chunked")
	}
}

// own writes the request's fields sorted by name, without those that stand above
// them. A name that is no token is left out.
func (w *headWriter) own(h http.Header) {
	var stack [16]ownField
	var order [len(stack)]uint8 // indexes into stack, by name
	n := 0
	for name, values := range h {
		if !isToken(name) || isWrittenElsewhere(name) || w.dropProxyAuth && equalFold(name, proxyAuthorization) {
			continue
		}
		if n == len(stack) {
			w.ownMany(h)
			return
		}
		at := n
		for at > 0 && name < stack[order[at-1]].name {
			order[at] = order[at-1]
			at--
		}
		order[at] = uint8(n)
		stack[n] = ownField{name, values}
		n++
	}
	for _, i := range order[:n] {
		w.values(stack[i].name, stack[i].values)
	}
}

type ownField struct {
	name   string
	values []string
}

// ownMany is own for more fields than fit on its stack.
func (w *headWriter) ownMany(h http.Header) {
	names := make([]string, 0, len(h))
	for name := range h {
		if isToken(name) && !isWrittenElsewhere(name) && !(w.dropProxyAuth && equalFold(name, proxyAuthorization)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		w.values(name, h[name])
	}
}

// values writes one line for each value and tells the hook of all of them at once.
func (w *headWriter) values(name string, values []string) {
	if w.wrote == nil {
		for _, v := range values {
			w.dst = appendField(w.dst, name, v)
		}
		return
	}
	var written []string
	for _, v := range values {
		start := len(w.dst) + len(name) + len(": ")
		w.dst = appendField(w.dst, name, v)
		written = append(written, string(w.dst[start:len(w.dst)-2]))
	}
	w.wrote(name, written)
}

// isWrittenElsewhere reports whether the engine decides the field name. Except
// for User-Agent the spelling does not matter: a map key that is not canonical
// must not bring in a second length or host.
func isWrittenElsewhere(name string) bool {
	switch len(name) {
	case len("Host"):
		return equalFold(name, "Host")
	case len("Trailer"):
		return equalFold(name, "Trailer")
	case len("User-Agent"):
		return name == "User-Agent"
	case len("Content-Length"):
		return equalFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return equalFold(name, "Transfer-Encoding")
	}
	return false
}

// appendField appends one field line. CR, LF and NUL in the value become spaces
// ("replace each of those characters within that element with SP", RFC 9110
// §5.5), and whitespace at its ends is dropped.
func appendField(dst []byte, name, value string) []byte {
	for len(value) > 0 && isBlank(value[0]) {
		value = value[1:]
	}
	for len(value) > 0 && isBlank(value[len(value)-1]) {
		value = value[:len(value)-1]
	}
	dst = append(append(dst, name...), ": "...)
	if isClean(value) {
		return append(append(dst, value...), "\r\n"...)
	}
	for i := range len(value) {
		c := value[i]
		if isBreak(c) {
			c = ' '
		}
		dst = append(dst, c)
	}
	return append(dst, "\r\n"...)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || isBreak(c) }

// isBreak reports whether c ends a line or, for some servers, a value.
func isBreak(c byte) bool { return c == '\r' || c == '\n' || c == 0 }

// isClean reports whether s holds no byte for which isBreak is true.
func isClean(s string) bool {
	for len(s) >= 8 && !hasControl(load8(s)) {
		s = s[8:]
	}
	for i := range len(s) {
		if isBreak(s[i]) {
			return false
		}
	}
	return true
}

// load8 returns the first eight bytes of s as one word.
func load8(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
