package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/resilience"
)

// hedgeExperiment sends slow requests a second time.
func hedgeExperiment() Experiment {
	return Experiment{
		Name:    "hedge",
		Source:  "slow answers that are no fault of the request: a second attempt cuts the tail, and may become the overload that it was to help against",
		Summary: "one answer in fifty takes fifty times as long: with and without hedging, with room in the pool and without",
		run:     runHedge,
	}
}

const (
	tailMedian = 10 * time.Millisecond // of the answers: from 8 to 12 ms
	tailSpread = 2 * time.Millisecond
	tailSlow   = 50 * tailMedian
	tailShare  = 0.02

	tailRate   = 200                    // requests a second
	tailRoom   = 30                     // connections, which hedges do not fill
	tailDelay  = 3 * tailMedian         // of the hedge
	tailAtMost = 100 * time.Millisecond // with a quantile, while nothing is known

	crowdConns   = 8                     // a pool that is always full,
	crowdWorkers = 16                    // by twice as many who want a connection
	crowdMedian  = 50 * time.Millisecond // of a server that is slow
)

func runHedge(ctx context.Context, s *session) error {
	free, full := 6*time.Second, 4*time.Second
	if s.scale == Quick {
		free, full = 3*time.Second, 2*time.Second
	}
	s.result.Note = fmt.Sprintf("answers take %v ± %v, and %.0f %% of them %v, whatever the request. First %d requests a second over at most %d connections, "+
		"then %d workers over %d; where every answer is slow, they take %v. A hedge is sent after %v, or after the 95th percentile; by hand, always and whatever the pool has. “Wait” is for a connection",
		tailMedian, tailSpread, 100*tailShare, tailSlow, tailRate, tailRoom, crowdWorkers, crowdConns, crowdMedian, tailDelay)
	fixed := &resilience.Hedge{Delay: tailDelay}
	if err := s.tailRows(ctx, 0, free, []tailRow{
		{name: "berth, no hedging", conns: tailRoom, plain: true},
		{name: "berth, hedged after 30 ms", conns: tailRoom, hedge: fixed},
		{name: "berth, hedged after the 95th percentile", conns: tailRoom, hedge: &resilience.Hedge{Delay: tailAtMost, Quantile: 0.95}},
		{name: "net/http, no hedging", conns: tailRoom, theirs: true},
		{name: "net/http, hedged by hand", conns: tailRoom, theirs: true, hedge: fixed},
	}); err != nil {
		return err
	}
	return s.tailRows(ctx, 10, full, []tailRow{
		{name: "berth, pool full, no hedging", conns: crowdConns, crowd: true, plain: true},
		{name: "berth, pool full, hedged after 30 ms", conns: crowdConns, crowd: true, hedge: fixed},
		{name: "net/http, pool full, no hedging", conns: crowdConns, crowd: true, theirs: true},
		{name: "net/http, pool full, hedged by hand", conns: crowdConns, crowd: true, theirs: true, hedge: fixed},
		{name: "berth, pool full, every answer slow, no hedging", conns: crowdConns, crowd: true, slow: true, plain: true},
		{name: "berth, pool full, every answer slow, hedged after 30 ms", conns: crowdConns, crowd: true, slow: true, hedge: fixed},
		{name: "net/http, pool full, every answer slow, no hedging", conns: crowdConns, crowd: true, slow: true, theirs: true},
		{name: "net/http, pool full, every answer slow, hedged by hand", conns: crowdConns, crowd: true, slow: true, theirs: true, hedge: fixed},
	})
}

// tailRow is a way to send. What is hedged over Berth is measured against its plain row.
type tailRow struct {
	name   string
	conns  int
	hedge  *resilience.Hedge
	theirs bool
	crowd  bool // closed loop, by more workers than there are connections
	slow   bool // the server is, not one answer in fifty
	plain  bool
}

// tailRows makes the rows, and compares them with each other.
func (s *session) tailRows(ctx context.Context, variant byte, length time.Duration, all []tailRow) error {
	var makers []rowMaker
	for _, r := range all {
		makers = append(makers, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) { return r.measure(ctx, variant, length) }})
	}
	return s.compared(ctx, variant, makers, length, func(rows []Variant, last bool) {
		var plain *Variant
		for i, r := range all {
			if r.plain {
				plain = &rows[i]
			}
			r.judge(&rows[i], plain, last)
		}
	})
}

// judge says what is expected. plain is Berth's row without hedging. Where its answers show
// that the machine had no time, times decide nothing in the last attempt.
func (r *tailRow) judge(row, plain *Variant, last bool) {
	row.Expected["failed"] = 0
	if !r.theirs {
		row.Expected["connections_at_once"] = fmt.Sprintf("≤ %d", r.conns)
	}
	if r.hedge != nil && !r.theirs {
		// A tenth of the requests, and one a second of the run and of ten seconds before.
		row.Expected["extra_load_pct"] = fmt.Sprintf("≤ %.1f", 10+100*(row.Measured["seconds"].(float64)+10)/float64(row.Measured["requests"].(int)))
		if r.crowd {
			row.Expected["wait_p99_ms"] = fmt.Sprintf("≤ %.1f", 1.5*plain.Measured["wait_p99_ms"].(float64)+10)
			row.Expected["hedges_refused_by_the_pool"] = "> 0"
		} else {
			row.Measured["p99_to_unhedged"] = hundredths(int(1000*row.Measured["p99_ms"].(float64)), int(1000*plain.Measured["p99_ms"].(float64)))
			row.Expected["p99_to_unhedged"] = "≤ 0.5"
		}
	}
	if r.theirs && r.hedge != nil && r.slow {
		row.Expected["extra_load_pct"] = "> 20"
	}
	row.OK = row.meets()
	if p50 := plain.Measured["p50_ms"].(float64); !row.OK && !r.theirs && last && p50 > 2*ms(r.quiet()) {
		counts := Variant{Measured: row.Measured, Expected: maps.Clone(row.Expected)}
		delete(counts.Expected, "p99_to_unhedged")
		delete(counts.Expected, "wait_p99_ms")
		row.OK = counts.meets()
		row.Note = join(row.Note, fmt.Sprintf("timing noisy: half of the requests that were not hedged took more than %v ms, which they do not on a machine with time; the counts decide", p50))
	}
}

// quiet is what half of the requests take at most, about, if nothing disturbs them.
func (r *tailRow) quiet() time.Duration {
	switch {
	case r.slow:
		return crowdWorkers / crowdConns * crowdMedian
	case r.crowd:
		return crowdWorkers / crowdConns * 3 / 2 * tailMedian
	}
	return tailMedian
}

// client makes what a row sends by, and counts the hedges that the pool refuses.
func (r *tailRow) client(dials *dialCount, refused *atomic.Int64) (http.RoundTripper, func(), error) {
	if r.theirs {
		t := &http.Transport{DialContext: dials.dial, MaxConnsPerHost: r.conns, MaxIdleConnsPerHost: r.conns}
		if r.hedge != nil {
			return byHand{t, r.hedge.Delay}, t.CloseIdleConnections, nil
		}
		return t, t.CloseIdleConnections, nil
	}
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: r.conns}, Proxy: berth.NoProxy, DialContext: dials.dial})
	if err != nil || r.hedge == nil {
		return tr, func() { tr.Close() }, err
	}
	hedge := *r.hedge
	hedge.Trace = &resilience.Trace{Reject: func(i resilience.RejectInfo) {
		if i.Why == "queue" {
			refused.Add(1)
		}
	}}
	handler, err := hedge.Handler()
	if err != nil {
		tr.Close()
		return nil, nil, err
	}
	return handler(tr), func() { tr.Close() }, nil
}

func (r *tailRow) measure(ctx context.Context, variant byte, length time.Duration) (Variant, error) {
	row := Variant{Name: r.name, Measured: map[string]any{}, Expected: map[string]any{}}
	srv, err := serveTail(variant, r.slow)
	if err != nil {
		return row, err
	}
	defer srv.Close()
	var refused atomic.Int64
	dials := &dialCount{start: time.Now(), series: Series{Name: "connections", Unit: "s"}}
	rt, end, err := r.client(dials, &refused)
	if err != nil {
		return row, err
	}
	defer end()
	var waits waited
	rt = waits.over(rt)
	start := time.Now()
	var all []sample
	if r.crowd {
		all = closedLoop(ctx, func() http.RoundTripper { return rt }, srv.url(), crowdWorkers, length, 0)
	} else {
		all = openLoop(ctx, rt, srv.url(), int(length*tailRate/time.Second), tailRate)
	}
	took := time.Since(start)
	received := srv.Stats().Requests
	dials.mu.Lock() // hedges of net/http that were late may still end
	opened, most := dials.opened, dials.most
	row.Series = []Series{dials.series, latencies(durations(all))}
	dials.mu.Unlock()
	waits.mu.Lock()
	defer waits.mu.Unlock()
	row.Measured["requests"], row.Measured["failed"], row.Measured["seconds"] = len(all), failures(all), math.Round(10*took.Seconds())/10
	row.Measured["p50_ms"], row.Measured["p99_ms"], row.Measured["p999_ms"] = ms(quantile(durations(all), 0.5)), ms(quantile(durations(all), 0.99)), ms(quantile(durations(all), 0.999))
	row.Measured["wait_p50_ms"], row.Measured["wait_p99_ms"] = ms(quantile(waits.all, 0.5)), ms(quantile(waits.all, 0.99))
	row.Measured["extra_load_pct"] = math.Round(1000*float64(received-len(all))/float64(max(len(all), 1))) / 10
	row.Measured["connections"], row.Measured["connections_at_once"] = opened, most
	if r.hedge != nil && !r.theirs {
		row.Measured["hedges_refused_by_the_pool"] = int(refused.Load())
	}
	for _, one := range all {
		if one.err != nil {
			row.Measured["error"] = one.err.Error()
			break
		}
	}
	return row, nil
}

// serveTail starts a server one in fifty of whose answers is slow, the same by the order of
// arrival in every row; or one all of whose answers are, and none very.
func serveTail(variant byte, all bool) (*server, error) {
	ln, err := listen(53, variant)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(53, 1))
	next := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		slow, median := random.Float64() < tailShare, tailMedian
		if slow && !all {
			return tailSlow
		}
		if all {
			median = crowdMedian
		}
		return median + time.Duration((2*random.Float64()-1)*float64(tailSpread))
	}
	return &server{origin.New(ln).Handle(func(c *origin.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil || !c.Sleep(next()) || c.Write(string(answer)) != nil {
				return
			}
		}
	}), addrOf(ln)}, nil
}

// waited notes how long requests waited until the first of their attempts had a connection.
type waited struct {
	mu  sync.Mutex
	all []time.Duration
}

func (w *waited) over(rt http.RoundTripper) http.RoundTripper {
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		begun := time.Now()
		var once sync.Once
		trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
			once.Do(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.all = append(w.all, time.Since(begun))
			})
		}}
		return rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	})
}

// byHand hedges as helpers do that are written in an afternoon: after a delay the request
// is sent once more, whatever it finds, and the first answer counts.
type byHand struct {
	next  http.RoundTripper
	delay time.Duration
}

func (h byHand) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel() // of who is late
	type outcome struct {
		resp *http.Response
		err  error
	}
	outcomes := make(chan outcome, 2)
	send := func() {
		resp, err := h.next.RoundTrip(req.WithContext(ctx))
		if err == nil {
			var b []byte
			b, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			resp.Body = io.NopCloser(bytes.NewReader(b))
		}
		outcomes <- outcome{resp, err}
	}
	go send() // its outcome has room
	running := 1
	late := time.NewTimer(h.delay)
	defer late.Stop()
	for {
		select {
		case <-late.C:
			running++
			go send() // its outcome has room
		case o := <-outcomes:
			if running--; o.err == nil || running == 0 {
				return o.resp, o.err
			}
		}
	}
}
