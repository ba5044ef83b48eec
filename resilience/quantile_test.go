package resilience

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantileBuckets(t *testing.T) {
	last := -1
	for d := time.Duration(1); d < 10*time.Hour; d += d/50 + 1 {
		i := quantileBucket(d)
		if i < last || i >= quantileBuckets {
			t.Fatalf("%v is in bucket %d, after %d", d, i, last)
		}
		last = i
		if top := quantileTop(i); d >= 1024 && d < 1<<43 && (top <= d || top > d+d/16+1) {
			t.Fatalf("%v: the bucket ends at %v, want at most a sixteenth above", d, top)
		}
	}
	if last != quantileBuckets-1 {
		t.Errorf("ten hours are in bucket %d, want the last, %d", last, quantileBuckets-1)
	}
}

func TestQuantileEstimates(t *testing.T) {
	for _, q := range []float64{0.5, 0.9, 0.95, 0.99} {
		e := &quantile{q: q}
		r := rand.New(rand.NewPCG(1, 2))
		var all []time.Duration
		for i := range 1008 {
			if known := e.get() != 0; known != (i >= quantileKnown) {
				t.Fatalf("after %d durations something is known: %v", i, known)
			}
			d := time.Duration(float64(10*time.Millisecond) * r.ExpFloat64())
			all = append(all, d)
			e.add(d)
		}
		slices.Sort(all)
		exact := all[int(q*float64(len(all)))]
		if got := e.get(); got < exact*97/100 || got > exact*110/100 {
			t.Errorf("quantile %v is %v, exactly %v", q, got, exact)
		}
	}
}

func TestQuantileForgets(t *testing.T) {
	e := &quantile{q: 0.5}
	add := func(n int, d time.Duration) {
		for range n {
			e.add(d)
		}
	}
	add(5000, time.Second)
	add(900, time.Millisecond)
	if got := e.get(); got < time.Second {
		t.Errorf("900 new ones of at most 2000: %v", got)
	}
	add(1100, time.Millisecond)
	if got := e.get(); got > 2*time.Millisecond {
		t.Errorf("2000 new ones: %v", got)
	}
}

func BenchmarkQuantile(b *testing.B) {
	e := &quantile{q: 0.95}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.add(time.Duration(i%1000) * time.Millisecond)
	}
}
