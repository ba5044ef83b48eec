package kb

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

func TestEntriesAreWhole(t *testing.T) {
	if n := len(Entries()); n < 50 {
		t.Errorf("%d entries", n)
	}
	slug := regexp.MustCompile(`^[a-z0-9][a-z0-9/-]*$`)
	for _, e := range Entries() {
		t.Run(e.Code, func(t *testing.T) {
			if !regexp.MustCompile(`^BERTH[12]\d{3}$`).MatchString(e.Code) {
				t.Errorf("code %q", e.Code)
			}
			for _, n := range e.names()[1:] {
				if !slug.MatchString(n) {
					t.Errorf("slug %q", n)
				}
			}
			inBothLanguages(t, "title", e.Title)
			inBothLanguages(t, "versions", e.Versions)
			inBothLanguages(t, "cause", e.Cause)
			if len(e.OS) == 0 || slices.ContainsFunc(e.OS, func(s string) bool { return !slices.Contains([]string{"linux", "windows", "macos"}, s) }) {
				t.Errorf("os %v", e.OS)
			}
			if len(e.Confirm) == 0 || len(e.Workarounds) == 0 || len(e.DeadEnds) == 0 || len(e.References) == 0 {
				t.Errorf("%d ways to confirm, %d workarounds, %d dead ends, %d references: each is needed",
					len(e.Confirm), len(e.Workarounds), len(e.DeadEnds), len(e.References))
			}
			for _, c := range e.Confirm {
				inBothLanguages(t, "confirm", c.See)
			}
			for _, w := range e.Workarounds {
				inBothLanguages(t, "workaround", w.Text)
				proven(t, w.Text.EN, w.Proof)
			}
			for _, d := range e.DeadEnds {
				if d.Text.EN != d.Text.ZH { // a bare name is the same in both
					inBothLanguages(t, "dead end", d.Text)
				}
				inBothLanguages(t, "why", d.Why)
				proven(t, d.Text.EN, d.Proof)
			}
			for _, code := range e.See {
				if other, ok := Lookup(code); !ok || other == e {
					t.Errorf("see %s", code)
				}
			}
			for _, r := range e.References {
				if u, err := url.Parse(r.URL); err != nil || u.Scheme != "https" || u.Host == "" || r.Title == "" {
					t.Errorf("reference %q %q", r.Title, r.URL)
				}
			}
		})
	}
}

// inBothLanguages fails when a language is missing, or when one stands where the
// other belongs.
func inBothLanguages(t *testing.T, what string, x Text) {
	t.Helper()
	han := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) })
	}
	switch {
	case strings.TrimSpace(x.EN) == "" || strings.TrimSpace(x.ZH) == "":
		t.Errorf("%s: a language is missing: %+v", what, x)
	case han(x.EN):
		t.Errorf("%s: Chinese in the English text: %q", what, x.EN)
	case !han(x.ZH) && strings.ContainsAny(x.ZH, " ") && !strings.Contains(x.EN, x.ZH):
		t.Errorf("%s: no Chinese in the Chinese text: %q", what, x.ZH)
	}
}

// proven fails when an advice has neither evidence that exists nor a reason why it
// has none.
func proven(t *testing.T, what string, p Proof) {
	t.Helper()
	if len(p.Evidence) == 0 && p.CannotRun.EN == "" {
		t.Errorf("%q: neither evidence nor the reason why there is none", what)
	}
	if p.CannotRun != (Text{}) {
		inBothLanguages(t, what+": cannot_run", p.CannotRun)
	}
	for _, e := range p.Evidence {
		switch {
		case (e.Test == "") == (e.Lab == ""):
			t.Errorf("%q: evidence %+v is one of lab and test", what, e)
		case e.Test != "":
			if !testExists(t, e.In, e.Test) {
				t.Errorf("%q: no %s in ./%s", what, e.Test, e.In)
			}
		case len(e.Show) == 0:
			t.Errorf("%q: %s shows nothing", what, e.Lab)
		default:
			if _, err := e.Measured(); err != nil {
				t.Errorf("%q: %v", what, err)
			}
		}
	}
}

func testExists(t *testing.T, dir, name string) bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// Every code of Berth's own errors has an entry.
func TestEveryErrorCodeHasAnEntry(t *testing.T) {
	b, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(`BERTH\d{4}`).FindAllString(string(b), -1)
	if len(documented) < 17 {
		t.Fatalf("%d codes in docs/errors.md", len(documented))
	}
	for _, code := range documented {
		if _, ok := Lookup(code); !ok {
			t.Errorf("docs/errors.md: %s has no entry", code)
		}
	}
	for i := 1001; i <= 1025; i++ {
		if _, ok := Lookup(fmt.Sprintf("BERTH%d", i)); !ok {
			t.Errorf("BERTH%d has no entry", i)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, name := range []string{"BERTH2001", "berth2001", " BERTH2001 ", "connection-refused", "dotnet/httpclient-socket-connection-pool-exhausted"} {
		if e, ok := Lookup(name); !ok || e.Code != "BERTH2001" {
			t.Errorf("%q: %v", name, e)
		}
	}
	for _, name := range []string{"", "BERTH9999", "nosuch"} {
		if e, ok := Lookup(name); ok {
			t.Errorf("%q: %v", name, e)
		}
	}
}

// Commands and code of Go parse, so that what is copied at night works.
func TestGoSnippetsParse(t *testing.T) {
	for _, e := range Entries() {
		for _, w := range e.Workarounds {
			if w.Code == "" || w.Platform != "" || strings.HasPrefix(w.Code, "sysctl") || strings.HasPrefix(w.Code, "berth ") {
				continue
			}
			src := "package p\nfunc _() {\n" + w.Code + "\n}\n"
			if strings.HasPrefix(w.Code, "func ") {
				src = "package p\n" + w.Code
			}
			if strings.HasPrefix(w.Code, "&") || strings.HasPrefix(w.Code, "(") {
				src = "package p\nvar _ = " + w.Code
			}
			if _, err := parser.ParseFile(token.NewFileSet(), "", src, parser.SkipObjectResolution); err != nil {
				t.Errorf("%s: %v\n%s", e.Code, err, w.Code)
			}
		}
	}
}

func TestFilesAreReadStrictly(t *testing.T) {
	good := "code: BERTH9001\nid: a\nmatch: [{re: abc, from: [go]}]\n"
	for name, tt := range map[string]struct{ file, text, want string }{
		"unknown field":  {"BERTH9001-a", good + "titel: {}\n", "field titel not found"},
		"name":           {"BERTH9002-a", good, "must be called BERTH9001-"},
		"slug twice":     {"BERTH9001-a", good + "aliases: [A]\n", "is also BERTH9001"},
		"expression":     {"BERTH9001-a", strings.Replace(good, "abc", "'('", 1), "match 1: error parsing regexp"},
		"empty match":    {"BERTH9001-a", strings.Replace(good, "abc", "'a*'", 1), "matches the empty text"},
		"weight":         {"BERTH9001-a", strings.Replace(good, "re: abc", "re: abc, weight: much", 1), `weight "much"`},
		"two documents":  {"BERTH9001-a", good + "---\nid: b\n", "more than one document"},
		"not YAML":       {"BERTH9001-a", "\t", "BERTH9001-a.yaml"},
		"nothing in it":  {"BERTH9001-a", "", "BERTH9001-a.yaml"},
		"unless, broken": {"BERTH9001-a", strings.Replace(good, "re: abc", "re: abc, unless: '['", 1), "match 1"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{"entries/" + tt.file + ".yaml": {Data: []byte(tt.text)}, "hints.yaml": {Data: []byte("[]")}}
			if _, err := load(fsys); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// fresh is a report of the lab as it is now: what evidence names must still be in it.
var fresh = flag.String("fresh", "", "a report of the lab, of whatever scale, that has all evidence")

// Evidence names experiments, variants and values that the lab has: CI gives it a run.
func TestEvidenceIsStillMeasured(t *testing.T) {
	if *fresh == "" {
		t.Skip("no -fresh report; the recorded one is looked at by TestEntriesAreWhole")
	}
	b, err := os.ReadFile(*fresh)
	if err != nil {
		t.Fatal(err)
	}
	var r measuredReport
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, entry := range Entries() {
		var proofs []Proof
		for _, w := range entry.Workarounds {
			proofs = append(proofs, w.Proof)
		}
		for _, d := range entry.DeadEnds {
			proofs = append(proofs, d.Proof)
		}
		for _, p := range proofs {
			for _, e := range p.Evidence {
				if e.Lab == "" {
					continue
				}
				n++
				if _, err := e.measuredIn(&r); err != nil {
					t.Errorf("%s: %v", entry.Code, err)
				}
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d of the entries' proofs are the lab's", n)
	}
}
