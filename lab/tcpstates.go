package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// tcpStatesExperiment shows a connection's life as the kernel reports it (seed
// 004): who closes first ends in TIME_WAIT, whichever side it is.
func tcpStatesExperiment() Experiment {
	return Experiment{
		Name:    "tcp-states",
		Source:  "seed 004: the states of TCP, and who waits in TIME_WAIT",
		Summary: "one connection's life on both ends, closed by the client first and by the server first",
		run:     func(ctx context.Context, s *session) error { return runTCPStates(ctx, s, true) },
	}
}

// step is how long each state of a scenario lasts, so that it can be seen.
const step = 25 * time.Millisecond

// endSeen is how long a connection's last states may take to be seen.
const endSeen = 5 * time.Second

// scenario is one life: run opens the connection to the listener, uses it, and has
// both sides close it, first first.
type scenario struct {
	name  string
	first side
	run   func(ctx context.Context, ln net.Listener) error
}

func tcpScenarios() []scenario {
	return []scenario{
		{"berth, client closes first", clientSide, berthClosesFirst},
		{"berth, server closes first", serverSide, berthClosesSecond},
		{"net.Conn, client closes first", clientSide, func(ctx context.Context, ln net.Listener) error { return plainLife(ctx, ln, clientSide) }},
		{"net.Conn, server closes first", serverSide, func(ctx context.Context, ln net.Listener) error { return plainLife(ctx, ln, serverSide) }},
	}
}

func runTCPStates(ctx context.Context, s *session, traced bool) error {
	s.result.Note = "the seed has the client wait in TIME_WAIT; it is whoever closes first. “2 MSL” is 60 s on Linux, built in. " +
		"An ACK may wait up to 40 ms and ride on the FIN of its side: then three segments close instead of four"
	var tables strings.Builder
	var waiting []sockets.Socket
	for i, sc := range tcpScenarios() {
		s.progress("%s", sc.name)
		row, l, left, err := measureLife(ctx, byte(i+1), sc, traced)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		if l != nil {
			row.Timeline = l.lanes()
		}
		s.add(row)
		if l != nil {
			fmt.Fprintf(&tables, "%s\n%s\n", sc.name, l.timeline())
		}
		waiting = append(waiting, left...)
	}
	s.result.Table = tables.String()
	for i, h := range heldStates() {
		s.progress("%s held open", stateName(h.state))
		row, err := measureHeld(ctx, byte(100+i), h)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s: %w", row.Name, err)
		}
		s.add(row)
	}
	return s.timeWaitRow(ctx, waiting)
}

// measureLife runs a scenario and says what was seen of it. left are the sockets in
// TIME_WAIT.
func measureLife(ctx context.Context, variant byte, sc scenario, traced bool) (row Variant, l *life, left []sockets.Socket, err error) {
	row = Variant{Name: sc.name, OK: true,
		Measured: map[string]any{"client": NotObserved, "server": NotObserved, "time_wait": NotObserved},
		Expected: map[string]any{"time_wait": sc.first.String()}}
	ln, err := listen(6, variant)
	if err != nil {
		return row, nil, nil, err
	}
	defer ln.Close()
	w, untraced := watchLife(ctx, addrOf(ln), traced)
	err = sc.run(ctx, ln)
	if err == nil {
		select { // on a busy machine the last states are seen late, and TIME_WAIT lasts
		case <-w.over:
		case <-time.After(endSeen):
		case <-ctx.Done():
		}
	}
	if perr := pause(ctx, step); err == nil {
		err = perr
	}
	l, werr := w.stop()
	if err != nil {
		return row, nil, nil, err
	}
	if unsupported(werr) {
		row.Note = werr.Error()
		return row, nil, nil, nil
	}
	if werr != nil {
		return row, nil, nil, werr
	}
	client, server := l.states(clientSide), l.states(serverSide)
	row.Measured["client"], row.Measured["server"] = names(client), names(server)
	waits := []string{}
	for _, s := range []side{clientSide, serverSide} {
		if slices.Contains(l.states(s), sockets.TimeWait) {
			waits = append(waits, s.String())
		}
	}
	row.Measured["time_wait"] = strings.Join(waits, " and ")
	row.OK = row.Measured["time_wait"] == row.Expected["time_wait"]
	if t, ok := l.illegal(); ok {
		row.OK = false
		row.Note = fmt.Sprintf("RFC 9293 knows no change of the %v from %s to %s", t.side, stateName(t.from), stateName(t.to))
	}
	missed := l.missed(sc.first)
	row.Measured["states_seen"] = fmt.Sprintf("%d of %d", lifeStates-len(missed), lifeStates)
	if len(missed) > 0 {
		row.Note = join(row.Note, NotObserved+": "+strings.Join(missed, ", "))
	}
	if untraced != nil {
		row.Note = join(row.Note, "polled alone: "+untraced.Error())
	}
	for _, f := range []sockets.Filter{{Remote: addrOf(ln).Addr(), RemotePort: addrOf(ln).Port()}, {Local: addrOf(ln).Addr(), LocalPort: addrOf(ln).Port()}} {
		f.States = []sockets.State{sockets.TimeWait}
		t, err := sockets.List(ctx, f)
		if err != nil {
			return row, nil, nil, err
		}
		left = append(left, t.Sockets...)
	}
	return row, l, left, nil
}

// lifeStates is how many states a connection goes through on both sides: opening
// two and two, closing three and two.
const lifeStates = 9

// missed names the states that a life has and that nothing showed.
func (l *life) missed(first side) []string {
	opens := [2][]sockets.State{{sockets.SynSent, sockets.Established}, {sockets.SynRecv, sockets.Established}}
	var all []string
	for _, s := range []side{clientSide, serverSide} {
		want := append(opens[s], sockets.CloseWait, sockets.LastAck)
		if s == first {
			want = append(opens[s][:2:2], sockets.FinWait1, sockets.FinWait2, sockets.TimeWait)
		}
		have := l.states(s)
		for _, state := range want {
			if !slices.Contains(have, state) {
				all = append(all, s.String()+" "+stateName(state))
			}
		}
	}
	return all
}

// berthClosesFirst sends a request and closes the idle connection.
func berthClosesFirst(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { // received below; ends when the client closes, or with the listener
		served <- func() error {
			c, err := acceptWith(ctx, ln)
			if err != nil {
				return err
			}
			defer c.Close()
			r := bufio.NewReader(c)
			if _, err := http.ReadRequest(r); err != nil {
				return err
			}
			if _, err := c.Write(answer); err != nil {
				return err
			}
			if _, err := r.ReadByte(); err != io.EOF {
				return fmt.Errorf("the client did not close: %v", err)
			}
			return pause(ctx, step) // CLOSE_WAIT here, FIN_WAIT2 there
		}()
	}()
	tr := &berth.Transport{}
	defer tr.Close()
	if err := get(ctx, tr, "http://"+ln.Addr().String()+"/"); err != nil {
		ln.Close()
		return errors.Join(err, <-served)
	}
	err := pause(ctx, step)
	tr.CloseIdleConnections()
	return errors.Join(err, <-served)
}

// berthClosesSecond sends a request that the server answers and closes; the end of
// the body is read later, and only then is the connection closed here.
func berthClosesSecond(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { // received below; ends by itself, or with the listener
		served <- func() error {
			c, err := acceptWith(ctx, ln)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				return err
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\no"); err != nil {
				return err
			}
			if err := pause(ctx, step); err != nil {
				return err
			}
			_, err = io.WriteString(c, "k")
			return err
		}()
	}()
	tr := &berth.Transport{}
	defer tr.Close()
	err := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ln.Addr().String()+"/", nil)
		if err != nil {
			return err
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := pause(ctx, 3*step); err != nil { // CLOSE_WAIT here, FIN_WAIT2 there
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}()
	if err != nil {
		ln.Close()
	}
	return errors.Join(err, <-served)
}

// plainLife opens a connection, says a word each way, and closes it, first first.
func plainLife(ctx context.Context, ln net.Listener, first side) error {
	var d net.Dialer
	client, err := d.DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := acceptWith(ctx, ln)
	if err != nil {
		return err
	}
	defer server.Close()
	ends := []net.Conn{client, server}
	if first == serverSide {
		ends[0], ends[1] = server, client
	}
	if err := pause(ctx, step); err != nil {
		return err
	}
	for _, end := range ends {
		end.Close()
		if err := pause(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// acceptWith accepts, unless ctx ends.
func acceptWith(ctx context.Context, ln net.Listener) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	c, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return c, nil
}

// timeWaitRow measures how long TIME_WAIT lasts: the kernel's own minute, which is
// worth waiting for at full scale alone.
func (s *session) timeWaitRow(ctx context.Context, waiting []sockets.Socket) error {
	row := Variant{Name: "kernel: TIME_WAIT lasts", OK: true,
		Measured: map[string]any{"seconds": NotObserved}, Expected: map[string]any{"seconds": "60 (Linux)"}}
	switch {
	case s.scale != Full:
		row.Note = "measured by --full"
		if d := longest(waiting); d > 0 {
			row.Note += fmt.Sprintf("; the kernel's timer says that %.0f s are to come", d.Seconds())
		}
		s.add(row)
		return nil
	case len(waiting) == 0:
		row.Note = "no socket was seen in TIME_WAIT"
		s.add(row)
		return nil
	}
	begin := time.Now() // the youngest began a moment ago
	youngest := waiting[len(waiting)-1]
	age := time.Minute - youngest.Timer
	for {
		t, err := sockets.List(ctx, sockets.Filter{States: []sockets.State{sockets.TimeWait}, Local: youngest.Local.Addr(), LocalPort: youngest.Local.Port()})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(t.Sockets, func(s sockets.Socket) bool { return s.Remote == youngest.Remote }) {
			break
		}
		s.progress("TIME_WAIT lasts: %.0f s so far", (time.Since(begin) + age).Seconds())
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	seconds := (time.Since(begin) + age).Seconds()
	row.Measured["seconds"] = float64(int(seconds*10+0.5)) / 10
	row.OK = seconds > 58 && seconds < 63
	s.add(row)
	return nil
}

func longest(waiting []sockets.Socket) (d time.Duration) {
	for _, s := range waiting {
		d = max(d, s.Timer)
	}
	return d
}

// held is a state that passes too fast to be seen, and a way to hold it open.
type held struct {
	state sockets.State
	side  side
	how   string
	hold  func(ctx context.Context, addr netip.AddrPort) (release func(), server netip.AddrPort, err error)
}

// measureHeld holds a state open and asks the kernel for it.
func measureHeld(ctx context.Context, variant byte, h held) (Variant, error) {
	row := Variant{Name: "kernel: " + stateName(h.state), OK: true,
		Measured: map[string]any{"seen_on": NotObserved}, Expected: map[string]any{"seen_on": h.side.String()}, Note: h.how}
	release, server, err := h.hold(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 71, 6, variant}), 0))
	if release != nil {
		defer release()
	}
	if err != nil {
		return row, err
	}
	f := sockets.Filter{States: []sockets.State{h.state}, Remote: server.Addr(), RemotePort: server.Port()}
	if h.side == serverSide {
		f = sockets.Filter{States: []sockets.State{h.state}, Local: server.Addr(), LocalPort: server.Port()}
	}
	for range 100 {
		t, err := sockets.List(ctx, f)
		if unsupported(err) {
			row.Note = err.Error()
			return row, nil
		}
		if err != nil {
			return row, err
		}
		if len(t.Sockets) > 0 {
			row.Measured["seen_on"] = h.side.String()
			return row, nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return row, err
		}
	}
	row.OK = false
	return row, nil
}
