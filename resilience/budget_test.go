package resilience

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

// drain takes what there is.
func (b *budget) drain(t *testing.T) (n int) {
	t.Helper()
	for b.take() {
		if n++; n > 1e6 {
			t.Fatal("there is no end to it")
		}
	}
	return n
}

func TestBudgetIsASharePlusAMinimum(t *testing.T) {
	none := Budget{Ratio: 0.2, MinPerSecond: -1}
	for _, tc := range []struct {
		name   string
		budget Budget
		do     func(*budget)
		want   int
	}{
		{"defaults, fresh", Budget{}, func(*budget) {}, 100},
		{"defaults, after 50 requests", Budget{}, func(b *budget) { b.requests(50) }, 110},
		{"a fifth, exactly", none, func(b *budget) { b.requests(5) }, 1},
		{"not quite", none, func(b *budget) { b.requests(4) }, 0},
		{"10,000 at once", none, func(b *budget) { b.requests(10000) }, 2000},
		{"kept for 5 s at least", none, func(b *budget) { b.requests(10); time.Sleep(5 * time.Second) }, 2},
		{"of two windows", none, func(b *budget) { b.requests(5); time.Sleep(5 * time.Second); b.requests(5) }, 2},
		{"from both at once", none, func(b *budget) { b.requests(3); time.Sleep(5 * time.Second); b.requests(2) }, 1},
		{"lost after 10 s", none, func(b *budget) { b.requests(10); time.Sleep(10 * time.Second) }, 0},
		{"lost, and new ones", none, func(b *budget) { b.requests(10); time.Sleep(11 * time.Second); b.requests(5) }, 1},
		{"the minimum comes back", Budget{MinPerSecond: 2}, func(b *budget) { b.takes(20); time.Sleep(3 * time.Second) }, 6},
		{"and no more than 10 s of it", Budget{MinPerSecond: 2}, func(b *budget) { b.takes(20); time.Sleep(time.Hour) }, 20},
		{"in parts", Budget{MinPerSecond: 1}, func(b *budget) {
			b.takes(10)
			for range 4 {
				time.Sleep(500 * time.Millisecond)
				if got := b.take(); got != (time.Since(b.start)%time.Second == 0) {
					panic("a half was taken for a whole")
				}
			}
		}, 0},
		{"a minimum below one a second", Budget{MinPerSecond: 0.01}, func(b *budget) { b.takes(1); time.Sleep(101 * time.Second) }, 1},
		{"no minimum", none, func(b *budget) { time.Sleep(time.Hour) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(tc.budget, defaultRetryBudget)
				tc.do(b)
				if got := b.drain(t); got != tc.want {
					t.Errorf("%d, want %d", got, tc.want)
				}
			})
		})
	}
}

func (b *budget) requests(n int) {
	for range n {
		b.request()
	}
}

func (b *budget) takes(n int) {
	for range n {
		b.take()
	}
}

func TestNoBudgetGrantsEverything(t *testing.T) {
	b := newBudget(Budget{Ratio: -1, MinPerSecond: -1}, defaultRetryBudget)
	b.request()
	for range 1000 {
		if !b.take() {
			t.Fatal("refused")
		}
	}
}

func TestBudgetsDefaultsAreTheStrategys(t *testing.T) {
	b := newBudget(Budget{}, Budget{Ratio: 0.05, MinPerSecond: -1})
	b.requests(20)
	if got := b.drain(t); got != 1 {
		t.Errorf("%d, want 1", got)
	}
}

// The promise of Budget's comment, for any interleaving: at random times, of any span.
func TestBudgetBoundHoldsForAnySpan(t *testing.T) {
	seed := rand.Uint64()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		const ratio, rate = 0.3, 2
		b := newBudget(Budget{Ratio: ratio, MinPerSecond: rate}, Budget{})
		var requests, taken []time.Duration
		for range 3000 {
			switch r.IntN(3) {
			case 0:
				b.request()
				requests = append(requests, time.Since(b.start))
			case 1:
				if b.take() {
					taken = append(taken, time.Since(b.start))
				}
			case 2:
				time.Sleep(time.Duration(r.Int64N(int64(400 * time.Millisecond))))
			}
		}
		within := func(all []time.Duration, from, to time.Duration) (n float64) {
			for _, at := range all {
				if at >= from && at <= to {
					n++
				}
			}
			return n
		}
		for range 2000 {
			from := time.Duration(r.Int64N(int64(time.Since(b.start))))
			to := from + time.Duration(r.Int64N(int64(30*time.Second)))
			most := ratio*within(requests, from-10*time.Second, to) + rate*((to-from).Seconds()+10)
			if got := within(taken, from, to); got > most+1e-6 {
				t.Fatalf("seed %d: %v taken from %v to %v, at most %v", seed, got, from, to, most)
			}
		}
		if len(taken) < 200 {
			t.Errorf("seed %d: only %d taken", seed, len(taken))
		}
	})
}

func TestBudgetUnderManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(Budget{Ratio: 0.5, MinPerSecond: -1}, Budget{})
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 1000 {
					b.request()
					if b.take() {
						taken.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got := taken.Load() + int64(b.drain(t)); got != 8000 {
			t.Errorf("%d of 16,000 requests' 8,000 were taken", got)
		}
	})
}

func TestBudgetIsValidated(t *testing.T) {
	for _, tc := range []struct {
		budget Budget
		field  string
	}{
		{Budget{Ratio: 10, MinPerSecond: 1e6}, ""},
		{Budget{Ratio: -1, MinPerSecond: -1}, ""},
		{Budget{Ratio: 10.1}, "Retry.Budget.Ratio"},
		{Budget{Ratio: math.NaN()}, "Retry.Budget.Ratio"},
		{Budget{Ratio: math.Inf(1)}, "Retry.Budget.Ratio"},
		{Budget{MinPerSecond: 2e6}, "Retry.Budget.MinPerSecond"},
		{Budget{MinPerSecond: math.NaN()}, "Retry.Budget.MinPerSecond"},
	} {
		_, err := Retry{Budget: tc.budget}.Handler()
		e, _ := errors.AsType[*berth.ConfigError](err)
		if tc.field == "" && err != nil || tc.field != "" && (e == nil || e.Field != tc.field) {
			t.Errorf("%+v: error %v, want one of %q", tc.budget, err, tc.field)
		}
	}
}

func BenchmarkBudget(b *testing.B) {
	budget := newBudget(Budget{}, defaultRetryBudget)
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			budget.request()
		}
	})
	b.Run("take", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			budget.take()
		}
	})
}
