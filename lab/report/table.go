package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/berth-go/berth/lab"
)

// table is variants that measure the same things.
type table struct {
	Columns []string
	Rows    []row
	Besides bool // some rows expect what is not measured under that name
	keys    []string
}

type row struct {
	Name, Hue      string
	Berth          bool
	Cells          []cell
	Besides        string
	Verdict, Class string
}

type cell struct {
	Label              string // the column, for narrow windows
	Measured, Expected string
	Number             bool
}

// tables puts each run of variants that have a name in common into one table: an
// experiment of two parts has two.
func tables(variants []lab.Variant) []table {
	var all []table
	var rows [][]lab.Variant
	for _, v := range variants {
		keys := columnsOf(v)
		last := len(all) - 1
		if last < 0 || len(keys) > 0 && !slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(all[last].keys, k) }) {
			all, rows = append(all, table{}), append(rows, nil)
			last++
		}
		for _, k := range keys {
			if !slices.Contains(all[last].keys, k) {
				all[last].keys = append(all[last].keys, k)
			}
		}
		rows[last] = append(rows[last], v)
	}
	for i := range all {
		t := &all[i]
		slices.Sort(t.keys)
		for _, k := range t.keys {
			t.Columns = append(t.Columns, label(k))
		}
		for _, v := range rows[i] {
			r := row{Name: v.Name, Hue: hueOf(v.Name), Berth: v.Berth(), Verdict: string(v.Verdict()), Class: verdictClass(v.Verdict())}
			for _, k := range t.keys {
				c := cell{Label: label(k)}
				if m, ok := v.Measured[k]; ok {
					c.Measured = text(m)
					_, c.Number = number(m)
				}
				if e, ok := v.Expected[k]; ok {
					c.Expected = text(e)
				}
				r.Cells = append(r.Cells, c)
			}
			var besides []string
			for _, k := range sortedKeys(v.Expected) {
				if !slices.Contains(t.keys, k) {
					name, unit, _ := strings.Cut(label(k), ", ")
					besides = append(besides, strings.TrimSpace(name+" "+text(v.Expected[k])+" "+unit))
				}
			}
			r.Besides = strings.Join(besides, "; ")
			t.Besides = t.Besides || r.Besides != ""
			t.Rows = append(t.Rows, r)
		}
	}
	return all
}

// columnsOf returns the names that a variant's row has columns for: what was measured,
// but for texts that are too long for one.
func columnsOf(v lab.Variant) []string {
	var keys []string
	for _, k := range sortedKeys(v.Measured) {
		if s, ok := v.Measured[k].(string); k == "error" || ok && long(s) {
			continue
		}
		keys = append(keys, k)
	}
	return keys
}

// long says that a text has no room in a cell.
func long(s string) bool { return utf8.RuneCountInString(s) > 24 }

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// label writes a name of the JSON for people, with its unit behind a comma.
func label(key string) string {
	for _, unit := range []struct{ in, out string }{{"ms", "ms"}, {"us", "µs"}} {
		if name, ok := strings.CutSuffix(key, "_"+unit.in); ok {
			return strings.ReplaceAll(name, "_", " ") + ", " + unit.out
		}
		if name, at, ok := strings.Cut(key, "_"+unit.in+"_at_"); ok {
			return strings.ReplaceAll(name, "_", " ") + " at " + strings.ReplaceAll(strings.ReplaceAll(at, "_", " "), "%", " %") + ", " + unit.out
		}
	}
	switch key {
	case "time_wait", "close_wait", "fin_wait2":
		return strings.ToUpper(key)
	case "established":
		return "ESTABLISHED"
	}
	return strings.ReplaceAll(key, "_", " ")
}

// number returns a value that is one: measured here, or read from JSON.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	case int32:
		return float64(n), true
	case int64:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// text writes a value for people: whole thousands have commas.
func text(v any) string {
	f, ok := number(v)
	if !ok {
		return fmt.Sprint(v)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	whole, fraction, has := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "−", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if has {
		whole += "." + fraction
	}
	return sign + whole
}
