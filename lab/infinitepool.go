package lab

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// infinitePoolExperiment sends a burst to a host that takes a tenth of it.
func infinitePoolExperiment() Experiment {
	return Experiment{
		Name:    "infinite-pool",
		Source:  "seed 001: an infinite pool, and a platform that limits connections",
		Summary: "a burst of 5,000 requests to a host that accepts 500 connections: unlimited, limited, port-guarded",
		run:     runInfinitePool,
	}
}

const infiniteLatency = 50 * time.Millisecond

func runInfinitePool(ctx context.Context, s *session) error {
	burst := 5000
	if s.scale == Quick {
		burst = 1000
	}
	accepts := burst / 10
	s.result.Note = fmt.Sprintf("the host resets every connection beyond %d at once, and answers after %v; “limited” is to a fifth of that", accepts, infiniteLatency)
	fixed := func(addr netip.AddrPort) func(context.Context, string) ([]netip.Addr, time.Duration, error) {
		return func(context.Context, string) ([]netip.Addr, time.Duration, error) {
			return []netip.Addr{addr.Addr()}, time.Minute, nil
		}
	}
	for i, v := range []struct {
		name   string
		policy *berth.Policy // nil is net/http
		fails  bool
	}{
		{"berth, unlimited", &berth.Policy{MaxWaiters: -1, MaxDials: -1}, true},
		{"berth, limited", &berth.Policy{MaxConns: accepts / 5}, false},
		{"berth, port budget", &berth.Policy{PortBudget: berth.PortBudget{Ports: accepts}}, false},
		{"net/http, unlimited", nil, true},
	} {
		s.progress("%s, %d requests", v.name, burst)
		ln, err := listen(21, byte(i+1))
		if err != nil {
			return err
		}
		var mu sync.Mutex
		open := 0
		srv := &server{origin.New(ln).Handle(func(c *origin.Conn) {
			mu.Lock()
			if open >= accepts {
				mu.Unlock()
				c.Reset()
				return
			}
			open++
			mu.Unlock()
			for {
				if _, err := c.ReadHead(); err != nil || !c.Sleep(infiniteLatency) || c.Write(string(answer)) != nil {
					break
				}
			}
			mu.Lock()
			open--
			mu.Unlock()
		}), addrOf(ln)}
		var rt http.RoundTripper
		var end func()
		if v.policy != nil {
			tr, err := berth.New(berth.Config{Policy: *v.policy, Proxy: berth.NoProxy, Resolve: fixed(srv.addr)})
			if err != nil {
				srv.Close()
				return err
			}
			rt, end = tr, func() { tr.Close() }
		} else {
			t := &http.Transport{}
			rt, end = t, t.CloseIdleConnections
		}
		stop := follow(ctx, srv, 20*time.Millisecond)
		all := burstOf(ctx, rt, fmt.Sprintf("http://host.test:%d/", srv.addr.Port()), srv, v.policy == nil, burst)
		conns, _ := stop()
		end()
		accepted := srv.Stats().Accepted
		srv.Close()
		if ctx.Err() != nil {
			return errInterrupted
		}
		row := Variant{Name: v.name, Measured: map[string]any{"requests": len(all), "failed": failures(all), "connections": accepted,
			"p99_ms": ms(quantile(durations(all), 0.99))}, Expected: map[string]any{"failed": 0}, OK: failures(all) == 0,
			Series: []Series{conns, latencies(durations(all))}}
		if v.fails {
			row.Expected["failed"] = "> 0"
			row.OK = failures(all) > 0
			for _, r := range all {
				if r.err != nil {
					row.Measured["error"] = r.err.Error()
					break
				}
			}
		}
		if text, ok := row.Measured["error"].(string); ok {
			row.Measured["error"] = strings.ReplaceAll(text, fmt.Sprintf("host.test:%d", srv.addr.Port()), "server")
		}
		s.add(scrub(row, srv))
	}
	return nil
}

// burstOf sends requests all at once.
func burstOf(ctx context.Context, rt http.RoundTripper, url string, srv *server, direct bool, n int) []sample {
	if direct {
		url = srv.url()
	}
	all := make([]sample, n)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			begun := time.Now()
			err := get(ctx, rt, url)
			all[i] = sample{begun.Sub(start), time.Since(begun), err}
		})
	}
	wg.Wait()
	return all
}
