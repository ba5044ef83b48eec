// Package report writes a lab.Report as one HTML page for people: the story of each
// experiment, its plots, the table of its variants, the sockets, and the command that
// runs it again. The page holds everything that it shows and asks no network for
// anything. cmd/berth uses it; docs/lab.md documents what it is made from.
package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/berth-go/berth/internal/uplot"
	"github.com/berth-go/berth/lab"
)

// Options say what a Report does not know.
type Options struct {
	// Title returns the title of an entry of the knowledge base, such as BERTH1004,
	// or "" for one that it does not know. Nil knows none.
	Title func(code string) string
}

// Write writes the page. The same report and options make the same bytes.
func Write(w io.Writer, r *lab.Report, o Options) error {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return err // of the page's own template
	}
	var b bytes.Buffer // a page is written whole or not at all
	if err := t.Execute(&b, newPage(r, o)); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

var (
	//go:embed page.tmpl
	pageTemplate string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// page is what the template shows.
type page struct {
	Head        headline
	Report      *lab.Report
	Policy      string // Content-Security-Policy
	Style       template.HTML
	Scripts     template.HTML
	License     string
	Experiments []section
	Data        map[string]*chart // by id, for the script
	Codes       []entry
}

// headline is the page's first sentence.
type headline struct {
	Held, Failed int
	Verdict      string // "all" or "some"; a class
	Text         string
}

// section is an experiment.
type section struct {
	lab.Result
	ID, Summary  string
	Story        []string
	Figures      []figure
	Tables       []table
	Remarks      []remark
	Command      string
	Codes        []entry
	Ours, Others []tally
	Missing      bool // nothing was measured
	Short        bool // the table of sockets is shown at once
}

// tally counts verdicts.
type tally struct {
	N     int
	Text  string
	Class string
}

// entry is a code of the knowledge base.
type entry struct {
	Code, Title string
	From        []string // the experiments that show it
}

// remark is a note on one variant.
type remark struct{ Of, Text string }

func newPage(r *lab.Report, o Options) *page {
	p := &page{Report: r, Data: map[string]*chart{}, License: strings.TrimSpace(uplot.License)}
	p.Style, p.Scripts, p.Policy = blocks()
	p.Head = head(r)
	summaries := map[string]string{}
	for _, e := range lab.Experiments() {
		summaries[e.Name] = e.Summary
	}
	byCode := map[string]*entry{}
	for i, e := range r.Experiments {
		s := section{Result: e, ID: fmt.Sprintf("e%d", i+1), Summary: cmp.Or(summaries[e.Name], e.Source), Command: command(e.Name, r.Scale)}
		st := storyOf(e.Name)
		s.Story = st.tell(e)
		s.Figures = figures(s.ID, e, st.plots, p.Data)
		s.Tables = tables(e.Variants)
		s.Ours, s.Others = tallies(e.Variants)
		s.Missing = len(e.Variants) == 0
		s.Short = strings.Count(e.Table, "\n") < 30
		for _, v := range e.Variants {
			if text, ok := v.Measured["error"].(string); ok {
				s.Remarks = append(s.Remarks, remark{v.Name, text})
			}
			for _, k := range sortedKeys(v.Measured) {
				if text, ok := v.Measured[k].(string); ok && k != "error" && long(text) && len(v.Timeline) == 0 { // a timeline shows them
					s.Remarks = append(s.Remarks, remark{v.Name, label(k) + ": " + text})
				}
			}
			if v.Note != "" {
				s.Remarks = append(s.Remarks, remark{v.Name, v.Note})
			}
		}
		for _, code := range st.codes {
			c := byCode[code]
			if c == nil {
				c = &entry{Code: code}
				if o.Title != nil {
					c.Title = o.Title(code)
				}
				byCode[code] = c
			}
			c.From = append(c.From, e.Name)
			s.Codes = append(s.Codes, entry{Code: code, Title: c.Title})
		}
		p.Experiments = append(p.Experiments, s)
	}
	for _, c := range byCode {
		p.Codes = append(p.Codes, *c)
	}
	slices.SortFunc(p.Codes, func(a, b entry) int { return cmp.Compare(a.Code, b.Code) })
	return p
}

func head(r *lab.Report) headline {
	h := headline{Verdict: "all"}
	h.Held, h.Failed = r.Held()
	broken := 0
	for _, e := range r.Experiments {
		if e.Error != "" {
			broken++
		}
	}
	switch {
	case h.Failed > 0:
		h.Text = fmt.Sprintf("%d of %d rows of Berth’s do not hold.", h.Failed, h.Held+h.Failed)
		h.Verdict = "some"
	case h.Held == 0:
		h.Text = "No row of Berth’s was measured."
		h.Verdict = "some"
	case r.Interrupted:
		h.Text = fmt.Sprintf("%s of Berth’s held when the run was interrupted.", plural(h.Held, "row", "rows"))
		h.Verdict = "some"
	case h.Held == 1:
		h.Text = "The one row of Berth’s holds."
	default:
		h.Text = fmt.Sprintf("All %d rows of Berth’s hold.", h.Held)
	}
	if broken > 0 {
		h.Text += fmt.Sprintf(" %s could not be run.", plural(broken, "experiment", "experiments"))
		h.Verdict = "some"
	}
	return h
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// command returns what runs the experiment again at its scale.
func command(name, scale string) string {
	c := "go run ./cmd/berth lab " + name
	if scale == lab.Quick.String() || scale == lab.Full.String() {
		c += " --" + scale
	}
	return c
}

// tallies counts the verdicts of Berth's own variants and of the others.
func tallies(variants []lab.Variant) (ours, others []tally) {
	count := map[bool]map[lab.Verdict]int{true: {}, false: {}}
	for _, v := range variants {
		count[v.Berth()][v.Verdict()]++
	}
	for _, v := range []lab.Verdict{lab.Holds, lab.Noisy, lab.Unseen, lab.Differs, lab.Failed} {
		if n := count[true][v]; n > 0 {
			ours = append(ours, tally{n, verb(v, n), verdictClass(v)})
		}
		if n := count[false][v]; n > 0 {
			others = append(others, tally{n, verb(v, n), verdictClass(v)})
		}
	}
	return ours, others
}

// verb writes a verdict behind a number.
func verb(v lab.Verdict, n int) string {
	if n == 1 {
		return string(v)
	}
	return strings.NewReplacer("holds", "hold", "differs", "differ").Replace(string(v))
}

func verdictClass(v lab.Verdict) string {
	switch v {
	case lab.Holds:
		return "holds"
	case lab.Noisy:
		return "noisy"
	case lab.Unseen:
		return "unseen"
	case lab.Failed:
		return "failed"
	}
	return "differs"
}
