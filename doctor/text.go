package doctor

import (
	"bytes"
	"fmt"
	"io"
)

// Style is how a report is written out.
type Style struct {
	Lang    string // "en" or "zh"; "" is "en"
	Colour  bool   // with the escapes of a terminal
	Verbose bool   // evidence as well
}

// WriteText writes a report as people read it: a line for each finding with its mark,
// and below it what cures it. The error is w's.
func (r *Report) WriteText(w io.Writer, style Style) error {
	say := words(style.Lang)
	var b bytes.Buffer
	colour := func(code, text string) string {
		if !style.Colour {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	marks := [...]string{colour("32", "[✓]"), colour("33", "[!]"), colour("31", "[✗]")}
	fmt.Fprintf(&b, "%s\n\n", say("head", duration(r.Interval), r.Source))
	count := [3]int{}
	for _, f := range r.Findings {
		count[f.Level]++
		fmt.Fprintf(&b, "%s %s: %s\n", marks[f.Level], colour("1", say("heading-"+f.Check)), f.Title)
		if style.Verbose {
			for _, line := range f.Evidence {
				fmt.Fprintf(&b, "    • %s\n", line)
			}
		}
		if f.Fix != "" {
			fmt.Fprintf(&b, "    %s: %s", say("heading-fix"), f.Fix)
			if f.Code != "" {
				fmt.Fprintf(&b, " (%s)", say("explain", f.Code))
			}
			fmt.Fprintln(&b)
		}
	}
	for i, line := range r.NotSeen {
		if i == 0 {
			fmt.Fprintf(&b, "\n%s:\n", say("heading-not-seen"))
		}
		fmt.Fprintf(&b, "    • %s\n", line)
	}
	foot := say("foot-ok")
	if r.Level > OK {
		foot = say("foot", count[Fail], count[Warn])
	}
	fmt.Fprintf(&b, "\n%s\n", foot)
	_, err := w.Write(b.Bytes())
	return err
}
