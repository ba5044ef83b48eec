package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func addrs(list ...string) (out []netip.AddrPort) {
	for _, a := range list {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

// attempt is what connecting to an address does: it takes a while, then fails or not.
type attempt struct {
	takes time.Duration
	err   error
}

// RFC 8305 §5: the next address is tried after 250 ms, or at once when the one
// before has failed; the first connection wins and the others end.
func TestRace(t *testing.T) {
	refused := errors.New("refused")
	for _, tc := range []struct {
		name     string
		attempts []attempt
		winner   int // -1: none
		at       time.Duration
	}{
		{"one", []attempt{{takes: time.Second}}, 0, time.Second},
		{"the first is quick", []attempt{{takes: 200 * time.Millisecond}, {}}, 0, 200 * time.Millisecond},
		{"the first hangs", []attempt{{takes: time.Hour}, {takes: 50 * time.Millisecond}}, 1, 300 * time.Millisecond},
		{"the first fails", []attempt{{takes: 20 * time.Millisecond, err: refused}, {takes: 50 * time.Millisecond}}, 1, 70 * time.Millisecond},
		{"two hang", []attempt{{takes: time.Hour}, {takes: time.Hour}, {takes: time.Millisecond}}, 2, 501 * time.Millisecond},
		{"all fail", []attempt{{err: refused}, {err: errors.New("other")}}, -1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var list []netip.AddrPort
				for i := range tc.attempts {
					list = append(list, netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:80", i)))
				}
				ends := map[int]net.Conn{}
				start := time.Now()
				c, _, err := race(t.Context(), list, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
					i := int(a.Addr().As4()[3])
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(tc.attempts[i].takes):
					}
					if tc.attempts[i].err != nil {
						return nil, tc.attempts[i].err
					}
					mine, theirs := net.Pipe()
					t.Cleanup(func() { theirs.Close() })
					ends[i] = mine
					return mine, nil
				})
				if d := time.Since(start); d != tc.at {
					t.Errorf("after %v, want %v", d, tc.at)
				}
				switch {
				case tc.winner < 0:
					if err != refused {
						t.Errorf("error %v, want that of the address that was preferred", err)
					}
				case err != nil || c != ends[tc.winner]:
					t.Errorf("connection %v, error %v", c, err)
				}
			})
		})
	}
}

func TestRaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, _, err := race(ctx, addrs("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"), func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestFamiliesTakeTurns(t *testing.T) {
	var ips []netip.Addr
	for _, a := range []string{"2001:db8::1", "2001:db8::2", "192.0.2.1", "::ffff:192.0.2.2", "192.0.2.3"} {
		ips = append(ips, netip.MustParseAddr(a))
	}
	got := fmt.Sprint(interleave(ips, 80, 0, false, func(netip.AddrPort) int { return 0 }))
	want := fmt.Sprint(addrs("[2001:db8::1]:80", "192.0.2.1:80", "[2001:db8::2]:80", "192.0.2.2:80", "192.0.2.3:80"))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Dials spread over the addresses (golang/go#31698), and the family that lost the
// last race waits behind the other one for ten minutes (RFC 8305 §4).
func TestHistoryOrdersTheNextDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ips []netip.Addr
		for _, a := range []string{"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			ips = append(ips, netip.MustParseAddr(a))
		}
		var h History
		first := func(want string) []netip.AddrPort {
			t.Helper()
			list := h.order(ips, 80, func(netip.AddrPort) int { return 0 }, nil)
			if len(list) != len(ips) || list[0].Addr().String() != want {
				t.Errorf("begins with %v of %v, want %s", list[0], list, want)
			}
			return list
		}
		first("2001:db8::1")
		first("2001:db8::2")
		list := first("2001:db8::1")
		h.won(list, netip.MustParseAddrPort("192.0.2.3:80"))
		first("192.0.2.1")
		first("192.0.2.2")
		time.Sleep(familyMemory - time.Nanosecond)
		first("192.0.2.3")
		time.Sleep(time.Nanosecond)
		first("2001:db8::1")
		h.won(list[:1], list[0]) // no race
		first("2001:db8::2")
	})
}

func TestConnectNamesAndAddresses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	var d Dialer
	for _, host := range []string{"127.0.0.1", "localhost"} {
		c, _, err := d.Connect(t.Context(), Target{Host: host, Port: port})
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if c.RemoteAddr().String() != ln.Addr().String() {
			t.Errorf("%s: connected to %v", host, c.RemoteAddr())
		}
		c.Close()
	}
	if _, _, err := d.Connect(t.Context(), Target{Host: "127.0.0.1", Port: "no-such-port"}); err == nil {
		t.Error("an unknown port name connects")
	}
	d.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
	if _, _, err := d.Connect(t.Context(), Target{Host: "x", Port: "80"}); err == nil {
		t.Error("a dial function that returns nothing passes")
	}
}

func TestExhausted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the codes are those of unix systems")
	}
	for errno, want := range map[syscall.Errno]Resource{
		syscall.EADDRNOTAVAIL: Ports, syscall.EADDRINUSE: Ports, syscall.EMFILE: Descriptors, syscall.ENFILE: Descriptors,
		syscall.ENOBUFS: Memory, syscall.ENOMEM: Memory, syscall.ECONNREFUSED: None,
	} {
		err := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
		if got := Exhausted(err); got != want {
			t.Errorf("%v: %v, want %v", errno, got, want)
		}
	}
	if Exhausted(errors.New("x")) != None {
		t.Error("any error is taken for exhaustion")
	}
}

func TestSessionCacheTakesMemoryWithItsFirstSession(t *testing.T) {
	var s SessionCache
	if _, ok := s.Get("a"); ok || s.lru != nil {
		t.Error("a new cache holds something")
	}
	s.Put("a", nil)
	if s.lru != nil {
		t.Error("forgetting a session takes memory")
	}
	s.Put("a", &tls.ClientSessionState{})
	if _, ok := s.Get("a"); !ok {
		t.Error("the session is gone")
	}
	s.Put("a", nil)
	if _, ok := s.Get("a"); ok {
		t.Error("the session is still there")
	}
}

// Addresses that are not allowed are neither tried nor counted; with none left, the error
// is that of the last.
func TestAllow(t *testing.T) {
	no := errors.New("no")
	var tried []string
	d := &Dialer{
		Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:10.0.0.2")}, time.Minute, nil
		},
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			tried = append(tried, addr)
			return nil, errors.New("refused")
		},
		Names: &Names{},
	}
	var asked []string
	target := Target{Host: "origin.test", Port: "80", MaxTTL: time.Minute, History: &History{}}
	allow := func(prefix string) func(netip.AddrPort) error {
		return func(a netip.AddrPort) error {
			asked = append(asked, a.String())
			if !netip.MustParsePrefix(prefix).Contains(a.Addr()) {
				return no
			}
			return nil
		}
	}
	target.Allow = allow("192.0.2.0/24")
	if _, _, err := d.Connect(t.Context(), target); err == no || err == nil || fmt.Sprint(tried) != "[192.0.2.1:80]" {
		t.Errorf("%v, tried %v", err, tried)
	}
	if want := "[10.0.0.1:80 192.0.2.1:80 10.0.0.2:80]"; fmt.Sprint(asked) != want {
		t.Errorf("asked about %v, want %s", asked, want)
	}
	if d.Names.Aside("origin.test", netip.MustParseAddr("10.0.0.1")) {
		t.Error("an address that was not tried is set aside")
	}
	tried = nil
	target.Allow = allow("203.0.113.0/24")
	if _, _, err := d.Connect(t.Context(), target); err != no || len(tried) > 0 {
		t.Errorf("%v, tried %v", err, tried)
	}
	target.Host = "192.0.2.7"
	if _, _, err := d.Connect(t.Context(), target); err != no || len(tried) > 0 {
		t.Errorf("an address: %v, tried %v", err, tried)
	}
}
