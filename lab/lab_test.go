package lab

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Experiments start this program again.
func TestMain(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

// The lab itself, small: every row of ours holds on this machine.
func TestQuickLabHolds(t *testing.T) {
	r := Run(t.Context(), Experiments(), Options{Scale: Quick, Children: true})
	if !r.OK() {
		b, _ := json.MarshalIndent(r, "", "  ")
		t.Fatalf("not every row holds:\n%s", b)
	}
	declared(t, r)
	for _, e := range r.Experiments {
		if len(e.Variants) == 0 {
			t.Errorf("%s has no variants", e.Name)
		}
		ours, others := 0, 0
		for _, v := range e.Variants {
			if v.Berth() {
				ours++
			} else {
				others++
			}
		}
		if !drawable(e) {
			t.Errorf("%s has neither a series, nor a timeline, nor a number", e.Name)
		}
		if ours == 0 || others == 0 {
			t.Errorf("%s has %d rows of ours and %d beside them", e.Name, ours, others)
		}
	}
	if runtime.GOOS == "linux" && !strings.Contains(r.Experiments[1].Table, "TIME_WAIT") {
		t.Errorf("the table of sockets is %q", r.Experiments[1].Table)
	}
}

// drawable reports whether there is something to plot, or nothing can be seen here.
func drawable(e Result) bool {
	return runtime.GOOS != "linux" || slices.ContainsFunc(e.Variants, func(v Variant) bool {
		for _, m := range v.Measured { // bars
			if _, is := m.(int); is {
				return true
			}
		}
		return len(v.Series) > 0 || len(v.Timeline) > 0 || v.Verdict() == Unseen
	})
}

// The names are a promise to whoever reads the JSON.
func TestJSONSchema(t *testing.T) {
	b, err := json.Marshal(Report{Schema: Schema, Experiments: []Result{{Name: "x", Variants: []Variant{{Name: "berth", Series: []Series{{}}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]any
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	experiment := report["experiments"].([]any)[0].(map[string]any)
	variant := experiment["variants"].([]any)[0].(map[string]any)
	series := variant["series"].([]any)[0].(map[string]any)
	for _, tc := range []struct {
		of   map[string]any
		want []string
	}{
		{report, []string{"env", "experiments", "scale", "schema"}},
		{experiment, []string{"name", "source", "variants"}},
		{variant, []string{"expected", "measured", "name", "ok", "series"}},
		{series, []string{"name", "points", "unit"}},
	} {
		if got := slices.Sorted(maps.Keys(tc.of)); !slices.Equal(got, tc.want) {
			t.Errorf("names %v, want %v", got, tc.want)
		}
	}
}

func TestUnknownExperimentNamesTheKnownOnes(t *testing.T) {
	_, err := Select([]string{"limit", "nosuch"})
	e, ok := errors.AsType[*UnknownError](err)
	if !ok || e.Name != "nosuch" || !slices.Contains(e.Known, "lifetime") {
		t.Errorf("error %v", err)
	}
}

func TestInterruptedRunKeepsWhatIsFinished(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := Run(ctx, Experiments()[1:], Options{Scale: Quick, Finished: func(string, Variant) { cancel() }})
	if !r.Interrupted || r.OK() || len(r.Experiments) != 1 || len(r.Experiments[0].Variants) != 1 {
		t.Errorf("interrupted %v, %+v", r.Interrupted, r.Experiments)
	}
}

func TestFailedRowOfOursFailsTheReport(t *testing.T) {
	r := &Report{Experiments: []Result{{Variants: []Variant{{Name: "net/http", OK: false}, {Name: "berth", OK: true}}}}}
	if !r.OK() {
		t.Error("a row that is not ours fails the report")
	}
	r.Experiments[0].Variants[1].OK = false
	if r.OK() {
		t.Error("a failed row of ours does not fail the report")
	}
}
