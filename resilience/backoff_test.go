package resilience

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// polly is the formula of the decorrelated jitter, without its differences.
func polly(t float64) float64 { return math.Exp2(t) * math.Tanh(math.Sqrt(4*t)) }

// The numbers were computed apart from this code, from the formula: base 2 s.
func TestExponentialWaitsWithJitterArePollys(t *testing.T) {
	for _, tc := range []struct {
		random, want [4]float64 // seconds
	}{
		{[4]float64{0, 0, 0, 0}, [4]float64{0, 2.754364514, 2.920134602, 5.731699724}},
		{[4]float64{.5, .5, .5, .5}, [4]float64{1.794809871, 2.186007094, 4.071495925, 8.091958845}},
		{[4]float64{.25, .9, .1, .75}, [4]float64{1.293847412, 3.994953583, .798519331, 13.116551267}},
		{[4]float64{.999, .999, .999, .999}, [4]float64{2.752254031, 2.918257106, 5.727758460, 11.427700391}},
	} {
		i := 0
		b := backoff{base: 2 * time.Second, max: longestWait, jitter: true, random: func() float64 { i++; return tc.random[i-1] }}
		var prev float64
		for n, want := range tc.want {
			if got := b.delay(n, &prev); math.Abs(got.Seconds()-want) > 2e-9 {
				t.Errorf("random %v, wait %d: %v, want %v s", tc.random, n, got, want)
			}
		}
	}
}

// Bounds and mean of each wait, against the formula: its mean is the difference of two
// integrals of f, and it is no less than 0 and no more than the whole way of f over two
// steps.
func TestJitterStaysInItsBoundsAndHasTheFormulasMean(t *testing.T) {
	const waits, runs = 6, 20000
	const seed1, seed2 = 7, 11
	r := rand.New(rand.NewPCG(seed1, seed2))
	b := backoff{base: time.Second, max: longestWait, jitter: true, random: r.Float64}
	var sum [waits]float64
	for range runs {
		var prev float64
		for n := range waits {
			d := b.delay(n, &prev).Seconds()
			from := 0.0
			if n > 0 {
				from = polly(float64(n - 1))
			}
			if top := (polly(float64(n+1)) - from) / 1.4; d < 0 || d > top {
				t.Fatalf("wait %d is %v s, and at most %v s by the formula", n, d, top)
			}
			sum[n] += d
		}
	}
	mean := func(n int) (m float64) { // of f over [n, n+1]
		const steps = 10000
		for i := range steps {
			m += polly(float64(n)+(float64(i)+0.5)/steps) / steps
		}
		return m
	}
	for n := range waits {
		want := mean(n)
		if n > 0 {
			want -= mean(n - 1)
		}
		want /= 1.4
		if got := sum[n] / runs; math.Abs(got-want) > 0.02*want {
			t.Errorf("wait %d: mean %v s, by the formula %v s", n, got, want)
		}
	}
}

func TestWaitsWithoutJitterAreExact(t *testing.T) {
	for _, tc := range []struct {
		kind string
		base time.Duration
		max  time.Duration
		want []time.Duration
	}{
		{"", 2 * time.Second, longestWait, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}},
		{"exponential", 3, longestWait, []time.Duration{3, 6, 12, 24, 48, 96, 192, 384}},
		{"exponential", time.Second, 5 * time.Second, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}},
		{"linear", 2 * time.Second, longestWait, []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second, 8 * time.Second}},
		{"linear", 2 * time.Second, 5 * time.Second, []time.Duration{2 * time.Second, 4 * time.Second, 5 * time.Second}},
		{"constant", 2 * time.Second, longestWait, []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second}},
		{"constant", 2 * time.Second, time.Second, []time.Duration{time.Second}},
		{"exponential", 0, longestWait, []time.Duration{0, 0, 0}},
	} {
		b := backoff{kind: tc.kind, base: tc.base, max: tc.max}
		var prev float64
		for n, want := range tc.want {
			if got := b.delay(n, &prev); got != want {
				t.Errorf("%q from %v, at most %v: wait %d is %v, want %v", tc.kind, tc.base, tc.max, n, got, want)
			}
		}
	}
}

func TestLinearAndConstantJitterIsAQuarterEitherWay(t *testing.T) {
	for _, tc := range []struct {
		kind   string
		random float64
		want   time.Duration // of the third wait, from 1 s
	}{
		{"linear", 0, 2250 * time.Millisecond},
		{"linear", 0.5, 3 * time.Second},
		{"linear", 0.75, 3375 * time.Millisecond},
		{"constant", 0, 750 * time.Millisecond},
		{"constant", 0.5, time.Second},
		{"constant", 0.75, 1125 * time.Millisecond},
	} {
		b := backoff{kind: tc.kind, base: time.Second, max: longestWait, jitter: true, random: func() float64 { return tc.random }}
		var prev float64
		if got := b.delay(2, &prev); got != tc.want {
			t.Errorf("%s with %v: %v, want %v", tc.kind, tc.random, got, tc.want)
		}
	}
}

// Whatever the base and however many retries: no wait overflows, and none is longer than
// its bound, jitter included.
func TestWaitsAreBounded(t *testing.T) {
	for _, kind := range []string{"exponential", "linear", "constant"} {
		for _, jitter := range []bool{true, false} {
			for _, limit := range []time.Duration{longestWait, time.Minute} {
				b := backoff{kind: kind, base: longestWait, max: limit, jitter: jitter, random: func() float64 { return 0.9999 }}
				var prev float64
				for n := range mostRetries + 1 {
					if got := b.delay(n, &prev); got != limit {
						t.Fatalf("%s, jitter %v: wait %d is %v, want %v", kind, jitter, n, got, limit)
					}
				}
			}
		}
	}
}
