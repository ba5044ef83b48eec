package policyfile

import (
	"net/http"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"
)

// header reads a mapping of fields: a value, or a list of them, each. No error has a value.
func (p *parser) header(key string, n *yaml.Node) (http.Header, error) {
	h := http.Header{}
	err := p.each(n, key+".", nil, func(name string, v *yaml.Node) error {
		at, field := within(key+".", name), http.CanonicalHeaderKey(name)
		switch _, twice := h[field]; {
		case !httpguts.ValidHeaderFieldName(name):
			return p.fail(v, at, "is no name of a header field")
		case twice:
			return p.fail(v, at, "stands here twice: the case of letters makes no other field")
		}
		values := []*yaml.Node{v}
		if v.Kind == yaml.SequenceNode {
			values = v.Content
		}
		if err := p.count(v, at, len(values)); err != nil {
			return err
		}
		h[field] = make([]string, len(values))
		for i, value := range values {
			value = resolved(value)
			text, err := p.text(at, value)
			if err != nil {
				return err
			}
			if text, err = p.expand(at, value, text); err != nil {
				return err
			}
			if !httpguts.ValidHeaderFieldValue(text) {
				return p.fail(value, at, "has a character that is not allowed in a header field")
			}
			h[field][i] = text
		}
		return nil
	})
	return h, err
}

// expand puts variables of the environment in the place of their names: ${NAME}. The two
// characters themselves are written $${.
func (p *parser) expand(key string, n *yaml.Node, text string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), nil
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(literal + "${")
			text = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed || !isVariable(name) {
			return "", p.fail(n, key, "has a ${ without the name of a variable and } after it; write $${ for the two characters")
		}
		value := p.variable(name)
		if value == "" {
			return "", p.fail(n, key, "the environment has no %s, or it is empty", name)
		}
		b.WriteString(before + value)
		text = rest
	}
}

// variable returns the value of a variable; "" if there is none, as an empty one is none
// elsewhere.
func (p *parser) variable(name string) string {
	i := slices.IndexFunc(p.env, func(entry string) bool {
		return strings.HasPrefix(entry, name) && strings.HasPrefix(entry[len(name):], "=")
	})
	if i < 0 {
		return ""
	}
	return p.env[i][len(name)+1:]
}

// isVariable says that a name is one by POSIX: letters, digits and _, no digit first.
func isVariable(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_', i > 0 && c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return name != ""
}
