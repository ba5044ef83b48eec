package kb

import (
	"bufio"
	"errors"
	"os"
	"regexp/syntax"
	"strings"
	"testing"
	"unicode/utf8"
)

// Real errors lead to their entry, best match first.
func TestRealErrors(t *testing.T) {
	var cases []struct{ Code, Stack, Source, Text string }
	if err := decode(os.DirFS("testdata"), "errors.yaml", &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 60 {
		t.Errorf("%d cases", len(cases))
	}
	for _, c := range cases {
		if !strings.HasPrefix(c.Source, "https://") || c.Stack == "" {
			t.Errorf("%q: source %q, stack %q", c.Text, c.Source, c.Stack)
		}
		hits := Match(c.Text)
		if len(hits) == 0 {
			t.Errorf("%s: nothing matches %q", c.Code, c.Text)
		} else if hits[0].Entry.Code != c.Code {
			t.Errorf("%q: %s by %q, want %s; all: %v", c.Text, hits[0].Entry, hits[0].Text, c.Code, hits)
		} else if hits[0].Weight() == Weak {
			t.Errorf("%q: a weak match", c.Text)
		}
	}
}

// What is no failure of a connection matches none.
func TestUnrelatedErrorsMatchNothing(t *testing.T) {
	f, err := os.Open("testdata/unrelated.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		for _, h := range Match(line) {
			t.Errorf("%q: %s by %q", line, h.Entry, h.Text)
		}
	}
	if n < 40 {
		t.Errorf("%d texts", n)
	}
}

// A bare timeout says nothing, and that is said.
func TestBareTimeoutIsNoMatchButHasAHint(t *testing.T) {
	for _, text := range []string{"context deadline exceeded", "timeout", "i/o timeout", "A task was canceled.", "请求超时", "HttpRequestException"} {
		if hits := Match(text); len(hits) > 0 {
			t.Errorf("%q: %v", text, hits)
		}
		if h, ok := Hint(text); !ok || h.EN == "" || h.ZH == "" {
			t.Errorf("%q: no hint", text)
		}
	}
	if h, ok := Hint("no space left on device"); ok {
		t.Errorf("hint %q", h.EN)
	}
	for _, h := range base().hints {
		inBothLanguages(t, "hint", h.Text)
	}
}

// What one failure alone says comes before what several say, and a code before all.
func TestSpecificBeforeGeneral(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)", []string{"BERTH2016"}},
		{"proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused", []string{"BERTH1014", "BERTH2001"}},
		{"berth: dial https://a: dial tcp: lookup a: no such host [BERTH1003]", []string{"BERTH1003", "BERTH2027"}},
		{"see BERTH1018: socket hang up", []string{"BERTH1018", "BERTH1009"}},
		{"listen tcp :80: bind: cannot assign requested address", nil},
		{"listen tcp :8080: bind: address already in use", nil},
		{"BERTH4711", nil},
	} {
		hits := Match(tt.text)
		for i, want := range tt.want {
			if i >= len(hits) || hits[i].Entry.Code != want {
				t.Errorf("%q: %v, want %v", tt.text, hits, tt.want)
				break
			}
		}
		if len(tt.want) == 0 && len(hits) > 0 {
			t.Errorf("%q: %v, want nothing", tt.text, hits)
		}
	}
}

// Berth's own messages lead to their code even where they do not name it.
func TestOwnMessagesWithoutACode(t *testing.T) {
	for text, code := range map[string]string{
		"berth: https://a: connection broken before the request was sent: EOF": "BERTH1012",
		"berth: transport is closed":                                                                                                  "BERTH1013",
		"berth: config: Policy.MaxConns: is negative":                                                                                 "BERTH1010",
		`berth: no room for group "x": 1000 groups are in use (limit: MaxGroups)`:                                                     "BERTH1017",
		"proxy http://p:3128 does not connect to a:443: 407 Proxy Authentication Required":                                            "BERTH1014",
		"resilience: https://a: attempt timeout of 10s":                                                                               "BERTH1019",
		"berth: retry: GET https://a/b: 4 attempts in 3.2s":                                                                           "BERTH1020",
		"berth: circuit to https://a is open: 12 of 100 requests had failed when it opened 1s ago, and the next is let through in 4s": "BERTH1021",
		"berth: request to https://a refused by the limit of rate (20 a second, burst 20)":                                            "BERTH1022",
		"berth: request to https://a gave up after 1s by the limit of concurrency (10 at once, 5 waiting)":                            "BERTH1022",
		"berth: https://a at 10.0.0.1:443 is not allowed: 10.0.0.1 is private (10.0.0.0/8)":                                           "BERTH1023",
		"berth: no connection to https://a is free, and the request is not to queue":                                                  "BERTH1024",
		`clients: no client "a"; there are b, c`:                                                                                      "BERTH1025",
	} {
		if hits := Match(text); len(hits) == 0 || hits[0].Entry.Code != code {
			t.Errorf("%q: %v, want %s", text, hits, code)
		}
	}
}

func TestScan(t *testing.T) {
	log := strings.Join([]string{
		"all is well",
		"12:00 dial tcp 10.0.0.1:80: connect: cannot assign requested address",
		"12:01 dial tcp 10.0.0.2:80: connect: cannot assign requested address",
		"12:01 dial tcp 10.0.0.2:80: connect: cannot assign requested address",
		strings.Repeat("x", 100) + " TIME_WAIT",
		strings.Repeat("é", maxText) + " connection refused", // beyond what is looked at
		strings.Repeat("y", 300) + " connection reset by peer " + strings.Repeat("z", 300),
		"\xff\xfe no text \x00",
		"last line without an end: socket hang up",
	}, "\n")
	s, err := Scan(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if s.Lines != 9 || s.Matched != 6 || s.Cut != 1 || len(s.Found) != 4 {
		t.Fatalf("%+v", s)
	}
	first := s.Found[0]
	if first.Entry.Code != "BERTH1004" || first.Lines != 3 || first.First != 2 || len(first.Examples) != 2 {
		t.Errorf("%+v", first)
	}
	if last := s.Found[3]; last.Entry.Code != "BERTH2012" || !last.Weak {
		t.Errorf("weak ones stand last: %+v", last)
	}
	for _, f := range s.Found {
		for _, e := range f.Examples {
			if len(e) > maxExample+2*len("…") || !utf8.ValidString(e) || !strings.Contains(e, f.Text) {
				t.Errorf("example %q of %q", e, f.Text)
			}
		}
	}
	broken := errors.New("broken")
	if s, err := Scan(&brokenReader{text: "connection refused\n", err: broken}); err != broken || len(s.Found) != 1 {
		t.Errorf("%v %+v", err, s)
	}
}

type brokenReader struct {
	text string
	err  error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, r.err
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

func TestLongTextIsCut(t *testing.T) {
	if hits := Match(strings.Repeat("a ", maxText) + "connection refused"); len(hits) > 0 {
		t.Error("what is behind 64 KiB was looked at")
	}
}

// What a rule requires is part of all that it matches, so that the filter before it
// loses nothing.
func TestRequiredTexts(t *testing.T) {
	for re, want := range map[string]string{
		`abc`: "abc", `a+bcd`: "bcd", `(abc|de)x?`: "abc de", `x*y?`: "", `[ab]cd`: "cd", `foo.{0,9}barbaz`: "barbaz", `É`: "", `连接`: "连接",
	} {
		tree, err := syntax.Parse("(?i)"+re, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(required(tree.Simplify()), " "); got != want {
			t.Errorf("%s requires %q, want %q", re, got, want)
		}
	}
	for _, r := range base().rules {
		if len(r.needs) == 0 {
			t.Errorf("%s: %q has no text to look for first: it is tried on every line", r.entry.Code, r.pattern.RE)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("dial tcp: lookup a on 127.0.0.1:53: connect: cannot assign requested address [BERTH1004]")
	f.Add("\xff\xfeconnectex: Only one usage of each socket address")
	f.Add("系统缓冲区空间不足或队列已满 ſtream error: ſtream ID 1")
	f.Fuzz(func(t *testing.T, text string) {
		hits := Match(text)
		for i, h := range hits {
			if h.Entry == nil || h.Score < 1 || h.Score > scoreCode || len(h.Text) > maxText {
				t.Fatalf("%+v", h)
			}
			if i > 0 && h.Score > hits[i-1].Score {
				t.Fatal("not ranked")
			}
		}
		s, err := Scan(strings.NewReader(text))
		if err != nil || s.Matched > s.Lines {
			t.Fatalf("%v %+v", err, s)
		}
		Hint(text)
	})
}

func BenchmarkScan(b *testing.B) {
	line := "2026-11-21T13:15:32Z INFO request done method=GET path=/v1/items/4711 status=200 bytes=5123 duration=38ms trace=4bf92f3577b34da6\n"
	log := strings.Repeat(line, 1000)
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Scan(strings.NewReader(log)); err != nil {
			b.Fatal(err)
		}
	}
}
