package lab

import (
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/berth-go/berth/sockets"
)

func TestLatenciesAreQuantiles(t *testing.T) {
	var took []time.Duration
	for i := range 100 {
		took = append(took, time.Duration(100-i)*time.Millisecond)
	}
	s := latencies(took)
	for _, want := range [][2]float64{{0, 1}, {1, 1}, {50, 50}, {99, 99}, {100, 100}} {
		if !slices.Contains(s.Points, want) {
			t.Errorf("%v is not among %v", want, s.Points)
		}
	}
	if one := latencies([]time.Duration{time.Second}); one.Points[0][1] != 1000 || one.Points[len(one.Points)-1][1] != 1000 {
		t.Errorf("of one: %v", one.Points)
	}
	if len(latencies(nil).Points) != 0 {
		t.Error("nothing has quantiles")
	}
}

// The kernel's sockets are counted by state, and each port is followed.
func TestCensusAndLanesSeeAPortsLife(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system's socket table is not read")
	}
	s, err := serve(250, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tr := &http.Transport{}
	counts := newCensus("requests")
	lanes := portLanes(t.Context(), s, time.Millisecond)
	if err := get(t.Context(), tr, s.url()); err != nil {
		t.Fatal(err)
	}
	counts.look(t.Context(), s, 1)
	pause(t.Context(), 20*time.Millisecond)
	tr.CloseIdleConnections()
	seen, err := settled(t.Context(), s, true)
	if err != nil || sockets.Count(seen)[sockets.TimeWait] != 1 {
		t.Fatalf("%v, %v", seen, err)
	}
	counts.look(t.Context(), s, 2)
	all := counts.series()
	if len(all) != 2 || !slices.Equal(all[0].Points, [][2]float64{{1, 1}, {2, 0}}) || !slices.Equal(all[1].Points, [][2]float64{{1, 0}, {2, 1}}) {
		t.Errorf("series %+v", all)
	}
	l := lanes()
	if len(l) != 1 || l[0].Name != seen[0].Local.String() {
		t.Fatalf("lanes %+v of %v", l, seen)
	}
	first, last := l[0].Spans[0], l[0].Spans[len(l[0].Spans)-1]
	if first.State != "ESTABLISHED" || first.Open || last.State != "TIME_WAIT" || !last.Open || last.From < first.To {
		t.Errorf("spans %+v", l[0].Spans)
	}
}

// The lanes of a life cover it without gaps, from the first change on.
func TestLanesOfALife(t *testing.T) {
	at := func(ms int) time.Duration { return time.Duration(1000+ms) * time.Millisecond }
	l := &life{[]transition{
		{at: at(0), side: clientSide, from: sockets.Close, to: sockets.SynSent, traced: true},
		{at: at(2), side: clientSide, from: sockets.SynSent, to: sockets.Established, traced: true},
		{at: at(4), side: serverSide, from: sockets.SynRecv, to: sockets.Established, traced: true},
		{at: at(10), side: clientSide, from: sockets.Established, to: sockets.FinWait1, traced: true},
	}}
	lanes := l.lanes()
	want := []Span{
		{State: "SYN_SENT", From: 0, To: 2, Segment: "SYN seq=X", Sent: true},
		{State: "ESTABLISHED", From: 2, To: 10, Segment: "ACK seq=X+1 ack=Y+1", Sent: true},
		{State: "FIN_WAIT1", From: 10, To: 35, Open: true, Segment: "FIN,ACK seq=U ack=V", Sent: true},
	}
	if len(lanes) != 2 || !slices.Equal(lanes[0].Spans, want) {
		t.Errorf("client %+v, want %+v", lanes, want)
	}
	want = []Span{
		{State: "SYN_RECV", From: 2, To: 4, Guessed: true, Segment: "SYN,ACK seq=Y ack=X+1", Sent: true},
		{State: "ESTABLISHED", From: 4, To: 35, Open: true, Segment: "got ACK ack=Y+1"},
	}
	if !slices.Equal(lanes[1].Spans, want) {
		t.Errorf("server %+v, want %+v", lanes[1].Spans, want)
	}
	if (&life{}).lanes() != nil {
		t.Error("a life that nobody saw has lanes")
	}
}
