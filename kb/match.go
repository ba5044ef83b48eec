package kb

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// Weight says how much a text tells.
type Weight string

const (
	Sure   Weight = "sure"   // the text is said of this failure alone
	Likely Weight = "likely" // what the text is usually said of; the default
	Weak   Weight = "weak"   // other failures say it as well
)

// scores are those of a single match. A code in the text is worth most.
const (
	scoreCode   = 100
	scoreSure   = 80
	scoreLikely = 50
	scoreWeak   = 20
)

// Pattern is a text by which a failure is known.
type Pattern struct {
	RE     string   `yaml:"re" json:"re"`                   // RE2; case does not matter
	Unless string   `yaml:"unless" json:"unless,omitempty"` // a text beside it that says that it is something else
	Weight Weight   `yaml:"weight" json:"weight,omitempty"`
	From   []string `yaml:"from" json:"from"` // who says it: go, dotnet, java, python, node, curl, kernel, windows, macos, berth
}

// Hit is an entry that a text speaks of.
type Hit struct {
	Entry *Entry
	Score int    // 1 to 100; Weak ones are below 30
	Text  string // the part of the text by which it was found
	From  []string
}

// Weight says how much the match is worth.
func (m Hit) Weight() Weight {
	switch {
	case m.Score >= scoreSure:
		return Sure
	case m.Score >= scoreLikely:
		return Likely
	}
	return Weak
}

// maxText is how much of a text, or of a line of a log, is looked at. A stack trace
// says what it is about in its head.
const maxText = 64 << 10

// rule is a compiled pattern.
type rule struct {
	entry   *Entry
	pattern *Pattern
	re      *regexp.Regexp
	unless  *regexp.Regexp // nil for none
	needs   []string       // one of them is in every text that matches, in lower case; nil when that is not known
	score   int
}

func compile(e *Entry, p *Pattern) (rule, error) {
	r := rule{entry: e, pattern: p}
	switch p.Weight {
	case Sure:
		r.score = scoreSure
	case Likely, "":
		r.score = scoreLikely
	case Weak:
		r.score = scoreWeak
	default:
		return r, fmt.Errorf("weight %q; there are sure, likely and weak", p.Weight)
	}
	var err error
	if r.re, err = regexp.Compile("(?i)" + p.RE); err != nil {
		return r, err
	}
	if r.re.MatchString("") {
		return r, fmt.Errorf("%q matches the empty text", p.RE)
	}
	if p.Unless != "" {
		if r.unless, err = regexp.Compile("(?i)" + p.Unless); err != nil {
			return r, err
		}
	}
	tree, err := syntax.Parse("(?i)"+p.RE, syntax.Perl)
	if err != nil {
		return r, err
	}
	r.needs = required(tree.Simplify())
	return r, nil
}

// required returns texts of which one is part of whatever re matches, in lower case;
// nil when there is none to be found. A text without them need not be matched, which
// is what makes logs fast to read.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if r >= utf8.RuneSelf && re.Flags&syntax.FoldCase != 0 && strings.ToLower(string(r)) != string(r) {
				return nil
			}
		}
		return []string{strings.ToLower(string(re.Rune))}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpAlternate:
		var all []string
		for _, s := range re.Sub {
			n := required(s)
			if n == nil {
				return nil
			}
			all = append(all, n...)
		}
		return all
	case syntax.OpConcat:
		var best []string
		for _, s := range re.Sub {
			if n := required(s); n != nil && (best == nil || shortest(n) > shortest(best)) {
				best = n
			}
		}
		return best
	}
	return nil
}

func shortest(texts []string) int {
	n := len(texts[0])
	for _, t := range texts {
		n = min(n, len(t))
	}
	return n
}

// find returns the part of text that the rule matches; lower is text in lower case.
func (r *rule) find(text, lower string) (string, bool) {
	if r.needs != nil && !slices.ContainsFunc(r.needs, func(n string) bool { return strings.Contains(lower, n) }) {
		return "", false
	}
	at := r.re.FindStringIndex(text)
	if at == nil || r.unless != nil && r.unless.MatchString(text) {
		return "", false
	}
	return text[at[0]:at[1]], true
}

// Match returns the entries that a text speaks of, the best first; none when it
// speaks of no failure that is known here. A code in the text comes first, then what
// only one failure says, then what others say as well, longer before shorter. A bare
// timeout speaks of nothing: see Hint. Of texts beyond 64 KiB only the head is read.
func Match(text string) []Hit {
	text = head(text)
	lower := strings.ToLower(text)
	k := base()
	best := map[*Entry]Hit{}
	put := func(m Hit) {
		if old, ok := best[m.Entry]; !ok || m.Score > old.Score || m.Score == old.Score && len(m.Text) > len(old.Text) {
			best[m.Entry] = m
		}
	}
	if strings.Contains(lower, "berth") {
		for _, code := range codes.FindAllString(text, -1) {
			if e, ok := Lookup(code); ok {
				put(Hit{Entry: e, Score: scoreCode, Text: code, From: []string{"berth"}})
			}
		}
	}
	for i := range k.rules {
		r := &k.rules[i]
		if part, ok := r.find(text, lower); ok {
			put(Hit{Entry: r.entry, Score: r.score, Text: part, From: r.pattern.From})
		}
	}
	matches := make([]Hit, 0, len(best))
	for _, m := range best {
		matches = append(matches, m)
	}
	slices.SortFunc(matches, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(len(b.Text), len(a.Text)), cmp.Compare(a.Entry.Code, b.Entry.Code))
	})
	return matches
}

var codes = regexp.MustCompile(`(?i)\bBERTH\d{4}\b`)

// head returns what is looked at of a text: whole characters, valid UTF-8.
func head(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// hint is said of a text that tells too little.
type hint struct {
	RE   string `yaml:"re"`
	Text Text   `yaml:"text"`
	re   *regexp.Regexp
}

func (h *hint) compile() (err error) {
	h.re, err = regexp.Compile("(?i)" + h.RE)
	return err
}

// Hint says what to look for when a text speaks of no failure that is known here but
// is no stranger either, as a bare "context deadline exceeded"; false when there is
// nothing to say.
func Hint(text string) (Text, bool) {
	text = head(text)
	for _, h := range base().hints {
		if h.re.MatchString(text) {
			return h.Text, true
		}
	}
	return Text{}, false
}
