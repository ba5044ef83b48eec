package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sample is what one client process measured. Times are nanoseconds.
type sample struct {
	Requests   int     `json:"requests"`
	CPU        float64 `json:"cpu_ns"`  // user and system time of the process a request
	Wall       float64 `json:"wall_ns"` // of all requests
	Allocs     float64 `json:"allocs"`  // a request, what the caller allocates taken off
	Bytes      float64 `json:"bytes"`   // the same
	Dials      int64   `json:"dials"`
	RSS        float64 `json:"rss_bytes,omitempty"`  // resident memory an idle connection
	Heap       float64 `json:"heap_bytes,omitempty"` // live heap an idle connection
	Goroutines float64 `json:"goroutines"`           // an idle connection
	P99        float64 `json:"p99_ns,omitempty"`     // of the requests' latencies
	Failed     int     `json:"failed,omitempty"`     // requests without a response in time
}

// measure sends requests from workers and counts what they cost. The warm-up opens
// the connections.
func measure(c *client, l load, workers, requests int) (sample, error) {
	loops := make([]func() error, workers)
	for i := range loops {
		var err error
		if loops[i], err = c.worker(); err != nil {
			return sample{}, err
		}
	}
	if err := run(loops, max(requests/10, 20*workers)); err != nil {
		return sample{}, err
	}
	c.dials.Store(0)
	callerAllocs, callerBytes, err := caller(l)
	if err != nil {
		return sample{}, err
	}
	runtime.GC()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	cpu0, start := cpuTime(), time.Now()
	err = run(loops, requests)
	wall, cpu1 := time.Since(start), cpuTime()
	runtime.ReadMemStats(&m1)
	n := float64(requests)
	return sample{Requests: requests, CPU: float64(cpu1-cpu0) / n, Wall: float64(wall),
		Allocs: float64(m1.Mallocs-m0.Mallocs)/n - callerAllocs,
		Bytes:  float64(m1.TotalAlloc-m0.TotalAlloc)/n - callerBytes, Dials: c.dials.Load()}, err
}

// run divides n requests among the workers.
func run(loops []func() error, n int) error {
	var (
		left atomic.Int64
		wg   sync.WaitGroup
		errs = make([]error, len(loops))
	)
	left.Store(int64(n))
	for i, do := range loops {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if errs[i] = do(); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return first(errs)
}

func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// caller returns what a careful caller of a RoundTripper allocates by itself.
func caller(l load) (allocs, bytes float64, err error) {
	next, err := requests(l)
	if err != nil {
		return 0, 0, err
	}
	const n = 2000
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	for range n {
		_, cancel := next()
		cancel()
	}
	runtime.ReadMemStats(&m1)
	return float64(m1.Mallocs-m0.Mallocs) / n, float64(m1.TotalAlloc-m0.TotalAlloc) / n, nil
}

// measureDials counts the connections that workers need for requests, from the
// very first.
func measureDials(c *client, workers, requests int) (sample, error) {
	loops := make([]func() error, workers)
	for i := range loops {
		var err error
		if loops[i], err = c.worker(); err != nil {
			return sample{}, err
		}
	}
	start := time.Now()
	err := run(loops, requests)
	return sample{Requests: requests, Wall: float64(time.Since(start)), Dials: c.dials.Load()}, err
}

// measureBurst counts the connections that workers open who begin at once, and how
// long their requests take.
func measureBurst(c *client, workers, requests int) (sample, error) {
	took := make([][]time.Duration, workers)
	failed := make([]int, workers)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range workers {
		do, err := c.worker()
		if err != nil {
			return sample{}, err
		}
		wg.Go(func() {
			<-begin
			for range requests / workers {
				start := time.Now()
				err := do()
				took[i] = append(took[i], time.Since(start))
				if err != nil {
					failed[i]++ // and the worker gives up: who hangs would hang again
					return
				}
			}
		})
	}
	start := time.Now()
	close(begin)
	wg.Wait()
	s := sample{Requests: requests, Wall: float64(time.Since(start)), Dials: c.dials.Load()}
	all := slices.Concat(took...)
	slices.Sort(all)
	s.P99 = float64(all[len(all)*99/100])
	for _, n := range failed {
		s.Failed += n
	}
	return s, nil
}

// measureIdle opens conns connections, lets them turn idle, and weighs them. The
// server answers when it has all requests, so that none shares a connection.
func measureIdle(c *client, conns int) (sample, error) {
	rss0, heap0, goroutines0 := memory()
	errs := make([]error, conns)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			var do func() error
			if do, errs[i] = c.worker(); errs[i] == nil {
				errs[i] = do()
			}
		})
	}
	wg.Wait()
	if err := first(errs); err != nil {
		return sample{}, err
	}
	rss1, heap1, goroutines1 := memory()
	n := float64(conns)
	return sample{Requests: conns, RSS: (rss1 - rss0) / n, Heap: (heap1 - heap0) / n, Goroutines: float64(goroutines1-goroutines0) / n, Dials: c.dials.Load()}, nil
}

// memory returns what is in use when everything that can be freed was.
func memory() (rss, heap float64, goroutines int) {
	for range 3 {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return residentSet(), float64(m.HeapAlloc), runtime.NumGoroutine()
}

// residentSet returns the process's resident memory, 0 where it is not shown.
func residentSet() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return float64(pages * os.Getpagesize())
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no reason to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
