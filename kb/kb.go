// Package kb is the knowledge base of failures of outbound HTTP connections: one
// entry a failure, in English and Simplified Chinese, with what causes it, how to
// make sure, what helps and what does not, each with the experiment that shows it.
//
// It imports neither the Transport nor the lab: what the lab measured is in
// measured.json. docs/kb.md says how entries are written; cmd/berth prints them
// (berth explain).
package kb

import (
	"fmt"
	"slices"
	"strings"
)

// Language is one of the languages that every entry is written in.
type Language string

const (
	English Language = "en"
	Chinese Language = "zh" // simplified
)

// Text is the same thing said in each language.
type Text struct {
	EN string `yaml:"en" json:"en"`
	ZH string `yaml:"zh" json:"zh"`
}

// In returns the text in a language, and in English for one that there is not.
func (t Text) In(l Language) string {
	if l == Chinese {
		return t.ZH
	}
	return t.EN
}

// Entry is a failure.
type Entry struct {
	Code        string       `yaml:"code" json:"code"`                 // "BERTH1004"; never given to another failure
	ID          string       `yaml:"id" json:"id"`                     // its slug
	Aliases     []string     `yaml:"aliases" json:"aliases,omitempty"` // further slugs, also of other databases
	Title       Text         `yaml:"title" json:"title"`
	Match       []Pattern    `yaml:"match" json:"match,omitempty"` // none for a failure without a text of its own
	Versions    Text         `yaml:"versions" json:"versions"`     // which versions of which runtimes are affected
	OS          []string     `yaml:"os" json:"os"`                 // of "linux", "windows", "macos"
	Cause       Text         `yaml:"cause" json:"cause"`
	Confirm     []Check      `yaml:"confirm" json:"confirm"`
	Workarounds []Workaround `yaml:"workarounds" json:"workarounds"`
	DeadEnds    []DeadEnd    `yaml:"dead_ends" json:"dead_ends"`
	See         []string     `yaml:"see" json:"see,omitempty"` // codes of related entries
	References  []Reference  `yaml:"references" json:"references"`
}

// Check is how to make sure that it is this failure.
type Check struct {
	Run string `yaml:"run" json:"run"`          // a command; "" when there is none to run
	On  string `yaml:"on" json:"on,omitempty"`  // the system or runtime that the command belongs to
	See Text   `yaml:"see" json:"see,omitzero"` // what its output says
}

// Workaround is something that helps.
type Workaround struct {
	Text     Text   `yaml:"text" json:"text"`
	Code     string `yaml:"code" json:"code,omitempty"`
	Platform string `yaml:"platform" json:"platform,omitempty"`
	Proof    `yaml:",inline"`
}

// DeadEnd is something that is said to help, and does not.
type DeadEnd struct {
	Text     Text   `yaml:"text" json:"text"`
	Why      Text   `yaml:"why" json:"why"`
	Platform string `yaml:"platform" json:"platform,omitempty"`
	Proof    `yaml:",inline"`
}

// Proof is what an advice rests on: a measurement, a test, or the reason why there
// is neither.
type Proof struct {
	Evidence  []Evidence `yaml:"evidence" json:"evidence,omitempty"`
	CannotRun Text       `yaml:"cannot_run" json:"cannot_run,omitzero"`
}

// Reference is a page to read on.
type Reference struct {
	Title string `yaml:"title" json:"title"`
	URL   string `yaml:"url" json:"url"`
}

// Entries returns all entries, by code. Do not change them.
func Entries() []*Entry { return base().entries }

// Lookup returns the entry with that code, slug or alias, whatever its case; false
// when there is none.
func Lookup(name string) (*Entry, bool) {
	e, ok := base().byName[strings.ToLower(strings.TrimSpace(name))]
	return e, ok
}

// names are all by which an entry is found.
func (e *Entry) names() []string {
	return slices.Concat([]string{e.Code, e.ID}, e.Aliases)
}

func (e *Entry) String() string { return fmt.Sprintf("%s %s", e.Code, e.ID) }
