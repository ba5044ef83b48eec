package policyfile

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/berth-go/berth"
)

// keys are what a mapping sets, by their names in JSON. What is no mapping of settings has
// nil.
type keys map[string]keys

// merge gives the struct dst what k names, from src. What is behind a pointer of dst is
// copied first; fields of a header are set one by one.
func (k keys) merge(dst, src reflect.Value) {
	for name, sub := range k {
		d, s := field(dst, name), field(src, name)
		switch {
		case d.Type() == headerType:
			d.Set(reflect.ValueOf(mergedHeader(d.Interface().(http.Header), s.Interface().(http.Header))))
		case sub == nil:
			d.Set(s)
		case d.Kind() == reflect.Pointer:
			own := reflect.New(d.Type().Elem())
			if !d.IsNil() {
				own.Elem().Set(d.Elem())
			}
			sub.merge(own.Elem(), s.Elem())
			d.Set(own)
		default:
			sub.merge(d, s)
		}
	}
}

func mergedHeader(base, own http.Header) http.Header {
	out := make(http.Header, len(base)+len(own))
	for name, values := range base {
		name = http.CanonicalHeaderKey(name)
		out[name] = append(out[name], values...)
	}
	maps.Copy(out, own) // whose names are canonical
	return out
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
	headerType   = reflect.TypeFor[http.Header]()
	durationType = reflect.TypeFor[time.Duration]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonType     = reflect.TypeFor[json.Unmarshaler]()
)

// fill gives dst the value of n, which stands at key: structs by their fields' names in
// JSON, to any depth, a pointer to what it points to. It returns what a mapping sets.
func (p *parser) fill(dst reflect.Value, key string, n *yaml.Node) (keys, error) {
	t := dst.Type()
	switch ptr := reflect.PointerTo(t); {
	case t == policyType:
		return p.policy(dst.Addr().Interface().(*berth.Policy), key, n)
	case t == headerType:
		h, err := p.header(key, n)
		dst.Set(reflect.ValueOf(h))
		return nil, err
	case t == durationType:
		return nil, p.duration(dst, key, n)
	case t == prefixType:
		return nil, p.prefix(dst, key, n)
	case ptr.Implements(textType), ptr.Implements(jsonType):
		return nil, p.leaf(dst.Addr().Interface(), key, n)
	}
	switch t.Kind() {
	case reflect.Pointer:
		dst.Set(reflect.New(t.Elem()))
		return p.fill(dst.Elem(), key, n)
	case reflect.Struct:
		return p.fields(dst, key, n)
	case reflect.Slice:
		return nil, p.list(dst, key, n)
	}
	return nil, p.scalar(dst, key, n)
}

// setNames is the field of a struct that names what is meant although it is zero. A file
// does not give it: it has the values.
const setNames = "set"

// fields fills a struct. Where it has a field that names those that are meant although
// they are zero, it tells it.
func (p *parser) fields(dst reflect.Value, key string, n *yaml.Node) (keys, error) {
	known := names(dst.Type())
	zero := field(dst, setNames)
	if zero.IsValid() {
		known = slices.DeleteFunc(known, func(k string) bool { return k == setNames })
	}
	set := keys{}
	err := p.each(n, key+".", known, func(name string, v *yaml.Node) (err error) {
		f := field(dst, name)
		if set[name], err = p.fill(f, key+"."+name, v); err != nil {
			return err
		}
		if zero.IsValid() && f.IsZero() {
			zero.Set(reflect.Append(zero, reflect.ValueOf(name)))
		}
		return nil
	})
	return set, err
}

func (p *parser) list(dst reflect.Value, key string, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return p.kindError(n, key, "a list")
	}
	if err := p.count(n, key, len(n.Content)); err != nil {
		return err
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		item = resolved(item)
		p.at[at] = item
		if _, err := p.fill(dst.Index(i), at, item); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) scalar(dst reflect.Value, key string, n *yaml.Node) error {
	switch kind := dst.Kind(); kind {
	case reflect.String:
		text, err := p.text(key, n)
		dst.SetString(text)
		return err
	case reflect.Bool:
		var v bool
		if n.Tag != "!!bool" || n.Decode(&v) != nil {
			return p.kindError(n, key, "true or false")
		}
		dst.SetBool(v)
	case reflect.Int, reflect.Int64:
		var v int64
		if n.Tag != "!!int" || n.Decode(&v) != nil {
			return p.kindError(n, key, "a whole number")
		}
		if dst.OverflowInt(v) {
			return p.fail(n, key, "%d is too large", v)
		}
		dst.SetInt(v)
	case reflect.Uint16:
		var v int64
		switch {
		case n.Tag != "!!int" || n.Decode(&v) != nil:
			return p.kindError(n, key, "a whole number")
		case v < 0 || v > math.MaxUint16:
			return p.fail(n, key, "%d is not between 0 and %d", v, math.MaxUint16)
		}
		dst.SetUint(uint64(v))
	case reflect.Float64:
		var v float64
		switch {
		case n.Tag != "!!int" && n.Tag != "!!float" || n.Decode(&v) != nil:
			return p.kindError(n, key, "a number")
		case math.IsNaN(v) || math.IsInf(v, 0):
			return p.fail(n, key, "is not finite")
		}
		dst.SetFloat(v)
	default:
		return p.fail(n, key, "cannot be set in a file")
	}
	return nil
}

// text returns a string. The error does not have it: it may be a secret.
func (p *parser) text(key string, n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value, nil
	case n.Kind == yaml.ScalarNode:
		return "", p.kindError(n, key, "text: put it in quotes")
	}
	return "", p.kindError(n, key, "text")
}

func (p *parser) duration(dst reflect.Value, key string, n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return p.fail(n, key, `a duration is a string with a unit, like "90s"`)
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil {
		return p.fail(n, key, `%q is no duration; write it like "90s" or "1m30s"`, n.Value)
	}
	dst.SetInt(int64(d))
	return nil
}

// prefix reads a range of addresses. A bare address is the range that has it alone.
func (p *parser) prefix(dst reflect.Value, key string, n *yaml.Node) error {
	text, err := p.text(key, n)
	if err != nil {
		return err
	}
	r, err := netip.ParsePrefix(text)
	if a, bare := netip.ParseAddr(text); bare == nil && a.Zone() == "" {
		r, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return p.fail(n, key, "%q is no range of addresses; write it like 10.0.0.0/8, or one address", text)
	}
	dst.Set(reflect.ValueOf(r))
	return nil
}

// leaf reads a value by its type's own way.
func (p *parser) leaf(dst any, key string, n *yaml.Node) error {
	var v any
	if err := n.Decode(&v); err != nil {
		return p.fail(n, key, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, dst)
	}
	if err != nil {
		return p.fail(n, key, "%s", reason(err))
	}
	return nil
}

// kindError says what a value is, and not how it reads.
func (p *parser) kindError(n *yaml.Node, key, want string) error {
	is, known := map[string]string{"!!map": "a mapping", "!!seq": "a list", "!!str": "a string", "!!int": "a number", "!!float": "a number",
		"!!bool": "a bool", "!!null": "null", "!!timestamp": "a date"}[n.Tag]
	if !known {
		is = "of a kind of its own"
	}
	return p.fail(n, key, "is %s, and should be %s", is, want)
}
