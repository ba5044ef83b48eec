package lab

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// kneeExperiment shows where latency spikes come from near a limit (seed 001): not
// from the pool, but from the queue that every limit has.
func kneeExperiment() Experiment {
	return Experiment{
		Name:    "knee",
		Source:  "seed 001: latency spikes near the connection limit",
		Summary: "open-loop arrivals from 50 to 120 % of what ten connections carry, beside queueing theory",
		run:     runKnee,
	}
}

const (
	kneeConns   = 10
	kneeService = 40 * time.Millisecond // the mean of an exponential distribution
	kneeSlack   = 1.10                  // of a perfect queue's p99
	kneeJitter  = 10 * time.Millisecond // of the scheduler
)

// arrival is one request: when it comes, and how long the server works on it.
type arrival struct{ at, service time.Duration }

// arrivals are those of a Poisson process with exponential service times, the same
// in every run: load 1 is what the connections just carry.
func arrivals(load float64, length time.Duration) []arrival {
	random := rand.New(rand.NewPCG(42, uint64(load*1000)))
	gap := float64(kneeService) / kneeConns / load
	var all []arrival
	for at := time.Duration(0); ; {
		at += time.Duration(random.ExpFloat64() * gap)
		if at >= length {
			return all
		}
		all = append(all, arrival{at, max(time.Duration(random.ExpFloat64()*float64(kneeService)).Round(time.Microsecond), time.Microsecond)})
	}
}

// perfect returns how long each request waits in a queue, first come, first served,
// before servers that lose no time: the recursion of Kiefer and Wolfowitz.
func perfect(all []arrival, servers int) []time.Duration {
	free := make([]time.Duration, servers) // when each server is
	waits := make([]time.Duration, len(all))
	for i, a := range all {
		first := 0
		for j := range free {
			if free[j] < free[first] {
				first = j
			}
		}
		start := max(a.at, free[first])
		waits[i] = start - a.at
		free[first] = start + a.service
	}
	return waits
}

// erlangC returns the mean wait of a queue in the long run (M/M/c, Erlang's second
// formula), and false at and above the load at which there is no long run.
func erlangC(load float64, servers int, service time.Duration) (time.Duration, bool) {
	if load >= 1 {
		return 0, false
	}
	a := load * float64(servers)
	b := 1.0 // Erlang's first formula, by its recursion
	for n := 1; n <= servers; n++ {
		b = a * b / (float64(n) + a*b)
	}
	waiting := b / (1 - load*(1-b))
	return time.Duration(waiting * float64(service) / (float64(servers) * (1 - load))), true
}

// quantile returns the q-quantile by nearest rank.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return v[min(int(math.Ceil(q*float64(len(v)))), len(v))-1]
}

func mean(values []time.Duration) time.Duration {
	var sum time.Duration
	for _, v := range values {
		sum += v
	}
	return sum / time.Duration(max(len(values), 1))
}

func runKnee(ctx context.Context, s *session) error {
	loads, length := []float64{0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2}, 4*time.Second
	switch s.scale {
	case Quick:
		length = time.Second
	case Full:
		loads, length = []float64{0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2}, 30*time.Second
	}
	s.result.Note = "wait is the time beyond the server's own; “perfect” is a queue that loses nothing, given the very same requests; " +
		"“in the long run” is Erlang's formula, which a short run only comes near, and which has no answer from 100 % on"
	clients := []string{"berth", "net/http"}
	curves := map[string]*kneeCurves{"berth": newKneeCurves(), "net/http": newKneeCurves()}
	for i, load := range loads {
		all := arrivals(load, length)
		// Both at once: they wait nearly all the time, and so meet the same machine.
		runs := map[string]*kneeRun{}
		var wg sync.WaitGroup
		s.progress("%.0f %% of what %d connections carry, %d requests", load*100, kneeConns, len(all))
		for j, name := range clients {
			r := &kneeRun{}
			runs[name] = r
			wg.Go(func() { r.run(ctx, byte(2*i+j+1), name, all) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return errInterrupted
		}
		for _, name := range clients {
			if err := runs[name].err; err != nil {
				return err
			}
			curves[name].add(load, runs[name].waits, perfect(runs[name].done, kneeConns))
			v := runs[name].variant(name, load)
			if i == len(loads)-1 { // the curves hang on each client's last row
				v.Series = curves[name].series()
			}
			s.add(v)
		}
	}
	return nil
}

// kneeCurves are a client's waits over the load.
type kneeCurves struct{ p50, p99, perfect Series }

func newKneeCurves() *kneeCurves {
	const unit = "ms over % of capacity"
	return &kneeCurves{Series{Name: "wait p50", Unit: unit}, Series{Name: "wait p99", Unit: unit}, Series{Name: "perfect p99", Unit: unit}}
}

func (c *kneeCurves) add(load float64, waits, perfect []time.Duration) {
	c.p50.Points = append(c.p50.Points, [2]float64{load * 100, ms(quantile(waits, 0.5))})
	c.p99.Points = append(c.p99.Points, [2]float64{load * 100, ms(quantile(waits, 0.99))})
	c.perfect.Points = append(c.perfect.Points, [2]float64{load * 100, ms(quantile(perfect, 0.99))})
}

func (c *kneeCurves) series() []Series { return []Series{c.p50, c.p99, c.perfect} }

// kneeRun is what one client did with the arrivals.
type kneeRun struct {
	done     []arrival       // with the time that the server really took: its timers are coarse
	waits    []time.Duration // beyond that; from the planned arrival on
	most     int
	observed bool
	err      error
}

// run sends every request at its time, whatever became of those before it.
func (r *kneeRun) run(ctx context.Context, variant byte, client string, all []arrival) {
	srv, err := serveAsked(variant)
	if err != nil {
		r.err = err
		return
	}
	defer srv.Close()
	rt, done, err := kneeClient(client)
	if err != nil {
		r.err = err
		return
	}
	defer done()
	// The connections are opened before: this is about the queue.
	var warm sync.WaitGroup
	for range kneeConns {
		warm.Go(func() { ask(ctx, rt, srv.url(), kneeService) })
	}
	warm.Wait()
	stop := watch(ctx, srv.addr)
	r.done, r.waits = slices.Clone(all), make([]time.Duration, len(all))
	errs := make(chan error, len(all))
	start := time.Now()
	for i, a := range all {
		if pause(ctx, time.Until(start.Add(a.at))) != nil {
			errs <- errInterrupted
			continue
		}
		go func() { // all are received below
			worked, err := ask(ctx, rt, srv.url(), a.service)
			r.done[i].service = worked
			r.waits[i] = max(0, time.Since(start)-a.at-worked)
			errs <- err
		}()
	}
	r.err = gather(ctx, errs, len(all))
	r.most, r.observed = stop()
}

func kneeClient(name string) (http.RoundTripper, func(), error) {
	if name == "net/http" {
		tr := &http.Transport{MaxConnsPerHost: kneeConns, MaxIdleConnsPerHost: kneeConns}
		return tr, tr.CloseIdleConnections, nil
	}
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: kneeConns}})
	if err != nil {
		return nil, nil, err
	}
	return tr, func() { tr.Close() }, nil
}

// serveAsked starts a server that works on each request as long as its path says,
// in microseconds.
func serveAsked(variant byte) (*server, error) {
	ln, err := listen(7, variant)
	if err != nil {
		return nil, err
	}
	o := origin.New(ln).Handle(func(c *origin.Conn) {
		for {
			req, err := c.ReadRequest()
			if err != nil {
				return
			}
			us, _ := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/"))
			start := time.Now()
			if !c.Sleep(time.Duration(us) * time.Microsecond) {
				return
			}
			if c.Writef("HTTP/1.1 200 OK\r\nWorked: %d\r\nContent-Length: 2\r\n\r\nok", time.Since(start).Microseconds()) != nil {
				return
			}
		}
	})
	return &server{o, addrOf(ln)}, nil
}

// ask sends a request that the server works on for a while, and returns for how
// long it says it did.
func ask(ctx context.Context, rt http.RoundTripper, url string, service time.Duration) (worked time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+strconv.FormatInt(service.Microseconds(), 10), nil)
	if err != nil {
		return 0, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	us, err := strconv.Atoi(resp.Header.Get("Worked"))
	return time.Duration(us) * time.Microsecond, err
}

func (r *kneeRun) variant(name string, load float64) Variant {
	ideal := perfect(r.done, kneeConns)
	p99, want := quantile(r.waits, 0.99), quantile(ideal, 0.99)
	v := Variant{Name: fmt.Sprintf("%s at %.0f %%", name, load*100),
		Measured: map[string]any{"wait_p50_ms": ms(quantile(r.waits, 0.5)), "wait_p99_ms": ms(p99), "wait_mean_ms": ms(mean(r.waits)),
			"requests": len(r.waits), "connections": r.most},
		Expected: map[string]any{"perfect_p50_ms": ms(quantile(ideal, 0.5)), "perfect_p99_ms": ms(want), "perfect_mean_ms": ms(mean(ideal)),
			"connections": fmt.Sprintf("≤ %d", kneeConns)},
		OK: !r.observed || r.most <= kneeConns}
	if !r.observed {
		v.Measured["connections"] = NotObserved
	}
	if w, ok := erlangC(load, kneeConns, kneeService); ok {
		v.Expected["long_run_mean_ms"] = ms(w)
	}
	if p99 > time.Duration(kneeSlack*float64(want))+kneeJitter {
		v.Note = "timing noisy: p99 is above the perfect queue's by more than the scheduler explains; the connections decide"
	}
	return v
}
