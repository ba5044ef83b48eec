package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth/sockets"
)

// side is one of a connection's two ends.
type side int

const (
	clientSide side = iota
	serverSide
)

func (s side) String() string { return [...]string{"client", "server"}[s] }

// transition is a change of state that was seen. sockets.Close stands for CLOSED:
// there is no socket.
type transition struct {
	at       time.Duration // of the monotonic clock
	side     side
	from, to sockets.State
	traced   bool // else it was polled: the state was there when the kernel was asked
}

// allowed are the changes of state of RFC 9293 §3.3.2, figure 5, without those
// that a reset makes.
var allowed = map[sockets.State][]sockets.State{
	sockets.Close:       {sockets.Listen, sockets.SynSent},
	sockets.Listen:      {sockets.SynRecv, sockets.SynSent},
	sockets.SynSent:     {sockets.Established, sockets.SynRecv, sockets.Close},
	sockets.SynRecv:     {sockets.Established, sockets.FinWait1, sockets.Listen},
	sockets.Established: {sockets.FinWait1, sockets.CloseWait},
	sockets.FinWait1:    {sockets.FinWait2, sockets.Closing, sockets.TimeWait},
	sockets.FinWait2:    {sockets.TimeWait},
	sockets.Closing:     {sockets.TimeWait},
	sockets.CloseWait:   {sockets.LastAck},
	sockets.LastAck:     {sockets.Close},
	sockets.TimeWait:    {sockets.Close},
}

// legal reports whether the RFC knows the change: as one step when it was traced,
// as a way of several when states between may have been missed.
func (t transition) legal() bool {
	if slices.Contains(allowed[t.from], t.to) {
		return true
	}
	if t.traced {
		return false
	}
	seen := map[sockets.State]bool{sockets.Close: true, sockets.TimeWait: true} // the ends of a life: none goes on from there
	var reach func(sockets.State) bool
	reach = func(from sockets.State) bool {
		for _, to := range allowed[from] {
			if to == t.to {
				return true
			}
			if !seen[to] {
				seen[to] = true
				if reach(to) {
					return true
				}
			}
		}
		return false
	}
	return reach(t.from)
}

// life is what was seen of one connection.
type life struct{ transitions []transition }

// lifeWatch asks the kernel every millisecond for both ends of the connections of a
// server, and traces them where that is permitted.
type lifeWatch struct {
	server netip.AddrPort
	trace  *tracer
	cancel context.CancelFunc
	done   sync.WaitGroup
	over   chan struct{} // closed when one end is seen in TIME_WAIT and the other is gone, or nothing can be seen

	polled []transition
	err    error
}

// watchLife begins. untraced is why there is no trace, or nil.
func watchLife(ctx context.Context, server netip.AddrPort, traced bool) (w *lifeWatch, untraced error) {
	w = &lifeWatch{server: server, over: make(chan struct{})}
	if traced {
		w.trace, untraced = startTrace(server.Port())
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.done.Go(func() { w.poll(ctx) })
	return w, untraced
}

func (w *lifeWatch) poll(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	now := [2]sockets.State{sockets.Close, sockets.Listen}
	over := sync.OnceFunc(func() { close(w.over) })
	defer over()
	for {
		for _, s := range []side{clientSide, serverSide} {
			state, err := w.state(ctx, s)
			if err != nil {
				if ctx.Err() == nil {
					w.err = err
				}
				return
			}
			if state == sockets.Close && now[s] == sockets.Listen {
				continue // not there yet
			}
			if state != now[s] {
				w.polled = append(w.polled, transition{at: monotonic(), side: s, from: now[s], to: state})
				now[s] = state
			}
		}
		if slices.Contains(now[:], sockets.TimeWait) && slices.Contains(now[:], sockets.Close) {
			over()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// state returns the state of an end, sockets.Close when there is none.
func (w *lifeWatch) state(ctx context.Context, s side) (sockets.State, error) {
	f := sockets.Filter{Remote: w.server.Addr(), RemotePort: w.server.Port()}
	if s == serverSide {
		f = sockets.Filter{Local: w.server.Addr(), LocalPort: w.server.Port()}
	}
	t, err := sockets.List(ctx, f)
	if err != nil {
		return 0, err
	}
	for _, sock := range t.Sockets {
		if sock.State != sockets.Listen {
			return sock.State, nil
		}
	}
	return sockets.Close, nil
}

// stop ends the watch and returns what it saw.
func (w *lifeWatch) stop() (*life, error) {
	w.cancel()
	w.done.Wait()
	if w.trace == nil {
		return &life{w.polled}, w.err
	}
	changes, err := w.trace.changes()
	w.trace.stop()
	if err == nil {
		err = w.err
	}
	return &life{merge(w.polled, changes, w.server.Port())}, err
}

// merge puts what was polled into what was traced. The trace has every change of a
// socket, but Linux replaces the socket of the side that closed first by a smaller
// one that the trace does not see: for the trace it is closed, and what becomes of
// it is polled.
func merge(polled []transition, changes []stateChange, port uint16) []transition {
	var all []transition
	for _, c := range changes {
		t := transition{at: c.at, side: clientSide, from: c.from, to: c.to, traced: true}
		if c.sport == port {
			t.side = serverSide
		}
		if c.to == sockets.Close && slices.ContainsFunc(polled, func(p transition) bool { return p.side == t.side && p.to == sockets.TimeWait }) {
			continue
		}
		if c.from == sockets.Listen || c.to == sockets.Listen {
			continue // the listener's own
		}
		all = append(all, t)
	}
	for _, p := range polled {
		known := slices.ContainsFunc(all, func(t transition) bool { return t.traced && t.side == p.side && t.to == p.to })
		if known || p.to == sockets.Close && slices.ContainsFunc(all, func(t transition) bool { return t.side == p.side && t.to == sockets.Close }) {
			continue
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b transition) int { return int(a.at - b.at) })
	// What was polled comes from the state before it, whoever saw that.
	last := map[side]sockets.State{}
	for i := range all {
		if from, ok := last[all[i].side]; ok && !all[i].traced {
			all[i].from = from
		}
		last[all[i].side] = all[i].to
	}
	return all
}

// states returns the states of one side in their order.
func (l *life) states(s side) []sockets.State {
	var all []sockets.State
	for _, t := range l.transitions {
		if t.side == s {
			if len(all) == 0 && t.from != sockets.Close && t.from != sockets.Listen {
				all = append(all, t.from)
			}
			all = append(all, t.to)
		}
	}
	return all
}

// illegal returns the first change that the RFC does not know.
func (l *life) illegal() (transition, bool) {
	for _, t := range l.transitions {
		if !t.legal() {
			return t, true
		}
	}
	return transition{}, false
}

// names writes states as a chain.
func names(states []sockets.State) string {
	var s []string
	for _, state := range states {
		s = append(s, stateName(state))
	}
	return strings.Join(s, " → ")
}

func stateName(s sockets.State) string {
	if s == sockets.Close {
		return "CLOSED"
	}
	return s.String()
}

// segment says what RFC 9293 has a side send as it changes its state, or what it
// has received, with the sequence numbers of seed 004: X and Y are the initial
// ones, U and V those of the two FINs, of the side that closes first and of the
// other.
func (t transition) segment() (text string, sent bool) {
	switch t.to {
	case sockets.SynSent:
		return "SYN seq=X", true
	case sockets.SynRecv:
		return "SYN,ACK seq=Y ack=X+1", true
	case sockets.Established:
		if t.side == clientSide {
			return "ACK seq=X+1 ack=Y+1", true
		}
		return "got ACK ack=Y+1", false
	case sockets.FinWait1:
		return "FIN,ACK seq=U ack=V", true
	case sockets.CloseWait:
		return "ACK seq=V ack=U+1", true
	case sockets.FinWait2:
		return "got ACK ack=U+1", false
	case sockets.LastAck:
		return "FIN,ACK seq=V ack=U+1", true
	case sockets.Closing:
		return "ACK seq=U+1 ack=V+1", true
	case sockets.TimeWait:
		return "ACK seq=U+1 ack=V+1", true
	case sockets.Close:
		if t.from == sockets.LastAck {
			return "got ACK ack=V+1", false
		}
	}
	return "", false
}

// timeline writes the life for a terminal.
func (l *life) timeline() string {
	if len(l.transitions) == 0 {
		return ""
	}
	begin := l.transitions[0].at
	var b strings.Builder
	fmt.Fprintf(&b, "%10s  %-24s %-29s %-24s %s\n", "ms", "client", "", "server", "seen by")
	for _, t := range l.transitions {
		change := stateName(t.from) + " → " + stateName(t.to)
		segment, sent := t.segment()
		var cells [2]string
		cells[t.side] = change
		if sent && t.side == clientSide {
			segment = segment + " " + strings.Repeat("─", max(1, 26-len(segment))) + "▶"
		} else if sent {
			segment = "◀" + strings.Repeat("─", max(1, 26-len(segment))) + " " + segment
		} else if segment != "" {
			segment = "(" + t.side.String() + " " + segment + ")"
		}
		source := "polled"
		if t.traced {
			source = "tracepoint"
		}
		fmt.Fprintf(&b, "%10.3f  %-24s %-29s %-24s %s\n", float64((t.at-begin).Microseconds())/1000, cells[0], segment, cells[1], source)
	}
	return b.String()
}

// lanes returns the life as the states of both sides, in milliseconds from the first
// change on.
func (l *life) lanes() []Lane {
	if len(l.transitions) == 0 {
		return nil
	}
	begin := l.transitions[0].at
	at := func(d time.Duration) float64 { return float64((d - begin).Microseconds()) / 1000 }
	end := at(l.transitions[len(l.transitions)-1].at + step) // the watch went on so long
	lanes := []Lane{{Name: clientSide.String(), Unit: "ms"}, {Name: serverSide.String(), Unit: "ms"}}
	for _, t := range l.transitions {
		spans := &lanes[t.side].Spans
		if n := len(*spans); n > 0 {
			(*spans)[n-1].To, (*spans)[n-1].Open = at(t.at), false
		}
		if len(*spans) == 0 && t.from != sockets.Close && t.from != sockets.Listen {
			// The state before it was not seen to begin: somewhere after the first change.
			segment, sent := transition{side: t.side, to: t.from}.segment()
			*spans = append(*spans, Span{State: stateName(t.from), From: at(t.at) / 2, To: at(t.at), Guessed: true, Segment: segment, Sent: sent})
		}
		segment, sent := t.segment()
		*spans = append(*spans, Span{State: stateName(t.to), From: at(t.at), To: end, Open: true, Segment: segment, Sent: sent})
	}
	return lanes
}
