package berth

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Rule gives endpoints that match a pattern values of their own. For each value the
// first rule that matches and sets it wins, then Config.Policy, then the default;
// [Endpoint.Policy] says which one did.
type Rule struct {
	// Match is [scheme://]host[:port]. The host is exact, or "*.example.com" for every
	// name below example.com, or "*" for all. What is left out matches all: a host
	// without a port matches every port, and "*" every endpoint. Scheme is http, https
	// or unix (unix:///run/app.sock). Plain HTTP through a proxy goes by the proxy's
	// address, like its connections.
	Match string `json:"match"`

	// Policy holds what the rule sets: its fields that are not zero.
	Policy Policy `json:"policy"`

	// Set names fields, as in JSON, that the rule sets although they are zero: to the
	// default, whatever other rules say, or to false.
	Set []string `json:"set,omitempty"`

	// Proxy is the URL of the proxy, or "direct" for none, in place of what Config.Proxy
	// says.
	Proxy string `json:"proxy,omitempty"`

	// Socket is the path of a Unix domain socket that requests go through in place of a
	// TCP connection, without a proxy. It has no effect beside Proxy.
	Socket string `json:"socket,omitempty"`

	// TLS is used in place of Config.TLS, under the same conditions.
	TLS *tls.Config `json:"-"`
}

// direct is the Rule.Proxy that uses none.
const direct = "direct"

// pattern is a Rule.Match that was read. Empty fields match all.
type pattern struct{ scheme, host, suffix, port string }

func parsePattern(text string) (p pattern, err error) {
	rest := text
	if scheme, after, ok := strings.Cut(text, "://"); ok {
		switch scheme {
		case "http", "https", "unix", "*":
		default:
			return p, fmt.Errorf("scheme %q; write http, https or unix, or leave it out", scheme)
		}
		p.scheme, rest = strings.TrimSuffix(scheme, "*"), after
	}
	if p.scheme == "unix" {
		if rest != "*" {
			p.host = rest
		}
		return p, nil
	}
	host := rest
	if strings.HasPrefix(rest, "[") || strings.Count(rest, ":") == 1 {
		if h, port, err := net.SplitHostPort(rest); err == nil {
			host, p.port = h, strings.TrimSuffix(port, "*")
		} else if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
			host = rest[1 : len(rest)-1]
		} else {
			return p, fmt.Errorf("%q; write it like https://*.example.com:8443", text)
		}
	}
	if strings.Trim(p.port, "0123456789") != "" {
		return p, fmt.Errorf("port %q is not a number", p.port)
	}
	name, below := strings.CutPrefix(host, "*.")
	switch {
	case host == "*":
		return p, nil
	case name == "", strings.Contains(name, "*"), strings.ContainsFunc(name, notOfAHost):
		return p, fmt.Errorf("host %q; it is exact, or *.example.com, or *", host)
	case strings.Contains(name, ":"):
		if _, err := netip.ParseAddr(name); err != nil {
			return p, fmt.Errorf("%q; write it like https://*.example.com:8443", text)
		}
	}
	if !isASCII(name) {
		if name, err = idna.Lookup.ToASCII(name); err != nil {
			return p, fmt.Errorf("host %q: %v", host, err)
		}
	}
	if name = strings.ToLower(name); below {
		p.suffix = "." + name
	} else {
		p.host = name
	}
	return p, nil
}

func (p pattern) matches(scheme, host, port string) bool {
	return (p.scheme == "" || p.scheme == scheme) && (p.port == "" || p.port == port) &&
		(p.host == "" || p.host == host) && strings.HasSuffix(host, p.suffix)
}

// validate names what is wrong with the rule.
func (r *Rule) validate(field string) error {
	if _, err := parsePattern(r.Match); err != nil || r.Match == "" {
		reason := "is empty; write * for every endpoint"
		if r.Match != "" {
			reason = err.Error()
		}
		return &ConfigError{Field: field + ".Match", Reason: reason}
	}
	if err := r.Policy.validate(field + ".Policy"); err != nil {
		return err
	}
	for _, name := range r.Set {
		if !slices.Contains(policyNames(), name) {
			return &ConfigError{Field: field + ".Set", Reason: fmt.Sprintf("no setting %q; known are %s", name, strings.Join(policyNames(), ", "))}
		}
	}
	if r.Proxy != "" && r.Proxy != direct {
		u, err := url.Parse(r.Proxy)
		if err == nil {
			err = checkProxy(u)
		} else {
			err = fmt.Errorf("not a URL; write it like http://proxy.example:3128") // the parser's text has the credentials
		}
		if err != nil {
			return &ConfigError{Field: field + ".Proxy", Reason: err.Error()}
		}
	}
	return nil
}

// route returns the proxy that a rule names for requests to an origin. ruled is false
// when none does.
func (ed *edition) route(key endpointKey) (proxy *url.URL, ruled bool) {
	if !ed.routed {
		return nil, false
	}
	for i, p := range ed.rules {
		r := &ed.config.Rules[i]
		if r.Proxy == "" && r.Socket == "" || !p.matches(key.scheme, key.host, key.port) {
			continue
		}
		if r.Proxy == direct || r.Proxy == "" { // the latter has a socket
			return nil, true
		}
		u, _ := url.Parse(r.Proxy) // validated
		return u, true
	}
	return nil, false
}

// merger puts a policy together: who sets a field first wins.
type merger struct {
	policy  Policy
	sources []string // by field; "" as long as it is not set
}

var policyType = reflect.TypeFor[Policy]()

func (m *merger) add(p *Policy, set []string, source string) {
	if p == nil {
		return
	}
	if m.sources == nil {
		m.sources = make([]string, policyType.NumField())
	}
	from, to := reflect.ValueOf(p).Elem(), reflect.ValueOf(&m.policy).Elem()
	for i := range m.sources {
		if m.sources[i] != "" || from.Field(i).IsZero() && !slices.Contains(set, policyType.Field(i).Tag.Get("json")) {
			continue
		}
		to.Field(i).Set(from.Field(i))
		if m.sources[i] = source; source == "" {
			m.sources[i] = "set"
		}
	}
}

// EndpointPolicy is what holds for an endpoint, and why.
type EndpointPolicy struct {
	// Policy has the default where nobody sets a value; zero is none then.
	Policy Policy `json:"policy"`

	// From says who set each value, by its name in JSON: "endpoint" (Endpoint.SetPolicy),
	// "group" (Group.SetPolicy), "rule 2 (*.example.com)", counted from 1, "policy"
	// (Config.Policy), or "default".
	From map[string]string `json:"from"`

	// Generation counts the configurations that were applied; New's is 1.
	Generation uint64 `json:"generation"`
}

// explain is make for people.
func (ed *edition) explain(key endpointKey, own ownSettings) EndpointPolicy {
	var m merger
	own.addTo(&m)
	scheme, host, port := key.governed()
	for i, p := range ed.rules {
		if p.matches(scheme, host, port) {
			r := &ed.config.Rules[i]
			m.add(&r.Policy, r.Set, fmt.Sprintf("rule %d (%s)", i+1, r.Match))
		}
	}
	m.add(&ed.config.Policy, nil, "policy")
	defaults := defaultPolicy()
	m.add(&defaults, nil, "default")
	e := EndpointPolicy{Policy: m.policy, From: map[string]string{}, Generation: ed.n}
	v, def := reflect.ValueOf(&e.Policy).Elem(), reflect.ValueOf(defaults)
	for i, source := range m.sources {
		if v.Field(i).IsZero() { // set to the default by Rule.Set, or never set
			v.Field(i).Set(def.Field(i))
		}
		if source == "" {
			source = "default"
		}
		e.From[policyType.Field(i).Tag.Get("json")] = source
	}
	return e
}
