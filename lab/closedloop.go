package lab

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/berth-go/berth/sockets"
)

// sample is one request of a closed loop.
type sample struct {
	at, took time.Duration // since the loop's start
	err      error
}

// closedLoop has workers send one request after the other until the time is up, with a
// pause in between, and returns all of them by their end.
func closedLoop(ctx context.Context, rt func() http.RoundTripper, url string, workers int, length, think time.Duration) []sample {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	start := time.Now()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []sample
	)
	for i := range workers {
		wg.Go(func() {
			var own []sample
			if pause(ctx, think*time.Duration(i)/time.Duration(workers)) != nil {
				return
			}
			for ctx.Err() == nil {
				begun := time.Now()
				err := get(context.WithoutCancel(ctx), rt(), url) // what runs may end
				own = append(own, sample{time.Since(start), time.Since(begun), err})
				if think > 0 && pause(ctx, think) != nil {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b sample) int { return int(a.at - b.at) })
	return all
}

// failures counts the samples that failed.
func failures(all []sample) (n int) {
	for _, s := range all {
		if s.err != nil {
			n++
		}
	}
	return n
}

// durations returns what the requests took.
func durations(all []sample) []time.Duration {
	took := make([]time.Duration, len(all))
	for i, s := range all {
		took[i] = s.took
	}
	return took
}

// follow samples how many connections to a server the kernel shows as established, over
// time. stop ends it.
func follow(ctx context.Context, s *server, every time.Duration) (stop func() (Series, bool)) {
	ctx, cancel := context.WithCancel(ctx)
	series := Series{Name: "connections", Unit: "s"}
	seen := true
	var wg sync.WaitGroup
	start := time.Now()
	wg.Go(func() {
		for ctx.Err() == nil {
			found, err := clientSockets(ctx, s.addr, sockets.Established)
			if unsupported(err) {
				seen = false
				return
			}
			if err == nil {
				series.Points = append(series.Points, [2]float64{round3(time.Since(start).Seconds()), float64(len(found))})
			}
			if pause(ctx, every) != nil {
				return
			}
		}
	})
	return func() (Series, bool) {
		cancel()
		wg.Wait()
		return series, seen
	}
}

func round3(f float64) float64 { return float64(int(f*1000+0.5)) / 1000 }

// highest returns the highest value of a series.
func highest(s Series) int {
	most := 0.0
	for _, p := range s.Points {
		most = max(most, p[1])
	}
	return int(most)
}

// within returns the points of a series from one time to another.
func within(s Series, from, to float64) (values []float64) {
	for _, p := range s.Points {
		if p[0] >= from && p[0] < to {
			values = append(values, p[1])
		}
	}
	return values
}
