package policyfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/doc/comment"
	goparser "go/parser"
	"go/token"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-go/berth"
)

var update = flag.Bool("update", false, "write policy.schema.json anew")

type object = map[string]any

// The schema is made of the Go types and their comments; it may not drift from them.
func TestSchemaIsUpToDate(t *testing.T) {
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("policy.schema.json", want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want.Bytes(), Schema) {
		t.Error("policy.schema.json is not that of the types: go test ./policyfile -run Schema -update")
	}
}

func schema(t *testing.T) object {
	docs := comments(t)
	policy := docs.properties(policyType)
	rule := object{}
	for k, v := range policy {
		rule[k] = v
	}
	ruleDocs := docs["berth.Rule"]
	for go_, key := range map[string]string{"Match": "match", "Proxy": "proxy", "Socket": "socket"} {
		rule[key] = object{"type": "string", "description": ruleDocs[go_]}
	}
	tlsProperties := object{}
	for _, k := range tlsKeys {
		tlsProperties[k] = object{"type": "string"}
	}
	rule["tls"] = object{"type": "object", "description": "TLS for the rule's endpoints, from files in PEM.", "additionalProperties": false, "properties": tlsProperties}
	top := docs.properties(configType)
	top["rules"] = object{"type": "array", "description": docs["berth.Config"]["Rules"], "items": object{
		"type": "object", "additionalProperties": false, "required": []string{"match"}, "properties": rule}}
	ref := object{"$ref": "#/$defs/client"}
	top[defaultsKey] = object{"description": docs["clients.Config"]["Defaults"], "$ref": ref["$ref"]}
	top[clientsKey] = object{"type": "object", "description": docs["clients.Config"]["Clients"], "propertyNames": object{"minLength": 1}, "additionalProperties": ref}
	return object{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Berth policy file", "type": "object",
		"additionalProperties": false, "properties": top, "$defs": object{"client": docs.kind(settingsType)}}
}

// typeDocs are the comments of structs by type, like clients.Settings, and field; that of
// the type itself is at "".
type typeDocs map[string]map[string]string

// enums are the words of settings whose type is a string.
var enums = map[string][]string{
	"preset":  {"standard", "hedging"},
	"backoff": {"exponential", "linear", "constant"},
}

// The words that the schema offers are those that are known.
func TestSchemaOffersKnownWords(t *testing.T) {
	for key, form := range map[string]string{"preset": "clients: {a: {resilience: {preset: %s}}}", "backoff": "clients: {a: {resilience: {retry: {backoff: %s}}}}"} {
		for _, word := range enums[key] {
			if _, err := Parse("f", fmt.Appendf(nil, form, word), nil); err != nil {
				t.Error(err)
			}
		}
	}
}

// properties returns what a struct's fields are in the schema, by name.
func (docs typeDocs) properties(of reflect.Type) object {
	out := object{}
	for i := range of.NumField() {
		f := of.Field(i)
		name := jsonName(f)
		if name == "" || name == "-" || name == setNames {
			continue
		}
		p := docs.kind(f.Type)
		if words := enums[name]; words != nil {
			p["enum"] = words
		}
		text := docs[of.String()][f.Name]
		if t := f.Type; t.Kind() == reflect.Pointer && (text == "" || strings.HasPrefix(text, "default ")) {
			text = strings.TrimSpace(docs[t.Elem().String()][""] + strings.Replace(text, "default", " Default", 1))
		}
		p["description"] = text
		out[name] = p
	}
	return out
}

func (docs typeDocs) kind(t reflect.Type) object {
	duration := object{"type": "string", "pattern": `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	switch t {
	case durationType:
		return duration
	case reflect.TypeFor[berth.Order]():
		return object{"enum": []berth.Order{berth.LIFO, berth.FIFO, berth.Spread}}
	case reflect.TypeFor[berth.ClosePolicy]():
		return object{"enum": []berth.ClosePolicy{berth.CloseGraceful, berth.CloseServerFirst, berth.CloseReset, berth.CloseAuto}}
	case reflect.TypeFor[berth.PortBudget]():
		return object{"oneOf": []object{{"enum": berth.PortBudgetPresets()}, {"type": "object", "additionalProperties": false, "properties": object{
			"ports": object{"type": "integer"}, "hold_after_fin": duration, "hold_after_rst": duration}}}}
	case reflect.TypeFor[berth.PortRange]():
		return object{"type": "object", "additionalProperties": false, "properties": object{"lo": object{"type": "integer"}, "hi": object{"type": "integer"}}}
	case headerType:
		return object{"type": "object", "additionalProperties": object{"type": []string{"string", "array"}, "items": object{"type": "string"}}}
	case prefixType, reflect.TypeFor[netip.Addr]():
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint16:
		return object{"type": "integer", "minimum": 0, "maximum": math.MaxUint16}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice:
		return object{"type": "array", "items": docs.kind(t.Elem())}
	case reflect.Pointer:
		return docs.kind(t.Elem())
	case reflect.Struct:
		return object{"type": "object", "additionalProperties": false, "properties": docs.properties(t)}
	}
	return object{}
}

// comments returns the doc comments of the structs of what a file configures, as plain
// text.
func comments(t *testing.T) typeDocs {
	out := typeDocs{}
	for _, pattern := range []string{"../*.go", "../clients/*.go", "../resilience/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			parsed, err := goparser.ParseFile(set, file, nil, goparser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			out.add(parsed, set.File(parsed.Pos()))
		}
	}
	return out
}

func (docs typeDocs) add(file *ast.File, lines *token.File) {
	line := func(at token.Pos) int {
		if at == token.NoPos {
			return 0
		}
		return lines.Line(at)
	}
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range decl.Specs {
			spec, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			fields := map[string]string{"": first(plain(cmp.Or(spec.Doc, decl.Doc).Text()))}
			var doc *ast.CommentGroup
			end := token.NoPos
			for _, f := range s.Fields.List {
				if f.Doc != nil || line(f.Pos()) > line(end)+1 {
					doc = f.Doc // else it shares that of the field above
				}
				end = f.End()
				for _, name := range f.Names {
					fields[name.Name] = plain(cmp.Or(doc, f.Comment).Text())
				}
			}
			docs[file.Name.Name+"."+spec.Name.Name] = fields
		}
	}
}

// first returns the first sentence.
func first(text string) string {
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1]
	}
	return text
}

// What there is to set for a client has a description, where its type has one.
func TestSchemaDescribesClients(t *testing.T) {
	docs := comments(t)
	looked := 0
	var look func(of reflect.Type)
	look = func(of reflect.Type) {
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == policyType || of == prefixType || docs[of.String()][""] == "" {
			return
		}
		properties := docs.properties(of)
		for i := range of.NumField() {
			p, ok := properties[jsonName(of.Field(i))].(object)
			if !ok {
				continue
			}
			looked++
			ft := of.Field(i).Type
			if p["description"] == "" && (ft.Kind() != reflect.Pointer || docs[ft.Elem().String()][""] != "") {
				t.Errorf("%v.%s has no description", of, of.Field(i).Name)
			}
			look(ft)
		}
	}
	look(settingsType)
	if looked < 25 {
		t.Errorf("only %d fields were looked at", looked)
	}
}

// plain is a comment in one line.
func plain(text string) string {
	p := comment.Parser{LookupSym: func(string, string) bool { return true }, LookupPackage: func(name string) (string, bool) { return name, true }}
	pr := comment.Printer{TextWidth: -1}
	return strings.TrimSpace(strings.ReplaceAll(string(pr.Text(p.Parse(text))), "\n", " "))
}
