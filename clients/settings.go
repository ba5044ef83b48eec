package clients

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/net/http/httpguts"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/resilience"
)

// Config is what a [Registry] is made of.
type Config struct {
	// Defaults hold for every client, where its own settings leave a field zero.
	Defaults Settings

	// Clients are the settings by name. Names are case-sensitive; "" is none.
	Clients map[string]Settings

	// Logger is where Settings.Log writes. It must be set if any client has that.
	Logger *slog.Logger

	// Trace is told what the strategies of all clients do that have none of their own.
	Trace *resilience.Trace
}

// Settings are one client's. A zero field is that of Config.Defaults, then the default.
type Settings struct {
	// BaseURL is what the references are resolved against that [Client.NewRequest] is
	// given, by RFC 3986 §5: "https://api.example.com/v1/" and "users" make
	// https://api.example.com/v1/users; without the slash at its end, v1 is replaced. It
	// has no query and no user. Default: none.
	BaseURL string `json:"base_url"`

	// Header is sent with every request that does not have those fields itself; those of
	// Defaults too. With a BaseURL it goes to that origin alone, else not to another
	// origin than the first that a redirect leads to: credentials may stand there.
	Header http.Header `json:"headers"`

	// Timeout is for the whole call: redirects, attempts, waits, and the response body to
	// its end, as http.Client's. Default: none. Negative: none, whatever Defaults say.
	Timeout time.Duration `json:"timeout"`

	// MaxRedirects is how many redirects are followed. Default 10; http.Client, which counts
	// requests, follows nine. Negative: none; the response that redirects is returned.
	MaxRedirects int `json:"max_redirects"`

	// Cookies has the client keep cookies, in a jar of its own that lasts as long as the
	// registry and knows which suffixes are public.
	Cookies bool `json:"cookies"`

	// Group is the group whose connections the client uses. Default: the transport's
	// default group, or one of the client's own, "client:" and its name, if it has a
	// Policy or a Guard. Clients that name the same group must agree on those.
	Group string `json:"group"`

	// Policy holds limits and timeouts of the client's connections, before all rules of
	// the transport: its fields that are not zero. MaxConnsPerHost and PortBudget, which
	// are of all groups together, cannot be among them.
	Policy berth.Policy `json:"policy"`

	// Guard refuses connections to addresses that are not public.
	Guard *Guard `json:"guard"`

	// Resilience is the pipeline of strategies. Default: none.
	Resilience *resilience.Config `json:"resilience"`

	// Log writes a record for each request, and one for each attempt on the wire.
	Log bool `json:"log"`

	// LogHeaders names the header fields whose values Log shows; all others are redacted.
	LogHeaders []string `json:"log_headers"`

	// Propagate sends the correlation and trace identifiers of the request's context; see
	// [Propagation].
	Propagate bool `json:"propagate"`

	// IdempotencyKeys gives POST and PATCH requests that have none an Idempotency-Key, the
	// same for all attempts, so that they can be repeated.
	IdempotencyKeys bool `json:"idempotency_keys"`

	// Set names fields, as in JSON, that are meant although they are zero: false whatever
	// Defaults say.
	Set []string `json:"set,omitempty"`

	// Handlers stand around the resilience pipeline and see each request once. The first
	// is the outermost. Those of Defaults come before them. One whose RoundTripper is an
	// io.Closer is closed when its configuration has been replaced and its last request,
	// body included, has ended.
	Handlers []Handler `json:"-"`

	// AttemptHandlers stand within the resilience pipeline and see each attempt: what
	// signs requests or refreshes tokens belongs here.
	AttemptHandlers []Handler `json:"-"`
}

// Handler wraps a RoundTripper. It must keep its contract: not change the request, close
// its body whatever happens, return a response or an error.
type Handler = func(http.RoundTripper) http.RoundTripper

const defaultMaxRedirects = 10

// maxClients bounds the names of a registry, those that are configured no more included.
const maxClients = 10_000

// over returns s with what def has in the place of what s leaves zero.
func (s Settings) over(def *Settings) Settings {
	from, to := reflect.ValueOf(def).Elem(), reflect.ValueOf(&s).Elem()
	for i := range to.NumField() {
		name := to.Type().Field(i).Tag.Get("json")
		if to.Field(i).IsZero() && !slices.Contains(s.Set, name) {
			to.Field(i).Set(from.Field(i))
		}
	}
	if own := s.Header; len(def.Header) > 0 {
		s.Header = canonical(def.Header)
		maps.Copy(s.Header, canonical(own))
	} else {
		s.Header = canonical(own)
	}
	own, base := reflect.ValueOf(&s.Policy).Elem(), reflect.ValueOf(&def.Policy).Elem()
	for i := range own.NumField() {
		if own.Field(i).IsZero() {
			own.Field(i).Set(base.Field(i))
		}
	}
	return s
}

// withHandlers puts the handlers of def before those of s.
func (s Settings) withHandlers(own, def *Settings) Settings {
	s.Handlers = slices.Concat(def.Handlers, own.Handlers)
	s.AttemptHandlers = slices.Concat(def.AttemptHandlers, own.AttemptHandlers)
	return s
}

// effective returns what holds for the client of that name.
func (c *Config) effective(name string) Settings {
	own := c.Clients[name]
	s := own.over(&c.Defaults).withHandlers(&own, &c.Defaults)
	if s.Group == "" && (s.Policy != berth.Policy{} || s.Guard != nil) {
		s.Group = "client:" + name
	}
	s.Set = nil
	return s
}

// canonical returns a copy whose names are in their canonical form; nil if there are none.
func canonical(h http.Header) http.Header {
	if len(h) == 0 {
		return nil
	}
	out := make(http.Header, len(h))
	for name, values := range h {
		name = http.CanonicalHeaderKey(name)
		out[name] = append(out[name], values...)
	}
	return out
}

// knows names what Set has that is no field.
func (s *Settings) knows(field string) error {
	for _, name := range s.Set {
		if !slices.Contains(settingNames(), name) {
			return &berth.ConfigError{Field: field + ".Set", Reason: fmt.Sprintf("no setting %q; known are %s", name, strings.Join(settingNames(), ", "))}
		}
	}
	return nil
}

// validate names the first field that makes no sense. field is that of the settings.
func (s *Settings) validate(field string) (base *url.URL, err error) {
	bad := func(name, format string, args ...any) error {
		return &berth.ConfigError{Field: field + "." + name, Reason: fmt.Sprintf(format, args...)}
	}
	if s.BaseURL != "" {
		if base, err = url.Parse(s.BaseURL); err != nil {
			return nil, bad("BaseURL", "is no URL; write it like https://api.example.com/v1/") // the parser's text has all of it
		}
		switch {
		case base.Scheme != "http" && base.Scheme != "https":
			return nil, bad("BaseURL", "begins neither with http:// nor with https://")
		case base.Host == "":
			return nil, bad("BaseURL", "has no host")
		case base.User != nil:
			return nil, bad("BaseURL", "has a user: set an Authorization header, or a handler that does")
		case base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
			return nil, bad("BaseURL", "has a query or a fragment, which references would replace")
		}
		if base.Path == "" {
			base.Path = "/"
		}
	}
	for name, values := range s.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, bad("Header", "%q is no name of a field", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return nil, bad("Header", "%s has a value with a character that is not allowed", name)
			}
		}
	}
	for i, h := range slices.Concat(s.Handlers, s.AttemptHandlers) {
		if h == nil {
			return nil, bad("Handlers", "%d of them is nil", i)
		}
	}
	return base, s.Guard.validate(field + ".Guard")
}

// settingNames are the names in JSON of what a file can set.
func settingNames() (names []string) {
	t := reflect.TypeFor[Settings]()
	for i := range t.NumField() {
		if n, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); n != "-" && n != "set" {
			names = append(names, n)
		}
	}
	return names
}

// equal compares two values deeply. Functions are equal if they are one, closure and all.
func equal(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Func:
		return closure(a) == closure(b)
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() || a.Pointer() == b.Pointer() {
			return a.Pointer() == b.Pointer()
		}
		return equal(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !equal(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, k := range a.MapKeys() {
			if v := b.MapIndex(k); !v.IsValid() || !equal(a.MapIndex(k), v) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}

// closure is what tells a function from another with the same code.
func closure(f reflect.Value) unsafe.Pointer { return *(*unsafe.Pointer)(f.Addr().UnsafePointer()) }

// same compares two settings or configurations.
func same[T any](a, b *T) bool { return equal(reflect.ValueOf(a), reflect.ValueOf(b)) }
