package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-go/berth/lab"
)

// recorded is a run at quick scale.
func recorded(t *testing.T) *lab.Report {
	t.Helper()
	f, err := os.Open("testdata/quick.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := lab.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func render(t *testing.T, r *lab.Report) string {
	t.Helper()
	var b bytes.Buffer
	title := func(code string) string { return "title of " + code }
	if err := Write(&b, r, Options{Title: title}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageHasEveryVariantNoteAndCommand(t *testing.T) {
	r := recorded(t)
	page := html.UnescapeString(render(t, r))
	for _, e := range r.Experiments {
		for _, want := range []string{e.Source, e.Note, e.Table, e.Error, "go run ./cmd/berth lab " + e.Name + " --quick"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %q", e.Name, want)
			}
		}
		for _, v := range e.Variants {
			for _, want := range []string{v.Name, v.Note} {
				if !strings.Contains(page, want) {
					t.Errorf("%s: the page lacks %q", e.Name, want)
				}
			}
			if text, ok := v.Measured["error"].(string); ok && !strings.Contains(page, text) {
				t.Errorf("%s, %s: the page lacks its error", e.Name, v.Name)
			}
		}
	}
}

func TestEveryExperimentHasAStoryWithPlotsAndCodes(t *testing.T) {
	code := regexp.MustCompile(`^BERTH\d{4}$`)
	r := recorded(t)
	for _, e := range lab.Experiments() {
		st := storyOf(e.Name)
		if st.claim == "" || st.done == "" || len(st.codes) == 0 {
			t.Errorf("%s has no story, or no codes", e.Name)
		}
		for _, c := range st.codes {
			if !code.MatchString(c) {
				t.Errorf("%s has the code %q", e.Name, c)
			}
		}
		i := slices.IndexFunc(r.Experiments, func(x lab.Result) bool { return x.Name == e.Name })
		if i < 0 {
			continue // younger than the recorded run
		}
		for _, p := range st.plots {
			if got := p.figure(r.Experiments[i], func(*chart) string { return "x" }); len(got.Panels) == 0 {
				t.Errorf("%s: %q has nothing to show", e.Name, p.title)
			}
		}
		for _, s := range st.came {
			if _, ok := fill(s, r.Experiments[i]); !ok && !strings.Contains(s, "TIME_WAIT lasts") { // which is of full scale
				t.Errorf("%s: a measurement is missing of %q", e.Name, s)
			}
		}
	}
}

// A page shows what others wrote: names, errors, tables. None of it becomes markup.
func TestHostileTextStaysText(t *testing.T) {
	const evil = `</script><script>alert(1)</script>"><img src=http://x onerror=alert(2)>{{.}}<!--`
	name := "berth " + evil
	variant := lab.Variant{
		Name: name, Note: evil, Measured: map[string]any{evil: 1.0, "error": evil, "n": evil, "long": strings.Repeat(evil, 2)}, Expected: map[string]any{evil: evil, "other" + evil: evil},
		Series: []lab.Series{{Name: evil, Unit: evil, Points: [][2]float64{{0, 1}, {1, 2}}}},
		Marks:  []lab.Mark{{At: 1, Text: evil}},
		Timeline: []lab.Lane{{Name: evil, Unit: evil, Spans: []lab.Span{{State: evil, To: 1, Segment: evil, Sent: true}}},
			{Name: evil, Unit: evil, Spans: []lab.Span{{State: evil, To: 1, Open: true}}}},
	}
	lanes := variant
	lanes.Timeline = []lab.Lane{{Name: evil, Unit: evil, Spans: []lab.Span{{State: evil, To: 1}}}}
	r := &lab.Report{Schema: lab.Schema, Scale: evil, Env: lab.Env{OS: evil, Arch: evil, Kernel: evil, Go: evil}, Experiments: []lab.Result{
		{Name: evil, Source: evil, Note: evil, Table: evil, Error: evil, Variants: []lab.Variant{variant, lanes}},
		{Name: "unread-body", Variants: []lab.Variant{{Name: name, Measured: map[string]any{"connections": 3}}}},
	}}
	var b bytes.Buffer
	if err := Write(&b, r, Options{Title: func(string) string { return evil }}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	clean := render(t, recorded(t))
	for _, tag := range []string{"<script", "</script", "<style", "<img", "<!--"} {
		if got, want := strings.Count(strings.ToLower(page), tag), strings.Count(strings.ToLower(clean), tag); got != want {
			t.Errorf("%d times %s, want %d", got, tag, want)
		}
	}
	if strings.Contains(page, "<script>alert") {
		t.Error("a script of others runs")
	}
	if !strings.Contains(page, "&lt;/script&gt;&lt;script&gt;alert(1)") {
		t.Error("the text itself is not shown")
	}
}

var reference = regexp.MustCompile(`(?i)[\s"'](src|href|action|data|poster|srcset|xlink:href|formaction)\s*=\s*("[^"]*"|'[^']*'|[^\s>]*)`)

// Without a network, and from a file: what is shown is in the page, links lead into it.
func TestNothingIsFetched(t *testing.T) {
	page := render(t, recorded(t))
	markup := regexp.MustCompile(`(?s)<(script|style)[^>]*>.*?</(script|style)>`).ReplaceAllString(page, "")
	for _, m := range reference.FindAllStringSubmatch(markup, -1) {
		target := strings.Trim(m[2], `"'`)
		id, inside := strings.CutPrefix(target, "#")
		if !inside || !strings.Contains(markup, `id="`+id+`"`) {
			t.Errorf("%s leads to %q", m[1], target)
		}
	}
	for _, bad := range []string{"@import", "url(", "<link", "<iframe", "<base"} {
		if strings.Contains(strings.ToLower(page), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(page, `content="default-src &#39;none&#39;`) && !strings.Contains(page, `content="default-src 'none'`) {
		t.Error("the page's policy lets it fetch")
	}
}

// The policy lets those scripts run that are in the page, and no other.
func TestScriptsMatchThePolicy(t *testing.T) {
	page := render(t, recorded(t))
	policy := html.UnescapeString(regexp.MustCompile(`content="(default-src[^"]*)"`).FindStringSubmatch(page)[1])
	scripts := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(page, -1)
	if len(scripts) != 3 {
		t.Fatalf("%d scripts", len(scripts))
	}
	for _, s := range scripts {
		sum := sha256.Sum256([]byte(s[1]))
		if hash := "sha256-" + base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, hash) {
			t.Errorf("%s is not in %q", hash, policy)
		}
	}
}

// The same report makes the same page, also when its numbers went through JSON.
func TestSameReportSamePage(t *testing.T) {
	r := &lab.Report{Schema: lab.Schema, Scale: "quick", Experiments: []lab.Result{{Name: "limit", Variants: []lab.Variant{
		{Name: "berth limit 2", OK: true, Measured: map[string]any{"connections": 2, "requests": int64(12345), "wall_ms": 80.25}, Expected: map[string]any{"connections": 2},
			Series: []lab.Series{{Name: "connections", Unit: "s", Points: [][2]float64{{0, 1}, {1, 2}}}}},
	}}}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := lab.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	first := render(t, r)
	if first != render(t, r) {
		t.Error("two pages of one report differ")
	}
	if first != render(t, again) {
		t.Error("the page of the recorded report differs")
	}
	if !strings.Contains(first, "12,345") {
		t.Error("thousands have no comma")
	}
}

func TestInterruptedAndFailedRunsSaySo(t *testing.T) {
	r := recorded(t)
	r.Interrupted = true
	r.Experiments[0].Variants = nil
	page := render(t, r)
	for _, want := range []string{"The run was interrupted", "No row was finished"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	r = recorded(t)
	r.Experiments[1].Error = "nothing works"
	for i := range r.Experiments[2].Variants {
		r.Experiments[2].Variants[i].OK = false
	}
	page = render(t, r)
	for _, want := range []string{"do not hold.", "1 experiment could not be run", "nothing works", "FAILED"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if page := render(t, &lab.Report{Schema: lab.Schema}); !strings.Contains(page, "No row of Berth’s was measured") {
		t.Error("an empty report is praised")
	}
}

// A series that no plot was made for is drawn all the same, and so are states.
func TestUnknownExperimentIsDrawn(t *testing.T) {
	r := &lab.Report{Schema: lab.Schema, Experiments: []lab.Result{{Name: "younger", Source: "a claim", Variants: []lab.Variant{
		{Name: "berth", OK: true, Series: []lab.Series{{Name: "connections", Unit: "s", Points: [][2]float64{{0, 1}, {1, 4}}}},
			Timeline: []lab.Lane{{Name: "client", Unit: "s", Spans: []lab.Span{{State: "CLOSE_WAIT", To: 2}}}}},
		{Name: "net/http", Series: []lab.Series{{Name: "connections", Unit: "s", Points: [][2]float64{{0, 1}}}}},
	}}}}
	data := map[string]*chart{}
	f := figures("e1", r.Experiments[0], nil, data)
	if len(f) != 2 || len(f[0].Panels) != 1 || len(f[1].Panels) != 1 {
		t.Fatalf("figures %+v", f)
	}
	c := data[f[0].Panels[0].Chart]
	if c == nil || len(c.Lines) != 2 || c.Y.Max != 4 || !c.Y.Whole || c.Lines[0].Hue != "nethttp" || c.Lines[1].Hue != "berth" {
		t.Errorf("chart %+v", c)
	}
	if !strings.Contains(string(f[1].Panels[0].Drawing), "f-close-wait") {
		t.Error("the state is not drawn")
	}
}

func TestSentenceWithoutItsMeasurementIsLeftOut(t *testing.T) {
	e := lab.Result{Variants: []lab.Variant{{Name: "berth, x", Measured: map[string]any{"n": 1234, "unseen": lab.NotObserved}}}}
	if got, ok := fill("it was {berth, x|n}", e); !ok || got != "it was 1,234" {
		t.Errorf("%q, %v", got, ok)
	}
	for _, s := range []string{"{berth, x|m}", "{berth|n}", "{berth, x|unseen}"} {
		if got, ok := fill(s, e); ok {
			t.Errorf("%s is %q", s, got)
		}
	}
}

func TestLabelsAndNumbersForPeople(t *testing.T) {
	for in, want := range map[string]string{"wall_ms": "wall, ms", "p50_us_at_10%": "p50 at 10 %, µs", "time_wait": "TIME_WAIT", "failed_at": "failed at"} {
		if got := label(in); got != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
	for _, tc := range []struct {
		in   any
		want string
	}{{1, "1"}, {999.0, "999"}, {1000, "1,000"}, {1234567.5, "1,234,567.5"}, {-1234, "−1,234"}, {"≤ 1.02", "≤ 1.02"}, {true, "true"}, {nil, "<nil>"}} {
		if got := text(tc.in); got != tc.want {
			t.Errorf("%v is %q, want %q", tc.in, got, tc.want)
		}
	}
}

// Areas are stacked: what is drawn of the upper one is the sum.
func TestAreasAreStacked(t *testing.T) {
	p := plot{series: []string{"established", "time_wait"}, as: "area"}
	v := lab.Variant{Name: "berth", Series: []lab.Series{{Name: "established", Points: [][2]float64{{0, 1}, {1, 2}}}, {Name: "time_wait", Points: [][2]float64{{0, 0}, {1, 5}}}}}
	var legend []swatch
	lines := p.lines(v, map[string]line{}, map[string]int{}, &legend)
	if len(lines) != 2 || lines[0].Label != "TIME_WAIT" || lines[0].Points[1][1] != 7 || lines[1].Points[1][1] != 2 {
		t.Errorf("%+v", lines)
	}
	if v.Series[1].Points[1][1] != 5 {
		t.Error("the report itself was changed")
	}
}

// Texts have the contrast that WCAG asks for (4.5), what is drawn that of graphics (3), on
// both grounds.
func TestColoursCanBeRead(t *testing.T) {
	byName := map[string]colour{}
	for _, c := range palette() {
		byName[c.name] = c
	}
	ground, panel := byName["bg"], byName["panel"]
	for _, c := range palette() {
		want := 3.0
		switch c.name {
		case "bg", "panel", "line", "grid":
			continue
		case "text", "muted", "link", "good", "bad", "berth":
			want = 4.5
			if a, b := contrast(c.light, panel.light), contrast(c.dark, panel.dark); a < want || b < want {
				t.Errorf("%s has contrasts %.1f and %.1f on the panel", c.name, a, b)
			}
		}
		if a, b := contrast(c.light, ground.light), contrast(c.dark, ground.dark); a < want || b < want {
			t.Errorf("%s has contrasts %.1f and %.1f", c.name, a, b)
		}
	}
}

func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(hex string) float64 {
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, _ := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		c := float64(n) / 255
		if c <= 0.03928 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
