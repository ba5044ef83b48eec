package berth_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

// zone is a name server with one name.
type zone struct {
	mu    sync.Mutex
	addrs []netip.Addr
	ttl   time.Duration
	err   error
	asked int
}

func (z *zone) set(ttl time.Duration, err error, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs, z.ttl, z.err = nil, ttl, err
	for _, a := range addrs {
		z.addrs = append(z.addrs, netip.MustParseAddr(a))
	}
}

func (z *zone) resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if z.err != nil {
		return nil, 0, z.err
	}
	if len(z.addrs) == 0 {
		return nil, 0, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return z.addrs, z.ttl, nil
}

func (z *zone) lookups() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

// named is a rig whose name leads to several addresses, each with an origin.
type named struct {
	*rig
	zone    zone
	origins map[string]*origin.Origin
}

func inZone(t *testing.T, policy berth.Policy, addrs int, h origin.Handler, f func(*named)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &named{origins: map[string]*origin.Origin{}}
		n.rig = newRigOn(t, &memnet.Network{}, berth.Config{Policy: policy, Resolve: n.zone.resolve, Proxy: berth.NoProxy}, h)
		for i := range addrs {
			ln, err := n.net.Listen(fmt.Sprintf("192.0.2.%d:80", i+1))
			if err != nil {
				t.Fatal(err)
			}
			n.origins[address(i)] = origin.New(ln).Handle(h)
		}
		f(n)
		n.tr.Close()
		for _, o := range n.origins {
			o.Close()
		}
		n.close()
	})
}

func address(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }

// open is how many connections there are to the i-th address.
func (n *named) open(i int) int { return n.net.Stats(address(i) + ":80").Open }

// C75: connections to an address that left the answer take no new request within the
// TTL, and those that are busy end with their request.
func TestC75NameMoves(t *testing.T) {
	inZone(t, berth.Policy{}, 2, origin.Latency(time.Second, ok("a")), func(n *named) {
		n.zone.set(10*time.Second, nil, address(0))
		n.none(n.send(3, "/"))
		if n.open(0) != 3 {
			n.Fatalf("%d connections", n.open(0))
		}
		n.zone.set(10*time.Second, nil, address(1))
		time.Sleep(8500 * time.Millisecond) // 9.5 s of the TTL
		busy := n.send(1, "/")
		time.Sleep(600 * time.Millisecond)
		if n.open(0) != 1 || n.open(1) != 0 {
			n.Errorf("after the TTL: %d old connections, %d new; one is busy", n.open(0), n.open(1))
		}
		n.none(n.send(2, "/"))
		n.none(busy)
		synctest.Wait()
		if s := n.stats(); n.open(0) != 0 || n.open(1) != 2 || s.Closes["address"] != 3 {
			n.Errorf("%d old connections, %d new, closes %v", n.open(0), n.open(1), s.Closes)
		}
	})
}

// The name is asked for as often as its TTL says, within the policy's bounds, and not at
// all while the endpoint has no connection.
func TestNameIsAskedByItsTTL(t *testing.T) {
	for _, tc := range []struct {
		ttl, min, max time.Duration
		want          int // in a minute
	}{
		{10 * time.Second, 0, 0, 7},
		{0, 0, 0, 3}, // not known: 30 s
		{time.Millisecond, 5 * time.Second, 0, 13},
		{time.Hour, 0, 20 * time.Second, 4},
		{10 * time.Second, 0, -1, 1}, // for each dial alone
	} {
		inZone(t, berth.Policy{DNSMinTTL: tc.min, DNSMaxTTL: tc.max, IdleTimeout: -1}, 1, origin.Serve(ok("a")), func(n *named) {
			n.zone.set(tc.ttl, nil, address(0))
			n.get("/")
			time.Sleep(60*time.Second + time.Millisecond*100)
			if got := n.zone.lookups(); got != tc.want {
				n.Errorf("TTL %v in [%v, %v]: %d lookups in a minute, want %d", tc.ttl, tc.min, tc.max, got, tc.want)
			}
			n.tr.CloseIdleConnections()
			before := n.zone.lookups()
			time.Sleep(time.Hour)
			if got := n.zone.lookups() - before; got > 1 {
				n.Errorf("%d lookups without a connection", got)
			}
		})
	}
}

// A burst asks once.
func TestLookupsAreShared(t *testing.T) {
	inZone(t, berth.Policy{}, 1, origin.Latency(time.Second, ok("a")), func(n *named) {
		n.zone.set(time.Minute, nil, address(0))
		n.none(n.send(50, "/"))
		if got := n.zone.lookups(); got != 1 {
			n.Errorf("%d lookups", got)
		}
	})
}

// The last answer stays while the resolver fails; a name that is gone fails new dials,
// and only those, and is not asked for at every request.
func TestResolverFails(t *testing.T) {
	inZone(t, berth.Policy{}, 1, origin.Latency(100*time.Millisecond, ok("a")), func(n *named) {
		n.zone.set(time.Second, nil, address(0))
		n.get("/")
		n.zone.set(0, &net.DNSError{Err: "server misbehaving", Name: "origin.test", IsTemporary: true})
		time.Sleep(5 * time.Second)
		n.none(n.send(3, "/"))
		n.wantClosed("address", 0)

		n.zone.set(0, nil)
		time.Sleep(5 * time.Second)
		n.get("/") // over the connections that there are
		n.wantClosed("address", 0)
		n.endpoint().CloseIdle()
		before := n.zone.lookups()
		for range 20 {
			_, err := fetch(n.tr, rigURL)
			if dns, is := errors.AsType[*net.DNSError](err); !is || !dns.IsNotFound {
				n.Errorf("%v", err)
			}
		}
		if got := n.zone.lookups() - before; got > 1 {
			n.Errorf("%d lookups for 20 requests of a name that is gone", got)
		}
	})
}

func (n *named) wantClosed(reason string, want uint64) {
	n.Helper()
	if got := n.stats().Closes[reason]; got != want {
		n.Errorf("%d connections closed for %q, want %d", got, reason, want)
	}
}

// New addresses get their share of the connections, and requests go on meanwhile.
func TestNewAddressesGetTheirShare(t *testing.T) {
	inZone(t, berth.Policy{Order: berth.Spread, MaxConns: 12}, 3, origin.Latency(50*time.Millisecond, ok("a")), func(n *named) {
		n.zone.set(time.Second, nil, address(0), address(1))
		n.none(n.send(12, "/"))
		if n.open(0) < 4 || n.open(1) < 4 {
			n.Errorf("%d and %d connections to two addresses", n.open(0), n.open(1))
		}
		n.zone.set(time.Second, nil, address(0), address(1), address(2))
		for range 60 {
			n.none(n.send(12, "/"))
		}
		for i := range 3 {
			if n.open(i) < 3 || n.open(i) > 5 {
				n.Errorf("address %d has %d of 12 connections", i, n.open(i))
			}
		}
		n.none(n.send(200, "/"))
		for i := range 3 {
			if n.open(i) < 3 || n.open(i) > 5 {
				n.Errorf("address %d has %d of 12 connections in the end", i, n.open(i))
			}
		}
	})
}

// Spread uses all addresses alike, where LIFO prefers the last.
func TestSpreadUsesAllAddresses(t *testing.T) {
	inZone(t, berth.Policy{Order: berth.Spread}, 4, origin.Latency(10*time.Millisecond, ok("a")), func(n *named) {
		n.zone.set(time.Minute, nil, address(0), address(1), address(2), address(3))
		n.none(n.send(16, "/"))
		before := n.count()
		for range 400 {
			n.none(n.send(1, "/"))
		}
		for i, c := range n.count() {
			if got := c - before[i]; got < 60 || got > 140 {
				n.Errorf("address %d had %d of 400 requests", i, got)
			}
		}
	})
}

// count is how many requests each address has had.
func (n *named) count() (list []int) {
	for i := range len(n.origins) {
		list = append(list, n.origins[address(i)].Stats().Requests)
	}
	return list
}

// An address that cannot be connected to is set aside: others are tried before it, and it
// is tried again in the background until it works.
func TestAddressIsSetAside(t *testing.T) {
	inZone(t, berth.Policy{MaxRequestsPerConn: 1}, 2, origin.Serve(ok("a")), func(n *named) {
		var down atomic.Bool
		down.Store(true)
		n.net.OnDial = func(_ context.Context, addr string) error {
			if addr == address(0)+":80" && down.Load() {
				return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
			}
			return nil
		}
		n.zone.set(time.Minute, nil, address(0), address(1))
		for range 20 {
			n.get("/")
		}
		if tried := n.net.Stats(address(0) + ":80").Dials; tried != 1 {
			n.Errorf("the address that is down was tried %d times by 20 requests", tried)
		}
		keep := n.endpoint().Warm(n.Context(), 1) // the name is watched while there is a connection
		if keep != nil {
			n.Fatal(keep)
		}
		time.Sleep(20 * time.Second)
		tried := n.net.Stats(address(0) + ":80").Dials
		if tried < 3 || tried > 8 {
			n.Errorf("it was tried %d times in 20 s: 1, 2, 4, 8 s apart", tried)
		}
		down.Store(false)
		time.Sleep(30 * time.Second)
		before := n.count()
		for range 20 {
			n.get("/")
		}
		if got := n.count()[0] - before[0]; got < 8 {
			n.Errorf("it has had %d of 20 requests since it works", got)
		}
	})
}

// So is one that does not answer while another does: only the first dial waits for it.
func TestSilentAddressIsSetAside(t *testing.T) {
	inZone(t, berth.Policy{MaxRequestsPerConn: 1}, 2, origin.Serve(ok("a")), func(n *named) {
		n.net.OnDial = func(ctx context.Context, addr string) error {
			if addr != address(0)+":80" {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		n.zone.set(time.Minute, nil, address(0), address(1))
		start := time.Now()
		for range 20 {
			n.get("/")
		}
		if took := time.Since(start); took > 250*time.Millisecond {
			n.Errorf("20 requests took %v; one of them waits 250 ms for the address that is silent", took)
		}
	})
}

// Where nobody watches the name, a dial tries the address again after a minute.
func TestAddressIsNotSetAsideForEver(t *testing.T) {
	inZone(t, berth.Policy{MaxRequestsPerConn: 1, DNSMaxTTL: -1}, 2, origin.Serve(ok("a")), func(n *named) {
		var down atomic.Bool
		down.Store(true)
		n.net.OnDial = func(_ context.Context, addr string) error {
			if addr == address(0)+":80" && down.Load() {
				return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
			}
			return nil
		}
		n.zone.set(time.Minute, nil, address(0), address(1))
		for range 10 {
			n.get("/")
		}
		down.Store(false)
		time.Sleep(2 * time.Minute)
		before := n.count()
		for range 10 {
			n.get("/")
		}
		if got := n.count()[0] - before[0]; got < 4 {
			n.Errorf("it has had %d of 10 requests since", got)
		}
	})
}

// A change of the resolver, or of how long it is believed, holds at once.
func TestNameFollowsAChangedResolver(t *testing.T) {
	inZone(t, berth.Policy{}, 2, origin.Serve(ok("a")), func(n *named) {
		n.zone.set(time.Hour, nil, address(0))
		n.get("/")
		var other zone
		other.set(time.Hour, nil, address(1))
		cfg := n.tr.Config()
		cfg.Resolve = other.resolve
		if _, err := n.tr.Apply(cfg); err != nil {
			n.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		n.get("/")
		if n.open(0) != 0 || n.open(1) != 1 {
			n.Errorf("%d old connections, %d new", n.open(0), n.open(1))
		}
		cfg = n.tr.Config()
		cfg.Policy.DNSMaxTTL = time.Second
		if _, err := n.tr.Apply(cfg); err != nil {
			n.Fatal(err)
		}
		before := other.lookups()
		time.Sleep(5 * time.Second)
		if got := other.lookups() - before; got < 4 {
			n.Errorf("%d lookups in 5 s with a TTL of at most 1 s", got)
		}
	})
}
