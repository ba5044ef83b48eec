package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// finWaitExperiment closes, and has the peer forget.
func finWaitExperiment() Experiment {
	return Experiment{
		Name:    "fin-wait",
		Source:  "seed 004: FIN_WAIT_2, where the peer has yet to close",
		Summary: "connections that this side has closed and the peer has forgotten: how long they stay",
		run:     runFinWait,
	}
}

const finWaitConns = 10

func runFinWait(ctx context.Context, s *session) error {
	s.result.Note = "a closed socket is the kernel's: it leaves FIN_WAIT_2 after tcp_fin_timeout, 60 s unless set. One of which only the writing side is closed " +
		"has no such end. “seconds” is the kernel's own timer, read a moment after the close; --full waits until they are gone"
	var halves []net.Conn
	defer func() {
		for _, c := range halves {
			c.Close()
		}
	}()
	closing := func(policy berth.Policy) func(ctx context.Context, url string) error {
		return func(ctx context.Context, url string) error {
			tr, err := berth.New(berth.Config{Policy: policy, Proxy: berth.NoProxy})
			if err != nil {
				return err
			}
			if err := openIdle(ctx, tr, url); err != nil {
				return err
			}
			return tr.Close()
		}
	}
	var table strings.Builder
	for i, v := range []struct {
		name    string
		open    func(ctx context.Context, url string) error
		left    int
		endless bool
	}{
		{"berth, peer never closes", closing(berth.Policy{}), finWaitConns, false},
		{"berth, reset", closing(berth.Policy{Close: berth.CloseReset}), 0, false},
		{"net/http, peer never closes", func(ctx context.Context, url string) error {
			t := &http.Transport{MaxIdleConnsPerHost: finWaitConns}
			defer t.CloseIdleConnections()
			return openIdle(ctx, t, url)
		}, finWaitConns, false},
		{"net.Conn, half-closed", func(_ context.Context, url string) error {
			for range finWaitConns {
				c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/"))
				if err != nil {
					return err
				}
				halves = append(halves, c)
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					return err
				}
			}
			return nil
		}, finWaitConns, true},
	} {
		s.progress("%s", v.name)
		ln, err := listen(20, byte(i+1))
		if err != nil {
			return err
		}
		srv := &server{origin.New(ln).Handle(func(c *origin.Conn) {
			for {
				if _, err := c.ReadRequest(); err != nil || !c.Sleep(50*time.Millisecond) || c.Write(string(answer)) != nil {
					c.Stall() // it has seen the end, and closes nothing
					return
				}
			}
		}), addrOf(ln)}
		defer srv.Close()
		if err := v.open(ctx, srv.url()); err != nil {
			return err
		}
		row := Variant{Name: v.name, OK: true, Measured: map[string]any{"fin_wait2": NotObserved, "seconds": NotObserved},
			Expected: map[string]any{"fin_wait2": v.left}}
		seen, err := finWaitSeries(ctx, srv, 50*time.Millisecond, 300*time.Millisecond)
		if err == nil {
			row.Series = seen
		}
		found, err := clientSockets(ctx, srv.addr, sockets.FinWait2)
		switch {
		case ctx.Err() != nil:
			return errInterrupted
		case unsupported(err):
			s.add(row)
			continue
		case err != nil:
			return err
		}
		longest, owned := time.Duration(0), 0
		for _, f := range found {
			if f.Inode != 0 { // a program has it; its timer is that of keep-alive
				owned++
				continue
			}
			longest = max(longest, f.Timer)
		}
		row.Measured["fin_wait2"], row.Measured["seconds"] = len(found), round3(longest.Seconds())
		row.OK = len(found) == v.left && (owned == v.left) == (v.endless || v.left == 0)
		switch {
		case v.endless:
			row.Measured["seconds"], row.Expected["seconds"] = "no end", "no end"
		case v.left > 0:
			row.Expected["seconds"] = "> 0"
			row.OK = row.OK && longest > 0
		}
		if v.left > 0 {
			fmt.Fprintf(&table, "%s\n", v.name)
			if err := sockets.WriteTable(&table, found); err != nil {
				return err
			}
			table.WriteByte('\n')
		}
		if s.scale == Full && v.left > 0 && !v.endless {
			if row.Series, err = finWaitSeries(ctx, srv, time.Second, 5*time.Minute); err != nil {
				return err
			}
		}
		s.add(row)
	}
	s.result.Table = table.String()
	return nil
}

// finWaitSeries follows them to their end, or for so long.
func finWaitSeries(ctx context.Context, srv *server, every, long time.Duration) ([]Series, error) {
	series := Series{Name: "FIN_WAIT2", Unit: "s"}
	start := time.Now()
	for {
		found, err := clientSockets(ctx, srv.addr, sockets.FinWait2)
		if err != nil {
			return nil, err
		}
		at := time.Since(start)
		series.Points = append(series.Points, [2]float64{round3(at.Seconds()), float64(len(found))})
		if at > long || len(found) == 0 && long > time.Second {
			return []Series{series}, nil
		}
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
	}
}
