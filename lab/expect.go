package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// meets says whether what was measured is what was expected, value by value. An expected
// text may begin with "> ", "≥ " or "≤ " before a number, or with "contains " before a
// part of the text; another is the value itself. What this system does not show is met.
func (v *Variant) meets() bool {
	for name, want := range v.Expected {
		got, ok := v.Measured[name]
		if !ok || got != NotObserved && !met(got, want) {
			return false
		}
	}
	return true
}

func met(got, want any) bool {
	rule, ok := want.(string)
	if !ok {
		return got == want
	}
	how, than, _ := strings.Cut(rule, " ")
	if how == "contains" {
		text, ok := got.(string)
		return ok && strings.Contains(text, than)
	}
	limit, err := strconv.ParseFloat(than, 64)
	if err != nil {
		return got == want
	}
	number, err := strconv.ParseFloat(fmt.Sprint(got), 64)
	switch {
	case err != nil:
		return false
	case how == ">":
		return number > limit
	case how == "≥":
		return number >= limit
	case how == "≤":
		return number <= limit
	}
	return got == want
}
