package lab

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
)

// liveLimitsExperiment changes the limit of connections under load: what .NET's
// ServicePoint could do and its successors cannot.
func liveLimitsExperiment() Experiment {
	return Experiment{
		Name:    "live-limits",
		Source:  "seeds 001 and 004: a limit that is read once, at first use",
		Summary: "2, then 10, then 3 connections under load: connections and waits over time",
		run:     runLiveLimits,
	}
}

const (
	liveWorkers = 20
	liveLatency = 20 * time.Millisecond
)

var livePhases = []int{2, 10, 3}

func runLiveLimits(ctx context.Context, s *session) error {
	phase := 2 * time.Second
	if s.scale == Quick {
		phase = 700 * time.Millisecond
	}
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: livePhases[0]}})
	if err != nil {
		return err
	}
	defer tr.Close()
	row, err := s.liveRow(ctx, 1, "berth, Apply", phase, func() http.RoundTripper { return tr }, func(limit int) error {
		cfg := tr.Config()
		cfg.Policy.MaxConns = limit
		_, err := tr.Apply(cfg)
		return err
	})
	if err != nil {
		return err
	}
	for i, limit := range livePhases {
		row.Expected[phaseName(i)] = limit
		if got := row.Measured[phaseName(i)]; got != NotObserved {
			row.OK = row.OK && got == limit
		}
	}
	s.add(row)

	// net/http reads its limit unguarded: it cannot be changed under load. What is left is
	// another transport for each limit, over which nobody sums.
	var current atomic.Pointer[http.Transport]
	var all []*http.Transport
	next := func(limit int) error {
		t := &http.Transport{MaxConnsPerHost: limit, MaxIdleConnsPerHost: limit}
		all = append(all, t)
		current.Store(t)
		return nil
	}
	next(livePhases[0])
	row, err = s.liveRow(ctx, 2, "net/http, another transport for each limit", phase, func() http.RoundTripper { return current.Load() }, next)
	for _, t := range all {
		t.CloseIdleConnections()
	}
	if err != nil {
		return err
	}
	sum := 0
	for i, limit := range livePhases {
		sum += limit
		row.Expected[phaseName(i)] = sum
		row.OK = row.OK && (row.Measured[phaseName(i)] == sum || row.Measured[phaseName(i)] == NotObserved)
	}
	s.add(row)
	return nil
}

func phaseName(i int) string { return fmt.Sprintf("conns_at_%d", livePhases[i]) }

// liveRow runs the load while the limit changes. What a phase shows at its end counts.
func (s *session) liveRow(ctx context.Context, variant byte, name string, phase time.Duration, rt func() http.RoundTripper, set func(int) error) (Variant, error) {
	srv, err := serve(12, variant, liveLatency)
	if err != nil {
		return Variant{}, err
	}
	defer srv.Close()
	s.progress("%s, %v", name, time.Duration(len(livePhases))*phase)
	stop := follow(ctx, srv, 20*time.Millisecond)
	begun := time.Now()
	failed := make(chan error, 1)
	loop := make(chan []sample, 1)
	go func() { // received below
		loop <- closedLoop(ctx, rt, srv.url(), liveWorkers, time.Duration(len(livePhases))*phase, 0)
	}()
	var changed []float64
	for i, limit := range livePhases {
		if i > 0 {
			if err := set(limit); err != nil {
				failed <- err
				break
			}
		}
		changed = append(changed, time.Since(begun).Seconds())
		if pause(ctx, time.Until(begun.Add(time.Duration(i+1)*phase))) != nil {
			break
		}
	}
	all := <-loop
	conns, seen := stop()
	select {
	case err := <-failed:
		return Variant{}, err
	default:
	}
	if ctx.Err() != nil {
		return Variant{}, errInterrupted
	}
	waits := Series{Name: "time of a request", Unit: "s"}
	row := Variant{Name: name, OK: failures(all) == 0, Expected: map[string]any{"failed": 0},
		Measured: map[string]any{"failed": failures(all), "requests": len(all)}}
	for i, limit := range livePhases {
		from, to := changed[i], changed[i]+phase.Seconds()
		var took []time.Duration
		for _, r := range all {
			if at := r.at.Seconds(); at >= from+phase.Seconds()/2 && at < to {
				took = append(took, r.took)
			}
		}
		row.Measured[fmt.Sprintf("mean_at_%d_ms", limit)] = ms(mean(took))
		row.Measured[phaseName(i)] = NotObserved
		if last := within(conns, to-phase.Seconds()/3, to-0.05); seen && len(last) > 0 {
			most := 0.0
			for _, n := range last {
				most = max(most, n)
			}
			row.Measured[phaseName(i)] = int(most)
		}
	}
	for i := 0; i < len(all); i += max(len(all)/200, 1) {
		waits.Points = append(waits.Points, [2]float64{round3(all[i].at.Seconds()), ms(all[i].took)})
	}
	row.Series = []Series{conns, waits}
	for i, at := range changed {
		row.Marks = append(row.Marks, Mark{round3(at), fmt.Sprintf("limit %d", livePhases[i])})
	}
	return row, nil
}
