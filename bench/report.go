package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// report is what a run found. Its JSON form is what --json writes.
type report struct {
	Env       environment                     `json:"env"`
	Rounds    int                             `json:"rounds"`
	Lines     []line                          `json:"figures"`
	Scenarios []measured                      `json:"scenarios"`
	Go        map[string]map[string][]float64 `json:"go_benchmarks,omitempty"`
}

type environment struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	Go     string `json:"go"`
	CPUs   int    `json:"cpus"`
}

// line is a figure with what was measured.
type line struct {
	Figure  string  `json:"figure"`
	Reach   float64 `json:"reach"`
	Aim     float64 `json:"aim"`
	Value   spread  `json:"value"`
	Verdict string  `json:"verdict"`
	Gate    bool    `json:"gate"` // it repeats nearly exactly
	format  string
	before  *spread // the same in an earlier report
}

// lines evaluates the figures that were measured.
func (r *report) lines(all []figure) {
	byName := map[string]measured{}
	for _, m := range r.Scenarios {
		byName[m.Scenario] = m
	}
	for _, f := range all {
		var values []float64
		if m, ok := byName[f.scenario]; ok {
			values = f.values(m)
		} else {
			values = r.Go[f.scenario][f.value]
		}
		if len(values) == 0 {
			continue
		}
		s := spreadOf(values)
		r.Lines = append(r.Lines, line{Figure: f.name, Reach: f.reach, Aim: f.aim, Value: s, Verdict: f.verdict(s.Median), Gate: f.repeats, format: f.format})
	}
}

// values returns what a figure is in each round.
func (f *figure) values(m measured) []float64 {
	field := func(name string) []float64 {
		var v []float64
		for _, s := range m.Samples[name] {
			v = append(v, f.scaled(f.field(s)))
		}
		return v
	}
	of := f.of
	if of == "" {
		of = "berth"
	}
	if f.over == "" {
		return field(of)
	}
	return paired(field(of), field(f.over))
}

// compare puts the figures of an earlier report beside those of this one.
func (r *report) compare(earlier *report) {
	byName := map[string]spread{}
	for _, l := range earlier.Lines {
		byName[l.Figure] = l.Value
	}
	for i := range r.Lines {
		if v, ok := byName[r.Lines[i].Figure]; ok {
			r.Lines[i].before = &v
		}
	}
}

// print writes the table as Markdown: it is what docs/performance.md holds.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s/%s, kernel %s, %s, %d CPUs, %d rounds\n\n", r.Env.OS, r.Env.Arch, r.Env.Kernel, r.Env.Go, r.Env.CPUs, r.Rounds)
	fmt.Fprintln(w, "| figure | measured | min–max | reach | aim | meets |\n|---|---:|---:|---:|---:|---|")
	for _, l := range r.Lines {
		n := func(v float64) string { return fmt.Sprintf(l.format, v) }
		reach, aim := fmt.Sprint(l.Reach), fmt.Sprint(l.Aim)
		if l.Verdict == "floor" {
			reach, aim = "", ""
		}
		if l.before != nil {
			l.Verdict += fmt.Sprintf(", before %s (%+.0f %%)", n(l.before.Median), 100*(l.Value.Median/l.before.Median-1))
		}
		fmt.Fprintf(w, "| %s | %s | %s–%s | %s | %s | %s |\n", l.Figure, n(l.Value.Median), n(l.Value.Min), n(l.Value.Max), reach, aim, l.Verdict)
	}
	return nil
}

// printSamples writes each client's own medians.
func (r *report) printSamples(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\nscenario\tclient\tCPU µs/request\trequests/s\tallocs\tbytes\tdials\tfailed\tp99 ms\tRSS B/conn\tgoroutines/conn\t")
	for _, m := range r.Scenarios {
		for _, name := range slices.Sorted(maps.Keys(m.Samples)) {
			med := func(f func(sample) float64) float64 {
				var v []float64
				for _, s := range m.Samples[name] {
					v = append(v, f(s))
				}
				return spreadOf(v).Median
			}
			fmt.Fprintf(tw, "%s\t%s\t%.2f\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.1f\t%.0f\t%.2f\t\n", m.Scenario, name,
				med(func(s sample) float64 { return s.CPU / 1e3 }),
				med(func(s sample) float64 {
					if s.Wall == 0 {
						return 0
					}
					return float64(s.Requests) / s.Wall * 1e9
				}),
				med(func(s sample) float64 { return s.Allocs }), med(func(s sample) float64 { return s.Bytes }),
				med(func(s sample) float64 { return float64(s.Dials) }), med(func(s sample) float64 { return float64(s.Failed) }),
				med(func(s sample) float64 { return s.P99 / 1e6 }), med(func(s sample) float64 { return s.RSS }),
				med(func(s sample) float64 { return s.Goroutines }))
		}
	}
	return tw.Flush()
}

// missed returns the figures that fall short of their reach; with gate only those
// that repeat.
func (r *report) missed(gate bool) []string {
	var names []string
	for _, l := range r.Lines {
		if l.Verdict == "MISSED" && (l.Gate || !gate) {
			names = append(names, l.Figure)
		}
	}
	return names
}
