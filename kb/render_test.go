package kb

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
)

// record is a report of the lab that becomes measured.json (docs/kb.md).
var record = flag.String("record", "", "make measured.json of this report of the lab")

func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("no -record")
	}
	b, err := os.ReadFile(*record)
	if err != nil {
		t.Fatal(err)
	}
	var r measuredReport
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("measured.json", out.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestRecordedReportIsWhole(t *testing.T) {
	r := recorded()
	if r.Schema != 1 || r.Scale != "default" || len(r.Experiments) < 13 {
		t.Errorf("schema %d, scale %q, %d experiments", r.Schema, r.Scale, len(r.Experiments))
	}
	for _, e := range r.Experiments {
		for _, v := range e.Variants {
			if strings.HasPrefix(v.Name, "berth") && !v.OK {
				t.Errorf("%s/%s did not hold when it was recorded", e.Name, v.Name)
			}
		}
	}
}

func TestEvidenceIsRendered(t *testing.T) {
	e := Evidence{Lab: "lab/ports/net/http, a connection a request", Show: []string{"failed", "requests"}}
	values, err := e.Measured()
	if err != nil || len(values) != 2 {
		t.Fatal(values, err)
	}
	if got := e.Line(English); !strings.HasPrefix(got, "lab/ports/net/http, a connection a request: failed ") || !strings.Contains(got, " of ") {
		t.Error(got)
	}
	if got := e.Line(Chinese); !strings.Contains(got, "个请求中失败") {
		t.Error(got)
	}
	for _, wrong := range []Evidence{
		{Lab: "ports"}, {Lab: "lab/nosuch/x", Show: []string{"failed"}}, {Lab: "lab/ports/nosuch"},
		{Lab: e.Lab, Show: []string{"nosuch"}},
	} {
		if _, err := wrong.Measured(); err == nil || wrong.Lab != "ports" && !errors.Is(err, ErrNotMeasured) {
			t.Errorf("%+v: %v", wrong, err)
		}
		if got := wrong.Line(English); !strings.Contains(got, "not measured yet") {
			t.Error(got)
		}
	}
}

// Every entry is printed in both languages within its width, commands and addresses
// aside.
func TestRenderKeepsToItsWidth(t *testing.T) {
	for _, width := range []int{60, 80, 120} {
		for _, e := range Entries() {
			for _, l := range []Language{English, Chinese} {
				var out bytes.Buffer
				if err := Render(&out, e, l, Options{Width: width}); err != nil {
					t.Fatal(err)
				}
				text := out.String()
				if !strings.HasPrefix(text, e.Code) || strings.Contains(text, "\x1b") || strings.Contains(text, "%!") {
					t.Errorf("%s %s: %.200s", e.Code, l, text)
				}
				inCode := false
				for line := range strings.Lines(text) {
					line = strings.TrimRight(line, "\n")
					inCode = strings.HasPrefix(line, "  $ ") || strings.HasPrefix(line, "       ") || strings.Contains(line, "https://")
					if n := stringWidth(line); n > width && !inCode {
						words := strings.Fields(line)
						if len(words) > 1 && stringWidth(words[len(words)-1]) < width/2 {
							t.Errorf("%s %s: %d columns of %d: %s", e.Code, l, n, width, line)
						}
					}
				}
			}
		}
	}
}

func TestRenderPaintsOnRequest(t *testing.T) {
	e, _ := Lookup("BERTH1004")
	var plain, painted bytes.Buffer
	if err := errors.Join(Render(&plain, e, English, Options{}), Render(&painted, e, English, Options{Color: true})); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(painted.String(), "\x1b[1mBERTH1004\x1b[0m") || strings.Contains(plain.String(), "\x1b") {
		t.Error("colours are not as asked for")
	}
	for _, want := range []string{"Cause\n", "What helps\n", "What does not help\n", "measured: lab/ports/berth, which reuses: failed 0 of 1000"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("%q is not in\n%s", want, plain.String())
		}
	}
}

func TestRenderTellsThatItCannotWrite(t *testing.T) {
	full := errors.New("full")
	if err := Render(fullWriter{full}, Entries()[0], English, Options{}); err != full {
		t.Error(err)
	}
}

type fullWriter struct{ err error }

func (w fullWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text    string
		columns int
		want    string
	}{
		{"one two three", 7, "one two|three"},
		{"one two three", 80, "one two three"},
		{"", 10, ""},
		{"averylongwordindeed x", 5, "averylongwordindeed|x"},
		{"连接池被耗尽", 6, "连接池|被耗尽"},
		{"连接池满。完", 6, "连接池|满。完"},
		{"见（端口）吧", 4, "见|（端|口）|吧"},
		{"用 IP 代替域名", 8, "用 IP 代|替域名"},
		{"端口用net命令", 6, "端口用|net命|令"},
	} {
		if got := strings.Join(wrapText(tt.text, tt.columns, tt.columns), "|"); got != tt.want {
			t.Errorf("%q in %d columns: %q, want %q", tt.text, tt.columns, got, tt.want)
		}
	}
	if n := stringWidth("\x1b[1m连接\x1b[0m pool…"); n != 10 {
		t.Errorf("width %d", n)
	}
}
