package berth_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// town is a network with several hosts in a bubble.
type town struct {
	*rig
	origins []*origin.Origin
}

func inTown(t *testing.T, cfg berth.Config, hosts int, h origin.Handler, f func(*town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tn := &town{rig: newRigOn(t, &memnet.Network{}, cfg, h)}
		for i := range hosts {
			ln, err := tn.net.Listen(fmt.Sprintf("host%d.test:80", i))
			if err != nil {
				t.Fatal(err)
			}
			tn.origins = append(tn.origins, origin.New(ln).Handle(h))
		}
		f(tn)
		tn.tr.Close()
		for _, o := range tn.origins {
			o.Close()
		}
		tn.close()
		if open := tn.net.Total().Open; open != 0 {
			t.Errorf("%d connections are open after the end", open)
		}
	})
}

func host(i int) string { return fmt.Sprintf("http://host%d.test", i) }

// Over all endpoints there are never more than MaxConns; the connection that is idle for
// longest makes room, whosever it is.
func TestGlobalLimitTakesTheLongestIdle(t *testing.T) {
	inTown(t, berth.Config{MaxConns: 3}, 5, origin.Serve(ok("a")), func(tn *town) {
		for i := range 3 {
			tn.none(tn.sendTo(tn.tr, 1, host(i)))
			time.Sleep(time.Second)
		}
		tn.none(tn.sendTo(tn.tr, 1, host(0))) // used again: host 1 is idle for longest
		tn.none(tn.sendTo(tn.tr, 1, host(3)))
		for i, want := range []int{1, 0, 1, 1} {
			if s := mustEndpoint(tn.T, tn.tr, host(i)).Stats(); s.Idle != want || want == 0 && s.Closes["stolen"] != 1 {
				tn.Errorf("host %d has %d idle, closes %v", i, s.Idle, s.Closes)
			}
		}
		for round := range 20 {
			tn.none(tn.sendTo(tn.tr, 1, host(round%5)))
		}
		if n := tn.net.Total().MaxOpen; n != 3 {
			tn.Errorf("%d connections at once", n)
		}
	})
}

// Endpoints whose requests starve get connections in turn, even from those that never
// have an idle one, until all have about equally many.
func TestGlobalLimitIsShared(t *testing.T) {
	inTown(t, berth.Config{MaxConns: 6}, 3, origin.Latency(100*time.Millisecond, ok("a")), func(tn *town) {
		greedy := tn.sendTo(tn.tr, 300, host(0)) // 5 s of work over 6 connections
		time.Sleep(time.Second)
		start := time.Now()
		b, c := tn.sendTo(tn.tr, 20, host(1)), tn.sendTo(tn.tr, 20, host(2))
		time.Sleep(300 * time.Millisecond)
		for i := range 3 {
			if s := mustEndpoint(tn.T, tn.tr, host(i)).Stats(); s.Leased < 1 || s.Leased > 3 {
				tn.Errorf("host %d has %d of 6 connections", i, s.Leased)
			}
		}
		tn.none(b)
		tn.none(c)
		if d := time.Since(start); d > 1500*time.Millisecond { // 1 s at two connections each
			tn.Errorf("the others took %v", d)
		}
		tn.none(greedy)
		if n := tn.net.Total().MaxOpen; n != 6 {
			tn.Errorf("%d connections at once", n)
		}
	})
}

// With fewer connections than endpoints they take turns: nobody starves.
func TestGlobalLimitOfOneIsTakenInTurns(t *testing.T) {
	inTown(t, berth.Config{MaxConns: 1}, 4, origin.Latency(20*time.Millisecond, ok("a")), func(tn *town) {
		var waits []func() (int, error)
		for i := range 4 {
			waits = append(waits, tn.sendTo(tn.tr, 10, host(i)))
		}
		time.Sleep(time.Second)
		for i := range 4 {
			if s := mustEndpoint(tn.T, tn.tr, host(i)).Stats(); s.Requests == 0 {
				tn.Errorf("host %d has had nothing in a second", i)
			}
		}
		for _, w := range waits {
			tn.none(w)
		}
		if n := tn.net.Total().MaxOpen; n != 1 {
			tn.Errorf("%d connections at once", n)
		}
	})
}

// A request that finds no room in time is told which limit kept it waiting.
func TestGlobalLimitIsNamed(t *testing.T) {
	inTown(t, berth.Config{MaxConns: 1, Policy: berth.Policy{AcquireTimeout: 30 * time.Millisecond}}, 2, origin.Latency(time.Second, ok("a")), func(tn *town) {
		busy := tn.sendTo(tn.tr, 1, host(0))
		time.Sleep(time.Millisecond)
		_, err := fetch(tn.tr, host(1))
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is || e.Limit != "transport max 1" || !strings.Contains(err.Error(), "other endpoints") {
			tn.Errorf("%v", err)
		}
		tn.none(busy)
		if _, err := fetch(tn.tr, host(1)); err != nil {
			tn.Error(err)
		}
	})
}

// The limit comes, is lowered, raised and goes while requests run.
func TestGlobalLimitChangesUnderLoad(t *testing.T) {
	inTown(t, berth.Config{}, 4, origin.Latency(50*time.Millisecond, ok("a")), func(tn *town) {
		set := func(n int) {
			cfg := tn.tr.Config()
			cfg.MaxConns = n
			if _, err := tn.tr.Apply(cfg); err != nil {
				tn.Fatal(err)
			}
		}
		var waits []func() (int, error)
		for i := range 4 {
			waits = append(waits, tn.sendTo(tn.tr, 5, host(i)))
		}
		time.Sleep(10 * time.Millisecond)
		set(4)
		for i := range 4 {
			waits = append(waits, tn.sendTo(tn.tr, 40, host(i)))
		}
		time.Sleep(200 * time.Millisecond)
		if open := tn.net.Total().Open; open != 4 {
			tn.Errorf("%d connections with a limit of 4", open)
		}
		set(2)
		time.Sleep(200 * time.Millisecond)
		if open := tn.net.Total().Open; open != 2 {
			tn.Errorf("%d connections with a limit of 2", open)
		}
		set(8)
		time.Sleep(200 * time.Millisecond)
		if open := tn.net.Total().Open; open != 8 {
			tn.Errorf("%d connections with a limit of 8", open)
		}
		set(0)
		time.Sleep(60 * time.Millisecond)
		for _, w := range waits {
			tn.none(w)
		}
	})
}
