package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		in   []float64
		want spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3, 1}},
		{[]float64{3, 1, 2}, spread{2, 1, 3, 3}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4, 4}},
	} {
		if got := spreadOf(tc.in); got != tc.want {
			t.Errorf("%v: %+v, want %+v", tc.in, got, tc.want)
		}
	}
}

// Ratios are taken within a round, and the median of them is the figure: a round in
// which everything was slow does not count more.
func TestRatiosArePaired(t *testing.T) {
	m := measured{Samples: map[string][]sample{
		"berth":    {{CPU: 5}, {CPU: 50}, {CPU: 6}},
		"net/http": {{CPU: 10}, {CPU: 100}, {CPU: 20}},
	}}
	f := figure{value: "cpu", over: "net/http"}
	if got := f.values(m); !slices.Equal(got, []float64{0.5, 0.5, 0.3}) {
		t.Errorf("ratios %v", got)
	}
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		f    figure
		v    float64
		want string
	}{
		{figure{reach: 2, aim: 1, format: "%.2f"}, 0.9, "aim"},
		{figure{reach: 2, aim: 1, format: "%.2f"}, 1.004, "aim"}, // prints as 1.00
		{figure{reach: 2, aim: 1, format: "%.2f"}, 1.5, "reach"},
		{figure{reach: 2, aim: 1, format: "%.2f"}, 2.01, "MISSED"},
		{figure{reach: 2, aim: 3, inverse: true, format: "%.2f"}, 2.5, "reach"},
		{figure{reach: 2, aim: 3, inverse: true, format: "%.2f"}, 1.9, "MISSED"},
		{figure{floor: true, format: "%.2f"}, 9, "floor"},
	} {
		if got := tc.f.verdict(tc.v); got != tc.want {
			t.Errorf("%v of %+v: %s, want %s", tc.v, tc.f, got, tc.want)
		}
	}
}

func TestCompareFindsTheSameFigure(t *testing.T) {
	r := &report{Lines: []line{{Figure: "a", Value: spread{Median: 2}, format: "%.1f"}, {Figure: "new", format: "%.1f"}}}
	r.compare(&report{Lines: []line{{Figure: "a", Value: spread{Median: 4}}}})
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "before 4.0 (-50 %)") || strings.Count(b.String(), "before") != 1 {
		t.Errorf("printed\n%s", b.String())
	}
}

// The baseline that is kept here is a report, of figures that still exist.
func TestBaselineIsOfTheseFigures(t *testing.T) {
	var r report
	if err := readReport("baseline.json", &r); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range figures() {
		names[f.name] = true
	}
	for _, l := range r.Lines {
		if !names[l.Figure] {
			t.Errorf("%q is no figure any more: measure a new baseline", l.Figure)
		}
	}
	if len(r.Lines) != len(names) {
		t.Errorf("%d figures in the baseline, %d here", len(r.Lines), len(names))
	}
}

// Every figure has a scenario or a Go benchmark, and a field that exists.
func TestFiguresCanBeMeasured(t *testing.T) {
	names := map[string]scenario{}
	for _, s := range scenarios() {
		names[s.name] = s
	}
	for _, f := range figures() {
		s, ok := names[f.scenario]
		if !ok {
			if !strings.HasPrefix(f.scenario, "Benchmark") {
				t.Errorf("%s: no scenario %q", f.name, f.scenario)
			}
			continue
		}
		f.field(sample{Wall: 1})
		for _, c := range []string{f.of, f.over} {
			if c != "" && !slices.Contains(s.clients, c) {
				t.Errorf("%s: %s has no client %q", f.name, s.name, c)
			}
		}
	}
}

func TestGoBenchmarksAreRead(t *testing.T) {
	all := map[string]map[string][]float64{}
	parseGoBench([]byte(`goos: linux
BenchmarkA-2   	 100	  12.5 ns/op	   3 B/op
BenchmarkA-2   	 100	  13.5 ns/op
BenchmarkB/n=1-16   	 1	  7 ns/op	  1884 B/endpoint
PASS
`), all)
	if a := all["BenchmarkA"]; !slices.Equal(a["ns/op"], []float64{12.5, 13.5}) || !slices.Equal(a["B/op"], []float64{3}) {
		t.Errorf("A: %v", a)
	}
	if b := all["BenchmarkB/n=1"]; !slices.Equal(b["B/endpoint"], []float64{1884}) {
		t.Errorf("B: %v", b)
	}
}

// The responses are what the clients count on.
func TestResponsesAreWhole(t *testing.T) {
	for path, want := range map[string]int{pathSmall: 128, pathHeaders: 1024, pathLarge: largeBody} {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(responses[path[1]]))), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || len(b) != want {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
	head, _, _ := strings.Cut(string(responses[pathHeaders[1]]), "\r\n\r\n")
	if n := strings.Count(head, "\r\n"); n != 12 {
		t.Errorf("%d fields, want 12", n)
	}
}

func TestRequestsAreRead(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("POST /p HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3\r\n\r\nabcGET /s HTTP/1.1\r\n\r\n"))
	for _, want := range []byte{'p', 's'} {
		if path, err := readRequest(r); path != want || err != nil {
			t.Errorf("path %q, %v; want %q", path, err, want)
		}
	}
	if _, err := readRequest(r); !errors.Is(err, io.EOF) {
		t.Errorf("error %v", err)
	}
}
