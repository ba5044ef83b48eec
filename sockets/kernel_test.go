package sockets

import (
	"math"
	"net/netip"
	"slices"
	"testing"
)

func TestParseCounters(t *testing.T) {
	c := Counters{}
	if err := parsePairs([]byte(captured(t, "netstat.txt")), c); err != nil {
		t.Fatal(err)
	}
	if err := parsePairs([]byte(captured(t, "snmp.txt")), c); err != nil {
		t.Fatal(err)
	}
	if err := parseSockstat([]byte(captured(t, "sockstat.txt")), c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPTimeWaitOverflow", "TcpExt.TW",
		"TcpExt.TCPAbortOnMemory", "TcpExt.TCPReqQFullDrop", "Tcp.ActiveOpens", "Tcp.AttemptFails", "Tcp.EstabResets", "Tcp.RetransSegs",
		"sockstat.TCP.inuse", "sockstat.TCP.orphan", "sockstat.TCP.tw", "sockstat.TCP.mem"} {
		if _, ok := c[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	if c["Tcp.MaxConn"] != -1 {
		t.Errorf("Tcp.MaxConn %d, want -1", c["Tcp.MaxConn"])
	}
	large := Counters{}
	if err := parsePairs([]byte("A: x\nA: 18446744073709551615\n"), large); err != nil || large["A.x"] != math.MaxInt64 {
		t.Errorf("%v, %v", large, err)
	}
	for _, bad := range []string{"A: x y\nA: 1\n", "A: x\nB: 1\n", "A x\nA 1\n", "A: x\nA: y\n"} {
		if err := parsePairs([]byte(bad), Counters{}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, bad := range []string{"TCP: inuse\n", "TCP inuse 1 2\n", "TCP: inuse x\n"} {
		if err := parseSockstat([]byte(bad), Counters{}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParseLimits(t *testing.T) {
	if n, err := parseLimits([]byte(captured(t, "limits.txt"))); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	for text, want := range map[string]uint64{
		"Max open files            1024                 524288               files     \n": 1024,
		"Max open files            unlimited            unlimited            files     \n": math.MaxUint64,
	} {
		if n, err := parseLimits([]byte(text)); err != nil || n != want {
			t.Errorf("%d, %v; want %d", n, err, want)
		}
	}
	if _, err := parseLimits([]byte("Max open files\n")); err == nil {
		t.Error("a limit without numbers is taken")
	}
}

func TestFirstArgumentShowsNoOther(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/client\x00--token=secret\x00": "/usr/bin/client",
		"/opt/my app/x\x00-v\x00":               "/opt/my app/x",
		"title --token=secret":                  "title",
		"title --token=secret\x00\x00\x00":      "title",
		"/usr/bin/client\x00":                   "/usr/bin/client",
		"":                                      "",
	} {
		if got := firstArgument([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestReservedPortsAreNotUsable(t *testing.T) {
	reserved, err := ParsePorts("8080,9000-9010,9005-9012")
	if err != nil {
		t.Fatal(err)
	}
	if n := (PortRange{9000, 9019}).Usable(reserved); n != 7 {
		t.Errorf("%d usable, want 7", n)
	}
	if none, err := ParsePorts(" \n"); err != nil || none != nil {
		t.Errorf("%v, %v", none, err)
	}
	for _, bad := range []string{"x", "1-", "5-4", "70000", "1,,2"} {
		if got, err := ParsePorts(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, got)
		}
	}
}

func TestListeningTellsServersFromClients(t *testing.T) {
	ap := netip.MustParseAddrPort
	list := []Socket{
		{State: Listen, Local: ap("0.0.0.0:80")},
		{State: Listen, Local: ap("127.0.0.1:8080")},
		{State: Established, Local: ap("10.0.0.1:80"), Remote: ap("10.0.0.2:5000")},
		{State: TimeWait, Local: ap("127.0.0.1:8080"), Remote: ap("127.0.0.1:5000")},
		{State: Established, Local: ap("10.0.0.1:8080"), Remote: ap("10.0.0.2:443")},
		{State: Established, Local: ap("127.0.0.1:5000"), Remote: ap("127.0.0.1:8080")},
	}
	server := Listening(list)
	var got []bool
	for _, s := range list {
		got = append(got, server(s))
	}
	if want := []bool{true, true, true, true, false, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
