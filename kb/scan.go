package kb

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Log is what a log speaks of.
type Log struct {
	Lines   int     `json:"lines"`   // read
	Matched int     `json:"matched"` // that speak of a failure
	Cut     int     `json:"cut"`     // longer than 64 KiB; their rest was not looked at
	Found   []Found `json:"found"`   // the most frequent first; weak ones behind the others
}

// Found is an entry with the lines that speak of it. A line counts for its best
// match alone.
type Found struct {
	Entry    *Entry   `json:"-"`
	Lines    int      `json:"lines"`
	First    int      `json:"first"` // number of the first of these lines, from 1
	Weak     bool     `json:"weak,omitempty"`
	Text     string   `json:"text"`     // the part of the first line by which it was found
	Examples []string `json:"examples"` // up to three different lines, shortened
}

const (
	maxExamples = 3
	maxExample  = 240 // bytes of an example
)

// Scan reads a log line by line, with bounded memory, until r ends. The error is
// r's; what was found until then is returned with it.
func Scan(r io.Reader) (*Log, error) {
	s := &Log{Found: []Found{}}
	byEntry := map[*Entry]*Found{}
	var order []*Found
	b := bufio.NewReaderSize(r, maxText)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			s.Lines++
			if errors.Is(err, bufio.ErrBufferFull) {
				s.Cut++
			}
			text := strings.TrimRight(string(line), "\r\n")
			if matches := Match(text); len(matches) > 0 {
				s.Matched++
				m := matches[0]
				f := byEntry[m.Entry]
				if f == nil {
					f = &Found{Entry: m.Entry, First: s.Lines, Weak: true, Text: m.Text}
					byEntry[m.Entry] = f
					order = append(order, f)
				}
				f.Lines++
				f.Weak = f.Weak && m.Weight() == Weak
				if e := example(text, m.Text); len(f.Examples) < maxExamples && !slices.Contains(f.Examples, e) {
					f.Examples = append(f.Examples, e)
				}
			}
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = b.ReadSlice('\n')
		}
		if err != nil {
			slices.SortStableFunc(order, func(a, b *Found) int {
				if a.Weak != b.Weak {
					if a.Weak {
						return 1
					}
					return -1
				}
				return cmp.Compare(b.Lines, a.Lines)
			})
			for _, f := range order {
				s.Found = append(s.Found, *f)
			}
			if err == io.EOF {
				err = nil
			}
			return s, err
		}
	}
}

// example is a line cut to maxExample bytes around the part that matters.
func example(line, part string) string {
	line = strings.TrimSpace(strings.ToValidUTF8(line, "\uFFFD"))
	if len(line) <= maxExample {
		return line
	}
	from := max(0, strings.Index(line, part)-maxExample/4)
	to := min(len(line), from+maxExample)
	from = max(0, to-maxExample)
	for from < to && !utf8.RuneStart(line[from]) {
		from++
	}
	for to < len(line) && !utf8.RuneStart(line[to]) {
		to--
	}
	cut := line[from:to]
	if from > 0 {
		cut = "…" + cut
	}
	if to < len(line) {
		cut += "…"
	}
	return cut
}
