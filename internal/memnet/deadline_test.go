package memnet

import (
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// waits are the two calls a deadline can end, made so that they block: the read
// has nothing to read, the write finds the buffer full.
var waits = []struct {
	op   string
	fill bool
	set  func(*Conn, time.Time) error
	call func(*Conn) (int, error)
}{
	{"read", false, (*Conn).SetReadDeadline, func(c *Conn) (int, error) { return c.Read(make([]byte, 1)) }},
	{"write", true, (*Conn).SetWriteDeadline, func(c *Conn) (int, error) { return c.Write([]byte("x")) }},
	{"read", false, (*Conn).SetDeadline, func(c *Conn) (int, error) { return c.Read(make([]byte, 1)) }},
	{"write", true, (*Conn).SetDeadline, func(c *Conn) (int, error) { return c.Write([]byte("x")) }},
}

// eachWait runs f for both calls in a bubble; unblock lets the call succeed.
func eachWait(t *testing.T, f func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func())) {
	for i, w := range waits {
		name := w.op
		if i >= 2 {
			name += " by SetDeadline"
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, &Network{Buffer: 1})
				unblock := func() { server.Write([]byte("y")) }
				if w.fill {
					mustWrite(t, client, "f")
					unblock = func() { server.Read(make([]byte, 1)) }
				}
				set := func(at time.Time) {
					t.Helper()
					if err := w.set(client, at); err != nil {
						t.Fatalf("set deadline: %v", err)
					}
				}
				call := func() error { _, err := w.call(client); return err }
				f(t, client, set, call, w.op, unblock)
			})
		})
	}
}

func TestPastDeadlineFailsAtOnce(t *testing.T) {
	eachWait(t, func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func()) {
		start := time.Now()
		for _, at := range []time.Time{time.Unix(1, 0), start.Add(-1), start} {
			set(at)
			wantOpError(t, call(), op, os.ErrDeadlineExceeded, true)
		}
		unblock()
		wantOpError(t, call(), op, os.ErrDeadlineExceeded, true)
		wantElapsed(t, start, 0)
	})
}

func TestDeadlineEndsTheWaitExactly(t *testing.T) {
	eachWait(t, func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func()) {
		start := time.Now()
		set(start.Add(3 * time.Second))
		wantOpError(t, call(), op, os.ErrDeadlineExceeded, true)
		wantElapsed(t, start, 3*time.Second)
		wantOpError(t, call(), op, os.ErrDeadlineExceeded, true)
		wantElapsed(t, start, 3*time.Second)
	})
}

func TestDeadlineSetWhileWaitingWakes(t *testing.T) {
	for name, wait := range map[string]time.Duration{"past": -time.Second, "now": 0, "later": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			eachWait(t, func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func()) {
				start := time.Now()
				errs := make(chan error, 1)
				go func() { errs <- call() }()
				time.Sleep(time.Second)
				set(time.Now().Add(wait))
				wantOpError(t, <-errs, op, os.ErrDeadlineExceeded, true)
				wantElapsed(t, start, time.Second+max(wait, 0))
			})
		})
	}
}

func TestDeadlineMovedWhileWaiting(t *testing.T) {
	for name, move := range map[string]time.Duration{"later": 9 * time.Second, "earlier": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			eachWait(t, func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func()) {
				start := time.Now()
				set(start.Add(4 * time.Second))
				errs := make(chan error, 1)
				go func() { errs <- call() }()
				synctest.Wait()
				set(start.Add(move))
				wantOpError(t, <-errs, op, os.ErrDeadlineExceeded, true)
				wantElapsed(t, start, move)
			})
		})
	}
}

func TestClearedDeadlineLetsTheCallGoOn(t *testing.T) {
	eachWait(t, func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func()) {
		start := time.Now()
		set(start.Add(time.Second))
		errs := make(chan error, 1)
		go func() { errs <- call() }()
		synctest.Wait()
		set(time.Time{})
		time.Sleep(time.Hour)
		unblock()
		if err := <-errs; err != nil {
			t.Errorf("%s after its deadline was cleared: %v", op, err)
		}
		wantElapsed(t, start, time.Hour)
	})
}

func TestPassedDeadlineCanBeRenewed(t *testing.T) {
	eachWait(t, func(t *testing.T, c *Conn, set func(time.Time), call func() error, op string, unblock func()) {
		set(time.Unix(1, 0))
		wantOpError(t, call(), op, os.ErrDeadlineExceeded, true)
		set(time.Now().Add(time.Second))
		unblock()
		if err := call(); err != nil {
			t.Errorf("%s under a renewed deadline: %v", op, err)
		}
	})
}

func TestReadDeadlineLeavesTheWriterAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, new(Network))
		client.SetReadDeadline(time.Unix(1, 0))
		mustWrite(t, client, "hello")
		wantRead(t, server, "hello")
		client.SetReadDeadline(time.Time{})
		client.SetWriteDeadline(time.Unix(1, 0))
		mustWrite(t, server, "hello")
		wantRead(t, client, "hello")
	})
}

func TestWriteDeadlineReportsThePartWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, &Network{Buffer: 10})
		client.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := client.Write(make([]byte, 25))
		wantOpError(t, err, "write", os.ErrDeadlineExceeded, true)
		client.Close()
		got, _ := io.ReadAll(server)
		if n != 10 || len(got) != n {
			t.Errorf("Write returned %d, the peer read %d, want 10 and 10", n, len(got))
		}
	})
}

// A Write that waits for another Write's turn has a deadline as well.
func TestDeadlineEndsTheWaitForAnotherWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := pair(t, &Network{Buffer: 1})
		start := time.Now()
		client.SetWriteDeadline(start.Add(time.Second))
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := client.Write([]byte("long"))
				errs <- err
			}()
		}
		for range 2 {
			wantOpError(t, <-errs, "write", os.ErrDeadlineExceeded, true)
		}
		wantElapsed(t, start, time.Second)
	})
}

// A wall clock set back after the timer went off must not leave a reader waiting:
// what fired stays passed.
func TestFiredDeadlineStaysPassed(t *testing.T) {
	d := deadline{at: time.Now().Add(time.Hour), fired: true}
	if !d.passed() {
		t.Error("a deadline whose timer fired has not passed")
	}
}

func TestCloseStopsTheTimers(t *testing.T) {
	client, _ := pair(t, new(Network))
	client.SetDeadline(time.Now().Add(time.Hour))
	if client.in.readDeadline.timer == nil || client.out.writeDeadline.timer == nil {
		t.Fatal("no timer runs for a deadline in the future")
	}
	client.Close()
	if client.in.readDeadline.timer != nil || client.out.writeDeadline.timer != nil {
		t.Error("a timer is left after Close")
	}
}
