package kb

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// runeWidth is how many columns of a terminal a character takes: two for those of
// Chinese, none for combining marks.
func runeWidth(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// stringWidth is that of a text, without its ANSI escapes.
func stringWidth(s string) int {
	n, escape := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n += runeWidth(r)
		}
	}
	return n
}

// No line begins with one of closing, and none ends with one of opening (as W3C's
// "Requirements for Chinese Text Layout", §3.1.2, has it).
const (
	closing = "，。、；：？！）》」』】”’…%"
	opening = "（《「『【“‘"
)

// wrapText breaks a text at its blanks and between Chinese characters into lines of
// at most columns; the first has firstColumns. A word that is longer has a line of
// its own, uncut: it can be copied.
func wrapText(text string, columns, firstColumns int) []string {
	var (
		lines []string
		line  strings.Builder
		used  int
	)
	room := firstColumns
	for _, a := range atoms(text) {
		w := stringWidth(a.text)
		blank := 0
		if a.blank && used > 0 {
			blank = 1
		}
		if used > 0 && used+blank+w > room {
			lines = append(lines, line.String())
			line.Reset()
			used, blank, room = 0, 0, columns
		}
		if blank == 1 {
			line.WriteByte(' ')
		}
		line.WriteString(a.text)
		used += blank + w
	}
	return append(lines, line.String())
}

// atom is a piece of text that is not broken.
type atom struct {
	text  string
	blank bool // a blank stands before it
}

func atoms(text string) []atom {
	var all []atom
	for _, word := range strings.Fields(text) {
		blank := true
		var b strings.Builder
		flush := func() {
			if b.Len() > 0 {
				all = append(all, atom{b.String(), blank})
				blank = false
				b.Reset()
			}
		}
		var before rune
		for _, r := range word {
			wide := runeWidth(r) == 2 || runeWidth(before) == 2 && before != 0
			if b.Len() > 0 && wide && !strings.ContainsRune(closing, r) && !strings.ContainsRune(opening, before) {
				flush()
			}
			b.WriteRune(r)
			before = r
		}
		flush()
	}
	return all
}
