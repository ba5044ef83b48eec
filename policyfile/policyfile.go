// Package policyfile reads a transport's configuration from a YAML file, strictly, and
// follows the file while the program runs.
//
//	policy:
//	  max_conns: 20
//	  idle_timeout: 90s
//	rules:
//	  - match: "https://*.blob.core.windows.net"
//	    max_conns: 50
//	  - match: "*"
//	    order: spread
//
// Names are those of berth.Config and berth.Policy in JSON; a rule's settings stand beside
// its match. Everything that the file does not know is an error, which says where it
// stands and what was probably meant. A setting that a rule gives as zero or false is set
// by it: rules below do not change it. The JSON schema is [Schema].
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
	Name   string
	Config berth.Config // what is set; the rest is zero
	keys   map[string]bool
}

// maxSize bounds a file: a configuration is not that long.
const maxSize = 1 << 20

// Load reads the file at path. environ is what os.Environ returns; variables in it come
// over the file: BERTH_MAX_CONNS for max_conns, BERTH_POLICY_IDLE_TIMEOUT for
// policy.idle_timeout, and so on; nil is none. The error is an *Error, or that of reading.
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
	p := &parser{name: name, at: map[string]*yaml.Node{}, file: &File{Name: name, keys: map[string]bool{}}}
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
	return p.file, nil
}

// Over returns base with what the file sets in its place.
func (f *File) Over(base berth.Config) berth.Config {
	from, to := reflect.ValueOf(f.Config), reflect.ValueOf(&base).Elem()
	for key := range f.keys {
		if name, ok := strings.CutPrefix(key, "policy."); ok {
			field(to.FieldByName("Policy"), name).Set(field(from.FieldByName("Policy"), name))
		} else {
			field(to, key).Set(field(from, key))
		}
	}
	return base
}

// field returns the field of a struct by its name in JSON.
func field(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if jsonName(v.Type().Field(i)) == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// names returns the names in JSON of a struct's fields.
func names(t reflect.Type) (list []string) {
	for i := range t.NumField() {
		if n := jsonName(t.Field(i)); n != "" && n != "-" {
			list = append(list, n)
		}
	}
	return list
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
	at   map[string]*yaml.Node // where a key stands

	depth int // of mappings that take over from others
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
		return nil, p.fail(nil, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
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

// each calls f for the entries of a mapping. known are the keys that there may be.
func (p *parser) each(n *yaml.Node, prefix string, known []string, f func(key string, v *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.fail(n, strings.TrimSuffix(prefix, "."), "is no mapping")
	}
	seen := map[string]bool{}
	if err := p.merge(n, prefix, known, f); err != nil {
		return err
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolved(n.Content[i+1])
		if k.Tag == "!!merge" {
			continue
		}
		name := prefix + k.Value
		switch {
		case !slices.Contains(known, k.Value):
			e := p.fail(k, name, "no such setting")
			if e.Nearest = nearest(k.Value, known); e.Nearest == "" {
				e.Reason += "; known are " + strings.Join(known, ", ")
			}
			return e
		case seen[k.Value]:
			return p.fail(k, name, "stands here twice")
		case v.Tag == "!!null":
			return p.fail(k, name, "has no value")
		}
		seen[k.Value] = true
		p.at[name] = v
		if err := f(k.Value, v); err != nil {
			return err
		}
	}
	return nil
}

// merge calls f for the entries that a mapping takes over by <<, but those that it has
// itself.
func (p *parser) merge(n *yaml.Node, prefix string, known []string, f func(key string, v *yaml.Node) error) error {
	own := map[string]bool{}
	var from []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" {
			from = append(from, resolved(n.Content[i+1]))
		}
		own[n.Content[i].Value] = true
	}
	if len(from) == 0 {
		return nil
	}
	if p.depth++; p.depth > maxDepth {
		return p.fail(n, strings.TrimSuffix(prefix, "."), "takes over itself by <<")
	}
	defer func() { p.depth-- }()
	for _, m := range from {
		err := p.each(m, prefix, known, func(key string, v *yaml.Node) error {
			if own[key] {
				return nil
			}
			return f(key, v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxDepth bounds how deep mappings take over from others.
const maxDepth = 8

func (p *parser) top(root *yaml.Node) error {
	return p.each(root, "", names(configType), func(key string, v *yaml.Node) error {
		switch key {
		case "policy":
			return p.each(v, "policy.", names(policyType), func(key string, v *yaml.Node) error {
				p.file.keys["policy."+key] = true
				return p.set(&p.file.Config.Policy, "policy.", key, v)
			})
		case "rules":
			p.file.keys[key] = true
			return p.rules(v)
		}
		p.file.keys[key] = true
		return p.set(&p.file.Config, "", key, v)
	})
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
	n := p.at[key]
	for k := key; n == nil && strings.ContainsAny(k, ".["); {
		k = k[:strings.LastIndexAny(k, ".[")]
		n = p.at[k]
	}
	return p.fail(n, key, "%s", e.Reason)
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
		p.file.keys[prefix+key] = true
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
