package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/berth-go/berth/lab"
)

// printResult prints the table that people read of one experiment.
func printResult(w io.Writer, e lab.Result) error {
	fmt.Fprintf(w, "\n%s — %s\n", e.Name, e.Source)
	if err := printRows(w, e.Variants); err != nil {
		return err
	}
	for _, v := range e.Variants {
		if err, ok := v.Measured["error"]; ok {
			text := strings.ReplaceAll(fmt.Sprint(err), "\n", "\n      ")
			fmt.Fprintf(w, "  · %s: %s\n", v.Name, text)
		}
		if v.Note != "" {
			fmt.Fprintf(w, "  · %s: %s\n", v.Name, v.Note)
		}
	}
	if e.Note != "" {
		fmt.Fprintf(w, "  · %s\n", e.Note)
	}
	if e.Error != "" {
		fmt.Fprintf(w, "  not run: %s\n", e.Error)
	}
	if e.Table != "" {
		fmt.Fprintf(w, "\n%s", indent(e.Table))
	}
	return nil
}

// maxRow is the width from which a row takes two lines.
const maxRow = 140

// printRows prints the variants, what is expected beside what was measured, or below
// it where both do not fit.
func printRows(w io.Writer, variants []lab.Variant) error {
	var name, measured, expected int
	for _, v := range variants {
		name = max(name, utf8.RuneCountInString(v.Name))
		measured = max(measured, utf8.RuneCountInString(values(v.Measured)))
		expected = max(expected, utf8.RuneCountInString(values(v.Expected)))
	}
	tw := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	if name+measured+expected > maxRow {
		fmt.Fprintln(tw, "  variant\tmeasured; expected\tverdict")
		for _, v := range variants {
			fmt.Fprintf(tw, "  %s\t%s\t%s\n", v.Name, values(v.Measured), v.Verdict())
			fmt.Fprintf(tw, "  \t%s\n", values(v.Expected))
		}
		return tw.Flush()
	}
	fmt.Fprintln(tw, "  variant\tmeasured\texpected\tverdict")
	for _, v := range variants {
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", v.Name, values(v.Measured), values(v.Expected), v.Verdict())
	}
	return tw.Flush()
}

// printSummary prints the last line.
func printSummary(w io.Writer, r *lab.Report) error {
	if r.Interrupted {
		fmt.Fprintln(w, "\ninterrupted: what is above was finished")
	}
	_, err := fmt.Fprintf(w, "\n%s\n", summary(r))
	return err
}

func summary(r *lab.Report) string {
	held, failed := r.Held()
	return fmt.Sprintf("%d berth rows hold, %d do not (scale %s, %s %s, %d CPUs)", held, failed, r.Scale, r.Env.OS, r.Env.Kernel, r.Env.CPUs)
}

// maxCell is the longest text that a table has room for.
const maxCell = 24

// values writes a row's numbers in a fixed order.
func values(m map[string]any) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if text, ok := m[k].(string); ok && len(text) > maxCell {
			continue // an error has a line of its own below; the rest is in the JSON
		}
		name := strings.ReplaceAll(k, "_", " ")
		if n, ok := strings.CutSuffix(name, " ms"); ok {
			parts = append(parts, fmt.Sprintf("%s %v ms", n, m[k]))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %v", name, m[k]))
	}
	return strings.Join(parts, ", ")
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(s, "\n") + "\n") {
		if line != "\n" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}
