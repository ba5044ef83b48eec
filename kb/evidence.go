package kb

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Evidence is a measurement of the lab, or a test of this repository, that shows
// what an advice says.
type Evidence struct {
	Lab  string   `yaml:"lab" json:"lab,omitempty"`   // "lab/<experiment>/<variant>"
	Show []string `yaml:"show" json:"show,omitempty"` // which of the variant's measured values
	Test string   `yaml:"test" json:"test,omitempty"` // a Go test, instead of Lab
	In   string   `yaml:"in" json:"in,omitempty"`     // its package's folder; "." when empty
}

// split returns the experiment and the variant; a variant's name may have slashes.
func (e Evidence) split() (experiment, variant string, ok bool) {
	rest, ok := strings.CutPrefix(e.Lab, "lab/")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// ErrNotMeasured: the recorded report does not have that experiment, variant or value.
var ErrNotMeasured = errors.New("not in the recorded report")

// Value is one measured value.
type Value struct {
	Name  string `json:"name"`
	Value any    `json:"value"` // a number, or a string
}

func (v Value) String() string {
	name := strings.ReplaceAll(v.Name, "_", " ")
	switch x := v.Value.(type) {
	case float64:
		number := strconv.FormatFloat(x, 'f', -1, 64)
		if short, ok := strings.CutSuffix(name, " ms"); ok {
			return short + " " + number + " ms"
		}
		return name + " " + number
	case string:
		return fmt.Sprintf("%s %q", name, x)
	}
	return fmt.Sprintf("%s %v", name, v.Value)
}

// Measured returns what the lab measured, in the order of Show. The error is
// ErrNotMeasured for what the recorded report lacks.
func (e Evidence) Measured() ([]Value, error) { return e.measuredIn(recorded()) }

// measuredIn is Measured of a report.
func (e Evidence) measuredIn(r *measuredReport) ([]Value, error) {
	experiment, variant, ok := e.split()
	if !ok {
		return nil, fmt.Errorf("%q is not lab/<experiment>/<variant>", e.Lab)
	}
	i := slices.IndexFunc(r.Experiments, func(x measuredExperiment) bool { return x.Name == experiment })
	if i < 0 {
		return nil, fmt.Errorf("experiment %q: %w", experiment, ErrNotMeasured)
	}
	variants := r.Experiments[i].Variants
	j := slices.IndexFunc(variants, func(v measuredVariant) bool { return v.Name == variant })
	if j < 0 {
		return nil, fmt.Errorf("variant %q of %q: %w", variant, experiment, ErrNotMeasured)
	}
	var values []Value
	for _, name := range e.Show {
		v, ok := variants[j].Measured[name]
		if !ok {
			return nil, fmt.Errorf("%q of %s: %w", name, e.Lab, ErrNotMeasured)
		}
		values = append(values, Value{name, v})
	}
	return values, nil
}

// MarshalJSON adds what was measured, as "values".
func (e Evidence) MarshalJSON() ([]byte, error) {
	type plain Evidence
	var values []Value
	if e.Lab != "" {
		values, _ = e.Measured() // absent when it is not measured yet
	}
	return json.Marshal(struct {
		plain
		Values []Value `json:"values,omitempty"`
	}{plain(e), values})
}

// Line says on one line what was measured, or which test shows it.
func (e Evidence) Line(l Language) string {
	if e.Test != "" {
		dir := "."
		if e.In != "" {
			dir = "./" + e.In
		}
		return fmt.Sprintf("go test -run '^%s$' %s", e.Test, dir)
	}
	values, err := e.Measured()
	if err != nil {
		return e.Lab + ": " + Text{"not measured yet", "尚未测量"}.In(l)
	}
	return e.Lab + ": " + valuesText(values, l)
}

// valuesText says "failed 800 of 1000" where both numbers are there, and else each
// value by its name.
func valuesText(values []Value, l Language) string {
	if len(values) == 2 && values[0].Name == "failed" && values[1].Name == "requests" {
		return fmt.Sprintf(Text{"failed %v of %v", "%[2]v 个请求中失败 %[1]v 个"}.In(l), values[0].Value, values[1].Value)
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.String()
	}
	return strings.Join(texts, ", ")
}

// measured.json is a report of the lab (docs/lab.md) without series and tables.
// docs/kb.md says how to record it anew.
//
//go:embed measured.json
var measuredJSON []byte

type measuredReport struct {
	Schema      int                  `json:"schema"`
	Scale       string               `json:"scale"`
	Env         json.RawMessage      `json:"env"`
	Experiments []measuredExperiment `json:"experiments"`
}

type measuredExperiment struct {
	Name     string            `json:"name"`
	Source   string            `json:"source"`
	Variants []measuredVariant `json:"variants"`
}

type measuredVariant struct {
	Name     string         `json:"name"`
	Measured map[string]any `json:"measured"`
	OK       bool           `json:"ok"`
}

var recorded = sync.OnceValue(func() *measuredReport {
	r := &measuredReport{}
	if err := json.Unmarshal(measuredJSON, r); err != nil {
		panic("kb: measured.json: " + err.Error())
	}
	return r
})
