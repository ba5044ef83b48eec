package prom_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/telemetry/prom"
)

// counts says that a sample only grows as long as it is there.
func counts(k string) bool {
	name, _, _ := strings.Cut(k, "{")
	return strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_bucket")
}

// Requests at random, to servers and groups that come and go, between scrapes at random:
// no counter falls, none is counted twice, and where every server has series of its own
// none is lost.
func TestCountersNeverFall(t *testing.T) {
	for _, bound := range []int{-1, 1, 3} {
		for range 2 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("bound %d seed %d", bound, seed), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, 0))
				cfg := berth.Config{Policy: berth.Policy{IdleTimeout: 20 * time.Second, MaxRequestsPerConn: 4}}
				bubble(t, cfg, prom.Config{MaxServers: bound}, origin.Latency(300*time.Millisecond, answer), func(r *rig) {
					made, last := 0.0, samples{}
					for range 100 {
						for range random.IntN(4) {
							ctx := r.Context()
							if random.IntN(4) == 0 {
								ctx = berth.WithGroup(ctx, "batch")
							}
							r.getIn(ctx, fmt.Sprintf("http://h%d.test/", random.IntN(8)))
							made++
						}
						time.Sleep(time.Duration(random.IntN(100)) * time.Second)
						s := r.scrape()
						sum := 0.0
						for _, k := range slices.Sorted(maps.Keys(s)) {
							if was, there := last[k]; there && counts(k) && s[k] < was {
								r.Fatalf("%s fell from %v to %v", k, was, s[k])
							}
							if strings.HasPrefix(k, "berth_pool_requests_total{") {
								sum += s[k]
							}
						}
						if sum > made || bound < 0 && sum != made {
							r.Fatalf("%v requests of %v", sum, made)
						}
						if n := strings.Count(s.like(of("requests_total")), "\n"); bound > 0 && n > bound+1 {
							r.Fatalf("%d servers, want %d and the others", n, bound)
						}
						last = s
					}
				})
			})
		}
	}
}
