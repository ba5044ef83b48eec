package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth/sockets"
)

func TestTraceLinesAreRead(t *testing.T) {
	const line = "          <idle>-0       [001] ..s3.  5324.104318: inet_sock_set_state: family=AF_INET protocol=IPPROTO_TCP " +
		"sport=4100 dport=51234 saddr=127.71.6.1 daddr=127.0.0.1 saddrv6=::ffff:127.71.6.1 daddrv6=::ffff:127.0.0.1 oldstate=TCP_LAST_ACK newstate=TCP_CLOSE"
	want := stateChange{at: 5324*time.Second + 104318*time.Microsecond, sport: 4100, dport: 51234, from: sockets.LastAck, to: sockets.Close}
	if c, ok, err := parseTraceLine(line); !ok || err != nil || c != want {
		t.Errorf("%+v, %v, %v; want %+v", c, ok, err, want)
	}
	for _, other := range []string{"", "# tracer: nop", "#   TASK-PID  TIMESTAMP: inet_sock_set_state: ", " a-1 [000] ..... 1.5: sched_switch: prev_comm=x"} {
		if _, ok, err := parseTraceLine(other); ok || err != nil {
			t.Errorf("%q: %v, %v; it is not of the event", other, ok, err)
		}
	}
	for _, cut := range [][2]string{
		{"5324.104318", "5324"}, {"5324.104318", "x.1"}, {"5324.104318", "1.1234567890"}, {"sport=4100 ", ""}, {"sport=4100", "sport=70000"},
		{"dport=51234", "dport="}, {"TCP_LAST_ACK", "TCP_NEVER"}, {" newstate=TCP_CLOSE", ""},
		{"sport=4100", "dport=4100"}, {"oldstate", "newstate"}, {"5324.104318", "-5324.104318"}, {"5324.104318", "99999999999.1"},
	} {
		bad := strings.Replace(line, cut[0], cut[1], 1)
		if _, ok, err := parseTraceLine(bad); ok || err == nil {
			t.Errorf("a line with %q for %q is taken", cut[1], cut[0])
		}
	}
}

func FuzzTraceLine(f *testing.F) {
	f.Add(" a-1 [001] ..s3.  1.104318: inet_sock_set_state: sport=1 dport=2 oldstate=TCP_CLOSE newstate=TCP_SYN_SENT")
	f.Fuzz(func(t *testing.T, line string) {
		if c, ok, err := parseTraceLine(line); ok && (err != nil || c.from == 0 || c.to == 0) {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

// What RFC 9293 knows is legal in one step; what only a way of several steps
// explains is legal for a poll, that may miss some, and not for a trace.
func TestLegalChanges(t *testing.T) {
	for from, tos := range allowed {
		for _, to := range tos {
			if tr := (transition{from: from, to: to, traced: true}); !tr.legal() {
				t.Errorf("%v → %v is refused", from, to)
			}
		}
	}
	for _, tc := range []struct {
		from, to       sockets.State
		polled, traced bool
	}{
		{sockets.Close, sockets.Established, true, false},
		{sockets.Established, sockets.TimeWait, true, false},
		{sockets.CloseWait, sockets.Close, true, false},
		{sockets.CloseWait, sockets.TimeWait, false, false}, // who closes second does not wait
		{sockets.FinWait2, sockets.CloseWait, false, false},
		{sockets.LastAck, sockets.Established, false, false}, // one life has no second
	} {
		if got := (transition{from: tc.from, to: tc.to, traced: true}).legal(); got != tc.traced {
			t.Errorf("traced %v → %v: legal %v", tc.from, tc.to, got)
		}
		if got := (transition{from: tc.from, to: tc.to}).legal(); got != tc.polled {
			t.Errorf("polled %v → %v: legal %v", tc.from, tc.to, got)
		}
	}
}

// The trace loses sight of the side that closes first; the poll follows it.
func TestPolledAndTracedAreMerged(t *testing.T) {
	const port = 80
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	changes := []stateChange{
		{at(1), 0, port, sockets.Close, sockets.SynSent},
		{at(2), 5000, port, sockets.SynSent, sockets.Established},
		{at(3), port, 5000, sockets.SynRecv, sockets.Established},
		{at(10), 5000, port, sockets.Established, sockets.FinWait1},
		{at(11), port, 5000, sockets.Established, sockets.CloseWait},
		{at(12), 5000, port, sockets.FinWait1, sockets.FinWait2},
		{at(13), 5000, port, sockets.FinWait2, sockets.Close}, // the smaller socket takes over
		{at(20), port, 5000, sockets.CloseWait, sockets.LastAck},
		{at(21), port, 5000, sockets.LastAck, sockets.Close},
	}
	polled := []transition{
		{at: at(4), side: clientSide, from: sockets.Close, to: sockets.Established},
		{at: at(4), side: serverSide, from: sockets.Listen, to: sockets.Established},
		{at: at(14), side: clientSide, from: sockets.Established, to: sockets.FinWait2},
		{at: at(22), side: clientSide, from: sockets.FinWait2, to: sockets.TimeWait},
		{at: at(22), side: serverSide, from: sockets.CloseWait, to: sockets.Close},
	}
	l := &life{merge(polled, changes, port)}
	if got, want := names(l.states(clientSide)), "SYN_SENT → ESTABLISHED → FIN_WAIT1 → FIN_WAIT2 → TIME_WAIT"; got != want {
		t.Errorf("client %s, want %s", got, want)
	}
	if got, want := names(l.states(serverSide)), "SYN_RECV → ESTABLISHED → CLOSE_WAIT → LAST_ACK → CLOSED"; got != want {
		t.Errorf("server %s, want %s", got, want)
	}
	if tr, bad := l.illegal(); bad {
		t.Errorf("%v → %v is called illegal", tr.from, tr.to)
	}
	if missed := l.missed(clientSide); len(missed) != 0 {
		t.Errorf("missed %v", missed)
	}
	if missed := l.missed(serverSide); len(missed) == 0 {
		t.Error("nothing is missed of a life that was the other way round")
	}
	line := l.timeline()
	for _, want := range []string{"SYN seq=X", "FIN,ACK seq=U ack=V", "FIN,ACK seq=V ack=U+1", "FIN_WAIT2 → TIME_WAIT", "0.000", "21.000"} {
		if !strings.Contains(line, want) {
			t.Errorf("the timeline lacks %q:\n%s", want, line)
		}
	}
}

// The experiment holds without the permission to trace, too.
func TestTCPStatesWithoutTheTracepoint(t *testing.T) {
	s := &session{scale: Quick, result: Result{Name: "tcp-states"}}
	if err := runTCPStates(t.Context(), s, false); err != nil {
		t.Fatal(err)
	}
	for _, v := range s.result.Variants {
		if !v.OK {
			t.Errorf("%s: measured %v, expected %v (%s)", v.Name, v.Measured, v.Expected, v.Note)
		}
	}
	if runtime.GOOS == "linux" && strings.Contains(s.result.Table, "tracepoint") {
		t.Error("it was traced")
	}
}

// Whoever is interrupted leaves no instance of the trace behind.
func TestInterruptedTraceLeavesNothing(t *testing.T) {
	instances := func() int {
		tr, err := startTrace(1)
		if err != nil {
			t.Skipf("no tracepoint here: %v", err)
		}
		defer tr.stop()
		all, err := filepath.Glob(filepath.Join(filepath.Dir(tr.dir), fmt.Sprintf("berth-%d-*", os.Getpid())))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := instances()
	ctx, cancel := context.WithCancel(t.Context())
	s := &session{scale: Quick, result: Result{Name: "tcp-states"}, options: Options{Finished: func(string, Variant) { cancel() }}}
	if err := runTCPStates(ctx, s, true); err != errInterrupted {
		t.Errorf("error %v", err)
	}
	if after := instances(); after != before {
		t.Errorf("%d instances, before %d", after, before)
	}
}
