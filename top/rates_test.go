package top

import (
	"testing"
	"time"

	"github.com/berth-go/berth"
)

func TestRatesAreDifferencesOfCounters(t *testing.T) {
	ms := time.Millisecond
	was := berth.Stats{Requests: 100, Reused: 90, Dials: berth.DialStats{OK: 10, Failed: 1, Exhausted: 1},
		Rejected: berth.RejectStats{QueueFull: 3, Timeout: 1}, Wait: berth.Histogram{{Below: 2 * ms, Count: 5}, {Below: 4 * ms, Count: 0}, {Below: 8 * ms, Count: 1}}}
	more := func(change func(*berth.Stats)) *berth.Stats {
		now := was
		change(&now)
		return &now
	}
	none := Maybe[float64]{}
	noWait := Maybe[time.Duration]{}
	for _, tc := range []struct {
		name string
		was  *berth.Stats
		now  *berth.Stats
		over time.Duration
		want Rates
	}{
		{"nothing happened", &was, &was, time.Second, Rates{time.Second, some(0.0), some(0.0), none, noWait}},
		{"no time passed", &was, more(func(s *berth.Stats) { s.Requests++ }), 0, Rates{}},
		{"the clock was set back", &was, more(func(s *berth.Stats) { s.Requests++ }), -time.Second, Rates{}},
		{"requests and reuse", &was, more(func(s *berth.Stats) { s.Requests += 20; s.Reused += 15 }), 2 * time.Second,
			Rates{2 * time.Second, some(10.0), some(0.0), some(0.75), noWait}},
		{"more reused than requested, between two looks", &was, more(func(s *berth.Stats) { s.Requests++; s.Reused += 2 }), time.Second,
			Rates{time.Second, some(1.0), some(0.0), some(1.0), noWait}},
		{"each failure counts", &was, more(func(s *berth.Stats) {
			s.Dials = berth.DialStats{OK: 11, Failed: 2, Cancelled: 7, Exhausted: 2, Refused: 1}
			s.Rejected = berth.RejectStats{QueueFull: 4, WouldQueue: 1, Backoff: 1, Timeout: 2, Closed: 1}
		}), 4 * time.Second, Rates{4 * time.Second, some(0.0), some(2.0), none, noWait}},
		{"the waits that ended since", &was, more(func(s *berth.Stats) {
			s.Wait = berth.Histogram{{Below: ms, Count: 98}, {Below: 2 * ms, Count: 5}, {Below: 4 * ms, Count: 2}, {Below: 8 * ms, Count: 1}}
		}), time.Second, Rates{time.Second, some(0.0), some(0.0), none, some(4 * ms)}},
		{"an endpoint that is new", nil, &was, time.Second, Rates{time.Second, some(100.0), some(6.0), some(0.9), some(8 * ms)}},
		{"counters that began again", &was, &berth.Stats{Requests: 8, Reused: 4}, time.Second, Rates{time.Second, some(8.0), some(0.0), some(0.5), noWait}},
		{"one counter that began again", &was, more(func(s *berth.Stats) { s.Requests = 200; s.Reused = 150; s.Dials.OK = 1; s.Wait = nil }), time.Second,
			Rates{time.Second, some(200.0), some(6.0), some(0.75), noWait}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Differences(tc.was, tc.now, tc.over); got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}
