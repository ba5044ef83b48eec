// Package policyfile reads the configuration of a transport and of named clients from a
// YAML file, strictly, and follows the file while the program runs.
//
//	policy:
//	  max_conns: 20
//	  idle_timeout: 90s
//	rules:
//	  - match: "https://*.blob.core.windows.net"
//	    max_conns: 50
//	  - match: "*"
//	    order: spread
//	client_defaults:
//	  timeout: 30s
//	clients:
//	  github:
//	    base_url: https://api.github.com/
//	    headers: {Authorization: "Bearer ${GITHUB_TOKEN}"}
//	    resilience: {preset: standard}
//
// Names are those of berth.Config, berth.Policy and clients.Settings in JSON; a rule's
// settings stand beside its match. Everything that the file does not know is an error,
// which says where it stands and what was probably meant. A setting that a rule or a client
// gives as zero or false is set by it: rules below, or client_defaults, do not change it.
// The JSON schema is [Schema].
//
// ${NAME} in the value of a header field is that variable of the environment, and $${ is
// the two characters. No error has a value of a header field.
package policyfile

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
)

// Schema is the JSON schema of the file, for editors: the file's first line may be
//
//	# yaml-language-server: $schema=policy.schema.json
//
//go:embed policy.schema.json
var Schema []byte

// Error: the file, or the environment over it, says what is not allowed.
type Error struct {
	File    string // its name, or that of the environment's variable
	Line    int    // from 1; 0 when the place is not known
	Column  int
	Key     string // like rules[1].max_conns; "" for the file as a whole
	Reason  string
	Nearest string // the key that was probably meant; "" for none
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, ": %s", e.Key)
	}
	fmt.Fprintf(&b, ": %s", e.Reason)
	if e.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean %s?", e.Nearest)
	}
	return b.String()
}

// File is what a file says, with the environment over it.
type File struct {
	Name    string
	Config  berth.Config   // what is set; the rest is zero
	Clients clients.Config // the same

	keys     keys            // what Config is given
	defaults keys            // client_defaults; nil when they are not there
	named    map[string]keys // clients; nil when they are not there
	first    *yaml.Node      // where the clients' part begins; nil without one
}

// maxSize bounds a file: a configuration is not that long.
const maxSize = 1 << 20

// Load reads the file at path. environ is what os.Environ returns; variables in it come
// over the file: BERTH_MAX_CONNS for max_conns, BERTH_POLICY_IDLE_TIMEOUT for
// policy.idle_timeout, and so on, and ${NAME} in header fields is taken from it; nil is
// none. The error is an *Error, or that of reading.
func Load(path string, environ []string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data, environ)
}

// Parse is Load for a file's content.
func Parse(name string, data []byte, environ []string) (*File, error) {
	if len(data) > maxSize {
		return nil, &Error{File: name, Reason: fmt.Sprintf("is longer than %d bytes", maxSize)}
	}
	p := &parser{name: name, env: environ, at: map[string]*yaml.Node{}, file: &File{Name: name, keys: keys{}}}
	root, err := p.read(data)
	if err != nil {
		return nil, err
	}
	if err := p.top(root); err != nil {
		return nil, err
	}
	if err := p.environ(environ); err != nil {
		return nil, err
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	if err := p.validateClients(); err != nil {
		return nil, err
	}
	return p.file, nil
}

// Over returns base with what the file sets in its place.
func (f *File) Over(base berth.Config) berth.Config {
	f.keys.merge(reflect.ValueOf(&base).Elem(), reflect.ValueOf(f.Config))
	return base
}

var (
	configType = reflect.TypeFor[berth.Config]()
	policyType = reflect.TypeFor[berth.Policy]()
)

// ruleKeys are those of a rule that are no policy's.
var ruleKeys = []string{"match", "proxy", "socket", "tls"}

type parser struct {
	name string
	file *File
	env  []string
	at   map[string]*yaml.Node // where a key stands

	depth int // of mappings that take over from others
	size  int // entries read so far, those that are taken over counted each time
}

func (p *parser) fail(n *yaml.Node, key, format string, args ...any) *Error {
	e := &Error{File: p.name, Key: key, Reason: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	return e
}

// read returns the one document of the file.
func (p *parser) read(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, p.fail(nil, "", "is empty: write {} to set nothing")
	case err != nil:
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if strings.HasPrefix(text, "unknown anchor") {
			text = "has a * before the name of an anchor that there is not" // its name may be a secret that lacks quotes
		}
		return nil, p.fail(nil, "", "%s", text)
	}
	if d.Decode(&more) != io.EOF {
		return nil, p.fail(&more, "", "has a second document")
	}
	root := resolved(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, p.fail(root, "", "is no mapping; it begins like policy:")
	}
	return root, nil
}

func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// entry is one of a mapping.
type entry struct {
	key string
	v   *yaml.Node
}

// each calls f for the entries of a mapping. known are the keys that there may be; nil is
// any.
func (p *parser) each(n *yaml.Node, prefix string, known []string, f func(key string, v *yaml.Node) error) error {
	list, err := p.entries(n, prefix, known)
	if err != nil {
		return err
	}
	for _, e := range list {
		p.at[within(prefix, e.key)] = e.v
		if err := f(e.key, e.v); err != nil {
			return err
		}
	}
	return nil
}

// entries returns those of a mapping, once each: what it takes over from others by <<
// first, as far as it has none of the name itself.
func (p *parser) entries(n *yaml.Node, prefix string, known []string) ([]entry, error) {
	if n.Kind != yaml.MappingNode {
		return nil, p.fail(n, strings.TrimSuffix(prefix, "."), "is no mapping")
	}
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(n, strings.TrimSuffix(prefix, "."), "takes over itself by <<")
	}
	defer func() { p.depth-- }()
	if err := p.count(n, prefix, 1+len(n.Content)/2); err != nil {
		return nil, err
	}
	var taken, own []entry
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolved(n.Content[i]), resolved(n.Content[i+1])
		if k.Tag == "!!merge" {
			from := []*yaml.Node{v}
			if v.Kind == yaml.SequenceNode { // the first of them wins
				from = slices.Clone(v.Content)
				slices.Reverse(from)
			}
			for _, m := range from {
				more, err := p.entries(resolved(m), prefix, known)
				if err != nil {
					return nil, err
				}
				taken = append(taken, more...)
			}
			continue
		}
		name := within(prefix, k.Value)
		switch {
		case k.Kind != yaml.ScalarNode || k.Tag == "!!null" || k.Value == "" && known == nil:
			return nil, p.fail(k, strings.TrimSuffix(prefix, "."), "has a name that is no text")
		case known != nil && !slices.Contains(known, k.Value):
			e := p.fail(k, name, "no such setting")
			if e.Nearest = nearest(k.Value, known); e.Nearest == "" {
				e.Reason += "; known are " + strings.Join(known, ", ")
			}
			return nil, e
		case seen[k.Value]:
			return nil, p.fail(k, name, "stands here twice")
		case v.Tag == "!!null":
			return nil, p.fail(k, name, "has no value")
		}
		seen[k.Value] = true
		own = append(own, entry{k.Value, v})
	}
	if taken == nil {
		return own, nil
	}
	last := map[string]int{}
	for i, e := range taken {
		last[e.key] = i
	}
	all := taken[:0]
	for i, e := range taken {
		if last[e.key] == i && !seen[e.key] {
			all = append(all, e)
		}
	}
	return append(all, own...), nil
}

// count bounds what a file comes to when its anchors are followed.
func (p *parser) count(n *yaml.Node, prefix string, more int) error {
	if p.size += more; p.size > maxEntries {
		return p.fail(n, strings.TrimSuffix(prefix, "."), "comes to more than %d entries by what it takes over", maxEntries)
	}
	return nil
}

// maxEntries bounds the entries of a file: a configuration has far fewer.
const maxEntries = 1 << 18

// maxDepth bounds how deep mappings take over from others.
const maxDepth = 8

func (p *parser) top(root *yaml.Node) error {
	return p.each(root, "", append(names(configType), defaultsKey, clientsKey), func(key string, v *yaml.Node) (err error) {
		var sub keys
		switch key {
		case "policy":
			sub, err = p.policy(&p.file.Config.Policy, key, v)
		case "rules":
			err = p.rules(v)
		case defaultsKey, clientsKey:
			return p.clients(key, v)
		default:
			err = p.set(&p.file.Config, "", key, v)
		}
		p.file.keys[key] = sub
		return err
	})
}

// policy reads the mapping of a policy.
func (p *parser) policy(dst *berth.Policy, key string, n *yaml.Node) (keys, error) {
	set := keys{}
	err := p.each(n, key+".", names(policyType), func(name string, v *yaml.Node) error {
		set[name] = nil
		return p.set(dst, key+".", name, v)
	})
	return set, err
}

func (p *parser) rules(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return p.fail(n, "rules", "is no list; each rule begins with - match:")
	}
	p.file.Config.Rules = make([]berth.Rule, len(n.Content))
	for i, item := range n.Content {
		item = resolved(item)
		prefix := fmt.Sprintf("rules[%d].", i)
		r := &p.file.Config.Rules[i]
		p.at[strings.TrimSuffix(prefix, ".")] = item
		err := p.each(item, prefix, slices.Concat(ruleKeys, names(policyType)), func(key string, v *yaml.Node) error {
			switch key {
			case "match", "proxy", "socket":
				return p.set(r, prefix, key, v)
			case "tls":
				var err error
				r.TLS, err = p.tls(prefix+"tls.", v)
				return err
			}
			if err := p.set(&r.Policy, prefix, key, v); err != nil {
				return err
			}
			if field(reflect.ValueOf(r.Policy), key).IsZero() {
				r.Set = append(r.Set, key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// set gives the struct at dst the value of one of its fields, as JSON would.
func (p *parser) set(dst any, prefix, key string, n *yaml.Node) error {
	var v any
	if err := n.Decode(&v); err != nil {
		return p.fail(n, prefix+key, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	b, err := json.Marshal(map[string]any{key: v})
	if err == nil {
		err = json.Unmarshal(b, dst)
	}
	if err != nil {
		return p.fail(n, prefix+key, "%s", reason(err))
	}
	return nil
}

// reason is an error of decoding as people read it.
func reason(err error) string {
	var (
		config *berth.ConfigError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &kind):
		return fmt.Sprintf("is a %s, and should be %s", kind.Value, article(kind.Type))
	case errors.As(err, &config):
		text := config.Reason
		if i := strings.Index(text, "json: cannot unmarshal "); i >= 0 {
			if what, _, ok := strings.Cut(text[i+len("json: cannot unmarshal "):], " into Go value of type "); ok {
				return fmt.Sprintf("is a %s, and should be %s", what, text[strings.LastIndex(text, " ")+1:])
			}
		}
		return text
	}
	return err.Error()
}

func article(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint16:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	}
	return t.String()
}

// validate has the configuration be checked as a whole, and says where what is wrong
// stands.
func (p *parser) validate() error {
	_, err := berth.New(p.file.Config)
	e, ok := errors.AsType[*berth.ConfigError](err)
	if !ok {
		return err
	}
	key := jsonPath(e.Field)
	return p.fail(p.place(key), key, "%s", e.Reason)
}

// place returns where a key stands, or what it would stand in; nil if that is the file.
func (p *parser) place(key string) *yaml.Node {
	n := p.at[key]
	for n == nil && strings.ContainsAny(key, ".[") {
		key = key[:strings.LastIndexAny(key, ".[")]
		n = p.at[key]
	}
	return n
}

// jsonPath turns Rules[0].Policy.MaxIdle into rules[0].max_idle.
func jsonPath(path string) string {
	t := configType
	var out []string
	inRule := false
	for _, part := range strings.Split(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		if inRule && name == "Policy" { // a rule's settings stand beside its match
			t = policyType
			continue
		}
		f, ok := t.FieldByName(name)
		if !ok {
			out = append(out, part)
			continue
		}
		name = jsonName(f)
		if t = f.Type; t.Kind() == reflect.Slice {
			t, inRule = t.Elem(), true
		}
		if indexed {
			name += "[" + index
		}
		out = append(out, name)
		if t.Kind() != reflect.Struct {
			break
		}
	}
	return strings.Join(out, ".")
}

// environ puts the variables of the environment over the file.
func (p *parser) environ(environ []string) error {
	for _, entry := range environ {
		variable, text, _ := strings.Cut(entry, "=")
		name, ours := strings.CutPrefix(variable, "BERTH_")
		if !ours || text == "" {
			continue // an empty variable is none
		}
		key, dst, known, prefix := strings.ToLower(name), any(&p.file.Config), names(configType), ""
		if after, ok := strings.CutPrefix(key, "policy_"); ok {
			key, dst, known, prefix = after, &p.file.Config.Policy, names(policyType), "policy."
		}
		if !slices.Contains(known, key) || key == "policy" || key == "rules" {
			if prefix == "" {
				continue // it is another part's
			}
			return &Error{File: "environment", Key: variable, Reason: "no such setting", Nearest: nearestVariable(key, known)}
		}
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil || len(n.Content) != 1 {
			return &Error{File: "environment", Key: variable, Reason: fmt.Sprintf("%q is no value", text)}
		}
		if err := p.set(dst, prefix, key, n.Content[0]); err != nil {
			e := err.(*Error)
			return &Error{File: "environment", Key: variable, Reason: e.Reason}
		}
		set := p.file.keys
		if prefix != "" {
			if set["policy"] == nil {
				set["policy"] = keys{}
			}
			set = set["policy"]
		}
		set[key] = nil
	}
	return nil
}

func nearestVariable(key string, known []string) string {
	if n := nearest(key, known); n != "" {
		return "BERTH_POLICY_" + strings.ToUpper(n)
	}
	return ""
}

// nearest returns the known key that the fewest changes of letters lead to; "" when all
// are far.
func nearest(key string, known []string) string {
	best, least := "", max(2, len(key)/3)+1
	for _, k := range known {
		if d := distance(key, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to be inserted, left out or replaced (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
