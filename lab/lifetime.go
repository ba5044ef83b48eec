package lab

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// lifetimeExperiment tries seed 002's first claim: five requests two seconds
// apart, with a long and with a short connection lifetime.
func lifetimeExperiment() Experiment {
	return Experiment{
		Name:    "lifetime",
		Source:  "seed 002: PooledConnectionLifetime 10 min and 1 s, five requests 2 s apart",
		Summary: "ports used by five requests, with long-lived and with short-lived connections",
		run:     runLifetime,
	}
}

const (
	lifetimeRequests = 5
	lifetimeAttempts = 3
)

// lifetimeVariant is one row: who, what is set, and what the kernel is to show.
type lifetimeVariant struct {
	name               string
	transport          func(unit time.Duration) (http.RoundTripper, func(), error)
	timeWait, expected int // sockets in TIME_WAIT, ports used
}

func berthWith(lifetime, idle float64) func(time.Duration) (http.RoundTripper, func(), error) {
	return func(unit time.Duration) (http.RoundTripper, func(), error) {
		tr, err := berth.New(berth.Config{Policy: berth.Policy{
			Lifetime:    time.Duration(lifetime * float64(unit)),
			IdleTimeout: time.Duration(idle * float64(unit)),
		}})
		if err != nil {
			return nil, nil, err
		}
		return tr, func() { tr.Close() }, nil
	}
}

func netHTTPWith(idle float64) func(time.Duration) (http.RoundTripper, func(), error) {
	return func(unit time.Duration) (http.RoundTripper, func(), error) {
		tr := &http.Transport{IdleConnTimeout: time.Duration(idle * float64(unit))}
		return tr, tr.CloseIdleConnections, nil
	}
}

func runLifetime(ctx context.Context, s *session) error {
	unit := 100 * time.Millisecond // stands for a second
	if s.scale == Full {
		unit = time.Second
	}
	variants := []lifetimeVariant{
		{"berth lifetime 10 min", berthWith(600, 300), 0, 1},
		{"berth lifetime 1 s, idle 1 s", berthWith(1, 1), lifetimeRequests - 1, lifetimeRequests},
		{"net/http idle 5 min", netHTTPWith(300), 0, 1},
		{"net/http idle 1 s (it has no lifetime)", netHTTPWith(1), lifetimeRequests - 1, lifetimeRequests},
	}
	if s.scale != Full {
		s.result.Note = "a second is 100 ms here, a minute 6 s; TIME_WAIT stays the kernel's own 60 s"
	}
	var tables strings.Builder
	address := byte(0)
	for _, v := range variants {
		var row Variant
		var table string
		for attempt := 1; ; attempt++ {
			var err error
			address++
			if row, table, err = s.measureLifetime(ctx, address, v, unit); err != nil {
				return err
			}
			if row.OK {
				break
			}
			if attempt == lifetimeAttempts {
				// On a machine that is too busy the last connection has expired before
				// it could be looked at. The ports that were used do not depend on that.
				if row.Measured["ports"] == row.Expected["ports"] {
					row.OK = true
					row.Note = join(row.Note, fmt.Sprintf("timing noisy: the states were missed %d times, the ports decide", attempt))
				}
				break
			}
		}
		s.add(row)
		if table != "" {
			fmt.Fprintf(&tables, "%s\n%s\n", v.name, table)
		}
	}
	s.result.Table = tables.String()
	return nil
}

func (s *session) measureLifetime(ctx context.Context, variant byte, v lifetimeVariant, unit time.Duration) (Variant, string, error) {
	srv, err := serve(2, variant, 0)
	if err != nil {
		return Variant{}, "", err
	}
	defer srv.Close()
	rt, done, err := v.transport(unit)
	if err != nil {
		return Variant{}, "", err
	}
	defer done()
	stop := portLanes(ctx, srv, unit/10)
	defer func() { stop() }()
	start := time.Now()
	var marks []Mark
	for i := range lifetimeRequests {
		if i > 0 {
			if err := pause(ctx, 2*unit); err != nil {
				return Variant{}, "", err
			}
		}
		s.progress("%s, request %d of %d", v.name, i+1, lifetimeRequests)
		marks = append(marks, Mark{round3(time.Since(start).Seconds()), fmt.Sprintf("request %d", i+1)})
		if err := get(ctx, rt, srv.url()); err != nil {
			if ctx.Err() != nil {
				err = errInterrupted
			}
			return Variant{}, "", err
		}
	}
	row := Variant{Name: v.name,
		Measured: map[string]any{"ports": NotObserved, "established": NotObserved, "time_wait": NotObserved},
		Expected: map[string]any{"ports": v.expected, "established": 1, "time_wait": v.timeWait}, OK: true}
	seen, err := clientSockets(ctx, srv.addr)
	if unsupported(err) {
		row.Note = err.Error()
		return row, "", nil
	}
	if err != nil {
		return row, "", err
	}
	if err := pause(ctx, unit/2); err != nil { // for the picture: the last state lasts on
		return row, "", err
	}
	row.Timeline, row.Marks = stop(), marks
	ports := countPorts(seen)
	n := sockets.Count(seen)
	row.Measured = map[string]any{"ports": ports, "established": n[sockets.Established], "time_wait": n[sockets.TimeWait]}
	row.OK = ports == v.expected && n[sockets.Established] == 1 && n[sockets.TimeWait] == v.timeWait
	var table strings.Builder
	if err := sockets.WriteTable(&table, seen); err != nil {
		return row, "", err
	}
	return row, table.String(), nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}
