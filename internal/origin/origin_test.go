package origin

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth/internal/memnet"
)

func TestStatsFollowConnectionsAndRequests(t *testing.T) {
	bubble(t, Serve(okResponse), func(t *testing.T, n *memnet.Network, o *Origin) {
		check := func(when string, want Stats) {
			t.Helper()
			synctest.Wait()
			if got := o.Stats(); got != want {
				t.Errorf("%s: %+v, want %+v", when, got, want)
			}
		}
		check("before", Stats{})
		a, b := connect(t, n), connect(t, n)
		for range 3 {
			a.send(t, getRequest)
			a.wantOK(t)
		}
		check("two connections", Stats{Accepted: 2, Open: 2, MaxOpen: 2, Requests: 3})
		b.Close()
		check("one closed", Stats{Accepted: 2, Open: 1, MaxOpen: 2, Requests: 3})
		connect(t, n)
		check("another", Stats{Accepted: 3, Open: 2, MaxOpen: 2, Requests: 3})
		o.Close()
		check("origin closed", Stats{Accepted: 3, Open: 0, MaxOpen: 2, Requests: 3})
		if len(o.conns) != 0 {
			t.Errorf("%d closed connections are remembered", len(o.conns))
		}
	})
}

// A client that has seen the end of a connection also sees it counted.
func TestClosedConnIsCountedBeforeTheClientSeesIt(t *testing.T) {
	bubble(t, CloseAfter(0, ""), func(t *testing.T, n *memnet.Network, o *Origin) {
		for i := range 50 {
			c := connect(t, n)
			c.wantRest(t, "")
			if got := o.Stats(); got.Open != 0 || got.Accepted != i+1 {
				t.Fatalf("after connection %d: %+v", i, got)
			}
		}
	})
}

func TestNothingIsAcceptedBeforeHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		o := New(listen(t, n))
		defer o.Close()
		c := connect(t, n)
		c.send(t, getRequest)
		synctest.Wait()
		if got := o.Stats().Accepted; got != 0 {
			t.Fatalf("%d accepted without a handler", got)
		}
		o.Handle(Serve(okResponse))
		c.wantOK(t)
	})
}

func TestHandleReplacesTheScriptForLaterConnections(t *testing.T) {
	bubble(t, Serve(okResponse), func(t *testing.T, n *memnet.Network, o *Origin) {
		old := connect(t, n)
		old.send(t, getRequest)
		old.wantOK(t)
		o.Handle(CloseAfter(0, ""))
		connect(t, n).wantRest(t, "")
		old.send(t, getRequest)
		old.wantOK(t)
	})
}

func TestCloseEndsEveryWaitAndWaits(t *testing.T) {
	blocked := map[string]Handler{
		"reading":  func(c *Conn) { c.ReadRequest() },
		"stalling": (*Conn).Stall,
		"sleeping": func(c *Conn) {
			if c.Sleep(time.Hour) {
				panic("slept to the end")
			}
		},
		"writing": func(c *Conn) {
			for c.Write("more than the client will ever read") == nil {
			}
		},
		"waiting for Done": func(c *Conn) { <-c.origin.Done() },
	}
	for name, h := range blocked {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			ended := false
			h := func(c *Conn) {
				h(c)
				// The script's own clean-up takes time; Close waits for it.
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				ended = true
			}
			bubble(t, h, func(t *testing.T, n *memnet.Network, o *Origin) {
				connect(t, n)
				synctest.Wait()
				start := time.Now()
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						if err := o.Close(); err != nil {
							t.Errorf("Close: %v", err)
						}
						mu.Lock()
						defer mu.Unlock()
						if !ended {
							t.Error("Close returned before the handler")
						}
					})
				}
				wg.Wait()
				wantElapsed(t, start, time.Second)
				if err := o.Close(); err != nil {
					t.Errorf("Close of a closed origin: %v", err)
				}
				if _, err := n.DialContext(t.Context(), "tcp", "origin.test:80"); err == nil {
					t.Error("a closed origin still listens")
				}
			})
		})
	}
}

func TestCloseWithoutHandleClosesTheListener(t *testing.T) {
	ln := listenTCP(t)
	o := New(ln)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o.Handle(Serve(okResponse))
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
}

// A script that ends by runtime.Goexit, as t.Fatal does, still closes.
func TestHandlerThatExitsItsGoroutineIsCleanedUp(t *testing.T) {
	bubble(t, func(*Conn) { runtime.Goexit() }, func(t *testing.T, n *memnet.Network, o *Origin) {
		connect(t, n).wantRest(t, "")
		if got := o.Stats().Open; got != 0 {
			t.Errorf("%d open", got)
		}
	})
}

// failing is a listener whose first Accepts fail as they do without descriptors.
type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestFailedAcceptIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		o := New(&failing{listen(t, n), 3}).Handle(Serve(okResponse))
		defer o.Close()
		start := time.Now()
		c := connect(t, n)
		c.send(t, getRequest)
		c.wantOK(t)
		wantElapsed(t, start, 3*acceptPause)
	})
	synctest.Test(t, func(t *testing.T) {
		o := New(&failing{listen(t, new(memnet.Network)), 1 << 30}).Handle(Serve(okResponse))
		time.Sleep(time.Second)
		o.Close()
	})
}

func TestMisusePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"Handle(nil)": func() { New(nil).Handle(nil) },
		"Sequence()":  func() { Sequence() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}
