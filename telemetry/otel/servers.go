package otelberth

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/berth-go/berth"
)

// other is the address of all servers beyond Config.MaxServers.
const other = "_other"

// The keys of attributes, by OpenTelemetry's semantic conventions 1.44 as far as they have
// them.
const (
	keyAddress  = attribute.Key("server.address")
	keyPort     = attribute.Key("server.port")
	keyScheme   = attribute.Key("url.scheme")
	keyVersion  = attribute.Key("network.protocol.version")
	keyState    = attribute.Key("http.connection.state")
	keyError    = attribute.Key("error.type")
	keyQuestion = attribute.Key("dns.question.name")
	keyMethod   = attribute.Key("http.request.method")
	keyStatus   = attribute.Key("http.response.status_code")
	keyGroup    = attribute.Key("berth.group")
	keyClosedBy = attribute.Key("berth.closed_by")
	keyPortsOf  = attribute.Key("berth.ports_of")
	keyWhy      = attribute.Key("berth.dial.reason")
	keyStrategy = attribute.Key("berth.strategy")
	keyFinal    = attribute.Key("berth.final")
	keyReason   = attribute.Key("reason")
	keyLeak     = attribute.Key("state")
)

// server is what attributes tell of one.
type server struct {
	attrs []attribute.KeyValue // not to be changed
}

// with returns the server's attributes and more.
func (s *server) with(more ...attribute.KeyValue) metric.MeasurementOption {
	all := slices.Concat(s.attrs, more) // NewSet sorts what it is given
	return metric.WithAttributeSet(attribute.NewSet(all...))
}

// servers gives each server its attributes, up to a number of them. Those that come later
// share one, so that a program which meets ever more hosts has no more series than that.
type servers struct {
	max    int
	scheme bool
	other  *server

	mu sync.RWMutex
	m  map[berth.Server]*server
	by map[string]*server // by scheme, host and port as in a URL; at most max as well
}

func (ss *servers) init(max int, scheme bool) {
	ss.max, ss.scheme = max, scheme
	ss.m, ss.by = map[berth.Server]*server{}, map[string]*server{}
	ss.other = &server{attrs: []attribute.KeyValue{keyAddress.String(other)}}
}

// of returns what there is to tell of a server.
func (ss *servers) of(id berth.Server) *server {
	attrs := id
	if !ss.scheme {
		id.Scheme = ""
	}
	ss.mu.RLock()
	s := ss.m[id]
	ss.mu.RUnlock()
	if s != nil {
		return s
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s = ss.m[id]; s != nil {
		return s
	}
	if len(ss.m) >= ss.max {
		return ss.other
	}
	s = &server{attrs: describe(attrs)}
	if ss.scheme {
		s.attrs = append(s.attrs, keyScheme.String(attrs.Scheme))
	}
	ss.m[id] = s
	return s
}

// describe returns the attributes of a server, without its scheme.
func describe(id berth.Server) []attribute.KeyValue {
	attrs := []attribute.KeyValue{keyAddress.String(id.Host)}
	if port, err := strconv.Atoi(id.Port); err == nil {
		attrs = append(attrs, keyPort.Int(port))
	}
	if id.Group != "" {
		attrs = append(attrs, keyGroup.String(id.Group))
	}
	return attrs
}

// ofURL returns what there is to tell of the server of a URL that is given as "scheme://host".
func (ss *servers) ofURL(origin string) *server {
	ss.mu.RLock()
	s := ss.by[origin]
	ss.mu.RUnlock()
	if s != nil {
		return s
	}
	s = ss.other
	if u, err := url.Parse(origin); err == nil && u.Host != "" {
		s = ss.of(serverOf(u.Scheme, u))
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.by) < ss.max {
		ss.by[origin] = s
	}
	return s
}

// serverOf returns the server of a URL.
func serverOf(scheme string, u *url.URL) berth.Server {
	s := berth.Server{Scheme: scheme, Host: strings.ToLower(u.Hostname()), Port: u.Port()}
	if s.Port == "" {
		s.Port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return s
}

// names bounds the names of DNS questions.
type names struct {
	max int

	mu sync.Mutex
	m  map[string]bool
}

// of returns the name, or "_other" when there are too many.
func (n *names) of(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.m[name]:
		return name
	case len(n.m) >= n.max:
		return other
	case n.m == nil:
		n.m = map[string]bool{}
	}
	n.m[name] = true
	return name
}
