package top

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/berth-go/berth"
)

func TestNumbersInFewColumns(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{Count(0), "0"}, {Count(99999), "99999"}, {Count(100_000), "100k"}, {Count(9_999_999), "9999k"}, {Count(45_000_000), "45M"},
		{Number(Maybe[float64]{}), "-"}, {Number(some(0.0)), "0"}, {Number(some(0.04)), "<0.1"}, {Number(some(0.25)), "0.2"}, {Number(some(99.94)), "99.9"},
		{Number(some(99.95)), "100"}, {Number(some(1204.4)), "1204"}, {Number(some(123_456.0)), "123k"}, {Number(some(1e30)), ">1T"},
		{Percent(Maybe[float64]{}), "-"}, {Percent(some(0.0)), "0%"}, {Percent(some(0.9999)), "99.9%"}, {Percent(some(1.0)), "100%"}, {Percent(some(0.5)), "50%"}, {Percent(some(1e9)), ">999%"},
		{Duration(0), "0s"}, {Duration(-1), "0s"}, {Duration(1), "0.1ms"}, {Duration(1234 * time.Microsecond), "1.2ms"}, {Duration(12 * time.Millisecond), "12ms"},
		{Duration(1990 * time.Millisecond), "1.9s"}, {Duration(59990 * time.Millisecond), "59.9s"}, {Duration(842 * time.Second), "14m02s"}, {Duration(185 * time.Minute), "3h05m"}, {Duration(41 * time.Hour), "41h"},
		{MaybeDuration(Maybe[time.Duration]{}), "-"}, {MaybeDuration(some(time.Second)), "1.0s"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s, want %s", tc.got, tc.want)
		}
		if n := utf8.RuneCountInString(tc.got); n > 6 {
			t.Errorf("%s has %d columns", tc.got, n)
		}
	}
}

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		s    berth.Stats
		max  int
		want string
	}{
		{berth.Stats{}, 10, "········"},
		{berth.Stats{Leased: 10}, 10, "████████"},
		{berth.Stats{Leased: 5, Idle: 5}, 10, "████░░░░"},
		{berth.Stats{Leased: 1, Dialing: 1, Draining: 1, Idle: 1}, 1000, "█▒░·····"}, // what there is has a column
		{berth.Stats{Leased: 1000, Idle: 1}, 1000, "████████"},
		{berth.Stats{Leased: 500}, 10, "████████"}, // a limit that was lowered
		{berth.Stats{Leased: 5}, 0, "        "},
	} {
		e := Endpoint{EndpointReport: &EndpointReport{}, Max: tc.max}
		e.Stats = tc.s
		if got := Bar(&e, 8); got != tc.want {
			t.Errorf("%+v of %d: %q, want %q", tc.s, tc.max, got, tc.want)
		}
	}
}

func TestSparkOfTheLastMinute(t *testing.T) {
	history := []Point{{At: at(-61), Requests: some(99.0)}, {At: at(-59), Requests: some(1.0)}, {At: at(-30), Requests: some(0.0)},
		{At: at(-10), Requests: Maybe[float64]{}}, {At: at(-1), Requests: some(8.0)}, {At: at(0), Requests: some(4.0)}, {At: at(1), Requests: some(99.0)}}
	got := Minute(history, at(0), 6, func(p Point) Maybe[float64] { return p.Requests })
	want := []Maybe[float64]{some(1.0), {}, some(0.0), {}, {}, some(8.0)}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("column %d: %v, want %v", i, got[i], want[i])
		}
	}
	// A point stands for the time since the one before: no gap from a second that took longer.
	history = []Point{{At: at(-25), Requests: some(2.0), Over: 20 * time.Second}, {At: at(-5), Requests: some(3.0)}}
	for i, want := range []Maybe[float64]{{}, some(2.0), some(2.0), some(2.0), {}, some(3.0)} {
		if got := Minute(history, at(0), 6, func(p Point) Maybe[float64] { return p.Requests }); got[i] != want {
			t.Errorf("column %d: %v, want %v", i, got[i], want)
		}
	}
	if got := Spark(got); got != "▂ ▁  █" {
		t.Errorf("%q", got)
	}
	if got := Spark([]Maybe[float64]{some(0.0), {}, some(0.0)}); got != "▁ ▁" {
		t.Errorf("nothing but zero: %q", got)
	}
}

func TestSelectSortsAndFilters(t *testing.T) {
	endpoint := func(name, group string, conns, waiting int, rate float64) Endpoint {
		e := Endpoint{EndpointReport: &EndpointReport{}}
		e.Endpoint, e.Group, e.Stats.Leased, e.Stats.Waiting, e.Rates.Requests = name, group, conns, waiting, some(rate)
		if waiting > 0 {
			e.Reason = berth.ReasonEndpoint
		}
		e.Level = e.level()
		return e
	}
	list := []Endpoint{endpoint("https://c", "", 1, 0, 5), endpoint("https://b", "", 9, 2, 1), endpoint("https://a", "x", 3, 7, 0), endpoint("https://a", "", 3, 0, 5)}
	for _, tc := range []struct {
		by     Key
		filter string
		want   string
	}{
		{ByName, "", "a ax b c"}, {ByWaiting, "", "ax b a c"}, {ByConns, "", "b a ax c"}, {ByRequests, "", "a c b ax"},
		{ByName, "HTTPS://A", "a ax"}, {ByName, "x", "ax"}, {ByName, "nowhere", ""},
	} {
		var got []string
		for _, e := range Select(list, tc.filter, tc.by) {
			got = append(got, strings.TrimPrefix(e.Endpoint, "https://")+e.Group)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("by %v with %q: %s, want %s", tc.by, tc.filter, s, tc.want)
		}
	}
	if list[0].Endpoint != "https://c" {
		t.Error("the list was changed")
	}
	seen := map[Key]bool{}
	for k := ByWaiting; !seen[k]; k = k.Next() {
		seen[k] = true
		for _, name := range []string{k.String(), k.String()[:1]} {
			if got, err := ParseKey(name); err != nil || got != k {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
	if len(seen) != len(Keys()) {
		t.Errorf("%d keys follow each other", len(seen))
	}
	if _, err := ParseKey("x"); err == nil {
		t.Error("x is a key")
	}
}
