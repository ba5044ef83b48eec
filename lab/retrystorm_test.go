package lab

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// calls begin a hundredth of a second apart from over on; those of failed fail.
func callsFrom(over time.Duration, n int, failed func(i int) bool) (all []*call) {
	for i := range n {
		all = append(all, &call{phase: wellAgain, begun: over + time.Duration(i)*time.Second/outageRate, ok: !failed(i)})
	}
	return all
}

func TestRecoveredIsWhenCallsSucceedFromThenOn(t *testing.T) {
	const over = 3 * time.Second
	for _, tt := range []struct {
		name   string
		failed func(i int) bool
		want   time.Duration
		never  bool
	}{
		{"at once", func(int) bool { return false }, 0, false},
		{"after half a second", func(i int) bool { return i < 50 }, 500 * time.Millisecond, false},
		{"in between, and not for long", func(i int) bool { return i < 40 || i >= 60 && i < 80 }, 800 * time.Millisecond, false},
		{"a few fail all the time", func(i int) bool { return i%20 == 0 }, 0, false},
		{"never", func(int) bool { return true }, 0, true},
		{"at the very end, when nobody else asks", func(i int) bool { return i < 170 }, 0, true},
	} {
		got, ok := recovered(callsFrom(over, 200, tt.failed), over)
		if got != tt.want || ok == tt.never {
			t.Errorf("%s: %v, %v", tt.name, got, ok)
		}
	}
}

func TestStrainedServerRefusesBeyondItsQueue(t *testing.T) {
	s := &strained{start: time.Now(), came: make([]int, wellAgain+1), rate: newRate("")}
	req := &http.Request{URL: &url.URL{Path: "/xx"}} // of the third phase
	for i := range outageQueue {
		if !s.enter(req) {
			t.Fatalf("request %d is refused", i+1)
		}
	}
	if s.enter(req) {
		t.Error("there is no end to the queue")
	}
	if came := s.arrivals(); !slices.Equal(came, []int{0, 0, outageQueue + 1, 0}) {
		t.Errorf("arrivals by phase: %v", came)
	}
}

func TestRateCountsByTheSecond(t *testing.T) {
	r := newRate("x")
	r.add(0, 1)
	r.add(outageBucket-1, 1)
	r.add(2*outageBucket, 3)
	if got := r.series().Points; !slices.Equal(got, [][2]float64{{0.1, 20}, {0.2, 0}, {0.3, 30}}) {
		t.Errorf("points %v", got)
	}
}

// A machine without time excuses what takes time, in the last attempt, and no load.
func TestOutageOnABusyMachine(t *testing.T) {
	rows := func(control, end, load float64) []Variant {
		return []Variant{
			{Name: "net/http, no retries", Measured: map[string]any{"success_at_the_end": control}},
			{Name: "berth, x", Measured: map[string]any{"success_at_the_end": end, "load_of_the_run": load},
				Expected: map[string]any{"success_at_the_end": "≥ 0.9", "load_of_the_run": "≤ 1.21"}},
		}
	}
	for _, tt := range []struct {
		control, end, load float64
		last, ok, noisy    bool
	}{
		{1, 1, 1.2, true, true, false}, {1, 0.5, 1.2, true, false, false}, {0.5, 0.5, 1.2, false, false, false},
		{0.5, 0.5, 1.2, true, true, true}, {0.5, 0.5, 1.5, true, false, true}, {1, 1, 1.5, true, false, false},
	} {
		all := rows(tt.control, tt.end, tt.load)
		judgeOutage(all, tt.last)
		if all[1].OK != tt.ok || (all[1].Note != "") != tt.noisy {
			t.Errorf("%+v: %v, %q", tt, all[1].OK, all[1].Note)
		}
	}
}
