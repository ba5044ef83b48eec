package memnet

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestStatsFollowEveryDial(t *testing.T) {
	n := &Network{OnDial: func(_ context.Context, addr string) error {
		if addr == "bad.test:80" {
			return errors.New("no")
		}
		return nil
	}}
	check := func(addr string, want Stats) {
		t.Helper()
		if got := n.Stats(addr); got != want {
			t.Errorf("Stats(%s) = %+v, want %+v", addr, got, want)
		}
	}
	ln := listen(t, n, ":80")
	a1, a2 := dial(t, n, "a.test:80"), dial(t, n, "A.test:80")
	b := dial(t, n, "b.test:80")
	n.DialContext(t.Context(), "tcp", "bad.test:80")
	server := accept(t, ln)

	check("a.test:80", Stats{Dials: 2, Accepted: 1, MaxDialing: 1, Open: 2, MaxOpen: 2})
	check("b.test:80", Stats{Dials: 1, MaxDialing: 1, Open: 1, MaxOpen: 1})
	check("bad.test:80", Stats{Dials: 1, Failed: 1, MaxDialing: 1})
	check("never.test:80", Stats{})
	check("not an address", Stats{})

	server.Close()
	check("a.test:80", Stats{Dials: 2, Accepted: 1, MaxDialing: 1, Open: 2, MaxOpen: 2})
	a1.Close()
	a1.Close()
	a2.Reset()
	check("a.test:80", Stats{Dials: 2, Accepted: 1, MaxDialing: 1, Open: 0, MaxOpen: 2})

	b.Close()
	dial(t, n, "a.test:80")
	want := Stats{Dials: 5, Failed: 1, Accepted: 1, MaxDialing: 1, Open: 1, MaxOpen: 3}
	if got := n.Total(); got != want {
		t.Errorf("Total() = %+v, want %+v", got, want)
	}
}

// A peer that has seen the end of a connection also sees it counted: while the
// count cannot be made, the end is not to be seen. The wait is in real time,
// because a bubble's clock stands still while a goroutine waits for a mutex; it
// bounds only how long a wrong end would have to show itself.
func TestClosedConnIsCountedBeforeThePeerSeesIt(t *testing.T) {
	n := new(Network)
	client, server := pair(t, n)
	closed := make(chan error, 1)
	n.mu.Lock()
	go func() { closed <- client.Close() }()
	server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := server.Read(make([]byte, 1))
	n.mu.Unlock()
	wantOpError(t, err, "read", os.ErrDeadlineExceeded, true)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Time{})
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read after the count: %v, want EOF", err)
	}
}

func TestMaxDialingSeesDialsInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := &Network{OnDial: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		for range 3 {
			go n.DialContext(ctx, "tcp", "origin.test:80")
		}
		synctest.Wait()
		if got, want := n.Total(), (Stats{Dials: 3, Dialing: 3, MaxDialing: 3}); got != want {
			t.Errorf("while they hang: %+v, want %+v", got, want)
		}
		cancel()
		synctest.Wait()
		if got, want := n.Total(), (Stats{Dials: 3, Failed: 3, MaxDialing: 3}); got != want {
			t.Errorf("after they ended: %+v, want %+v", got, want)
		}
	})
}
