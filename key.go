package berth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// endpointKey is everything that makes two connections interchangeable.
type endpointKey struct {
	scheme string
	host   string // lower case, punycode, without brackets
	port   string
	sni    string // the TLS server name; "" without TLS

	proxy string // with its credentials; "" for none

	// http1 keeps requests that upgrade the protocol apart where others may get
	// HTTP/2.
	http1 bool

	// The key has its whole shape from the beginning, since every map and comparison
	// depends on it. These are constant until TLS identities and groups exist.

	tlsID string //lint:ignore U1000 tells TLS configurations apart; "" is the transport's
	group string //lint:ignore U1000 "" is the default group
}

// through returns the key of an endpoint behind a proxy; nil is none. Requests with
// scheme http go to an HTTP proxy itself, wherever they are for: its connections are
// interchangeable.
func (k endpointKey) through(proxy *url.URL) endpointKey {
	if proxy == nil {
		return k
	}
	k.proxy = proxyKey(proxy)
	if k.scheme == "http" && (proxy.Scheme == "http" || proxy.Scheme == "https") {
		k.host, k.port = "", ""
	}
	return k
}

// name is the endpoint as people read it: no credentials, no path, no query.
func (k endpointKey) name() string {
	name := k.origin()
	if k.proxy != "" {
		u, _ := url.Parse(k.proxy)
		name += " through " + proxyName(u)
	}
	if k.http1 {
		name += " (upgrade)"
	}
	return name
}

// origin names what the endpoint's requests are for.
func (k endpointKey) origin() string {
	switch {
	case k.scheme == "unix":
		return "unix://" + k.host
	case k.host == "":
		return k.scheme + "://*"
	}
	host := k.host
	if k.port != defaultPort(k.scheme) {
		host = net.JoinHostPort(k.host, k.port)
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return k.scheme + "://" + host
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// makeKey makes the key for scheme and the host of a URL, "host" or "host:port".
func makeKey(scheme, hostport string) (endpointKey, error) {
	if scheme == "unix" {
		return endpointKey{scheme: scheme, host: hostport}, nil
	}
	u := url.URL{Host: hostport}
	k := endpointKey{scheme: scheme, host: u.Hostname(), port: u.Port()}
	if k.port == "" {
		k.port = defaultPort(scheme)
	}
	if k.host == "" {
		return k, errors.New("no host in request URL")
	}
	if strings.ContainsFunc(hostport, notOfAHost) {
		return k, errors.New("invalid character in the host of the request URL")
	}
	if !isASCII(k.host) {
		ascii, err := idna.Lookup.ToASCII(k.host)
		if err != nil {
			return k, fmt.Errorf("host %q: %w", k.host, err)
		}
		k.host = ascii
	}
	k.host = strings.ToLower(k.host)
	if scheme == "https" {
		k.sni = k.host
	}
	return k, nil
}

// notOfAHost reports whether c is in no host. net/url lets none of them in, but a
// URL need not come from there.
func notOfAHost(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`/\@?#<>"`, c) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// parseEndpoint makes the key for a URL given as text.
func parseEndpoint(rawURL string) (endpointKey, *url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parser's own text quotes the URL, credentials and all.
		return endpointKey{}, nil, &ConfigError{Field: "endpoint", Reason: "not a URL; write it like https://api.example.com"}
	}
	host := u.Host
	switch u.Scheme {
	case "http", "https":
	case "unix":
		if host, _, err = splitUnix(u); err != nil {
			return endpointKey{}, nil, &ConfigError{Field: "endpoint", Reason: err.Error()}
		}
	default:
		return endpointKey{}, nil, &ConfigError{Field: "endpoint", Reason: fmt.Sprintf("scheme %q; only http, https and unix have endpoints", u.Scheme)}
	}
	k, err := makeKey(u.Scheme, host)
	if err != nil {
		return k, nil, &ConfigError{Field: "endpoint", Reason: err.Error()}
	}
	return k, u, nil
}
