package berth_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

var (
	churnSeed    = flag.Uint64("churn.seed", 1, "seed of TestChurn")
	churnChanges = flag.Int("churn.changes", 10_000, "random changes of TestChurn")
)

// Whatever is changed while requests run, none fails, and nothing is left in the end: the
// property of everything that steers.
func TestChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChurn(t, *churnSeed)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 12 {
			wg.Go(func() { c.work(uint64(w), stop) })
		}
		for i := range *churnChanges {
			op := c.change()
			if n := c.failed.Load(); n != nil {
				t.Fatalf("seed %d, change %d (%s): %v", *churnSeed, i, op, *n)
			}
			time.Sleep(time.Duration(c.rnd.IntN(4000)) * time.Microsecond)
		}
		for _, ep := range c.endpoints() {
			ep.Resume()
		}
		close(stop)
		wg.Wait()
		c.background.Wait()
		if n := c.failed.Load(); n != nil {
			t.Fatalf("seed %d: %v", *churnSeed, *n)
		}
		c.tr.CloseIdleConnections()
		synctest.Wait()
		for _, ep := range c.tr.Endpoints() {
			if s := ep.Stats(); s.Leased+s.Waiting+s.Dialing != 0 {
				t.Errorf("%s holds %+v when nothing runs", ep, s)
			}
		}
		c.tr.Close()
		for _, o := range c.origins {
			o.Close()
		}
		synctest.Wait()
		if s := c.net.Total(); s.Open != 0 {
			t.Errorf("%d connections are left", s.Open)
		}
		t.Logf("%d requests, %d of them turned away, %d dials", c.requests.Load(), c.turnedAway.Load(), c.net.Total().Dials)
	})
}

type churn struct {
	*testing.T
	net        memnet.Network
	tr         *berth.Transport
	rnd        *rand.Rand
	origins    []*origin.Origin
	requests   atomic.Int64
	turnedAway atomic.Int64
	failed     atomic.Pointer[error]

	background sync.WaitGroup

	mu    sync.Mutex
	zones map[string][]netip.Addr
}

const churnAddrs = 4

func newChurn(t *testing.T, seed uint64) *churn {
	c := &churn{T: t, rnd: rand.New(rand.NewPCG(seed, seed)), zones: map[string][]netip.Addr{}}
	for i := range churnAddrs {
		ln, err := c.net.Listen(fmt.Sprintf("192.0.2.%d:80", i+1))
		if err != nil {
			t.Fatal(err)
		}
		c.origins = append(c.origins, origin.New(ln).Handle(origin.Latency(3*time.Millisecond, ok("a"))))
	}
	for i := range 3 {
		c.move(fmt.Sprintf("host%d.test", i))
	}
	cfg := c.config()
	cfg.DialContext, cfg.Resolve, cfg.Proxy = c.net.DialContext, c.resolve, berth.NoProxy
	c.tr = mustNew(t, cfg)
	return c
}

func (c *churn) resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	time.Sleep(time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.zones[host]) == 0 {
		return nil, 0, errors.New("the resolver is down")
	}
	return slices.Clone(c.zones[host]), 20 * time.Millisecond, nil
}

// move gives a name other addresses.
func (c *churn) move(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var addrs []netip.Addr
	for _, i := range c.rnd.Perm(churnAddrs)[:1+c.rnd.IntN(churnAddrs)] {
		addrs = append(addrs, netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1)))
	}
	c.zones[host] = addrs
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// policy makes one that changes much and refuses nobody.
func (c *churn) policy() berth.Policy {
	r := c.rnd
	p := berth.Policy{
		MaxConns:           pick(r, 0, 1, 2, 5, 20),
		MaxConnsPerHost:    pick(r, 0, 0, 0, 2, 6),
		MaxDials:           pick(r, 0, 1, 3),
		MaxRequestsPerConn: pick(r, 0, 0, 1, 3),
		Order:              pick(r, "", berth.FIFO, berth.Spread),
		Close:              pick(r, "", berth.CloseReset, berth.CloseAuto, berth.CloseServerFirst),
		IdleTimeout:        pick(r, 0, time.Millisecond, 20*time.Millisecond),
		Lifetime:           pick(r, 0, time.Millisecond, 30*time.Millisecond),
		DNSMinTTL:          pick(r, 0, time.Millisecond),
		AcquireTimeout:     time.Hour,
	}
	if p.Lifetime == 0 && p.MaxConns == 0 {
		p.MinIdle = pick(r, 0, 0, 2)
	}
	if p.MaxConns == 0 {
		p.MaxIdle = pick(r, 0, 3)
	}
	return p
}

func (c *churn) config() berth.Config {
	cfg := berth.Config{Policy: c.policy(), MaxConns: pick(c.rnd, 0, 0, 3, 10), MaxGroups: pick(c.rnd, 0, 20)}
	for i := range c.rnd.IntN(3) {
		cfg.Rules = append(cfg.Rules, berth.Rule{Match: pick(c.rnd, "*.test", "host0.test", "http://host1.test:80", "*"), Policy: c.policy(),
			Set: [][]string{nil, {"max_conns"}}[i%2]})
	}
	return cfg
}

func (c *churn) endpoints() (list []*berth.Endpoint) {
	for i := range 3 {
		for _, g := range []string{"", "a", "b"} {
			ep, err := c.tr.Group(g).Endpoint(fmt.Sprintf("http://host%d.test", i))
			if err != nil {
				c.Fatal(err)
			}
			list = append(list, ep)
		}
	}
	return list
}

func (c *churn) check(err error) {
	if err != nil {
		c.failed.CompareAndSwap(nil, &err)
	}
}

// change makes one random change and says which.
func (c *churn) change() string {
	r := c.rnd
	ep := pick(r, c.endpoints()...)
	switch op := r.IntN(18); op {
	case 0, 1, 2:
		cfg := c.config()
		old := c.tr.Config()
		cfg.DialContext, cfg.Resolve, cfg.Proxy = old.DialContext, old.Resolve, old.Proxy
		d, err := c.tr.Apply(cfg)
		c.check(err)
		return d.String()
	case 3, 4:
		c.check(ep.SetPolicy(pick(r, berth.Policy{}, c.policy())))
		return "SetPolicy"
	case 5:
		ep.Reconnect()
		return "Reconnect"
	case 6:
		c.background.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if err := ep.Drain(ctx); err != nil && err != context.DeadlineExceeded {
				c.check(err)
			}
		})
		return "Drain"
	case 7:
		ep.CloseIdle()
		return "CloseIdle"
	case 8:
		n := r.IntN(6)
		c.background.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			if err := ep.Warm(ctx, n); err != nil && err != context.DeadlineExceeded {
				c.check(fmt.Errorf("warm: %w", err))
			}
		})
		return "Warm"
	case 9:
		d := time.Duration(r.IntN(10)) * time.Millisecond
		c.background.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			if err := ep.Pause(ctx); err != nil && err != context.DeadlineExceeded {
				c.check(fmt.Errorf("pause: %w", err))
			}
			ep.Resume()
		})
		return "Pause"
	case 10:
		if r.IntN(2) == 0 {
			c.tr.CloseGroup(pick(r, "a", "b", "nobody"))
		} else {
			ep.CloseGroup(pick(r, "", "a", "b"))
		}
		return "CloseGroup"
	case 11:
		c.tr.CloseIdleConnections()
		return "CloseIdleConnections"
	case 12, 13:
		c.move(fmt.Sprintf("host%d.test", r.IntN(3)))
		return "a name moves"
	case 14, 15:
		p := c.policy()
		p.MaxConnsPerHost = 0
		c.check(c.tr.Group(pick(r, "", "a", "b", "nobody")).SetPolicy(pick(r, berth.Policy{}, p)))
		return "SetPolicy of a group"
	case 16:
		c.tr.Group(pick(r, "", "a", "b", "nobody")).SetAllowAddr(pick(r, nil, func(berth.AddrInfo) error { return nil }))
		return "SetAllowAddr"
	default:
		ep.Stats()
		ep.Policy()
		c.tr.Ports()
		c.tr.Groups()
		return "look"
	}
}

func (c *churn) get(ctx context.Context, rt http.RoundTripper, url string) error {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// work sends requests until stop is closed.
func (c *churn) work(seed uint64, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(seed, 7))
	for {
		select {
		case <-stop:
			return
		default:
		}
		group := pick(r, "", "", "a", "b")
		ctx := context.Background()
		hasty := r.IntN(8) == 0
		if hasty {
			ctx = berth.WithoutQueue(ctx)
		}
		err := c.get(ctx, c.tr.Group(group), fmt.Sprintf("http://host%d.test/", r.IntN(3)))
		c.requests.Add(1)
		if hasty && errors.As(err, new(*berth.WouldQueueError)) {
			err = nil
			c.turnedAway.Add(1)
			time.Sleep(100 * time.Microsecond) // else it would try again at the same moment
		}
		if err != nil {
			c.check(fmt.Errorf("a request in group %q: %w", group, err))
			return
		}
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(5000)) * time.Microsecond)
		}
	}
}
