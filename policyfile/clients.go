package policyfile

import (
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
)

// Keys of the clients' part.
const (
	defaultsKey = "client_defaults"
	clientsKey  = "clients"
)

var settingsType = reflect.TypeFor[clients.Settings]()

// OverClients returns base with what the file sets for named clients in its place: field by
// field, also within Guard, Policy and Resilience, and headers by their names. Clients of
// one side alone stay as they are. Handlers, the logger and traces are base's.
func (f *File) OverClients(base clients.Config) clients.Config {
	base.Defaults = over(base.Defaults, f.Clients.Defaults, f.defaults)
	base.Clients = maps.Clone(base.Clients)
	if base.Clients == nil {
		base.Clients = map[string]clients.Settings{}
	}
	for name, set := range f.named {
		base.Clients[name] = over(base.Clients[name], f.Clients.Clients[name], set)
	}
	return base
}

func over(base, own clients.Settings, set keys) clients.Settings {
	set.merge(reflect.ValueOf(&base).Elem(), reflect.ValueOf(own))
	base.Set = slices.Clone(base.Set)
	for _, name := range own.Set {
		if !slices.Contains(base.Set, name) {
			base.Set = append(base.Set, name)
		}
	}
	return base
}

// hasClients says that the file has a part on clients, be it empty.
func (f *File) hasClients() bool { return f.first != nil }

// sameTransport and sameClients say that two files set the same for one part.
func (f *File) sameTransport(o *File) bool {
	return reflect.DeepEqual(f.keys, o.keys) && reflect.DeepEqual(f.Config, o.Config)
}

func (f *File) sameClients(o *File) bool {
	return reflect.DeepEqual(f.defaults, o.defaults) && reflect.DeepEqual(f.named, o.named) && reflect.DeepEqual(f.Clients, o.Clients)
}

// clients reads client_defaults or clients.
func (p *parser) clients(key string, n *yaml.Node) (err error) {
	f := p.file
	if f.first == nil {
		f.first = n
	}
	if key == defaultsKey {
		f.defaults, err = p.settings(&f.Clients.Defaults, key, n)
		return err
	}
	f.named, f.Clients.Clients = map[string]keys{}, map[string]clients.Settings{}
	return p.each(n, clientsKey+".", nil, func(name string, v *yaml.Node) (err error) {
		var s clients.Settings
		f.named[name], err = p.settings(&s, within(clientsKey+".", name), v)
		f.Clients.Clients[name] = s
		return err
	})
}

func (p *parser) settings(dst *clients.Settings, key string, n *yaml.Node) (keys, error) {
	set, err := p.fill(reflect.ValueOf(dst).Elem(), key, n)
	if err != nil {
		return nil, err
	}
	policy := reflect.ValueOf(dst.Policy)
	for _, name := range names(policyType) {
		if _, given := set["policy"][name]; given && field(policy, name).IsZero() {
			at := key + ".policy." + name
			return nil, p.fail(p.at[at], at, "is zero or false, and a client's policy holds what is not; leave it out, or give it in a rule")
		}
	}
	return set, nil
}

// within returns the key of something that is named within a mapping. A name that is no
// word is quoted: clients["api.example.com"].timeout.
func within(prefix, name string) string {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return strings.TrimSuffix(prefix, ".") + "[" + strconv.Quote(name) + "]"
		}
	}
	return prefix + name
}

// validateClients has the clients' part be checked as a whole, by a registry that is thrown
// away. The defaults are tried by themselves too: the program may have clients that the
// file does not name.
func (p *parser) validateClients() error {
	f := p.file
	if !f.hasClients() {
		return nil
	}
	alone := clients.Config{Defaults: f.Clients.Defaults, Clients: map[string]clients.Settings{defaultsKey: {}}}
	if err := p.tryClients(alone, defaultsKey); err != nil {
		return err
	}
	return p.tryClients(f.Clients, "")
}

// tryClients makes a registry of cfg. probe is the client in it that stands for the
// defaults; "" is none.
func (p *parser) tryClients(cfg clients.Config, probe string) error {
	cfg.Logger = slog.New(slog.DiscardHandler)
	reg, err := clients.New(&berth.Transport{}, cfg)
	if err == nil {
		return reg.Close()
	}
	var e *berth.ConfigError
	if !errors.As(err, &e) {
		return p.fail(p.at[clientsKey], clientsKey, "%v", err)
	}
	prefix, rest := "", e.Field
	switch after, client := strings.CutPrefix(rest, "Clients["); {
	case client:
		quoted, _ := strconv.QuotedPrefix(after)
		name, _ := strconv.Unquote(quoted)
		prefix, rest = within(clientsKey+".", name), strings.TrimPrefix(after[len(quoted):], "]")
		if probe != "" {
			prefix = defaultsKey
		}
	case strings.HasPrefix(rest, "Defaults."):
		prefix, rest = defaultsKey, strings.TrimPrefix(rest, "Defaults")
	case rest == "Clients":
		return p.fail(p.at[clientsKey], clientsKey, "%s", e.Reason)
	}
	rest = jsonKey(settingsType, strings.TrimPrefix(rest, "."))
	n := p.placeIn(prefix, rest)
	if n == nil && prefix != defaultsKey {
		if n = p.placeIn(defaultsKey, rest); n != nil { // the client has it from there
			prefix = defaultsKey
		} else {
			n = p.at[prefix]
		}
	}
	return p.fail(n, strings.Trim(prefix+"."+rest, "."), "%s", e.Reason)
}

// placeIn is place for a key within the mapping at prefix; nil if nothing of it stands
// there.
func (p *parser) placeIn(prefix, key string) *yaml.Node {
	for key != "" {
		if n := p.at[prefix+"."+key]; n != nil {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return nil
}

// jsonKey turns Resilience.Retry.Delay into resilience.retry.delay, for a path within t.
func jsonKey(t reflect.Type, path string) string {
	var out []string
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Struct {
			if f, ok := t.FieldByName(name); ok {
				t, name = f.Type, jsonName(f)
			}
		}
		if indexed {
			name += "[" + index
		}
		out = append(out, name)
	}
	return strings.Join(out, ".")
}
