package sockets

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
)

func captured(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/captured/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseNetstatOfMacOS(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, tc := range []struct {
		file  string
		want  []Socket
		names map[int]string
	}{
		{"netstat-macos-10.14.txt", []Socket{
			{State: Established, Local: ap("192.0.2.191:52044"), Remote: ap("198.51.100.35:443"), PID: 9811},
			{State: CloseWait, Local: ap("192.0.2.191:52040"), Remote: ap("203.0.113.4:443"), PID: 9811, RecvQ: 24},
			{State: Listen, Local: ap("[::]:8080"), Remote: ap("[::]:0"), PID: 612},
			{State: TimeWait, Local: ap("192.0.2.191:52012"), Remote: ap("203.0.113.4:443")},
		}, nil},
		{"netstat-macos-15.txt", []Socket{
			{State: Established, Local: ap("192.0.2.233:52137"), Remote: ap("203.0.113.85:443"), PID: 2903, SendQ: 126},
			{State: SynSent, Local: ap("[fe80::1]:52126"), Remote: ap("[::1]:8080"), PID: 5767},
		}, nil},
		{"netstat-macos-26.txt", []Socket{
			{State: Established, Local: ap("127.0.0.1:49515"), Remote: ap("127.0.0.1:49472"), PID: 22712},
			{State: FinWait2, Local: ap("127.0.0.1:49510"), Remote: ap("127.0.0.1:49513"), PID: 8931, RecvQ: 358},
		}, map[int]string{22712: "Drawing Board", 8931: "node"}},
	} {
		got, names, err := parseNetstat(captured(t, tc.file))
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v\nwant %v", tc.file, got, err, tc.want)
		}
		for pid, want := range tc.names {
			if names[pid] != want {
				t.Errorf("%s: process %d is %q, want %q", tc.file, pid, names[pid], want)
			}
		}
	}
	for _, bad := range []string{
		"tcp4 x 0 127.0.0.1.1 127.0.0.1.2 LISTEN",
		"tcp4 0 0 127.0.0.1.1 127.0.0.1.2 NOSTATE",
		"tcp4 0 0 localhost.http 127.0.0.1.2 LISTEN",
		"tcp4 0 0 127.0.0.1.99999 127.0.0.1.2 LISTEN",
	} {
		_, _, err := parseNetstat(bad)
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Errorf("%q: error %v, want a *FormatError", bad, err)
		}
	}
}

func TestParsePortRange(t *testing.T) {
	for _, tc := range []struct {
		text   string
		count  bool
		lo, hi uint16
	}{
		{captured(t, "netsh-en.txt"), true, 49152, 65535},
		{captured(t, "netsh-de.txt"), true, 1025, 65534},
		{captured(t, "sysctl-macos.txt"), false, 49152, 65535},
	} {
		if lo, hi, err := parsePortRange(tc.text, tc.count); err != nil || lo != tc.lo || hi != tc.hi {
			t.Errorf("%q: %d to %d, %v", tc.text, lo, hi, err)
		}
	}
	for _, bad := range []string{"", "a: 5", "a: 9\nb: 5", "a: 1\nb: 70000", "a: 1\nb: 2\nc: 3", "a: 0\nb: 3"} {
		if lo, hi, err := parsePortRange(bad, false); err == nil {
			t.Errorf("%q is taken for %d to %d", bad, lo, hi)
		}
	}
}

func TestParsePS(t *testing.T) {
	got := parsePS("    1 /sbin/launchd\n  612 /Applications/Drawing Board.app/x\nbad line\n")
	if len(got) != 2 || got[1] != "/sbin/launchd" || got[612] != "/Applications/Drawing Board.app/x" {
		t.Errorf("got %v", got)
	}
}

// tcpTable4 is a MIB_TCPTABLE_OWNER_PID of one row.
func tcpTable4(state uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint32(b, state)
	b = append(b, 192, 0, 2, 1, 0xc3, 0x50, 0, 0) // :50000
	b = append(b, 198, 51, 100, 7, 0x01, 0xbb, 0xaa, 0xaa)
	return binary.LittleEndian.AppendUint32(b, 4711)
}

func TestParseTCPTableOfWindows(t *testing.T) {
	ap := netip.MustParseAddrPort
	got, err := parseTCPTable(tcpTable4(8), false)
	want := []Socket{{State: CloseWait, Local: ap("192.0.2.1:50000"), Remote: ap("198.51.100.7:443"), PID: 4711}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	b := binary.LittleEndian.AppendUint32(nil, 1)
	local, remote := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8::2").As16()
	b = append(b, local[:]...)
	b = append(b, 0, 0, 0, 0, 0x1f, 0x90, 0, 0)
	b = append(b, remote[:]...)
	b = append(b, 0, 0, 0, 0, 0x1f, 0x91, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 2)
	b = binary.LittleEndian.AppendUint32(b, 12)
	got, err = parseTCPTable(b, true)
	want = []Socket{{State: Listen, Local: ap("[2001:db8::1]:8080"), Remote: ap("[2001:db8::2]:0"), PID: 12}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for name, bad := range map[string][]byte{
		"cut short":     tcpTable4(5)[:20],
		"no number":     {1, 0},
		"no such state": tcpTable4(99),
		"many rows":     {0xff, 0xff, 0xff, 0xff},
	} {
		if _, err := parseTCPTable(bad, false); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzParseText: no text makes a parser panic, and a socket has addresses.
func FuzzParseText(f *testing.F) {
	for _, name := range []string{"netstat-macos-10.14.txt", "netstat-macos-26.txt", "netsh-en.txt", "netstat.txt", "snmp.txt", "sockstat.txt", "limits.txt"} {
		f.Add(captured(f, name))
	}
	f.Add("8080,9000-9010")
	f.Fuzz(func(t *testing.T, text string) {
		list, _, err := parseNetstat(text)
		if err == nil {
			for _, s := range list {
				if !s.Local.IsValid() || !s.Remote.IsValid() || s.PID < 0 || s.State == 0 {
					t.Errorf("socket %+v", s)
				}
			}
		}
		parsePS(text)
		if lo, hi, err := parsePortRange(text, true); err == nil && (lo == 0 || lo > hi) {
			t.Errorf("%d to %d", lo, hi)
		}
		parsePairs([]byte(text), Counters{})
		parseSockstat([]byte(text), Counters{})
		parseLimits([]byte(text))
		if ports, err := ParsePorts(text); err == nil {
			PortRange{1, 65535}.Usable(ports)
		}
		parseTCPTable([]byte(text), len(text)%2 == 0)
	})
}
