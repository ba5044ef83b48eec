package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berth-go/berth/kb"
)

// explainSchema is the version of explain's JSON (docs/kb.md).
const explainSchema = 1

func explainCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		lang         string
		asJSON, list bool
	)
	cmd := &cobra.Command{
		Use:   `explain CODE|SLUG|"ERROR TEXT"|-`,
		Short: "Say what an error of a connection means, and what helps",
		Long: `Explain looks an error up in the knowledge base: by its code, by its slug, or by its
text, as Go, .NET, Java, Python, Node.js, curl, Windows or the Linux kernel write it.
With - it reads a log from standard input and counts what it speaks of.

Each entry says what causes the failure, how to make sure, what helps and what does
not, with what the lab measured. Entries are in English (en) and Chinese (zh); the
language is that of --lang, BERTH_LANG, LC_ALL, LC_MESSAGES or LANG.

Exit status: 0 when something was found, 1 when nothing was, 2 for usage.`,
		Example: `  berth explain BERTH1004
  berth explain "connect: cannot assign requested address"
  berth explain --lang zh dotnet/httpclient-socket-connection-pool-exhausted
  journalctl -u app | berth explain -
  berth explain --list`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case list && len(args) > 0:
				return errors.New("--list takes no arguments")
			case !list && strings.TrimSpace(strings.Join(args, "")) == "":
				return errors.New("nothing to explain: give a code, an error's text in quotes, or - for a log")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := languageOf(lang, os.Getenv)
			if err != nil {
				return err
			}
			x := &explainer{out: stdout, err: stderr, lang: l, json: asJSON, options: terminalOptions(stdout, os.Getenv)}
			switch {
			case list:
				return x.list()
			case len(args) == 1 && args[0] == "-":
				return x.log(cmd.InOrStdin())
			}
			return x.text(strings.Join(args, " "))
		},
	}
	f := cmd.Flags()
	f.StringVar(&lang, "lang", "", "language of the entries: `en` or zh")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	f.BoolVar(&list, "list", false, "list all entries")
	return cmd
}

// terminalOptions are the width of w when it is a terminal, and colours when nobody
// forbids them (no-color.org).
func terminalOptions(w io.Writer, getenv func(string) string) kb.Options {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return kb.Options{}
	}
	o := kb.Options{Color: getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		o.Width = min(width, 110)
	}
	return o
}

// explainer prints what was found.
type explainer struct {
	out, err io.Writer
	lang     kb.Language
	json     bool
	options  kb.Options
}

// explained is the JSON of a lookup and of a list.
type explained struct {
	Schema  int       `json:"schema"`
	Matches []matched `json:"matches"`
	Hint    *kb.Text  `json:"hint,omitempty"`
}

// matched is an entry with why it was chosen.
type matched struct {
	Score int       `json:"score,omitempty"`
	Text  string    `json:"text,omitempty"` // the part of the text by which it was found
	From  []string  `json:"from,omitempty"`
	Entry *kb.Entry `json:"entry"`
}

func (x *explainer) list() error {
	if x.json {
		r := explained{Schema: explainSchema}
		for _, e := range kb.Entries() {
			r.Matches = append(r.Matches, matched{Entry: e})
		}
		return x.write(r)
	}
	tw := tabwriter.NewWriter(x.out, 0, 0, 2, ' ', 0)
	for _, e := range kb.Entries() {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", e.Code, e.ID, e.Title.In(x.lang))
	}
	return tw.Flush()
}

// text explains a code, a slug, or the text of an error.
func (x *explainer) text(text string) error {
	if e, ok := kb.Lookup(text); ok {
		if x.json {
			return x.write(explained{Schema: explainSchema, Matches: []matched{{Entry: e}}})
		}
		return kb.Render(x.out, e, x.lang, x.options)
	}
	hits := kb.Match(text)
	hint, hinted := kb.Text{}, false
	if len(hits) == 0 {
		hint, hinted = kb.Hint(text)
	}
	if x.json {
		r := explained{Schema: explainSchema, Matches: []matched{}}
		for _, h := range hits {
			r.Matches = append(r.Matches, matched{Score: h.Score, Text: h.Text, From: h.From, Entry: h.Entry})
		}
		if hinted {
			r.Hint = &hint
		}
		if err := x.write(r); err != nil {
			return err
		}
	}
	switch {
	case len(hits) == 0:
		if !x.json {
			fmt.Fprintln(x.err, x.say("no entry matches", "没有匹配的条目"))
			if hinted {
				fmt.Fprintln(x.err, hint.In(x.lang))
			}
			fmt.Fprintln(x.err, x.say("berth explain --list lists what there is", "berth explain --list 会列出全部条目"))
		}
		return failedError{}
	case x.json:
		return nil
	}
	for i, h := range hits {
		fmt.Fprintf(x.out, "%d. %s %s\n   %s\n", i+1, h.Entry.Code, h.Entry.Title.In(x.lang), x.reason(h))
	}
	fmt.Fprintln(x.out)
	return kb.Render(x.out, hits[0].Entry, x.lang, x.options)
}

// reason says why an entry was chosen.
func (x *explainer) reason(h kb.Hit) string {
	weight := map[kb.Weight]string{
		kb.Sure:   x.say("said of this failure alone", "只有这种故障才会这样说"),
		kb.Likely: x.say("usually said of this failure", "通常是这种故障"),
		kb.Weak:   x.say("other failures say it too", "其他故障也会这样说"),
	}[h.Weight()]
	return fmt.Sprintf("%s %q: %s (%s)", x.say("because of", "依据"), h.Text, weight, strings.Join(h.From, ", "))
}

// explainedLog is the JSON of a log.
type explainedLog struct {
	Schema int `json:"schema"`
	*kb.Log
	Found []foundInLog `json:"found"`
}

type foundInLog struct {
	Code  string  `json:"code"`
	ID    string  `json:"id"`
	Title kb.Text `json:"title"`
	kb.Found
}

// log counts what a log speaks of.
func (x *explainer) log(r io.Reader) error {
	log, err := kb.Scan(r)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if x.json {
		j := explainedLog{Schema: explainSchema, Log: log, Found: []foundInLog{}}
		for _, f := range log.Found {
			j.Found = append(j.Found, foundInLog{f.Entry.Code, f.Entry.ID, f.Entry.Title, f})
		}
		if err := x.write(j); err != nil {
			return err
		}
	} else {
		x.printLog(log)
	}
	if len(log.Found) == 0 {
		return failedError{}
	}
	return nil
}

func (x *explainer) printLog(log *kb.Log) {
	fmt.Fprintf(x.out, x.say("%d lines, %d speak of a failure of a connection\n", "共 %d 行，其中 %d 行提到连接故障\n"), log.Lines, log.Matched)
	if log.Cut > 0 {
		fmt.Fprintf(x.out, x.say("%d lines are longer than 64 KiB: their rest was not looked at\n", "%d 行超过 64 KiB：其余部分没有查看\n"), log.Cut)
	}
	for _, f := range log.Found {
		weak := ""
		if f.Weak {
			weak = x.say(" (weak: other failures say it too)", "（弱：其他故障也会这样说）")
		}
		fmt.Fprintf(x.out, x.say("\n%s  %s%s\n  %d lines, the first is line %d\n", "\n%s  %s%s\n  %d 行，首次出现在第 %d 行\n"),
			f.Entry.Code, f.Entry.Title.In(x.lang), weak, f.Lines, f.First)
		for _, e := range f.Examples {
			fmt.Fprintf(x.out, "  | %s\n", printable(e))
		}
	}
	if len(log.Found) > 0 {
		fmt.Fprintf(x.out, x.say("\nberth explain %s says more\n", "\n详情：berth explain %s\n"), log.Found[0].Entry.Code)
	}
}

// printable keeps a log from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

func (x *explainer) say(en, zh string) string { return kb.Text{EN: en, ZH: zh}.In(x.lang) }

func (x *explainer) write(v any) error {
	e := json.NewEncoder(x.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
