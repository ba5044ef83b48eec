package doctor

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var verb = regexp.MustCompile(`%(?:\[(\d+)\])?([+\-# 0-9.]*)([a-zA-Z%])`)

// verbs returns which argument is written by which verb, sorted.
func verbs(text string) []string {
	var list []string
	next := 1
	for _, m := range verb.FindAllStringSubmatch(text, -1) {
		if m[3] == "%" {
			continue
		}
		if m[1] != "" {
			next, _ = strconv.Atoi(m[1])
		}
		list = append(list, fmt.Sprintf("%d:%s%s", next, m[2], m[3]))
		next++
	}
	slices.Sort(list)
	return list
}

func TestLanguagesHaveTheSameKeysAndVerbs(t *testing.T) {
	en, zh := english(), chinese()
	for key, text := range en {
		other, ok := zh[key]
		if !ok {
			t.Errorf("%s is not in Chinese", key)
			continue
		}
		if a, b := verbs(text), verbs(other); !slices.Equal(a, b) {
			t.Errorf("%s: verbs %v in English, %v in Chinese", key, a, b)
		}
		if text == "" || other == "" || strings.Contains(text+other, "\n") {
			t.Errorf("%s is empty, or of two lines", key)
		}
	}
	for key := range zh {
		if _, ok := en[key]; !ok {
			t.Errorf("%s is in Chinese only", key)
		}
	}
}

// Every key that the code says is there, with as many arguments as it has verbs; and
// every key that is there is said.
func TestEveryTextIsSaid(t *testing.T) {
	en := english()
	said := map[string]bool{}
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			if name != "say" || !ok {
				return true
			}
			key, _ := strconv.Unquote(lit.Value)
			said[key] = true
			if text, ok := en[key]; !ok {
				t.Errorf("%v: no text %q", fset.Position(call.Pos()), key)
			} else if n := len(verbs(text)); n != len(call.Args)-1 {
				t.Errorf("%v: %q has %d verbs and %d arguments", fset.Position(call.Pos()), key, n, len(call.Args)-1)
			}
			return true
		})
	}
	// Said with a key that is put together.
	for key := range maps.Keys(en) {
		put := strings.HasPrefix(key, "heading-") || strings.HasPrefix(key, "setting-") || strings.HasPrefix(key, "fix-setting-") ||
			strings.HasPrefix(key, "program-") || strings.HasPrefix(key, "fix-program-")
		if !said[key] && !put {
			t.Errorf("%q is never said", key)
		}
	}
}
