package lab

import "testing"

func TestMeets(t *testing.T) {
	for _, tt := range []struct {
		got, want any
		met       bool
	}{
		{3, 3, true}, {3, 4, false}, {3, "> 2", true}, {3, "> 3", false}, {3, "≥ 3", true}, {2.5, "≤ 2.4", false}, {2.5, "≤ 2.5", true},
		{"a b c", "contains b c", true}, {"a b c", "contains d", false}, {"x", "x", true}, {"x", "> 2", false}, {3, "contains 3", false},
		{NotObserved, 7, true}, {true, true, true}, {"a b", "a b", true},
	} {
		v := Variant{Measured: map[string]any{"n": tt.got}, Expected: map[string]any{"n": tt.want}}
		if v.meets() != tt.met {
			t.Errorf("%v against %v: %v", tt.got, tt.want, !tt.met)
		}
	}
	missing := Variant{Expected: map[string]any{"n": 1}}
	if missing.meets() {
		t.Error("what was not measured is met")
	}
}
