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

	// The key has its whole shape from the beginning, since every map and comparison
	// depends on it. These are constant until proxies, TLS identities and groups exist.

	proxy string //lint:ignore U1000 "" for none
	tlsID string //lint:ignore U1000 tells TLS configurations apart; "" is the transport's
	group string //lint:ignore U1000 "" is the default group
}

// name is the endpoint as people read it: no credentials, no path, no query.
func (k endpointKey) name() string {
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
	u := url.URL{Host: hostport}
	k := endpointKey{scheme: scheme, host: u.Hostname(), port: u.Port()}
	if k.port == "" {
		k.port = defaultPort(scheme)
	}
	if k.host == "" {
		return k, errors.New("no host in request URL")
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

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// parseEndpoint makes the key for a URL given as text.
func parseEndpoint(rawURL string) (endpointKey, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parser's own text quotes the URL, credentials and all.
		return endpointKey{}, &ConfigError{Field: "endpoint", Reason: "not a URL; write it like https://api.example.com"}
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return endpointKey{}, &ConfigError{Field: "endpoint", Reason: fmt.Sprintf("scheme %q; only http and https have endpoints", u.Scheme)}
	}
	k, err := makeKey(u.Scheme, u.Host)
	if err != nil {
		return k, &ConfigError{Field: "endpoint", Reason: err.Error()}
	}
	return k, nil
}
