package lab

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/resilience"
)

func TestHedgeByHand(t *testing.T) {
	ok := func() *http.Response {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("ok"))}
	}
	for _, tt := range []struct {
		name     string
		takes    []time.Duration // of the attempts; negative fails after that long
		attempts int64
		took     time.Duration
		fails    bool
	}{
		{"soon", []time.Duration{20}, 1, 20, false},
		{"late", []time.Duration{500, 10}, 2, 40, false},
		{"late, and the first is first", []time.Duration{50, 500}, 2, 50, false},
		{"one fails", []time.Duration{-40, 60}, 2, 90, false},
		{"both fail", []time.Duration{-40, -60}, 2, 90, true},
		{"fails at once", []time.Duration{-1}, 1, 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int64
			rt := byHand{roundTripFunc(func(req *http.Request) (*http.Response, error) {
				d := tt.takes[n.Add(1)-1] * time.Millisecond
				if err := pause(req.Context(), max(d, -d)); err != nil {
					return nil, err
				}
				if d < 0 {
					return nil, errors.New("failed")
				}
				return ok(), nil
			}), 30 * time.Millisecond}
			start := time.Now()
			err := get(t.Context(), rt, "http://x.test/")
			if took := time.Since(start); (err != nil) != tt.fails || n.Load() != tt.attempts || took != tt.took*time.Millisecond {
				t.Errorf("%s: %v, %d attempts, %v", tt.name, err, n.Load(), took)
			}
		})
	}
}

// A machine without time excuses latencies, in the last attempt, and no count.
func TestHedgeOnABusyMachine(t *testing.T) {
	r := tailRow{name: "berth, hedged", conns: tailRoom, hedge: &resilience.Hedge{}}
	for _, tt := range []struct {
		p50, p99  float64 // of what is not hedged, of what is
		conns     int
		last      bool
		ok, noisy bool
	}{
		{10, 40, 5, true, true, false}, {10, 400, 5, true, false, false}, {60, 400, 5, false, false, false},
		{60, 400, 5, true, true, true}, {60, 400, 31, true, false, true}, {10, 40, 31, true, false, false},
	} {
		plain := Variant{Measured: map[string]any{"p50_ms": tt.p50, "p99_ms": 500.0}}
		row := Variant{Name: r.name, Expected: map[string]any{}, Measured: map[string]any{"p99_ms": tt.p99, "failed": 0, "requests": 600,
			"seconds": 3.0, "extra_load_pct": 3.0, "connections_at_once": tt.conns}}
		r.judge(&row, &plain, tt.last)
		if row.OK != tt.ok || (row.Note != "") != tt.noisy {
			t.Errorf("%+v: %v, %q", tt, row.OK, row.Note)
		}
	}
}
