package h1

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

func TestCanonicalSpellsNamesAsNetHTTPDoes(t *testing.T) {
	for name := range knownNames {
		if got := http.CanonicalHeaderKey(name); got != name {
			t.Errorf("table has %q, net/http spells it %q", name, got)
		}
	}
	for _, name := range []string{
		"a", "A", "content-type", "CONTENT-TYPE", "cOnTeNt-tYpE", "x--y", "-x", "x-",
		"etag", "www-authenticate", "x_y-z", "!#$%&'*+-.^_`|~", "0-a1b", "x-9a",
		strings.Repeat("aB-", 40),
	} {
		got, spaced, ok := canonical([]byte(name), name)
		if want := http.CanonicalHeaderKey(name); got != want || spaced || !ok {
			t.Errorf("canonical(%q) = %q, %v, %v, want %q", name, got, spaced, ok, want)
		}
	}
	for _, name := range []string{"", "a\tb", "a\t", "a(b", "\x00", "ü", "a\x7f"} {
		if got, _, ok := canonical([]byte(name), name); ok {
			t.Errorf("canonical(%q) = %q, want a refusal", name, got)
		}
	}
}

func TestCanonicalKeepsSpacedNamesExceptThoseOfFraming(t *testing.T) {
	for name, want := range map[string]string{
		"foo ":                 "foo ",
		"Foo bar":              "Foo bar",
		"content-length  ":     "Content-Length",
		"TRANSFER-ENCODING ":   "Transfer-Encoding",
		"connection ":          "Connection",
		"Content -Length":      "Content -Length",
		"transfer-encodings  ": "transfer-encodings  ",
	} {
		got, spaced, ok := canonical([]byte(name), name)
		if got != want || !spaced || !ok {
			t.Errorf("canonical(%q) = %q, %v, %v, want %q", name, got, spaced, ok, want)
		}
	}
}

func TestCharacterClasses(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		// net/http tells which bytes a name may have by canonicalising or not.
		token := http.CanonicalHeaderKey("a"+string([]byte{c})+"b") != "a"+string([]byte{c})+"b"
		if got := class[c]&classToken != 0; got != token {
			t.Errorf("class of %q: token %v, want %v", c, got, token)
		}
		u := &url.URL{Path: "/" + string([]byte{c})}
		if class[c]&classPath != 0 && u.RequestURI() != u.Path {
			t.Errorf("class of %q: stands for itself in a path, but net/url makes %q of it", c, u.RequestURI())
		}
		for at := range 16 {
			b := []byte("0123456789abcdef")
			b[at] = c
			if got, want := isValue(b), isValueByte(c); got != want {
				t.Errorf("isValue with %q at %d = %v, want %v", c, at, got, want)
			}
			if got, want := isClean(string(b)), !strings.ContainsAny(string(b), "\r\n\x00"); got != want {
				t.Errorf("isClean with %q at %d = %v, want %v", c, at, got, want)
			}
		}
	}
}

func TestHasToken(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"close"}, true},
		{[]string{"CLOSE"}, true},
		{[]string{"keep-alive, Close"}, true},
		{[]string{"keep-alive,\tclose\t"}, true},
		{[]string{"keep-alive", "close"}, true},
		{[]string{",,close,"}, true},
		{[]string{"closed"}, false},
		{[]string{"not close"}, false},
		{[]string{"c\u013Aose", "clo\u017Fe"}, false}, // ſ folds to s outside ASCII
	} {
		if got := HasToken(c.values, "close"); got != c.want {
			t.Errorf("HasToken(%q) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestInvalidFieldNamesTheFieldAndNotTheValue(t *testing.T) {
	for _, c := range []struct {
		h    http.Header
		want string
	}{
		{nil, ""},
		{http.Header{"A": {"b", "", "c\td"}, "X-Umlaut": {"ü"}}, ""},
		{http.Header{"": {"x"}}, `field name ""`},
		{http.Header{"A B": {"x"}}, `field name "A B"`},
		{http.Header{"A\r\nB": nil}, `field name "A\r\nB"`},
		{http.Header{"Cookie": {"ok", "secret\n"}}, `field value for "Cookie"`},
		{http.Header{"Cookie": {"secret\x00"}}, `field value for "Cookie"`},
		{http.Header{"Cookie": {"secret\x7f"}}, `field value for "Cookie"`},
	} {
		if got := InvalidField(c.h); got != c.want {
			t.Errorf("InvalidField(%q) = %q, want %q", c.h, got, c.want)
		}
	}
}

func TestValidMethod(t *testing.T) {
	for s, want := range map[string]bool{
		"GET": true, "get": true, "M-SEARCH": true, "": false, "G T": false, "GET\r\n": false, "GÉT": false,
	} {
		if got := ValidMethod(s); got != want {
			t.Errorf("ValidMethod(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestPunycodeKeepsThePort(t *testing.T) {
	want, err := idna.ToASCII("bücher.example")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"bücher.example":    want,
		"bücher.example:80": want + ":80",
	} {
		got, err := punycode(in)
		if err != nil || got != want {
			t.Errorf("punycode(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}
