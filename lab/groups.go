package lab

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// groupsExperiment tries seed 003: a unique group name for every request, to a host that
// is never idle.
func groupsExperiment() Experiment {
	return Experiment{
		Name:    "groups",
		Source:  "seed 003: a unique ConnectionGroupName a request, and the three ways out",
		Summary: "sockets of a group a request to a busy host, in the design described there and in berth",
		run:     runGroups,
	}
}

const labGroups = 20 // MaxGroups

// grouping is a way to keep requests of different names apart.
type grouping struct {
	name   string
	in     func(group string) http.RoundTripper // for a request
	after  func(request int, group string)      // it was sent; nil does nothing
	end    func()
	bound  int  // established at most; 0 is one a request
	closed bool // each connection is closed after its request
}

// documented is the design that the seed describes: a pool for each name, which lives as
// long as the host is busy.
func documented(name string, keepAlive bool, closeEvery int) grouping {
	pools := map[string]*http.Transport{}
	closeAll := func() {
		for group, t := range pools {
			if group != "" {
				t.CloseIdleConnections()
			}
		}
	}
	g := grouping{name: name, closed: !keepAlive, bound: closeEvery,
		in: func(group string) http.RoundTripper {
			t := pools[group]
			if t == nil {
				t = &http.Transport{DisableKeepAlives: !keepAlive}
				pools[group] = t
			}
			return t
		},
		end: func() {
			closeAll()
			pools[""].CloseIdleConnections()
		}}
	if closeEvery > 0 {
		g.after = func(request int, _ string) {
			if request%closeEvery == closeEvery-1 {
				closeAll()
			}
		}
	}
	return g
}

func berthGroups(name string, policy berth.Policy, closeAfter bool, bound int) grouping {
	tr, err := berth.New(berth.Config{Policy: policy, MaxGroups: labGroups})
	if err != nil {
		panic(err) // constants
	}
	g := grouping{name: name, bound: bound, closed: policy.DisableKeepAlives,
		in:  func(group string) http.RoundTripper { return tr.Group(group) },
		end: func() { tr.Close() }}
	if closeAfter {
		g.after = func(_ int, group string) { tr.CloseGroup(group) }
	}
	return g
}

func runGroups(ctx context.Context, s *session) error {
	requests := 500
	if s.scale == Quick {
		requests = 150
	}
	s.result.Note = fmt.Sprintf("berth with MaxGroups %d; “documented” keeps a pool a name for as long as the host is busy, as the seed describes", labGroups)
	for i, g := range []grouping{
		documented("documented, a name a request", true, 0),
		documented("documented, KeepAlive off", false, 0),
		documented("documented, CloseConnectionGroup every 50", true, 50),
		berthGroups("berth, a name a request", berth.Policy{}, false, labGroups),
		berthGroups("berth, keep-alives off", berth.Policy{DisableKeepAlives: true}, false, 0),
		berthGroups("berth, CloseGroup after each", berth.Policy{}, true, 1),
	} {
		if err := s.groupsRow(ctx, byte(i+1), g, requests); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) groupsRow(ctx context.Context, variant byte, g grouping, requests int) error {
	srv, err := serve(10, variant, 0)
	if err != nil {
		return err
	}
	defer srv.Close()
	defer g.end()
	series := Series{Name: "established", Unit: "requests"}
	most, seen := 0, true
	for i := range requests {
		group := fmt.Sprintf("request %d", i)
		for _, name := range []string{"", group} { // the default group keeps the host busy
			if err := get(ctx, g.in(name), srv.url()); err != nil {
				if ctx.Err() != nil {
					return errInterrupted
				}
				return fmt.Errorf("%s, request %d: %w", g.name, i+1, err)
			}
		}
		if g.after != nil {
			g.after(i, group)
		}
		if i%25 == 24 {
			s.progress("%s, request %d of %d", g.name, i+1, requests)
			found, err := clientSockets(ctx, srv.addr, sockets.Established)
			if unsupported(err) {
				seen = false
				break
			}
			most = max(most, len(found))
			series.Points = append(series.Points, [2]float64{float64(i + 1), float64(len(found))})
		}
	}
	row := Variant{Name: g.name, Series: []Series{series}, OK: true,
		Measured: map[string]any{"most_established": most, "requests": requests},
		Expected: map[string]any{"most_established": fmt.Sprintf("≤ %d", g.bound+1)}}
	switch {
	case !seen:
		row.Measured["most_established"] = NotObserved
		row.Series = nil
	case g.closed:
		row.Expected["most_established"] = 0
		row.OK = most == 0
		if all, err := settled(ctx, srv, true); err == nil {
			row.Measured["time_wait"] = sockets.Count(all)[sockets.TimeWait]
		}
	case g.bound == 0:
		row.Expected["most_established"] = requests + 1
		row.OK = most == requests+1
	default:
		row.OK = most <= g.bound+1
	}
	s.add(row)
	return pause(ctx, time.Millisecond)
}
