package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/kb"
	"github.com/berth-go/berth/top"
)

var updateTop = flag.Bool("top.update", false, "write the frames of berth top anew")

var topNoon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func topAt(second int) time.Time { return topNoon.Add(time.Duration(second) * time.Second) }

// topFixed is a report of the n-th second: a starved endpoint with a leak, one in a group,
// one whose name is Chinese, and one that fails.
func topFixed(t testing.TB, pid, n int) *top.Report {
	text := fmt.Sprintf(`{"schema":1,"time":%q,"pid":%d,"program":"shop","endpoints":[
 {"endpoint":"https://api.pay.example:443","policy":{"policy":{"max_conns":20,"idle_timeout":"60s","order":"lifo"},
   "from":{"max_conns":"rule 2 (*.pay.example)","idle_timeout":"default","order":"policy","lifetime":"group"},"generation":3},
  "stats":{"leased":20,"waiting":%d,"oldest_wait":2300000000,"requests":%d,"reused":%d,"dials":{"ok":24,"failed":2},"rejected":{"timeout":3},
   "closes":{"idle":3,"lifetime":1},"closed_by_us":3,"closed_by_peer":1,"leaks":{"suspect":1,"suspected":2,"reclaimed":1},
   "wait":[{"below":268435456,"count":%d}]},
  "reason":"endpoint-limit","limit":"endpoint max 20","verdict":"leaked","advice":"read to its end, or close, the body of GET /v1/export, acquired at billing/export.go:88 (billing.Export)",
  "leases":[{"method":"GET","path":"/v1/export","phase":"body unread","held":842000000000,"unread":838000000000,"suspect":true,"site":"billing/export.go:88 (billing.Export)","remote":"192.0.2.7:443"},
   {"method":"POST","path":"/v1/pay","phase":"awaiting response","held":12000000,"remote":"192.0.2.7:443"}]},
 {"endpoint":"https://files.example:443 in group blue","group":"blue","policy":{"policy":{"max_conns":10}},
  "stats":{"leased":2,"idle":3,"dialing":1,"requests":%d,"reused":%d},"conns":[{"remote":"192.0.2.8:443"}]},
 {"endpoint":"https://支付网关.example:443","policy":{"policy":{"max_conns":5}},"stats":{"idle":1,"requests":7,"reused":6}},
 {"endpoint":"https://a-host-with-a-long-name.region-1.services.internal.example:8443","policy":{"policy":{}},
  "stats":{"leased":1,"draining":1,"requests":%d,"reused":%d,"dials":{"failed":%d}}}],
 "leaks":[{"endpoint":"https://api.pay.example:443","site":"billing/export.go:88 (billing.Export)","suspected":2,"reclaimed":1}],
 "ports":[{"destination":"192.0.2.7:443","ports":1000,"live":20,"held":480},{"destination":"192.0.2.8:443","ports":1000,"live":6,"held":4}]}`,
		topAt(n).Format(time.RFC3339Nano), pid, 5+n, 1000+1204*n, 1000+1100*n, 10*n, 500+25*n, 400+25*n, 300+3*n, 100+n, 4*n)
	var r top.Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// topScene is a screen that is driven by messages alone.
type topScene struct {
	t    *testing.T
	m    *topModel
	read []int // programs that were asked to be read
	quit bool
}

func newTopScene(t *testing.T, programs int, lang kb.Language, colour bool) *topScene {
	s := &topScene{t: t}
	var trackers []*top.Tracker
	for i := range programs {
		trackers = append(trackers, top.NewTracker(fmt.Sprintf("http://127.0.0.1:606%d/", i+1)))
	}
	s.m = newTopModel(trackers, topOptions{interval: time.Second, say: topWords(lang)}, func(i int) tea.Cmd {
		s.read = append(s.read, i)
		return nil
	})
	s.m.colour = colour
	return s
}

func (s *topScene) send(msg tea.Msg) {
	s.t.Helper()
	next, cmd := s.m.Update(msg)
	if next != tea.Model(s.m) {
		s.t.Fatal("another model")
	}
	switch msg.(type) {
	case tea.KeyPressMsg:
		if cmd != nil {
			_, is := cmd().(tea.QuitMsg)
			s.quit = s.quit || is
		}
	}
}

// keys sends keys by their names.
func (s *topScene) keys(names ...string) {
	s.t.Helper()
	codes := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace, "down": tea.KeyDown, "up": tea.KeyUp,
		"pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "home": tea.KeyHome, "end": tea.KeyEnd, "left": tea.KeyLeft, "right": tea.KeyRight}
	for _, n := range names {
		k := tea.KeyPressMsg{Code: []rune(n)[0], Text: n}
		if c, ok := codes[n]; ok {
			k = tea.KeyPressMsg{Code: c}
		} else if c, ok := strings.CutPrefix(n, "ctrl+"); ok {
			k = tea.KeyPressMsg{Code: rune(c[0]), Mod: tea.ModCtrl}
		}
		s.send(k)
	}
}

// report has program i say the report of a second.
func (s *topScene) report(i, pid, second int) {
	s.send(topReading{i: i, report: topFixed(s.t, pid, second), at: topAt(second)})
}

func (s *topScene) lose(i, second int) {
	s.send(topReading{i: i, err: errors.New("connection refused"), at: topAt(second)})
}

// frame is the picture without its colours; every line fits.
func (s *topScene) frame() string {
	s.t.Helper()
	v := s.m.View()
	if !v.AltScreen {
		s.t.Error("not on the alternate screen")
	}
	lines := strings.Split(v.Content, "\n")
	if len(lines) != s.m.height {
		s.t.Errorf("%d lines in a terminal of %d", len(lines), s.m.height)
	}
	for _, l := range lines {
		if w := lipgloss.Width(l); w > s.m.width {
			s.t.Errorf("%d columns of %d: %q", w, s.m.width, l)
		}
	}
	text := ansi.Strip(v.Content)
	lines = strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

func (s *topScene) golden(name string) {
	s.t.Helper()
	file := filepath.Join("testdata", "top", name+".txt")
	got := s.frame()
	if *updateTop {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != string(want) {
		s.t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
}

func (s *topScene) shows(want ...string) {
	s.t.Helper()
	f := s.frame()
	for _, w := range want {
		if !strings.Contains(f, w) {
			s.t.Errorf("no %q in\n%s", w, f)
		}
	}
}

func (s *topScene) hides(unwanted ...string) {
	s.t.Helper()
	f := s.frame()
	for _, w := range unwanted {
		if strings.Contains(f, w) {
			s.t.Errorf("%q in\n%s", w, f)
		}
	}
}

// The pictures at several sizes and states. `go test ./cmd/berth -run Frames -top.update`
// writes them anew.
func TestTopFrames(t *testing.T) {
	for _, size := range [][2]int{{120, 35}, {80, 24}, {40, 10}} {
		for _, lang := range []kb.Language{kb.English, kb.Chinese} {
			s := newTopScene(t, 1, lang, true)
			name := func(what string) string { return fmt.Sprintf("%s-%s-%dx%d", what, lang, size[0], size[1]) }
			s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			s.report(0, 4711, 0)
			if lang == kb.English {
				s.golden(name("first"))
			}
			for n := 1; n <= 30; n++ {
				s.report(0, 4711, n)
			}
			s.golden(name("list"))
			s.keys("enter")
			s.golden(name("endpoint"))
			s.keys("?")
			s.golden(name("help"))
		}
	}
	s := newTopScene(t, 2, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 100, Height: 16})
	for n := range 3 {
		s.report(0, 4711, n)
		s.report(1, 4712, n)
	}
	s.lose(1, 3)
	s.send(topTick(topAt(8)))
	s.golden("lost-100x16")
}

func TestTopKeys(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 120, Height: 20})
	s.report(0, 4711, 0)
	s.report(0, 4711, 1)
	first := func() string { return strings.Fields(strings.Split(s.frame(), "\n")[3])[1] }
	for _, step := range []struct{ key, by, first string }{
		{"", "by waiting", "https://api.pay.example:443"},
		{"c", "by connections", "https://api.pay.example:443"},
		{"e", "by endpoint", "https"},
		{"s", "by waiting", "https://api.pay.example:443"},
		{"s", "by connections", ""}, {"s", "by requests", "https://api.pay.example:443"}, {"s", "by endpoint", ""}, {"w", "by waiting", ""}, {"r", "by requests", ""},
	} {
		if step.key != "" {
			s.keys(step.key)
		}
		s.shows(step.by)
		if got := first(); step.key != "e" && step.first != "" && got != step.first && got != step.first[len("https://"):] {
			t.Errorf("%s: first is %q", step.by, got)
		}
	}

	// The cursor stays on its endpoint whatever the order is.
	s.keys("w", "j", "down")
	chosen := s.m.chosen
	s.keys("e", "c", "r")
	if s.m.order()[s.m.cursor(s.m.order())] != chosen {
		t.Error("the cursor left its endpoint")
	}
	s.keys("home")
	if s.m.cursor(s.m.order()) != 0 {
		t.Error("not at the first")
	}
	s.keys("end", "j", "pgdown")
	if n := s.m.cursor(s.m.order()); n != 3 {
		t.Errorf("at %d", n)
	}
	s.keys("k", "up", "pgup")

	// Filter: letters are text meanwhile, and Chinese ones too.
	s.keys("w", "/", "p", "q", "backspace", "a", "y")
	s.shows("/pay█", "api.pay.example")
	s.hides("files.example")
	s.keys("enter")
	s.shows(`filter "pay"`, "q quit")
	s.keys("esc")
	s.shows("files.example")
	s.keys("/", "支", "付")
	s.shows("支付网关")
	s.hides("api.pay")
	s.keys("ctrl+u", "n", "o", "t", "t", "h", "e", "r", "e")
	s.shows("no endpoint matches the filter")
	s.keys("enter", "enter") // nothing to open
	s.shows("no endpoint matches")
	s.keys("/", "esc")
	s.send(tea.PasteMsg{Content: "files"}) // not while no filter is written
	s.shows("api.pay.example")
	s.keys("/")
	s.send(tea.PasteMsg{Content: "fi\x1bles"})
	s.shows("/files█")
	s.keys("esc")

	// An endpoint, and back.
	s.keys("w", "home", "enter")
	s.shows("Advice: read to its end", "esc back")
	s.keys("?")
	s.shows("KEYS")
	s.keys("?")
	s.shows("Advice: read to its end")
	s.keys("end")
	s.shows("lifetime", "by group")
	s.keys("home", "esc")
	s.shows("ENDPOINT")
	if s.quit {
		t.Fatal("quit by something else")
	}
	s.keys("/")
	s.keys("q")
	if s.quit {
		t.Error("a letter of the filter quit")
	}
	s.keys("ctrl+c")
	if !s.quit {
		t.Error("Ctrl-C does not quit")
	}
	s.quit = false
	s.keys("esc", "q")
	if !s.quit {
		t.Error("q does not quit")
	}
}

func TestTopScrollsColumns(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 60, Height: 12})
	s.report(0, 4711, 0)
	s.report(0, 4711, 1)
	s.shows("LEASED", "›")
	s.hides("WHY", "‹")
	for range 30 {
		s.keys("l")
	}
	s.shows("‹", "WHY", "endpoint-limit, leaked")
	s.hides("LEASED", "›")
	for range 30 {
		s.keys("h")
	}
	s.shows("LEASED")
	s.hides("‹")
	s.send(tea.WindowSizeMsg{Width: 200, Height: 12})
	s.keys("l", "right")
	s.shows("GROUP", "LEASED", "WHY") // all is there: nothing to scroll
	s.hides("‹", "›")
}

// A column that had to grow stays so until the terminal has another size.
func TestTopColumnsDoNotMove(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 120, Height: 12})
	report := func(second, idle int) {
		r := topFixed(t, 4711, second)
		r.Endpoints[0].Stats.Idle = idle
		s.send(topReading{i: 0, report: r, at: topAt(second)})
	}
	heading := func() string { return strings.Split(s.frame(), "\n")[2] }
	report(0, 5)
	narrow := heading()
	report(1, 12345)
	wide := heading()
	if !strings.Contains(wide, "LEASED  IDLE") || wide == narrow {
		t.Errorf("%q, then %q", narrow, wide)
	}
	report(2, 5)
	if heading() != wide {
		t.Errorf("moved: %q", heading())
	}
	s.send(tea.WindowSizeMsg{Width: 120, Height: 13})
	if heading() != narrow {
		t.Errorf("still %q", heading())
	}
}

// The list moves only as far as the cursor must be seen.
func TestTopListScrolls(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 80, Height: 9}) // five rows
	r := topFixed(t, 4711, 0)
	quiet := r.Endpoints[2]
	r.Endpoints = nil
	for i := range 20 {
		quiet.Endpoint = fmt.Sprintf("https://host-%02d.example", i)
		r.Endpoints = append(r.Endpoints, quiet)
	}
	s.send(topReading{i: 0, report: r, at: topAt(0)})
	for _, step := range []struct {
		key         string
		times       int
		first, last int
	}{{"j", 4, 0, 4}, {"j", 1, 1, 5}, {"k", 4, 1, 5}, {"k", 1, 0, 4}, {"end", 1, 15, 19}, {"k", 2, 15, 19}, {"pgup", 1, 13, 17}, {"home", 1, 0, 4}, {"pgdown", 1, 0, 4}} {
		for range step.times {
			s.keys(step.key)
		}
		rows := strings.Split(s.frame(), "\n")[3:8]
		for i, n := range map[int]int{0: step.first, 4: step.last} {
			if !strings.Contains(rows[i], fmt.Sprintf("host-%02d.", n)) {
				t.Errorf("after %s %d times: row %d is %q, want host-%02d", step.key, step.times, i, rows[i], n)
			}
		}
	}
}

func TestTopPause(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 120, Height: 20})
	s.report(0, 4711, 0)
	s.report(0, 4711, 1)
	s.keys("p")
	still := s.frame()
	if !strings.Contains(still, "PAUSED") {
		t.Error("does not say so")
	}
	s.report(0, 4711, 2)
	s.lose(0, 3)
	s.send(topTick(topAt(3)))
	if got := s.frame(); got != still {
		t.Errorf("moved:\n%s", got)
	}
	s.report(0, 4711, 4)
	s.keys("p")
	// Reading went on: the rate is that of the last two reports.
	s.shows("1204", "12:00:04", "0s ago")
	s.hides("PAUSED")
}

func TestTopLosesAndFindsAProgram(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 120, Height: 20})
	s.report(0, 4711, 0)
	s.report(0, 4711, 1)
	s.lose(0, 2)
	s.send(topTick(topAt(9)))
	s.lose(0, 10)
	s.shows("shop · pid 4711 ! lost for 8s, since 12:00:02: connection refused", "api.pay.example")
	s.keys("enter")
	s.shows("! lost for 8s", "Last minute")
	s.keys("esc")
	s.report(0, 4711, 11)
	s.shows("1204", "0s ago")
	s.hides("lost")
	s.report(0, 4712, 12)
	s.shows("pid 4712", "- req/s")
	s.report(0, 4712, 13)
	s.shows("1204")
	if !slices.Equal(s.m.taken, []int{7}) {
		t.Errorf("%v readings", s.m.taken)
	}
}

func TestTopSaysWhatToDoAboutALostProgram(t *testing.T) {
	src, err := source.Parse("unix:" + filepath.Join(t.TempDir(), "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	s := newTopScene(t, 1, kb.English, true)
	s.report(0, 4711, 0)
	r := readTop(t.Context(), 0, src)
	r.at = topAt(1)
	s.send(r)
	s.shows("! lost for 0s, since 12:00:01: ", "→ is the program running, and does it serve Transport.Handler", "\n>")
}

// An endpoint that is open may go; a program may have none, or may never have answered.
func TestTopOfWhatIsNotThere(t *testing.T) {
	s := newTopScene(t, 2, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 100, Height: 20})
	s.frame() // nothing was read
	s.lose(1, 0)
	s.report(0, 4711, 0)
	s.shows("http://127.0.0.1:6062/ ! not read yet, for 0s: connection refused")
	s.keys("end", "enter")
	gone := topFixed(t, 4711, 1)
	gone.Endpoints = nil
	s.send(topReading{i: 0, report: gone, at: topAt(1)})
	s.shows("the endpoint is gone")
	s.keys("esc")
	s.shows("no endpoint yet")
	s.keys("enter", "j", "k", "end")
	s.shows("no endpoint yet")
	s.send(tea.WindowSizeMsg{Width: 1, Height: 1})
	s.frame()
	s.send(tea.WindowSizeMsg{Width: 0, Height: 0})
	s.frame()
}

// In every size and mode each line fits, and the cursor is on the screen.
func TestTopFitsEveryTerminal(t *testing.T) {
	for _, lang := range []kb.Language{kb.English, kb.Chinese} {
		s := newTopScene(t, 2, lang, true)
		for n := range 3 {
			s.report(0, 4711, n)
			s.report(1, 4712, n)
		}
		s.keys("end")
		for width := 1; width <= 140; width += 3 {
			for _, height := range []int{1, 2, 3, 4, 5, 7, 24} {
				s.send(tea.WindowSizeMsg{Width: width, Height: height})
				if f := s.frame(); height >= 4 && width >= 4 && !strings.Contains(f, "\n>") {
					t.Errorf("%dx%d: no cursor\n%s", width, height, f)
				}
				s.keys("enter")
				s.frame()
				s.keys("end", "pgup", "?")
				s.frame()
				s.keys("esc", "esc")
			}
		}
	}
}

func TestTopShortNames(t *testing.T) {
	for _, tc := range []struct {
		name    string
		columns int
		want    string
	}{
		{"https://api.example:443", 30, "https://api.example:443"},
		{"https://api.example:443", 15, "api.example:443"},
		{"https://api.example:443", 12, "api.exa…:443"},
		{"http://127.0.0.1:8080", 15, "http://12…:8080"},
		{"https://支付网关.example:443", 12, "支付网…:443"},
		{"https://api.example:443", 2, "api.example:443"}, // cut by whoever asks
	} {
		got := shortName(tc.name, tc.columns)
		if got != tc.want || tc.columns > 2 && lipgloss.Width(got) > tc.columns {
			t.Errorf("%s in %d: %q, want %q", tc.name, tc.columns, got, tc.want)
		}
	}
}

func TestTopColours(t *testing.T) {
	s := newTopScene(t, 1, kb.English, true)
	s.send(tea.WindowSizeMsg{Width: 120, Height: 20})
	s.report(0, 4711, 0)
	coloured := s.m.View().Content
	s.m.colour = false
	plain := s.m.View().Content
	if !strings.Contains(coloured, "\x1b[1;31m!") {
		t.Errorf("no red mark: %q", coloured)
	}
	for i := 30; i < 50; i++ {
		for _, code := range []string{fmt.Sprintf("\x1b[%dm", i), fmt.Sprintf(";%dm", i)} {
			if strings.Contains(plain, code) {
				t.Errorf("colour %q without colours", code)
			}
		}
	}
	if ansi.Strip(plain) != ansi.Strip(coloured) {
		t.Error("colours change the text")
	}
}

// Each program is read again after its answer, and -n ends after so many of each.
func TestTopReadsAgain(t *testing.T) {
	s := newTopScene(t, 2, kb.English, true)
	s.m.o.count, s.m.o.interval = 2, time.Nanosecond
	s.send(topDue{1})
	s.send(topDue{0})
	if !slices.Equal(s.read, []int{1, 0}) {
		t.Errorf("read %v", s.read)
	}
	quits := func(i, second int) bool {
		_, cmd := s.m.Update(topReading{i: i, report: topFixed(t, 1, second), at: topAt(second)})
		if cmd == nil {
			t.Fatal("not read again")
		}
		_, is := cmd().(tea.QuitMsg)
		return is
	}
	if quits(0, 1) || quits(0, 2) || quits(0, 3) || quits(1, 3) {
		t.Error("ended too early")
	}
	if !quits(1, 4) {
		t.Error("did not end")
	}
}

func TestTopWordsAreInBothLanguages(t *testing.T) {
	en, zh := topEnglish(), topChinese()
	for k, text := range en {
		if _, ok := zh[k]; !ok {
			t.Errorf("%s is not in Chinese", k)
		}
		if verbs(text) != verbs(zh[k]) {
			t.Errorf("%s: %q and %q", k, verbs(text), verbs(zh[k]))
		}
	}
	if len(en) != len(zh) {
		t.Errorf("%d and %d texts", len(en), len(zh))
	}
	source := ""
	files, err := filepath.Glob("top*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source += string(b)
	}
	for _, part := range strings.Split(source, `say("`)[1:] {
		key, rest, _ := strings.Cut(part, `"`)
		if _, ok := en[key]; !ok && !strings.HasPrefix(rest, "+") {
			t.Errorf("no text %q", key)
		}
	}
	for _, k := range top.Keys() {
		if en["sort-"+k] == "" {
			t.Errorf("no text for %s", k)
		}
	}
	for _, c := range newTopScene(t, 1, kb.English, true).m.columns() {
		if en["col-"+c.key] == "" {
			t.Errorf("no heading %s", c.key)
		}
	}
}

// verbs are the places of a text that arguments go to.
func verbs(text string) (list string) {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '%' && strings.IndexByte("sdqv", text[i+1]) >= 0 {
			list += text[i : i+2]
		}
	}
	return list
}
