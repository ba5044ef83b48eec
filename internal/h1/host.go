// The Host field and the request target (RFC 9112 §3.2): what of the request's
// URL and Host goes on the wire, and in which form.

package h1

import (
	"encoding/binary"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// hostField returns the value of the Host field: Request.Host or the URL's host,
// in punycode, without an IPv6 zone (RFC 6874 §1). A host with a byte that has no
// place in one becomes empty, as net/http has it: changing it in any other way
// would let the caller's data pick the server's virtual host. For a proxy, which
// cannot route an empty host, it is an error.
func hostField(req *http.Request, absolute bool) (string, error) {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	valid := isHost(host)
	if !valid && !isASCII(host) {
		var err error
		if host, err = punycode(host); err != nil {
			return "", &RequestError{Detail: "host name has no ASCII form"}
		}
		valid = isHost(host)
	}
	if !valid {
		if absolute {
			return "", &RequestError{Detail: "http: invalid Host header"}
		}
		return "", nil
	}
	if len(host) > 0 && host[0] == '[' {
		return removeZone(host), nil
	}
	return host, nil
}

func isHost(s string) bool {
	for i := range len(s) {
		if class[s[i]]&classHost == 0 {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// punycode encodes a host, with a port or without.
func punycode(hostport string) (string, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, "" // there is none
	}
	host, err = idna.ToASCII(host)
	if err != nil || port == "" {
		return host, err
	}
	return net.JoinHostPort(host, port), nil
}

// removeZone turns [fe80::1%eth0]:80 into [fe80::1]:80.
func removeZone(host string) string {
	end := strings.LastIndexByte(host, ']')
	if end < 0 {
		return host
	}
	if zone := strings.LastIndexByte(host[:end], '%'); zone >= 0 {
		return host[:zone] + host[end:]
	}
	return host
}

// appendTarget appends the request target: the authority for CONNECT, the
// absolute form for a proxy, else the origin form or "*". A control character is
// an error; a space, which would end the target early, is sent as %20.
func appendTarget(dst []byte, req *http.Request, host string, absolute bool) ([]byte, error) {
	start := len(dst)
	u := req.URL
	switch {
	case absolute && u.Scheme != "" && u.Opaque == "":
		dst = append(append(append(dst, u.Scheme...), "://"...), host...)
		path := len(dst)
		dst = appendRequestURI(dst, u)
		if string(dst[path:]) == "*" {
			// The asterisk form as a proxy gets it (RFC 9112 §3.2.4).
			dst = dst[:path]
		}
	case req.Method == http.MethodConnect && u.Path == "":
		if u.Opaque != "" {
			host = u.Opaque
		}
		dst = append(dst, host...)
	default:
		dst = appendRequestURI(dst, u)
	}
	if len(dst) == start {
		return dst, &RequestError{Detail: "empty request target"}
	}
	for i := start; i < len(dst); {
		if len(dst)-i >= 8 && !hasControlOrSpace(binary.LittleEndian.Uint64(dst[i:])) {
			i += 8
			continue
		}
		switch c := dst[i]; {
		case c < ' ' || c == 0x7f:
			return dst[:start], &RequestError{Detail: "net/http: can't write control character in Request.URL"}
		case c == ' ':
			escaped := strings.ReplaceAll(string(dst[i:]), " ", "%20")
			dst = append(dst[:i], escaped...)
		}
		i++
	}
	return dst, nil
}

// hasControlOrSpace is [hasControl] with the space among them.
func hasControlOrSpace(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	del := x ^ 0x7f*ones
	return ((x-0x21*ones)&^x|(del-ones)&^del)&tops != 0
}

// appendRequestURI appends what u.RequestURI returns, with a slash before a path
// that has none: without it a proxy would take the path for a part of the host.
// A path that needs no escaping, the common case, costs no allocation.
func appendRequestURI(dst []byte, u *url.URL) []byte {
	if u.Opaque != "" || u.RawPath != "" {
		return appendSlashed(dst, u.RequestURI(), u.Opaque != "")
	}
	for i := range len(u.Path) {
		if class[u.Path[i]]&classPath == 0 {
			return appendSlashed(dst, u.RequestURI(), false)
		}
	}
	dst = appendSlashed(dst, u.Path, false)
	if u.ForceQuery || u.RawQuery != "" {
		dst = append(append(dst, '?'), u.RawQuery...)
	}
	return dst
}

func appendSlashed(dst []byte, uri string, opaque bool) []byte {
	if !opaque && (uri == "" || uri[0] != '/' && uri != "*") {
		dst = append(dst, '/')
	}
	return append(dst, uri...)
}
