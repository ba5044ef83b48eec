package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// closeWaitExperiment has the peer close first, and our side forget.
func closeWaitExperiment() Experiment {
	return Experiment{
		Name:    "close-wait",
		Source:  "seed 004: CLOSE_WAIT, where the application has yet to close",
		Summary: "connections that the peer has closed and this side has forgotten: how many stay",
		run:     runCloseWait,
	}
}

const closeWaitConns = 10

func runCloseWait(ctx context.Context, s *session) error {
	s.result.Note = fmt.Sprintf("%d connections each; the collector runs in every row. CLOSE_WAIT has no timeout: a socket leaves it when its program closes it, or ends", closeWaitConns)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	ours, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		return err
	}
	defer ours.Close()
	theirs := &http.Transport{}
	defer theirs.CloseIdleConnections()
	var table strings.Builder
	for i, v := range []struct {
		name  string
		serve origin.Handler
		open  func(ctx context.Context, srv *server) error
		left  int
	}{
		{"berth, idle", answerAndLeave, func(ctx context.Context, srv *server) error { return openIdle(ctx, ours, srv.url()) }, 0},
		{"berth, body forgotten", beginAndLeave, func(ctx context.Context, srv *server) error { return openStreams(ctx, ours, srv.url()) }, 0},
		{"net/http, body forgotten", beginAndLeave, func(ctx context.Context, srv *server) error { return openStreams(ctx, theirs, srv.url()) }, closeWaitConns},
		{"net.Conn, never closed", beginAndLeave, func(ctx context.Context, srv *server) error {
			for range closeWaitConns {
				c, err := net.Dial("tcp", srv.addr.String())
				if err != nil {
					return err
				}
				held = append(held, c)
				if _, err := c.Write([]byte(question)); err != nil {
					return err
				}
			}
			return nil
		}, closeWaitConns},
	} {
		s.progress("%s", v.name)
		ln, err := listen(19, byte(i+1))
		if err != nil {
			return err
		}
		srv := &server{origin.New(ln).Handle(v.serve), addrOf(ln)}
		defer srv.Close()
		if err := v.open(ctx, srv); err != nil {
			return err
		}
		row := Variant{Name: v.name, OK: true, Measured: map[string]any{"close_wait": NotObserved, "left_after_gc": NotObserved},
			Expected: map[string]any{"left_after_gc": v.left}}
		most, left, series, err := followCloseWait(ctx, srv, v.left)
		switch {
		case ctx.Err() != nil:
			return errInterrupted
		case unsupported(err):
		case err != nil:
			return err
		default:
			row.Measured["close_wait"], row.Measured["left_after_gc"] = most, len(left)
			row.OK = len(left) == v.left
			row.Series = []Series{series}
			if len(left) > 0 {
				fmt.Fprintf(&table, "%s\n", v.name)
				if err := sockets.WriteTable(&table, left); err != nil {
					return err
				}
				table.WriteByte('\n')
			}
		}
		s.add(row)
	}
	s.result.Table = table.String()
	return nil
}

// answerAndLeave answers for a moment, and closes its side when the connection is idle.
func answerAndLeave(c *origin.Conn) {
	c.ReadRequest()
	c.Sleep(50 * time.Millisecond) // until all requests have come
	c.Write(string(answer))
	c.Sleep(50 * time.Millisecond)
	c.CloseWrite()
	c.Stall()
}

// beginAndLeave begins a long answer and closes its side.
func beginAndLeave(c *origin.Conn) {
	c.ReadRequest()
	c.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 20_000))
	c.CloseWrite()
	c.Stall()
}

func openStreams(ctx context.Context, rt http.RoundTripper, url string) error {
	for range closeWaitConns {
		if err := openStream(ctx, rt, url, false); err != nil {
			return err
		}
	}
	return nil
}

// openIdle opens connections at once, which are idle then.
func openIdle(ctx context.Context, rt http.RoundTripper, url string) error {
	errs := make(chan error, closeWaitConns)
	for range closeWaitConns {
		go func() { errs <- get(ctx, rt, url) }() // received below
	}
	var first error
	for range closeWaitConns {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// closeWaitPatience is how long connections may take to be closed: a sweep of idle ones
// every five seconds, and the collector's word within some.
const closeWaitPatience = 30 * time.Second

// followCloseWait has the collector run and looks how many sockets are in CLOSE_WAIT: the
// most at once, and those that are left when no fewer are expected, at most closeWaitPatience
// later.
func followCloseWait(ctx context.Context, srv *server, expected int) (most int, left []sockets.Socket, series Series, err error) {
	series = Series{Name: "CLOSE_WAIT", Unit: "s"}
	start := time.Now()
	settle := 3 * time.Second // that those are left which are to be left
	for {
		if left, err = clientSockets(ctx, srv.addr, sockets.CloseWait); err != nil {
			return 0, nil, series, err
		}
		at := time.Since(start)
		series.Points = append(series.Points, [2]float64{round3(at.Seconds()), float64(len(left))})
		most = max(most, len(left))
		if at > closeWaitPatience || at > settle && len(left) <= expected {
			return most, left, series, nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, nil, series, err
		}
		runtime.GC()
	}
}
