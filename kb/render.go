package kb

import (
	"fmt"
	"io"
	"strings"
)

// Options say how an entry is printed.
type Options struct {
	Width int  // columns; 0 is 80, and at least 40 are taken
	Color bool // with ANSI escapes
}

// words are the headings.
type words struct {
	versions, os, cause, confirm, workarounds, deadEnds, see, references, why, evidence, test, cannot Text
}

func headings() words {
	return words{
		versions:    Text{"Affects", "影响范围"},
		os:          Text{"Systems", "操作系统"},
		cause:       Text{"Cause", "原因"},
		confirm:     Text{"Make sure", "如何确认"},
		workarounds: Text{"What helps", "有效的做法"},
		deadEnds:    Text{"What does not help", "无效的做法"},
		see:         Text{"See also", "另见"},
		references:  Text{"References", "参考资料"},
		why:         Text{"because", "为什么无效"},
		evidence:    Text{"measured", "实测"},
		test:        Text{"shown by", "由测试证明"},
		cannot:      Text{"not measured here", "未在此实测"},
	}
}

// Render prints an entry in a language, wrapped to the width. The error is w's.
func Render(w io.Writer, e *Entry, l Language, o Options) error {
	p := &printer{w: w, lang: l, width: max(40, o.Width), color: o.Color}
	if o.Width == 0 {
		p.width = 80
	}
	h := headings()
	p.wrap("", p.paint(bold, e.Code)+"  ", e.Title.In(l))
	p.wrap("", "", p.paint(dim, e.ID))
	p.line("")
	p.wrap("", p.label(h.versions), e.Versions.In(l))
	p.wrap("", p.label(h.os), strings.Join(e.OS, ", "))

	p.heading(h.cause)
	p.paragraphs("  ", e.Cause.In(l))

	p.heading(h.confirm)
	for _, c := range e.Confirm {
		if c.Run != "" {
			p.code("  $ ", c.Run, on(c.On))
		}
		p.paragraphs("    ", c.See.In(l))
	}

	p.heading(h.workarounds)
	for i, a := range e.Workarounds {
		p.advice(i, green, a.Text.In(l), a.Platform)
		if a.Code != "" {
			p.code("       ", a.Code, "")
		}
		p.proof(h, a.Proof)
	}
	p.heading(h.deadEnds)
	for i, a := range e.DeadEnds {
		p.advice(i, red, a.Text.In(l), a.Platform)
		p.wrap("     ", p.label(h.why), a.Why.In(l))
		p.proof(h, a.Proof)
	}
	if len(e.See) > 0 {
		p.heading(h.see)
		for _, code := range e.See {
			if other, ok := Lookup(code); ok {
				p.wrap("  ", p.paint(bold, code)+"  ", other.Title.In(l))
			}
		}
	}
	p.heading(h.references)
	for _, r := range e.References {
		p.wrap("  ", "", r.Title)
		p.line("    " + p.paint(dim, r.URL))
	}
	return p.err
}

func on(platform string) string {
	if platform == "" {
		return ""
	}
	return "   # " + platform
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// printer writes lines until one fails.
type printer struct {
	w     io.Writer
	lang  Language
	width int
	color bool
	err   error
}

func (p *printer) line(s string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, s)
	}
}

func (p *printer) paint(code, s string) string {
	if !p.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) heading(t Text) {
	p.line("")
	p.line(p.paint(bold, t.In(p.lang)))
}

// wrap prints a text behind a label, further lines under its beginning when the
// label is short.
func (p *printer) wrap(indent, label, text string) {
	if text == "" {
		return
	}
	hang := indent + strings.Repeat(" ", min(stringWidth(label), 12))
	lines := wrapText(text, max(20, p.width-stringWidth(hang)), max(20, p.width-stringWidth(indent+label)))
	for i, s := range lines {
		if i == 0 {
			p.line(indent + label + s)
		} else {
			p.line(hang + s)
		}
	}
}

func (p *printer) paragraphs(indent, text string) {
	for i, para := range strings.Split(strings.TrimSpace(text), "\n") { // folded YAML: a line is a paragraph
		if i > 0 {
			p.line("")
		}
		p.wrap(indent, "", strings.Join(strings.Fields(para), " "))
	}
}

func (p *printer) advice(i int, color, text, platform string) {
	mark := "✓"
	if color == red {
		mark = "✗"
	}
	if platform != "" {
		text += " [" + platform + "]"
	}
	p.wrap("  ", p.paint(color, mark)+fmt.Sprintf("%d ", i+1), strings.Join(strings.Fields(text), " "))
}

// code prints lines as they are: a command can be copied.
func (p *printer) code(indent, text, comment string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, s := range lines {
		if i == len(lines)-1 {
			s += p.paint(dim, comment)
		}
		p.line(indent + s)
	}
}

func (p *printer) proof(h words, x Proof) {
	for _, e := range x.Evidence {
		label := h.evidence
		if e.Test != "" {
			label = h.test
		}
		p.wrap("     ", p.paint(dim, p.label(label)), e.Line(p.lang))
	}
	if x.CannotRun.EN != "" {
		p.wrap("     ", p.paint(dim, p.label(h.cannot)), x.CannotRun.In(p.lang))
	}
}

// label is a text with the language's colon.
func (p *printer) label(t Text) string { return t.In(p.lang) + Text{": ", "："}.In(p.lang) }
