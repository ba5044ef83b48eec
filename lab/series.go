package lab

import (
	"context"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/sockets"
)

// What experiments record for plots. All of it is looked at from beside: no request
// waits for it.

// Mark is something that happened at one place of a variant's series.
type Mark struct {
	At   float64 `json:"at"` // in the unit of the series
	Text string  `json:"text"`
}

// Lane is the states that one port, or one side of a connection, was in.
type Lane struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"` // of the times: "s" or "ms"
	Spans []Span `json:"spans"`
}

// Span is one state of a lane.
type Span struct {
	State string  `json:"state"` // as the kernel calls it
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	// Open says that the state lasted on when the watch ended.
	Open bool `json:"open,omitempty"`
	// Guessed says that From was not seen: it lies somewhere before To.
	Guessed bool `json:"guessed,omitempty"`
	// Segment is what the side sent, or received, as the state began; Sent tells
	// which.
	Segment string `json:"segment,omitempty"`
	Sent    bool   `json:"sent,omitempty"`
}

// census samples the client's sockets to a server, by state.
type census struct {
	established, timeWait Series
	unseen                bool // this system does not show them
}

// series returns the counts, none where the kernel does not show them.
func (c *census) series() []Series {
	if c.unseen || len(c.established.Points) == 0 {
		return nil
	}
	return []Series{c.established, c.timeWait}
}

// look takes one sample. at is in the series' unit.
func (c *census) look(ctx context.Context, s *server, at float64) {
	seen, err := clientSockets(ctx, s.addr)
	if err != nil {
		c.unseen = c.unseen || unsupported(err)
		return
	}
	n := sockets.Count(seen)
	c.established.Points = append(c.established.Points, [2]float64{at, float64(n[sockets.Established])})
	c.timeWait.Points = append(c.timeWait.Points, [2]float64{at, float64(n[sockets.TimeWait])})
}

func newCensus(unit string) *census {
	return &census{established: Series{Name: "established", Unit: unit}, timeWait: Series{Name: "time_wait", Unit: unit}}
}

// takeCensus samples over time. stop ends it, with a last sample.
func takeCensus(ctx context.Context, s *server, every time.Duration) (stop func() *census) {
	c := newCensus("s")
	looking, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	start := time.Now()
	since := func() float64 { return round3(time.Since(start).Seconds()) }
	wg.Go(func() {
		for !c.unseen {
			c.look(looking, s, since())
			if pause(looking, every) != nil {
				return
			}
		}
	})
	return func() *census {
		cancel()
		wg.Wait()
		c.look(ctx, s, since())
		return c
	}
}

// portLanes follows each port of the connections to a server over time, until stop, which
// may be called again and returns the same then.
func portLanes(ctx context.Context, s *server, every time.Duration) (stop func() []Lane) {
	looking, cancel := context.WithCancel(ctx)
	var (
		wg    sync.WaitGroup
		lanes []Lane
		index = map[string]int{}
	)
	start := time.Now()
	look := func(ctx context.Context) bool {
		seen, err := clientSockets(ctx, s.addr)
		at := round3(time.Since(start).Seconds())
		if err != nil {
			return !unsupported(err)
		}
		for i := range lanes { // what is not seen any more ended between
			last := &lanes[i].Spans[len(lanes[i].Spans)-1]
			last.Open = false
		}
		for _, sock := range seen {
			name := sock.Local.String()
			i, ok := index[name]
			if !ok {
				i = len(lanes)
				index[name] = i
				lanes = append(lanes, Lane{Name: name, Unit: "s"})
			}
			spans := &lanes[i].Spans
			if n := len(*spans); n > 0 && (*spans)[n-1].State == stateName(sock.State) {
				(*spans)[n-1].To, (*spans)[n-1].Open = at, true
				continue
			} else if n > 0 {
				(*spans)[n-1].To = at
			}
			*spans = append(*spans, Span{State: stateName(sock.State), From: at, To: at, Open: true})
		}
		return true
	}
	wg.Go(func() {
		for look(looking) && pause(looking, every) == nil {
		}
	})
	return sync.OnceValue(func() []Lane {
		cancel()
		wg.Wait()
		look(ctx)
		return lanes
	})
}

// quantilesOf are the shares at which latencies are recorded, in per cent.
var quantilesOf = []float64{0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100}

// latencies returns the quantiles of what requests took, in milliseconds.
func latencies(took []time.Duration) Series {
	s := Series{Name: "latency ms by quantile", Unit: "%"}
	if len(took) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(took))
	for _, q := range quantilesOf {
		i := max(int(math.Ceil(q/100*float64(len(sorted))))-1, 0)
		s.Points = append(s.Points, [2]float64{q, ms(sorted[i])})
	}
	return s
}

// clocked notes how long after the start each response's head came.
type clocked struct {
	start time.Time
	took  []time.Duration
	n     atomic.Int64 // of took
}

func newClock(n int) *clocked {
	return &clocked{start: time.Now(), took: make([]time.Duration, n)}
}

// note is safe for concurrent use.
func (c *clocked) note() {
	if i := int(c.n.Add(1)) - 1; i < len(c.took) {
		c.took[i] = time.Since(c.start)
	}
}

// all returns what was noted; nothing may be noted any more.
func (c *clocked) all() []time.Duration { return c.took[:min(int(c.n.Load()), len(c.took))] }

// over returns a transport whose responses c notes.
func (c *clocked) over(rt http.RoundTripper) http.RoundTripper {
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := rt.RoundTrip(req)
		c.note()
		return resp, err
	})
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
