package memnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialWithoutListenerIsRefused(t *testing.T) {
	n := new(Network)
	ln := listen(t, n, "origin.test:80")
	_, err := n.DialContext(t.Context(), "tcp", "origin.test:81")
	wantOpError(t, err, "dial", syscall.ECONNREFUSED, false)
	ln.Close()
	_, err = n.DialContext(t.Context(), "tcp", "origin.test:80")
	wantOpError(t, err, "dial", syscall.ECONNREFUSED, false)
	if want := "dial tcp origin.test:80: connect: connection refused"; err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
}

func TestDialFindsTheListenerHoweverTheAddressIsWritten(t *testing.T) {
	for _, tc := range []struct{ listen, dial, network string }{
		{"origin.test:80", "ORIGIN.test:80", "tcp"},
		{"Origin.Test:80", "origin.test:080", "tcp"},
		{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", "tcp4"},
		{"[::1]:80", "[0:0:0:0:0:0:0:1]:80", "tcp6"},
		{":80", "any.test:80", "tcp"},
		{"0.0.0.0:80", "192.0.2.7:80", "tcp"},
		{"[::]:80", "[2001:db8::7]:80", "tcp"},
	} {
		n := new(Network)
		listen(t, n, tc.listen)
		c, err := n.DialContext(t.Context(), tc.network, tc.dial)
		if err != nil {
			t.Errorf("listening at %s, dial of %s: %v", tc.listen, tc.dial, err)
			continue
		}
		c.Close()
	}
}

func TestOwnListenerWinsOverTheOneForEveryHost(t *testing.T) {
	n := new(Network)
	every := listen(t, n, ":80")
	own := listen(t, n, "own.test:80")
	dial(t, n, "own.test:80")
	dial(t, n, "other.test:80")
	if got := accept(t, own).LocalAddr().String(); got != "own.test:80" {
		t.Errorf("own listener accepted %s", got)
	}
	if got := accept(t, every).LocalAddr().String(); got != "other.test:80" {
		t.Errorf("listener for every host accepted %s", got)
	}
}

func TestDialRejectsWhatItCannotCarry(t *testing.T) {
	for _, tc := range []struct{ network, addr, want string }{
		{"tcp", "origin.test", "missing port"},
		{"tcp", "origin.test:http", "invalid port"},
		{"tcp", "origin.test:65536", "invalid port"},
		{"udp", "origin.test:80", "unknown network"},
		{"tcp4", "[::1]:80", "no suitable address"},
		{"tcp6", "127.0.0.1:80", "no suitable address"},
	} {
		n := new(Network)
		_, err := n.DialContext(t.Context(), tc.network, tc.addr)
		var oe *net.OpError
		if !errors.As(err, &oe) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("dial of %s %s: %v, want a *net.OpError with %q", tc.network, tc.addr, err, tc.want)
		}
		if got := n.Total(); got != (Stats{}) {
			t.Errorf("dial of %s %s was counted: %+v", tc.network, tc.addr, got)
		}
	}
}

func TestOnDialRefusesDelaysAndHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no route")
		plain := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}
		n := &Network{OnDial: func(ctx context.Context, addr string) error {
			switch addr {
			case "refused.test:80":
				return broken
			case "dressed.test:80":
				return plain
			case "wrapped.test:80":
				return fmt.Errorf("somewhere: %w", plain)
			case "slow.test:80":
				time.Sleep(3 * time.Second)
			case "hang.test:80":
				<-ctx.Done()
				return ctx.Err()
			case "deaf.test:80":
				time.Sleep(time.Hour)
			}
			return nil
		}}
		listen(t, n, ":80")
		start := time.Now()

		_, err := n.DialContext(t.Context(), "tcp", "Refused.test:80")
		wantOpError(t, err, "dial", broken, false)
		_, err = n.DialContext(t.Context(), "tcp", "dressed.test:80")
		if err != error(plain) {
			t.Errorf("the hook's *net.OpError became %v", err)
		}
		_, err = n.DialContext(t.Context(), "tcp", "wrapped.test:80")
		if _, ok := err.(*net.OpError); !ok || !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("the hook's wrapped error became %T %v, want *net.OpError", err, err)
		}
		wantElapsed(t, start, 0)

		dial(t, n, "slow.test:80")
		wantElapsed(t, start, 3*time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.DialContext(ctx, "tcp", "hang.test:80")
		wantOpError(t, err, "dial", context.DeadlineExceeded, true)
		wantElapsed(t, start, 4*time.Second)

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.DialContext(ctx, "tcp", "deaf.test:80")
		wantOpError(t, err, "dial", context.DeadlineExceeded, true)
	})
}

func TestDialWithEndedContextFailsBeforeTheHook(t *testing.T) {
	n := &Network{OnDial: func(context.Context, string) error {
		t.Error("OnDial ran")
		return nil
	}}
	listen(t, n, "origin.test:80")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.DialContext(ctx, "tcp", "origin.test:80")
	wantOpError(t, err, "dial", context.Canceled, false)
}

func TestFullBacklogHoldsDialsUntilAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{Backlog: 2}
		ln := listen(t, n, "origin.test:80")
		dial(t, n, "origin.test:80")
		dial(t, n, "origin.test:80")

		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := n.DialContext(ctx, "tcp", "origin.test:80")
		wantOpError(t, err, "dial", context.DeadlineExceeded, true)
		wantElapsed(t, start, time.Second)

		go func() {
			time.Sleep(time.Minute)
			c, err := ln.Accept()
			if err != nil {
				t.Errorf("Accept: %v", err)
				return
			}
			c.Close()
		}()
		dial(t, n, "origin.test:80")
		wantElapsed(t, start, time.Minute+time.Second)
	})
}

func TestNoBacklogMakesDialsWaitForAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{Backlog: -1}
		ln := listen(t, n, "origin.test:80")
		var wg sync.WaitGroup
		defer wg.Wait()
		start := time.Now()
		for range 2 {
			wg.Go(func() {
				c, err := n.DialContext(t.Context(), "tcp", "origin.test:80")
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				c.Close()
			})
		}
		time.Sleep(time.Second)
		if got := n.Total(); got.Dialing != 2 || got.Open != 0 {
			t.Errorf("before Accept: %+v, want 2 dialing and none open", got)
		}
		accept(t, ln)
		synctest.Wait()
		if got := n.Total(); got.Dialing != 1 {
			t.Errorf("after one Accept: %+v, want 1 dialing", got)
		}
		accept(t, ln)
		wg.Wait()
		wantElapsed(t, start, time.Second)
	})
}

func TestListenerCloseEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{Backlog: 1}
		ln := listen(t, n, "origin.test:80")
		queued := dial(t, n, "origin.test:80")
		errs := make(chan error, 1)
		go func() {
			_, err := n.DialContext(t.Context(), "tcp", "origin.test:80")
			errs <- err
		}()
		synctest.Wait()
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		wantOpError(t, <-errs, "dial", syscall.ECONNREFUSED, false)
		_, err := queued.Read(make([]byte, 1))
		wantOpError(t, err, "read", syscall.ECONNRESET, false)
		_, err = ln.Accept()
		wantOpError(t, err, "accept", net.ErrClosed, false)
		wantOpError(t, ln.Close(), "close", net.ErrClosed, false)

		ln = listen(t, n, "origin.test:80")
		go func() {
			_, err := ln.Accept()
			errs <- err
		}()
		synctest.Wait()
		ln.Close()
		wantOpError(t, <-errs, "accept", net.ErrClosed, false)
	})
}

func TestListenAddresses(t *testing.T) {
	n := new(Network)
	listen(t, n, "origin.test:80")
	_, err := n.Listen("ORIGIN.test:80")
	wantOpError(t, err, "listen", syscall.EADDRINUSE, false)
	if _, err := n.Listen("origin.test"); err == nil {
		t.Error("an address without a port was accepted")
	}
	listen(t, n, ":81")
	_, err = n.Listen("0.0.0.0:81")
	wantOpError(t, err, "listen", syscall.EADDRINUSE, false)

	a, b := listen(t, n, "127.0.0.1:0"), listen(t, n, "127.0.0.1:0")
	if a.Addr() == b.Addr() {
		t.Errorf("two listeners at %v", a.Addr())
	}
	dial(t, n, a.Addr().String())
	if got, want := accept(t, a).LocalAddr(), a.Addr(); got != want {
		t.Errorf("accepted at %v, want %v", got, want)
	}
}

func TestEphemeralPortsAreUniqueAndRunOut(t *testing.T) {
	const all = lastPort - firstPort + 1
	n := &Network{Backlog: all + 1}
	ln := listen(t, n, "origin.test:80")
	seen := make(map[net.Addr]bool, all)
	var last *Conn
	for range all {
		last = dial(t, n, "origin.test:80")
		if seen[last.LocalAddr()] {
			t.Fatalf("%v was given out twice", last.LocalAddr())
		}
		seen[last.LocalAddr()] = true
	}
	_, err := n.DialContext(t.Context(), "tcp", "origin.test:80")
	wantOpError(t, err, "dial", syscall.EADDRNOTAVAIL, false)
	_, err = n.Listen("origin.test:0")
	wantOpError(t, err, "listen", syscall.EADDRINUSE, false)

	last.Close()
	if _, err = n.DialContext(t.Context(), "tcp", "origin.test:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("dial while the peer's end is open: %v, want EADDRNOTAVAIL", err)
	}
	ln.Close()
	listen(t, n, "origin.test:80")
	if got := dial(t, n, "origin.test:80").LocalAddr(); got != last.LocalAddr() {
		t.Errorf("dialled from %v, want the port that both ends closed, %v", got, last.LocalAddr())
	}
}

func TestAddrPort(t *testing.T) {
	if got := (Addr{"192.0.2.1", 80}).AddrPort().String(); got != "192.0.2.1:80" {
		t.Errorf("AddrPort is %s", got)
	}
	if (Addr{"origin.test", 80}).AddrPort().IsValid() {
		t.Error("a name has a valid AddrPort")
	}
}

// TestCarriesNetHTTP has the standard library's client and server talk over the
// network inside a bubble: the two users the semantics are made for.
func TestCarriesNetHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{Buffer: 1000}
		ln := listen(t, n, "origin.test:80")
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Errorf("request body: %v", err)
			}
			time.Sleep(time.Second)
			w.Write(body)
		})}
		var wg sync.WaitGroup
		wg.Go(func() { srv.Serve(ln) })
		tr := &http.Transport{DialContext: n.DialContext, MaxConnsPerHost: 2}
		start := time.Now()
		var calls sync.WaitGroup
		for range 6 {
			calls.Go(func() {
				body := strings.Repeat("x", 5000)
				res, err := (&http.Client{Transport: tr}).Post("http://origin.test/", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Errorf("request: %v", err)
					return
				}
				defer res.Body.Close()
				if got, err := io.ReadAll(res.Body); string(got) != body || err != nil {
					t.Errorf("echo of %d bytes is %d bytes, %v", len(body), len(got), err)
				}
			})
		}
		calls.Wait()
		wantElapsed(t, start, 3*time.Second)
		if got := n.Stats("origin.test:80"); got.Dials != 2 || got.MaxOpen != 2 {
			t.Errorf("%+v, want 2 dials, 2 open at most", got)
		}
		tr.CloseIdleConnections()
		srv.Close()
		wg.Wait()
		if got := n.Total().Open; got != 0 {
			t.Errorf("%d connections left open", got)
		}
	})
}
