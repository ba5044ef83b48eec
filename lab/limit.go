package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
)

// limitExperiment tries seed 002's second claim: two hundred concurrent requests
// over 2 and over 10 connections.
func limitExperiment() Experiment {
	return Experiment{
		Name:    "limit",
		Source:  "seed 002: MaxConnectionsPerServer 2 and 10, 200 requests, 8013 and 2123 ms",
		Summary: "concurrent requests, 80 ms each, over 2, 10 and unlimited connections",
		run:     runLimit,
	}
}

const (
	limitLatency  = 80 * time.Millisecond
	limitSlack    = 1.02 // of the raw loop in the same run
	limitAttempts = 3
)

// sender sends n requests at once to a server and returns when all are answered. The
// clock notes each answer.
type sender func(ctx context.Context, s *server, n, conns int, clock *clocked) error

func runLimit(ctx context.Context, s *session) error {
	requests := 200
	if s.scale == Quick {
		requests = 40
	}
	s.result.Note = "the seed's 8013 ms (limit 2) and 2123 ms (limit 10) were measured over the internet, at an unknown latency"
	variant := byte(0)
	for _, conns := range []int{2, 10, 0} {
		for attempt := 1; ; attempt++ {
			row := func(name string, send sender) (limitRun, error) {
				variant++
				s.progress("%s, %d requests%s", name, requests, again(attempt))
				return measureLimit(ctx, variant, send, requests, conns)
			}
			suffix := " unlimited"
			var raw limitRun
			var err error
			if conns > 0 {
				suffix = fmt.Sprintf(" limit %d", conns)
				if raw, err = row("raw loop"+suffix, sendRaw); err != nil {
					return err
				}
			}
			ours, err := row("berth"+suffix, sendBerth)
			if err != nil {
				return err
			}
			missed := conns > 0 && ours.wall.Seconds() > limitSlack*raw.wall.Seconds()
			if missed && attempt < limitAttempts && ours.held(conns) {
				continue
			}
			v := ours.variant("berth"+suffix, conns, requests, raw.wall)
			if missed {
				v.Note = join(v.Note, fmt.Sprintf("timing noisy: missed %d times, the counts decide", attempt))
			}
			s.add(v)
			if conns > 0 {
				s.add(raw.variant("raw loop"+suffix, conns, requests, raw.wall))
			}
			theirs, err := row("net/http"+suffix, sendNetHTTP)
			if err != nil {
				return err
			}
			s.add(theirs.variant("net/http"+suffix, conns, requests, raw.wall))
			break
		}
	}
	return nil
}

func again(attempt int) string {
	if attempt == 1 {
		return ""
	}
	return fmt.Sprintf(" (attempt %d: the time was missed)", attempt)
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// limitRun is what one variant did.
type limitRun struct {
	wall     time.Duration
	most     int // connections that the kernel showed at once
	observed bool
	series   []Series
}

// held says that the kernel showed as many connections as allowed, no more and no
// fewer; without a limit, at most one a request.
func (r limitRun) held(conns int) bool { return !r.observed || conns == 0 || r.most == conns }

func (r limitRun) variant(name string, conns, requests int, raw time.Duration) Variant {
	v := Variant{Name: name, OK: r.held(conns), Series: r.series,
		Measured: map[string]any{"connections": r.most, "wall_ms": ms(r.wall), "requests": requests},
		Expected: map[string]any{"connections": conns}}
	if !r.observed {
		v.Measured["connections"] = NotObserved
	}
	if conns == 0 {
		v.Expected["connections"] = fmt.Sprintf("≤ %d", requests)
		v.OK = !r.observed || r.most <= requests
		return v
	}
	v.Expected["wall_ms"] = ms(time.Duration((requests+conns-1)/conns) * limitLatency)
	v.Expected["wall_to_raw"] = "≤ 1.02"
	v.Measured["wall_to_raw"] = float64(int(r.wall.Seconds()/raw.Seconds()*1000+0.5)) / 1000
	return v
}

func ms(d time.Duration) float64 { return float64(d.Round(time.Millisecond/10).Microseconds()) / 1000 }

func measureLimit(ctx context.Context, variant byte, send sender, requests, conns int) (limitRun, error) {
	srv, err := serve(1, variant, limitLatency)
	if err != nil {
		return limitRun{}, err
	}
	defer srv.Close()
	stop := follow(ctx, srv, 20*time.Millisecond)
	clock := newClock(requests)
	start := time.Now()
	err = send(ctx, srv, requests, conns, clock)
	wall := time.Since(start)
	seen, observed := stop()
	r := limitRun{wall: wall, observed: observed, series: []Series{latencies(clock.all())}}
	if observed {
		took := clock.all() // what comes after the last answer is the client's own end
		if len(took) > 0 {
			last := slices.Max(took).Seconds()
			seen.Points = slices.DeleteFunc(seen.Points, func(p [2]float64) bool { return p[0] > last })
		}
		r.series = append([]Series{seen}, r.series...)
		r.most = highest(seen)
	}
	return r, err
}

// sendRaw is the floor: conns connections, each with one request after the other,
// written and read as bytes.
func sendRaw(ctx context.Context, s *server, n, conns int, clock *clocked) error {
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, conns)
	for range conns {
		go func() { // all are received below
			errs <- func() error {
				var d net.Dialer
				c, err := d.DialContext(ctx, "tcp", s.addr.String())
				if err != nil {
					return err
				}
				defer c.Close()
				stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
				defer stop()
				buf := make([]byte, len(answer))
				for left.Add(-1) >= 0 {
					if _, err := io.WriteString(c, question); err != nil {
						return err
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						return err
					}
					clock.note()
				}
				return nil
			}()
		}()
	}
	return gather(ctx, errs, conns)
}

func sendBerth(ctx context.Context, s *server, n, conns int, clock *clocked) error {
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: conns, MaxDials: -1}})
	if err != nil {
		return err
	}
	defer tr.Close()
	return sendAll(ctx, clock.over(tr), s, n)
}

func sendNetHTTP(ctx context.Context, s *server, n, conns int, clock *clocked) error {
	tr := &http.Transport{MaxConnsPerHost: conns, MaxIdleConnsPerHost: n}
	defer tr.CloseIdleConnections()
	return sendAll(ctx, clock.over(tr), s, n)
}

// sendAll sends n requests at once through rt.
func sendAll(ctx context.Context, rt http.RoundTripper, s *server, n int) error {
	errs := make(chan error, n)
	var start sync.WaitGroup
	start.Add(1)
	for range n {
		go func() { // all are received below
			start.Wait()
			errs <- get(ctx, rt, s.url())
		}()
	}
	start.Done()
	return gather(ctx, errs, n)
}

// get sends one request and reads its answer.
func get(ctx context.Context, rt http.RoundTripper, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the experiment's server answered %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// gather receives n results and returns the first error.
func gather(ctx context.Context, errs <-chan error, n int) error {
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return first
}
