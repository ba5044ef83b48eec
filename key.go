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
	host   string // lower case, punycode, without brackets; over TLS the server's name
	port   string

	proxy string // with its credentials; "" for none
	group string // "" is the default group

	// http1 keeps requests that upgrade the protocol apart where others may get
	// HTTP/2.
	http1 bool
}

// base is the key that stands for an origin in all groups, whatever the way to it; for
// connections that are a proxy's, it stands for the proxy.
func (k endpointKey) base() endpointKey {
	k.group, k.http1 = "", false
	if k.host != "" {
		k.proxy = ""
	}
	return k
}

// governed returns what rules are matched with: the origin, or the proxy where
// connections are for many.
func (k endpointKey) governed() (scheme, host, port string) {
	if k.scheme == "http" && k.host == "" {
		if u, err := url.Parse(k.proxy); err == nil {
			return u.Scheme, strings.ToLower(u.Hostname()), proxyPort(u)
		}
	}
	return k.scheme, k.host, k.port
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
	if k.group != "" {
		name += " in group " + k.group
	}
	if k.http1 {
		name += " (upgrade)"
	}
	return name
}

// Server is an endpoint in parts. Plain HTTP through a proxy has the proxy's.
type Server struct {
	Scheme string `json:"scheme"`          // "http", "https", "unix", or that of a proxy
	Host   string `json:"host"`            // lower case, punycode, without brackets; the path of a socket
	Port   string `json:"port,omitempty"`  // "" for a socket
	Group  string `json:"group,omitempty"` // "" for the default group
}

func (k endpointKey) server() Server {
	s := Server{Group: k.group}
	s.Scheme, s.Host, s.Port = k.governed()
	return s
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
