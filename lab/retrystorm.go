package lab

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/resilience"
)

// retryStormExperiment has a server fail for a while, and its callers try again.
func retryStormExperiment() Experiment {
	return Experiment{
		Name:    "retry-storm",
		Source:  "helpers that try three more times at once: a server that fails gets four times the load, and stays down when its fault is over",
		Summary: "a server that fails 30 % of its requests, then all, then recovers: no retries, naive ones, a budget, a breaker",
		run:     runRetryStorm,
	}
}

const (
	outageRate    = 100                    // calls a second
	outageTries   = 4                      // of a call, at most
	outageTimeout = 300 * time.Millisecond // of a try
	outageTotal   = 2 * time.Second
	outageDelay   = 50 * time.Millisecond  // before the first retry
	outageBreak   = 500 * time.Millisecond // of the breaker
	outageBucket  = 100 * time.Millisecond
)

// outagePhase is a time in which so many tenths of the server's answers are failures.
type outagePhase struct {
	text    string
	length  time.Duration
	failing int64
}

const ( // of outagePhases
	allWell = iota
	someFail
	allFail
	wellAgain
)

func outagePhases(s Scale) []outagePhase {
	p := []outagePhase{
		allWell:   {"", 1500 * time.Millisecond, 0},
		someFail:  {"30 % fail", 2 * time.Second, 3},
		allFail:   {"all fail", 2500 * time.Millisecond, 10},
		wellAgain: {"the fault is over", 4 * time.Second, 0},
	}
	if s == Quick {
		for i, d := range []time.Duration{600, 800, 1200, 1600} {
			p[i].length = d * time.Millisecond
		}
	}
	return p
}

func runRetryStorm(ctx context.Context, s *session) error {
	phases := outagePhases(s.scale)
	length := time.Duration(0)
	for _, p := range phases {
		length += p.length
	}
	s.result.Note = fmt.Sprintf("%d calls a second, to a server that can do %d requests a second, failures included, has %d wait and refuses those beyond. "+
		"A try is given %v, where the standard pipeline's has 10 s; a call %v, not 30 s; the first retry comes after %v, not 2 s; "+
		"the breaker looks at %v, not 30 s, and at %d requests, not 100, and stays open for %v, not 5 s; budgets are a fifth and nothing beside it, where the default adds ten a second. "+
		"“Load” is what arrives at the server of each call that begins while all fail", outageRate, int(outageWorkers*time.Second/outageWork), outageQueue,
		outageTimeout, outageTotal, outageDelay, 2*outageBreak, outageRate/10, outageBreak)
	var all []rowMaker
	for _, r := range outageRows() {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) { return r.measure(ctx, variant, phases) }})
	}
	return s.compared(ctx, 0, all, length, judgeOutage)
}

// judgeOutage compares the rows with what is expected. Where the callers of the first, who
// ask once, are not answered in the end either, the machine had no time, and in the last
// attempt what takes time decides nothing.
func judgeOutage(rows []Variant, last bool) {
	busy := last && rows[0].Measured["success_at_the_end"].(float64) < 0.9
	for i := range rows {
		row := &rows[i]
		row.OK = row.meets()
		if row.OK || !busy || !row.Berth() {
			continue
		}
		counts := Variant{Measured: row.Measured, Expected: map[string]any{}}
		if rule, bound := row.Expected["load_of_the_run"]; bound {
			counts.Expected["load_of_the_run"] = rule
		}
		row.OK = counts.meets()
		row.Note = join(row.Note, "timing noisy: callers who ask once were not all answered after the fault either; the load of the run decides")
	}
}

// outageRow is a way to call.
type outageRow struct {
	name     string
	client   silentClient
	expected map[string]any
}

func outageRows() []outageRow {
	retry := func(b resilience.Budget) *resilience.Retry { return &resilience.Retry{Delay: outageDelay, Budget: b} }
	budget := resilience.Budget{Ratio: 0.2, MinPerSecond: -1}
	standard := resilience.Standard()
	standard.Retry = retry(budget)
	standard.Breaker = &resilience.Breaker{Window: 2 * outageBreak, Break: outageBreak, MinRequests: outageRate / 10}
	return []outageRow{
		{"net/http, no retries", naive(1), map[string]any{"load": "≤ 1.1", "success_at_the_end": "≥ 0.9"}},
		{"net/http, three more tries at once", naive(outageTries), map[string]any{"load": "≥ 3.5", "success_at_the_end": "≤ 0.5"}},
		{"berth, Retry without a budget", resilient(resilience.Config{Retry: retry(resilience.Budget{Ratio: -1})}), map[string]any{"load": "≥ 3"}},
		{"berth, Retry with a budget", resilient(resilience.Config{Retry: retry(budget)}),
			map[string]any{"load": "≤ 1.3", "load_of_the_run": "≤ 1.21", "success_at_the_end": "≥ 0.9", "recovered_ms": "≤ 600"}},
		{"berth, the standard pipeline", resilient(standard),
			map[string]any{"load": "≤ 0.3", "load_of_the_run": "≤ 1.21", "success_at_the_end": "≥ 0.9", "recovered_ms": "≤ 1200"}},
	}
}

// resilient is Berth behind a pipeline, with the experiment's timeouts.
func resilient(c resilience.Config) silentClient {
	c.Total, c.Attempt = &resilience.Timeout{After: outageTotal}, &resilience.Timeout{After: outageTimeout}
	return func() (http.RoundTripper, func(), error) {
		handler, err := c.Handler()
		if err != nil {
			return nil, nil, err
		}
		rt, end, err := ours(berth.Policy{})()
		if err != nil {
			return nil, nil, err
		}
		return handler(rt), end, nil
	}
}

// naive is net/http in a helper that asks again at once, up to so many tries, whatever
// went wrong.
func naive(tries int) silentClient {
	return func() (http.RoundTripper, func(), error) {
		rt, end, err := theirs(func(t *http.Transport, _ *net.Dialer) { t.MaxIdleConns, t.MaxIdleConnsPerHost = 1000, 1000 })()
		return roundTripFunc(func(req *http.Request) (resp *http.Response, err error) {
			for range tries {
				ctx, cancel := context.WithTimeout(req.Context(), outageTimeout)
				resp, err = rt.RoundTrip(req.WithContext(ctx))
				if err == nil {
					resp.Body.Close() // it is empty
				}
				cancel()
				if err == nil && resp.StatusCode == http.StatusOK || req.Context().Err() != nil {
					break
				}
			}
			return resp, err
		}), end, err
	}
}

// call is one, with all its tries.
type call struct {
	phase        int
	begun, ended time.Duration
	ok           bool
}

// measure calls at a rate, whatever becomes of the calls before, while the server goes
// through its phases.
func (r *outageRow) measure(ctx context.Context, variant byte, phases []outagePhase) (Variant, error) {
	row := Variant{Measured: map[string]any{}, Expected: r.expected}
	srv, err := serveStrained(variant)
	if err != nil {
		return row, err
	}
	defer srv.Close()
	rt, end, err := r.client()
	if err != nil {
		return row, err
	}
	defer end()
	var (
		calls []*call
		wg    sync.WaitGroup
		next  time.Duration // phase's begin
		since = make([]time.Duration, len(phases))
		start = srv.start
	)
	for phase, p := range phases {
		srv.failing.Store(p.failing)
		since[phase] = time.Since(start)
		if p.text != "" {
			row.Marks = append(row.Marks, Mark{round3(since[phase].Seconds()), p.text})
		}
		for n := range int(p.length * outageRate / time.Second) {
			if pause(ctx, time.Until(start.Add(next+time.Duration(n)*time.Second/outageRate))) != nil {
				break
			}
			c := &call{phase: phase, begun: time.Since(start)}
			calls = append(calls, c)
			wg.Go(func() {
				c.ok = callOnce(ctx, rt, srv.url(), phase)
				c.ended = time.Since(start)
			})
		}
		next += p.length
	}
	wg.Wait()
	if ctx.Err() != nil {
		return row, errInterrupted
	}
	row.Series = []Series{srv.arriving(), succeeding(calls)}
	made, arrived, received := 0, srv.arrivals(), 0
	for _, n := range arrived {
		received += n
	}
	good, of := make([]int, len(phases)), make([]int, len(phases))
	for _, c := range calls {
		of[c.phase]++
		if c.ok {
			good[c.phase]++
			made++
		}
	}
	// Of those that began when the fault was over, the last third.
	late := calls[len(calls)-of[wellAgain]/3:]
	row.Measured["calls"], row.Measured["succeeded"] = len(calls), made
	row.Measured["load"] = hundredths(arrived[allFail], of[allFail])
	row.Measured["load_of_the_run"] = hundredths(received, len(calls))
	row.Measured["load_30_pct"] = hundredths(arrived[someFail], of[someFail])
	row.Measured["success_30_pct"] = hundredths(good[someFail], of[someFail])
	row.Measured["success_at_the_end"] = hundredths(succeeded(late), len(late))
	if after, ok := recovered(calls[len(calls)-of[wellAgain]:], since[wellAgain]); ok {
		row.Measured["recovered_ms"] = ms(after)
	}
	return row, nil
}

func callOnce(ctx context.Context, rt http.RoundTripper, url string, phase int) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+strings.Repeat("x", phase), nil)
	if err != nil {
		return false
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func hundredths(n, of int) float64 {
	return math.Round(100*float64(n)/float64(max(of, 1))) / 100
}

func succeeded(calls []*call) (n int) {
	for _, c := range calls {
		if c.ok {
			n++
		}
	}
	return n
}

// recovered returns how long after the fault calls began of which nine in ten succeeded,
// and of all after them; false if that was not well within the run.
func recovered(calls []*call, over time.Duration) (time.Duration, bool) {
	for len(calls) >= outageRate/2 {
		n := 0
		for n < len(calls) && calls[n].begun-calls[0].begun < outageBucket {
			n++
		}
		if 10*succeeded(calls[:n]) >= 9*n && 10*succeeded(calls) >= 9*len(calls) {
			return max(calls[0].begun-over, 0), true
		}
		calls = calls[n:]
	}
	return 0, false
}

// succeeding is how many calls a second succeed, by their ends.
func succeeding(calls []*call) Series {
	counts := newRate("calls that succeed a second")
	for _, c := range calls {
		n := 0
		if c.ok {
			n = 1
		}
		counts.add(c.ended, n)
	}
	return counts.series()
}

// rate counts in steps of outageBucket.
type rate struct {
	name   string
	counts []int
}

func newRate(name string) *rate { return &rate{name: name} }

func (r *rate) add(at time.Duration, n int) {
	i := int(at / outageBucket)
	for len(r.counts) <= i {
		r.counts = append(r.counts, 0)
	}
	r.counts[i] += n
}

// series has the number a second in each step, at its end.
func (r *rate) series() Series {
	s := Series{Name: r.name, Unit: "s"}
	for i, n := range r.counts {
		s.Points = append(s.Points, [2]float64{round3((time.Duration(i+1) * outageBucket).Seconds()), float64(n) / outageBucket.Seconds()})
	}
	return s
}
