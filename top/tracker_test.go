package top

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// said is a report of pid with endpoints that have counted so many requests.
func said(pid, second int, requests map[string]uint64) *Report {
	r := &Report{Time: at(second), PID: pid, Program: "shop"}
	for _, name := range []string{"a", "b"} {
		if n, ok := requests[name]; ok {
			var e EndpointReport
			e.Endpoint, e.Stats.Requests = name, n
			r.Endpoints = append(r.Endpoints, e)
		}
	}
	return r
}

func rateText(p *Program) (text string) {
	for _, e := range p.Endpoints {
		text += fmt.Sprintf("%s %s, ", e.Endpoint, Number(e.Rates.Requests))
	}
	return text + "all " + Number(p.Rates.Requests)
}

func TestTrackerFollowsAProgram(t *testing.T) {
	tr := NewTracker("here")
	lost := errors.New("refused")
	type n = map[string]uint64
	steps := []struct {
		name      string
		second    int
		report    *Report // nil: lost
		want      string
		restarted bool
	}{
		{"the first report has no rates", 0, said(1, 0, n{"a": 50}), "a -, all -", false},
		{"the second has", 1, said(1, 1, n{"a": 60}), "a 10.0, all 10.0", false},
		{"the program's own clock decides", 2, said(1, 3, n{"a": 80}), "a 10.0, all 10.0", false},
		{"a new endpoint has counted from zero", 3, said(1, 4, n{"a": 81, "b": 7}), "a 1.0, b 7.0, all 8.0", false},
		{"a forgotten one is gone", 4, said(1, 5, n{"b": 8}), "b 1.0, all 1.0", false},
		{"and counts from zero when it is back", 5, said(1, 6, n{"a": 90, "b": 8}), "a 90.0, b 0, all 90.0", false},
		{"or within one interval", 6, said(1, 7, n{"a": 4, "b": 8}), "a 4.0, b 0, all 4.0", false},
		{"lost: what was last stays", 7, nil, "a 4.0, b 0, all 4.0", false},
		{"lost still", 8, nil, "a 4.0, b 0, all 4.0", false},
		{"back: the rate is over the whole time", 9, said(1, 10, n{"a": 34, "b": 8}), "a 10.0, b 0, all 10.0", false},
		{"another process: no rates", 10, said(2, 11, n{"a": 5000}), "a -, all -", true},
		{"and then rates again", 11, said(2, 12, n{"a": 5003}), "a 3.0, all 3.0", false},
	}
	for _, s := range steps {
		var p *Program
		if s.report == nil {
			p = tr.Lost(lost, at(s.second))
			if p.Lost != lost || !p.Since.Equal(at(7)) {
				t.Errorf("%s: %v since %v", s.name, p.Lost, p.Since)
			}
		} else if p = tr.Report(s.report, at(s.second)); p.Lost != nil {
			t.Errorf("%s: lost", s.name)
		}
		if got := rateText(p); got != s.want || p.Restarted != s.restarted {
			t.Errorf("%s: %s, restarted %v", s.name, got, p.Restarted)
		}
	}
}

func TestHistoryIsTheLastMinute(t *testing.T) {
	tr := NewTracker("here")
	var early *Program
	for i := range 200 {
		p := tr.Report(said(1, i, map[string]uint64{"a": uint64(i * i)}), at(i))
		if i == 30 {
			early = p
		}
		h := p.Endpoints[0].History
		if want := min(i+1, 60); len(h) != want || !h[len(h)-1].At.Equal(at(i)) {
			t.Fatalf("at %d: %d points", i, len(h))
		}
	}
	h := early.Endpoints[0].History
	for i, p := range h {
		if !p.At.Equal(at(i)) || p.Requests.OK != (i > 0) || i > 0 && p.Requests.V != float64(2*i-1) {
			t.Errorf("what was shown changed: %d is %+v", i, p)
		}
	}
}

// What nobody saw is no point, and another process has a history of its own.
func TestHistoryHasGaps(t *testing.T) {
	tr := NewTracker("here")
	n := map[string]uint64{"a": 1}
	tr.Report(said(1, 0, n), at(0))
	if p := tr.Report(said(1, 1, n), at(1)); p.Endpoints[0].History[1].Over != time.Second {
		t.Errorf("%+v", p.Endpoints[0].History)
	}
	tr.Lost(errors.New("refused"), at(2))
	if p := tr.Report(said(1, 9, n), at(9)); p.Endpoints[0].History[2].Over != 0 || p.Endpoints[0].Rates.Over != 8*time.Second {
		t.Errorf("%+v", p.Endpoints[0].History)
	}
	if p := tr.Report(said(2, 10, n), at(10)); len(p.Endpoints[0].History) != 1 {
		t.Errorf("%+v", p.Endpoints[0].History)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	tr := NewTracker("here")
	var p *Program
	for i := range 3 * historyMost {
		p = tr.Report(said(1, i, map[string]uint64{"a": 1}), noon.Add(time.Duration(i)*time.Millisecond))
	}
	if n := len(p.Endpoints[0].History); n != historyMost {
		t.Errorf("%d points", n)
	}
}

func TestPortsAreThoseOfTheEndpointsAddresses(t *testing.T) {
	tr := NewTracker("here")
	r := said(1, 0, map[string]uint64{"a": 1, "b": 1})
	r.Endpoints[0].Leases = []berth.LeaseInfo{{Remote: "[::ffff:192.0.2.7]:443"}}
	r.Endpoints[0].Conns = []berth.ConnReport{{Remote: "192.0.2.8:443"}}
	r.Ports = []berth.PortUsage{{Destination: "192.0.2.7:443", Ports: 100, Live: 10, Held: 20}, {Destination: "192.0.2.7:443", Ports: 50, Live: 20, Held: 20, Budget: true},
		{Destination: "192.0.2.8:443", Ports: 100, Live: 50}, {Destination: "192.0.2.9:443", Ports: 100, Live: 99}}
	p := tr.Report(r, at(0))
	if got := p.Endpoints[0].Ports; got != some(0.8) || p.Endpoints[0].Level != Near {
		t.Errorf("%v, %v", got, p.Endpoints[0].Level)
	}
	if got := p.Endpoints[1].Ports; got.OK {
		t.Errorf("an endpoint that has no address: %v", got)
	}
	// Without a connection, for want of a port, it still has its addresses.
	next := said(1, 1, map[string]uint64{"a": 1, "b": 1})
	next.Ports = []berth.PortUsage{{Destination: "192.0.2.8:443", Ports: 100, Held: 100}}
	if p = tr.Report(next, at(1)); p.Endpoints[0].Ports != some(1.0) {
		t.Errorf("%v", p.Endpoints[0].Ports)
	}
	// A budget of all destinations is everybody's.
	all := said(1, 2, map[string]uint64{"a": 1, "b": 1})
	all.Ports = []berth.PortUsage{{Ports: 128, Held: 64}}
	if p = tr.Report(all, at(2)); p.Endpoints[1].Ports != some(0.5) {
		t.Errorf("%v", p.Endpoints[1].Ports)
	}
}

func TestLevels(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stats berth.Stats
		max   int
		why   berth.Reason
		want  Level
	}{
		{"at rest", berth.Stats{Idle: 10}, 10, "", Quiet},
		{"below", berth.Stats{Leased: 7}, 10, "", Quiet},
		{"near the limit", berth.Stats{Leased: 6, Dialing: 1, Draining: 1}, 10, "", Near},
		{"no limit", berth.Stats{Leased: 5000}, 0, "", Quiet},
		{"unread bodies", berth.Stats{Leased: 1, Leaks: berth.LeakStats{Suspect: 1}}, 0, "", Near},
		{"failures", berth.Stats{Dials: berth.DialStats{Failed: 1}}, 0, "", Near},
		{"waiting", berth.Stats{Waiting: 1}, 0, berth.ReasonEndpoint, Waiting},
		{"waiting for a dial", berth.Stats{Waiting: 1, OldestWait: 999 * time.Millisecond}, 0, berth.ReasonDialing, Near},
		{"for a long one", berth.Stats{Waiting: 1, OldestWait: time.Second}, 0, berth.ReasonDialing, Waiting},
	} {
		e := Endpoint{EndpointReport: &EndpointReport{}, Max: tc.max}
		e.Stats, e.Reason = tc.stats, tc.why
		e.Rates = Differences(nil, &tc.stats, time.Second)
		if got := e.level(); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
