package lab

import (
	"math"
	"slices"
	"testing"
	"time"
)

// Known values of Erlang's second formula: one server at half load waits half a
// service time over (1−ρ); ten at 90 % wait 0.6687/(10·0.1) of one.
func TestErlangC(t *testing.T) {
	for _, tc := range []struct {
		load    float64
		servers int
		want    float64 // of a service time
	}{
		{0.5, 1, 1}, {0.9, 1, 9}, {0.5, 2, 1.0 / 3}, {0.9, 10, 0.6687},
	} {
		w, ok := erlangC(tc.load, tc.servers, time.Second)
		if !ok || math.Abs(w.Seconds()-tc.want) > 0.0005 {
			t.Errorf("load %v on %d: %v, %v; want %v", tc.load, tc.servers, w, ok, tc.want)
		}
	}
	if _, ok := erlangC(1, 10, time.Second); ok {
		t.Error("a full queue has no wait in the long run")
	}
}

func TestPerfectQueue(t *testing.T) {
	const ms = time.Millisecond
	all := []arrival{{0, 10 * ms}, {0, 4 * ms}, {1 * ms, 1 * ms}, {2 * ms, 5 * ms}, {30 * ms, 1 * ms}}
	// Two servers: free at 10 and 4; then 5 and 10; the last finds both free.
	want := []time.Duration{0, 0, 3 * ms, 3 * ms, 0}
	if got := perfect(all, 2); !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
}

// In the long run the perfect queue is Erlang's.
func TestPerfectQueueComesNearErlang(t *testing.T) {
	for _, load := range []float64{0.5, 0.8, 0.9} {
		got := mean(perfect(arrivals(load, 2*time.Hour), kneeConns))
		want, _ := erlangC(load, kneeConns, kneeService)
		if r := got.Seconds() / want.Seconds(); r < 0.9 || r > 1.1 {
			t.Errorf("load %v: mean wait %v, Erlang says %v", load, got, want)
		}
	}
}

func TestArrivalsAreTheSameInEveryRun(t *testing.T) {
	a, b := arrivals(0.9, 10*time.Second), arrivals(0.9, 10*time.Second)
	if !slices.Equal(a, b) {
		t.Error("two runs differ")
	}
	rate := float64(len(a)) / 10
	if want := 0.9 * kneeConns / kneeService.Seconds(); math.Abs(rate/want-1) > 0.1 {
		t.Errorf("%v a second, want about %v", rate, want)
	}
}

func TestQuantile(t *testing.T) {
	v := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.2: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(v, max(q, 1e-9)); got != want {
			t.Errorf("%v-quantile %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("nothing has a quantile")
	}
}
