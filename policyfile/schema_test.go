package policyfile

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/doc/comment"
	goparser "go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

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
	policy := properties(policyType, docs["Policy"])
	rule := object{}
	for k, v := range policy {
		rule[k] = v
	}
	ruleDocs := docs["Rule"]
	for go_, key := range map[string]string{"Match": "match", "Proxy": "proxy", "Socket": "socket"} {
		rule[key] = object{"type": "string", "description": ruleDocs[go_]}
	}
	tlsProperties := object{}
	for _, k := range tlsKeys {
		tlsProperties[k] = object{"type": "string"}
	}
	rule["tls"] = object{"type": "object", "description": "TLS for the rule's endpoints, from files in PEM.", "additionalProperties": false, "properties": tlsProperties}
	top := properties(configType, docs["Config"])
	top["policy"] = object{"type": "object", "description": docs["Config"]["Policy"], "additionalProperties": false, "properties": policy}
	top["rules"] = object{"type": "array", "description": docs["Config"]["Rules"], "items": object{
		"type": "object", "additionalProperties": false, "required": []string{"match"}, "properties": rule}}
	return object{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Berth policy file", "type": "object",
		"additionalProperties": false, "properties": top}
}

// properties returns what a struct's fields are in the schema, by name.
func properties(of reflect.Type, docs map[string]string) object {
	out := object{}
	for i := range of.NumField() {
		f := of.Field(i)
		name := jsonName(f)
		if name == "" || name == "-" {
			continue
		}
		p := kind(f.Type)
		p["description"] = docs[f.Name]
		out[name] = p
	}
	return out
}

func kind(t reflect.Type) object {
	duration := object{"type": "string", "pattern": `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	switch t {
	case reflect.TypeFor[time.Duration]():
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
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Slice:
		return object{"type": "array", "items": object{"type": "string"}}
	}
	return object{}
}

// comments returns the doc comments of the structs' fields, as plain text.
func comments(t *testing.T) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, file := range []string{"policy.go", "config.go", "rules.go"} {
		parsed, err := goparser.ParseFile(token.NewFileSet(), "../"+file, nil, goparser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				fields := map[string]string{}
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						fields[name.Name] = plain(f.Doc.Text())
					}
				}
				out[spec.Name.Name] = fields
			}
			return false
		})
	}
	return out
}

// plain is a comment in one line.
func plain(text string) string {
	var p comment.Parser
	pr := comment.Printer{TextWidth: -1}
	return strings.TrimSpace(strings.ReplaceAll(string(pr.Text(p.Parse(text))), "\n", " "))
}
