package sockets

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// TestSourcesAgree compares one connection and its listener field by field, but for
// what only sock_diag tells (the backlog) and the running timer.
func TestSourcesAgree(t *testing.T) {
	client, server := pair(t, "127.8.0.3")
	c, s := addrPort(client.LocalAddr()), addrPort(server.LocalAddr())
	if _, err := client.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	read := func(list func(context.Context, Filter) (Table, error)) map[[2]netip.AddrPort]Socket {
		table, err := list(context.Background(), Filter{Local: s.Addr(), LocalPort: s.Port()})
		if err != nil {
			t.Fatal(err)
		}
		m := map[[2]netip.AddrPort]Socket{}
		for _, sock := range table.Sockets {
			sock.Timer = 0
			if sock.State == Listen {
				sock.SendQ = 0
			}
			m[[2]netip.AddrPort{sock.Local, sock.Remote}] = sock
		}
		return m
	}
	arrived := [2]netip.AddrPort{s, c}
	eventually(t, "6 unread bytes", func() bool { return read(listDiag)[arrived].RecvQ == 6 })
	diag, proc := read(listDiag), read(listOwnProc)
	if len(diag) != 2 || len(proc) != 2 {
		t.Fatalf("sock_diag shows %d sockets, /proc %d; want 2 and 2", len(diag), len(proc))
	}
	for k, want := range diag {
		if proc[k] != want {
			t.Errorf("/proc   %+v\nsock_diag %+v", proc[k], want)
		}
	}
}

func TestParseProcReadsIPv6AndHalfOpen(t *testing.T) {
	// Both lines as a little-endian kernel writes them.
	if addr, err := parseProcAddr("0100007F:0050"); err != nil || addr.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Skip("the captured text is of a little-endian machine")
	}
	const text = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0000000000000000 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:C350 0C 00000000:00000000 01:00000064 00000000     5        0 0 1 0000000000000000
`
	got, err := parseProc([]byte(text))
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	want := []Socket{
		{State: Listen, Local: netip.MustParseAddrPort("[::1]:8080"), Remote: netip.MustParseAddrPort("[::]:0"), Inode: 99},
		{State: SynRecv, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("127.0.0.2:50000"), UID: 5, Timer: time.Second},
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d: got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

// FuzzParseProc: whatever the text, every socket has addresses, none of them mapped.
func FuzzParseProc(f *testing.F) {
	f.Add([]byte(procText))
	f.Add([]byte("heading\n0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseProc(b)
		if err != nil && got != nil {
			t.Errorf("%d sockets beside error %v", len(got), err)
		}
		for _, s := range got {
			if !s.Local.IsValid() || !s.Remote.IsValid() || s.Remote.Addr().Is4In6() || s.State == newSynRecv {
				t.Errorf("socket %+v", s)
			}
		}
	})
}
