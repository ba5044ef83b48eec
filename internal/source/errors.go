package source

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is what is wrong with a source, as far as something else helps.
type Kind int

const (
	Unreachable Kind = iota // nobody answers there
	Slow                    // no whole answer in time
	Status                  // a status other than 200
	NoReport                // an answer that is no report
	OtherSchema             // a report of another version
)

// Error: a program could not be read.
type Error struct {
	Kind Kind
	err  error
}

func (e *Error) Error() string { return e.err.Error() }

func (e *Error) Unwrap() error { return e.err }

// Clean makes a text of elsewhere fit for one line of a terminal, of 200 characters at
// most.
func Clean(s string) string {
	const most = 200
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-1]) + "…"
	}
	return strings.TrimSpace(s)
}
