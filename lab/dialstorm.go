package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// dialStormExperiment has connections take longer to open than requests may take.
func dialStormExperiment() Experiment {
	return Experiment{
		Name:    "dial-storm",
		Source:  "dials that take longer than a request may: connections are opened for nobody, or all at once",
		Summary: "dials slower than the request's timeout, hedged requests, a host that refuses, and the burst after a start or a quiet time",
		run:     runDialStorm,
	}
}

const (
	stormDial    = 400 * time.Millisecond // what a dial takes
	stormTimeout = 250 * time.Millisecond // of a request, less than that
	stormEnough  = 1500 * time.Millisecond
	stormWorkers = 8

	hedgeBurst = 20
	hedgeAfter = 100 * time.Millisecond

	refusedFor     = 700 * time.Millisecond
	refusedWorkers = 4

	coldBurst   = 20
	coldDial    = 300 * time.Millisecond
	coldLatency = 5 * time.Millisecond
	coldIdle    = 300 * time.Millisecond // of the client, or of the server
	coldQuiet   = 900 * time.Millisecond
)

func runDialStorm(ctx context.Context, s *session) error {
	length := 4 * time.Second
	if s.scale == Quick {
		length = 2 * time.Second
	}
	s.result.Note = fmt.Sprintf("in the first rows a dial takes %v, and a request is given %v; after a start or a quiet time, %d requests come at once and a dial takes %v: “slow” are those that took as long. "+
		"Dials are counted as they begin, connections by the server", stormDial, stormTimeout, coldBurst, coldDial)
	s.progress("rows at once, %v", length)
	all := stormRows(length)
	all = append(all, hedgeRows()...)
	if err := s.together(ctx, append(all, coldRows()...)); err != nil {
		return err
	}
	for i, v := range []struct {
		name string
		ours bool
	}{{"berth, refused, asked again and again", true}, {"net/http, refused, asked again and again", false}} {
		s.progress("%s, %v", v.name, refusedFor)
		row, err := refusedRow(ctx, byte(200+i), v.ours)
		if err != nil {
			return err
		}
		row.Name = v.name
		s.add(row)
	}
	return nil
}

// dialer is a way to dial that takes long, and counts.
type dialer struct {
	takes time.Duration

	mu                 sync.Mutex
	started, now, most int // dials: begun, in flight, at most in flight
	start              time.Time
	series             Series
}

func newDialer(takes time.Duration) *dialer {
	return &dialer{takes: takes, start: time.Now(), series: Series{Name: "dials", Unit: "s", Points: [][2]float64{{0, 0}}}}
}

// deadlineKey has the deadline of the request that caused a dial; the transport detaches
// the dial from it.
type deadlineKey struct{}

// dial ends at the request's deadline where that is in ctx.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.started++
	d.now++
	d.most = max(d.most, d.now)
	d.series.Points = append(d.series.Points, [2]float64{round3(time.Since(d.start).Seconds()), float64(d.started)})
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.now--
	}()
	if end, ok := ctx.Value(deadlineKey{}).(time.Time); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end)
		defer cancel()
	}
	t := time.NewTimer(d.takes)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var nd net.Dialer
	return nd.DialContext(ctx, network, addr)
}

// counts returns the dials begun, and how many at once.
func (d *dialer) counts() (started, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started, d.most
}

// line is the dials over time, to the end.
func (d *dialer) line() Series {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.series
	s.Points = append(slices.Clone(s.Points), [2]float64{round3(time.Since(d.start).Seconds()), float64(d.started)})
	return s
}

// dialing makes a client that dials by d.
type dialing func(d *dialer) (rt http.RoundTripper, end func(), err error)

func theirDialing(change func(*http.Transport)) dialing {
	return func(d *dialer) (http.RoundTripper, func(), error) {
		t := &http.Transport{DialContext: d.dial, MaxIdleConnsPerHost: 100}
		if change != nil {
			change(t)
		}
		return t, t.CloseIdleConnections, nil
	}
}

func ourDialing(p berth.Policy) dialing {
	return func(d *dialer) (http.RoundTripper, func(), error) {
		tr, err := berth.New(berth.Config{Policy: p, Proxy: berth.NoProxy, DialContext: d.dial})
		if err != nil {
			return nil, nil, err
		}
		return tr, func() { tr.Close() }, nil
	}
}

// tied is net/http with dials that end when their requests' time is up, as pools have them
// that dial on the request's own time.
func tied(d *dialer) (http.RoundTripper, func(), error) {
	rt, end, err := theirDialing(nil)(d)
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if end, ok := req.Context().Deadline(); ok {
			req = req.WithContext(context.WithValue(req.Context(), deadlineKey{}, end))
		}
		return rt.RoundTrip(req)
	}), end, err
}

// stormRows send with less time than a dial takes.
func stormRows(length time.Duration) (all []rowMaker) {
	for _, r := range []struct {
		name    string
		client  dialing
		timeout time.Duration
		answers bool
		most    int // dials at once; 0 is not looked at
	}{
		{"berth, the dial is the pool's", ourDialing(berth.Policy{}), stormTimeout, true, 0},
		{"berth, the dial is the pool's, MaxDials 2", ourDialing(berth.Policy{MaxDials: 2}), stormTimeout, true, 2},
		{"net/http, the dial goes on", theirDialing(nil), stormTimeout, true, 0},
		{"net/http, the dial ends with its request", tied, stormTimeout, false, 0},
		{"net/http, the dial ends with its request, a timeout of 1.5 s", tied, stormEnough, true, 0},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) {
			row := Variant{Measured: map[string]any{}, Expected: map[string]any{"answered": 0}}
			srv, err := serve(23, variant, 0)
			if err != nil {
				return row, err
			}
			defer srv.Close()
			d := newDialer(stormDial)
			rt, end, err := r.client(d)
			if err != nil {
				return row, err
			}
			defer end()
			var (
				wg       sync.WaitGroup
				mu       sync.Mutex
				answered int
				failed   int
			)
			start := time.Now()
			for range stormWorkers {
				wg.Go(func() {
					for ctx.Err() == nil && time.Since(start) < length {
						err := fetchWithin(ctx, rt, srv.url(), r.timeout)
						mu.Lock()
						if err == nil {
							answered++
						} else {
							failed++
						}
						mu.Unlock()
						if err == nil {
							pause(ctx, silenceThink)
						}
					}
				})
			}
			wg.Wait()
			if ctx.Err() != nil {
				return row, errInterrupted
			}
			started, most := d.counts()
			row.Series = []Series{d.line()}
			row.Measured["dials"], row.Measured["dials_at_once"], row.Measured["connections"] = started, most, srv.Stats().Accepted
			row.Measured["answered"], row.Measured["failed"] = answered, failed
			row.OK = (answered > 0) == r.answers
			if r.answers {
				row.Expected["answered"] = "> 0"
			} else {
				row.Expected["dials"] = "one a request"
				row.OK = row.OK && started == failed
			}
			if r.most > 0 {
				row.Expected["dials_at_once"] = fmt.Sprintf("≤ %d", r.most)
				row.OK = row.OK && most <= r.most
			}
			return row, nil
		}})
	}
	return all
}

// hedgeRows send a burst, in which a request that has no answer soon is sent once more.
func hedgeRows() (all []rowMaker) {
	for _, r := range []struct {
		name   string
		client dialing
		hedged bool
		most   int // dials at once
	}{
		{"berth, a burst, hedged, MaxDials 10", ourDialing(berth.Policy{MaxDials: 10}), true, 10},
		{"net/http, a burst", theirDialing(nil), false, hedgeBurst},
		{"net/http, a burst, hedged", theirDialing(nil), true, 2 * hedgeBurst},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) {
			row := Variant{Measured: map[string]any{}, Expected: map[string]any{"failed": 0, "dials_at_once": r.most}}
			srv, err := serve(23, variant, 0)
			if err != nil {
				return row, err
			}
			defer srv.Close()
			d := newDialer(2 * stormDial) // the hedge is sent well before it ends, on a busy machine too
			rt, end, err := r.client(d)
			if err != nil {
				return row, err
			}
			defer end()
			var wg sync.WaitGroup
			errs := make([]error, hedgeBurst)
			for i := range errs {
				wg.Go(func() { errs[i] = hedge(ctx, rt, srv.url(), r.hedged) })
			}
			wg.Wait()
			if ctx.Err() != nil {
				return row, errInterrupted
			}
			failed := len(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
			started, most := d.counts()
			row.Series = []Series{d.line()}
			row.Measured["requests"], row.Measured["failed"], row.Measured["dials"], row.Measured["dials_at_once"] = hedgeBurst, failed, started, most
			row.OK = failed == 0 && most == r.most
			return row, nil
		}})
	}
	return all
}

// hedge sends a request, and once more when no answer comes soon. The first answer counts.
func hedge(ctx context.Context, rt http.RoundTripper, url string, hedged bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n := 1
	results := make(chan error, 2)
	send := func() { results <- fetch(ctx, rt, url, true) }
	go send() // all are received below
	var first error
	if hedged {
		select {
		case first = <-results:
			return first
		case <-time.After(hedgeAfter):
			n++
			go send()
		}
	}
	first = <-results
	if first == nil {
		cancel()
	}
	for range n - 1 {
		if err := <-results; err == nil {
			first = nil
		}
	}
	return first
}

// coldRows send a burst through a pool that has nothing open, and through one that has.
func coldRows() (all []rowMaker) {
	short := berth.Policy{IdleTimeout: coldIdle}
	kept := berth.Policy{IdleTimeout: coldIdle, MinIdle: coldBurst}
	warm := func(ctx context.Context, rt http.RoundTripper, url string) error {
		ep, err := rt.(*berth.Transport).Endpoint(url)
		if err != nil {
			return err
		}
		return ep.Warm(ctx, coldBurst)
	}
	for _, r := range []struct {
		name   string
		client dialing
		warm   func(ctx context.Context, rt http.RoundTripper, url string) error
		quiet  bool          // the burst comes after another and a quiet time
		closes time.Duration // the server closes what is idle for so long; 0 never
		slow   int
	}{
		{"berth, after a start", ourDialing(berth.Policy{}), nil, false, 0, coldBurst},
		{"berth, after a start, Warm", ourDialing(berth.Policy{}), warm, false, 0, 0},
		{"berth, after a quiet time", ourDialing(short), nil, true, 0, coldBurst},
		{"berth, after a quiet time, MinIdle", ourDialing(kept), nil, true, 0, 0},
		{"berth, after a quiet time, a longer idle timeout than the server's", ourDialing(berth.Policy{}), nil, true, coldIdle, coldBurst},
		{"net/http, after a start", theirDialing(nil), nil, false, 0, coldBurst},
		{"net/http, after a start, MaxIdleConnsPerHost 1000", theirDialing(func(t *http.Transport) { t.MaxIdleConnsPerHost, t.MaxIdleConns = 1000, 1000 }), nil, false, 0, coldBurst},
		{"net/http, after a quiet time", theirDialing(func(t *http.Transport) { t.IdleConnTimeout = coldIdle }), nil, true, 0, coldBurst},
		{"net/http, after a quiet time, a longer idle timeout than the server's", theirDialing(nil), nil, true, coldIdle, coldBurst},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) {
			row := Variant{Measured: map[string]any{}, Expected: map[string]any{"slow": r.slow, "failed": 0}}
			ln, err := listen(23, variant)
			if err != nil {
				return row, err
			}
			srv := &server{origin.New(ln).Handle(func(c *origin.Conn) {
				for {
					if r.closes > 0 {
						c.NetConn().SetReadDeadline(time.Now().Add(r.closes))
					}
					if _, err := c.ReadHead(); err != nil || !c.Sleep(coldLatency) || c.Write(string(answer)) != nil {
						return
					}
				}
			}), addrOf(ln)}
			defer srv.Close()
			d := newDialer(coldDial)
			rt, end, err := r.client(d)
			if err != nil {
				return row, err
			}
			defer end()
			if r.warm != nil {
				if err := r.warm(ctx, rt, srv.url()); err != nil {
					return row, err
				}
			}
			if r.quiet {
				if first := burstOf(ctx, rt, srv.url(), srv, false, coldBurst); failures(first) > 0 {
					return row, first[slices.IndexFunc(first, func(s sample) bool { return s.err != nil })].err
				}
				pause(ctx, coldQuiet)
			}
			burst := burstOf(ctx, rt, srv.url(), srv, false, coldBurst)
			if ctx.Err() != nil {
				return row, errInterrupted
			}
			slow := 0
			for _, one := range burst {
				if one.took >= coldDial {
					slow++
				}
			}
			row.Series = []Series{latencies(durations(burst))}
			row.Measured["requests"], row.Measured["slow"], row.Measured["failed"] = coldBurst, slow, failures(burst)
			row.Measured["p50_ms"], row.Measured["p99_ms"] = ms(quantile(durations(burst), 0.5)), ms(quantile(durations(burst), 0.99))
			row.OK = failures(burst) == 0 && slow == r.slow
			return row, nil
		}})
	}
	return all
}

// refusedRow asks again and again where nobody listens.
func refusedRow(ctx context.Context, variant byte, ours bool) (Variant, error) {
	row := Variant{Measured: map[string]any{}, Expected: map[string]any{"dials": "one a request"}}
	ln, err := listen(23, variant)
	if err != nil {
		return row, err
	}
	at := addrOf(ln)
	ln.Close()
	d := newDialer(0)
	client := theirDialing(nil)
	if ours {
		client = ourDialing(berth.Policy{})
	}
	rt, end, err := client(d)
	if err != nil {
		return row, err
	}
	defer end()
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		requests int
		last     error
	)
	start := time.Now()
	for range refusedWorkers {
		wg.Go(func() {
			for ctx.Err() == nil && time.Since(start) < refusedFor {
				err := fetchWithin(ctx, rt, "http://"+at.String()+"/", 5*time.Second)
				mu.Lock()
				requests++
				last = err
				mu.Unlock()
				if err == nil {
					return
				}
				pause(ctx, 100*time.Microsecond) // the other side of the loop has work, too
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	switch {
	case ctx.Err() != nil:
		return row, errInterrupted
	case last == nil:
		return row, errors.New("somebody listens where nobody should")
	}
	started, _ := d.counts()
	line := d.line()
	line.Points = slices.DeleteFunc(line.Points, func(p [2]float64) bool { return int(p[1])%max(started/200, 1) != 0 })
	row.Series = []Series{line}
	row.Measured["requests"], row.Measured["dials"] = requests, started
	row.Measured["dials_per_s"] = float64(int(float64(started)/took.Seconds()*10+0.5)) / 10
	row.Measured["error"] = strings.ReplaceAll(last.Error(), at.String(), "server")
	row.OK = started >= requests*9/10
	if ours {
		row.Expected["dials"] = "≤ 20"
		row.OK = started <= 20
	}
	return row, nil
}
