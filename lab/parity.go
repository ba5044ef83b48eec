package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// parityExperiment measures what connect costs as the ephemeral ports to one destination
// fill up: Linux looks through the odd ones first, then through the even ones, unless the
// socket has a range of its own.
func parityExperiment() Experiment {
	return Experiment{
		Name:    "parity",
		Source:  "Linux looks for a port in two passes; IP_LOCAL_PORT_RANGE has one",
		Summary: "latency of connect against the share of the range in use, without and with the socket option",
		run:     runParity,
	}
}

const (
	parityProbes = 200 // connects that are timed at each level
	paritySlack  = 4   // with the option, the last level costs at most so many times the first
)

// parityLevels are the shares of the range in use at which connects are timed.
var parityLevels = []float64{0.10, 0.30, 0.45, 0.54, 0.58}

// level is what connects cost at one share.
type level struct {
	share    float64
	p50, p99 time.Duration
}

func runParity(ctx context.Context, s *session) error {
	for i, v := range []struct {
		name   string
		option bool
	}{
		{"berth's socket option", true},
		{"without it", false},
	} {
		s.progress("%s: filling the range", v.name)
		levels, err := fillPorts(ctx, byte(i+1), v.option)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			s.add(Variant{Name: v.name, OK: true, Note: err.Error(), Measured: map[string]any{"slower": NotObserved}, Expected: map[string]any{"slower": NotObserved}})
			continue
		case err != nil:
			return err
		}
		row := Variant{Name: v.name, Measured: map[string]any{}, Expected: map[string]any{}}
		p50 := Series{Name: "p50", Unit: "share of the range"}
		p99 := Series{Name: "p99", Unit: "share of the range"}
		for _, l := range levels {
			us := func(d time.Duration) float64 { return float64(d.Nanoseconds()/100) / 10 }
			p50.Points = append(p50.Points, [2]float64{l.share, us(l.p50)})
			p99.Points = append(p99.Points, [2]float64{l.share, us(l.p99)})
			row.Measured[fmt.Sprintf("p50_us_at_%.0f%%", l.share*100)] = us(l.p50)
		}
		first, last := levels[0].p50, levels[len(levels)-1].p50
		slower := float64(int(float64(last)/float64(max(first, 1))*10+0.5)) / 10
		row.Measured["slower"] = slower
		row.Expected["slower"] = fmt.Sprintf("≤ %d", paritySlack)
		row.OK = slower <= paritySlack
		if !v.option {
			row.Expected["slower"] = fmt.Sprintf("> %d", paritySlack)
			row.OK = slower > paritySlack
		}
		row.Series = []Series{p50, p99}
		s.add(row)
	}
	s.result.Note = "“slower” is the median past half of the range as a multiple of that at a tenth"
	return nil
}
