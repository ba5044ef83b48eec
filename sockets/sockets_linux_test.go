package sockets

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// pair opens a connection to a listener on ip and returns both ends.
func pair(t *testing.T, ip string) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skipf("no address %s on this host: %v", ip, err)
	}
	t.Cleanup(func() { ln.Close() })
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// sources are the two ways to the same table.
var sources = map[string]func(context.Context, Filter) (Table, error){"sock_diag": listDiag, "proc": listOwnProc}

func listOwnProc(ctx context.Context, f Filter) (Table, error) { return listProc(ctx, "/proc/net", f) }

// eventually polls the kernel until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("the kernel does not show %s", what)
		case <-tick.C:
		}
	}
}

// find returns the one socket between local and remote.
func find(t *testing.T, list func(context.Context, Filter) (Table, error), local, remote netip.AddrPort) (Socket, bool) {
	t.Helper()
	table, err := list(context.Background(), Filter{Local: local.Addr(), LocalPort: local.Port(), Remote: remote.Addr(), RemotePort: remote.Port()})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Sockets) == 0 {
		return Socket{}, false
	}
	return table.Sockets[0], true
}

func TestBothSourcesShowAConnectionThroughItsLife(t *testing.T) {
	for name, list := range sources {
		for _, ip := range []string{"127.8.0.1", "::1"} {
			t.Run(name+"/"+ip, func(t *testing.T) {
				client, server := pair(t, ip)
				c, s := addrPort(client.LocalAddr()), addrPort(server.LocalAddr())
				is := func(local, remote netip.AddrPort, want State) func() bool {
					return func() bool {
						got, ok := find(t, list, local, remote)
						return ok && got.State == want
					}
				}
				if !is(c, s, Established)() || !is(s, c, Established)() {
					t.Error("an open connection is not ESTABLISHED at both ends")
				}
				sock, _ := find(t, list, c, s)
				own, err := Own([]Socket{sock, {Inode: 1}})
				if err != nil || len(own) != 1 || own[0].Inode != sock.Inode {
					t.Errorf("own sockets: %v, %v; want the client's alone", own, err)
				}
				client.CloseWrite()
				eventually(t, "FIN_WAIT2 after a half close", is(c, s, FinWait2))
				eventually(t, "CLOSE_WAIT at its peer", is(s, c, CloseWait))
				server.Close()
				client.Close()
				eventually(t, "TIME_WAIT where it was closed first", is(c, s, TimeWait))
				if sock, _ := find(t, list, c, s); sock.Timer <= 0 || sock.Timer > 61*time.Second || sock.Inode != 0 {
					t.Errorf("TIME_WAIT ends in %v, inode %d; want 0 to 60 s and none", sock.Timer, sock.Inode)
				}
			})
		}
	}
}

func TestFilterSelects(t *testing.T) {
	client, server := pair(t, "127.8.0.2")
	c, s := addrPort(client.LocalAddr()), addrPort(server.LocalAddr())
	other := netip.MustParseAddr("127.8.0.99")
	for _, tc := range []struct {
		name   string
		filter Filter
		want   int
	}{
		{"both ends and the listener by local address", Filter{Local: s.Addr(), LocalPort: s.Port()}, 2},
		{"the listener", Filter{States: []State{Listen}, LocalPort: s.Port(), Local: s.Addr()}, 1},
		{"established by remote port", Filter{States: []State{Established}, RemotePort: s.Port(), Remote: s.Addr()}, 1},
		{"another address", Filter{Local: other}, 0},
		{"another state", Filter{States: []State{TimeWait}, Local: s.Addr(), RemotePort: c.Port(), Remote: c.Addr()}, 0},
		{"mapped address", Filter{Remote: netip.AddrFrom16(s.Addr().As16()), RemotePort: s.Port()}, 1},
	} {
		for name, list := range sources {
			table, err := list(context.Background(), tc.filter)
			if err != nil {
				t.Fatal(err)
			}
			if len(table.Sockets) != tc.want {
				t.Errorf("%s, %s: %d sockets, want %d: %v", tc.name, name, len(table.Sockets), tc.want, table.Sockets)
			}
		}
	}
}

func TestListPrefersSockDiagAndEndsWithItsContext(t *testing.T) {
	table, err := List(context.Background(), Filter{States: []State{Listen}})
	if err != nil || table.Source != "sock_diag" {
		t.Errorf("source %q, error %v", table.Source, err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := List(ctx, Filter{}); !errors.Is(err, cause) {
		t.Errorf("error %v, want the context's cause", err)
	}
}

func TestEphemeralPorts(t *testing.T) {
	lo, hi, err := EphemeralPorts()
	if err != nil || lo == 0 || lo >= hi {
		t.Errorf("%d to %d, %v", lo, hi, err)
	}
}

const procText = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0200007F:C350 0100007F:1F90 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0000000000000000
`

func TestParseProc(t *testing.T) {
	got, err := parseProc([]byte(procText))
	want := []Socket{
		{State: Listen, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("0.0.0.0:0"), Inode: 4711, UID: 1000, RecvQ: 3},
		{State: TimeWait, Local: netip.MustParseAddrPort("127.0.0.2:50000"), Remote: netip.MustParseAddrPort("127.0.0.1:8080"), Timer: time.Minute},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	for _, bad := range []string{"x", "0: zz:1 2 3 4 5 6 7 8 9", "0: 0100007F:1F90 00000000 0A 0:0 0:0 0 0 0 0 0"} {
		if _, err := parseProc([]byte("heading\n" + bad + "\n")); err == nil {
			t.Errorf("%q is taken for a socket", bad)
		}
	}
}

func TestWriteTable(t *testing.T) {
	sockets, _ := parseProc([]byte(procText))
	slices.Reverse(sockets)
	var out strings.Builder
	if err := WriteTable(&out, sockets); err != nil {
		t.Fatal(err)
	}
	want := "Proto  Local Address    Foreign Address  State\n" +
		"tcp    127.0.0.1:8080   0.0.0.0:0        LISTEN\n" +
		"tcp    127.0.0.2:50000  127.0.0.1:8080   TIME_WAIT\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
