package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/berth-go/berth/sockets"
)

var (
	began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	there = netip.MustParseAddrPort("192.0.2.7:443")
	local = netip.MustParseAddrPort("127.0.0.1:8080")
)

// host is a healthy one, seen twice, two seconds apart; a test changes it.
func host(change func(a, b *Sample)) (a, b Sample) {
	make := func(at time.Time) Sample {
		return Sample{
			Time: at, Source: "sock_diag",
			Processes: map[int]sockets.Process{
				10: {PID: 10, Name: "shop", Program: "/opt/shop", Files: 20, FilesLimit: 1024},
				11: {PID: 11, Name: "python3", Program: "/usr/bin/python3", Files: 20, FilesLimit: 1024},
				12: {PID: 12, Name: "MainThread", Program: "/usr/bin/node", Files: 20, FilesLimit: 1024},
			},
			Counters: sockets.Counters{"TcpExt.ListenDrops": 5, "TcpExt.ListenOverflows": 5, "TcpExt.TCPReqQFullDrop": 0, "TcpExt.TCPTimeWaitOverflow": 0,
				"TcpExt.TCPAbortOnMemory": 0, "Tcp.ActiveOpens": 100, "sockstat.TCP.tw": 10, "sockstat.TCP.mem": 100, "sockstat.TCP.orphan": 0},
			Settings: map[string]string{
				"net.ipv4.ip_local_port_range": "32768 60999", "net.ipv4.ip_local_reserved_ports": "", "net.ipv4.tcp_tw_reuse": "2",
				"net.ipv4.tcp_timestamps": "1", "net.ipv4.tcp_max_tw_buckets": "131072", "net.ipv4.tcp_fin_timeout": "60",
				"net.ipv4.tcp_mem": "1000 2000 3000", "net.ipv4.tcp_max_orphans": "1000", "net.core.somaxconn": "4096",
				"net.netfilter.nf_conntrack_count": "10", "net.netfilter.nf_conntrack_max": "1000", "fs.file-nr": "800 0 100000",
			},
		}
	}
	a, b = make(began), make(began.Add(2*time.Second))
	change(&a, &b)
	return a, b
}

// some are n sockets from ports of this host to one place. An inode is the port's.
func some(n int, state sockets.State, pid int, to netip.AddrPort, firstPort int, more ...func(*sockets.Socket)) []sockets.Socket {
	from := netip.MustParseAddr("10.0.0.1")
	if to.Addr().IsLoopback() {
		from = netip.MustParseAddr("127.0.0.1")
	}
	var list []sockets.Socket
	for i := range n {
		s := sockets.Socket{State: state, PID: pid, Local: netip.AddrPortFrom(from, uint16(firstPort+i)), Remote: to, Inode: uint64(firstPort + i)}
		if state == sockets.TimeWait {
			s.Inode, s.Timer = 0, 59500*time.Millisecond
		}
		for _, m := range more {
			m(&s)
		}
		list = append(list, s)
	}
	return list
}

func queue(recv uint32, received uint64) func(*sockets.Socket) {
	return func(s *sockets.Socket) { s.RecvQ, s.Received, s.LastData = recv, received, 13*time.Second }
}

func both(a, b *Sample, list ...[]sockets.Socket) {
	a.Sockets = append(a.Sockets, slices.Concat(list...)...)
	b.Sockets = append(b.Sockets, slices.Concat(list...)...)
}

func listener(at string, queued, backlog uint32) []sockets.Socket {
	return []sockets.Socket{{State: sockets.Listen, PID: 10, Local: netip.MustParseAddrPort(at), Remote: netip.MustParseAddrPort("0.0.0.0:0"), RecvQ: queued, SendQ: backlog, Inode: 1}}
}

// one returns the first finding of a code; the zero Finding for none.
func one(list []Finding, code string) Finding {
	for _, f := range list {
		if f.Code == code {
			return f
		}
	}
	return Finding{}
}

func TestFindings(t *testing.T) {
	const none = ""
	for _, tc := range []struct {
		name   string
		change func(a, b *Sample)
		code   string // none: nothing but OK may be found
		level  Level
		want   Subject
		text   []string // in the title, evidence or fix
	}{
		{"a healthy host", func(a, b *Sample) { both(a, b, some(5, sockets.Established, 10, there, 40000)) }, none, OK, Subject{}, nil},
		{"nothing at all", func(a, b *Sample) { *a, *b = Sample{}, Sample{} }, none, OK, Subject{}, nil},

		// Unread responses.
		{"unread", func(a, b *Sample) {
			both(a, b, some(2, sockets.Established, 11, there, 40000, queue(5000, 9000)))
		}, "BERTH2006", Warn, Subject{11, "python3", "192.0.2.7:443", "ESTABLISHED", 2, 10000}, []string{"2 of 2 ESTABLISHED", "13.0s", "all its connections", "release_conn"}},
		{"unread and more arriving", func(a, b *Sample) {
			a.Sockets = some(2, sockets.Established, 12, there, 40000, queue(5000, 9000))
			b.Sockets = append(some(2, sockets.Established, 12, there, 40000, queue(6000, 10000)), some(3, sockets.Established, 12, there, 41000)...)
		}, "BERTH2006", Warn, Subject{12, "node", "192.0.2.7:443", "ESTABLISHED", 2, 12000}, []string{"2 of 5 ESTABLISHED", "body?.cancel()"}},
		{"unread, and the kernel tells no more than the queue", func(a, b *Sample) {
			both(a, b, some(1, sockets.Established, 10, there, 40000, queue(5000, 0)))
		}, "BERTH2006", Warn, Subject{10, "shop", "192.0.2.7:443", "ESTABLISHED", 1, 5000}, []string{"resp.Body.Close"}},
		{"unread by a process that may not be seen", func(a, b *Sample) {
			both(a, b, some(1, sockets.Established, 0, there, 40000, queue(5000, 9000), func(s *sockets.Socket) { s.UID = 1234 }))
		}, "BERTH2006", Warn, Subject{0, "", "192.0.2.7:443", "ESTABLISHED", 1, 5000}, []string{"not seen", "user id 1234"}},
		{"a queue that is read and filled to the same byte", func(a, b *Sample) {
			a.Sockets = some(2, sockets.Established, 11, there, 40000, queue(5000, 9000))
			b.Sockets = some(2, sockets.Established, 11, there, 40000, queue(5000, 90000))
		}, none, OK, Subject{}, nil},
		{"unread at the second look only", func(a, b *Sample) {
			a.Sockets = some(2, sockets.Established, 11, there, 40000, queue(0, 4000))
			b.Sockets = some(2, sockets.Established, 11, there, 40000, queue(5000, 9000))
		}, none, OK, Subject{}, nil},
		{"a session ticket unread", func(a, b *Sample) {
			both(a, b, some(2, sockets.Established, 11, there, 40000, queue(510, 9000)))
		}, none, OK, Subject{}, nil},
		{"a server that has not read its requests", func(a, b *Sample) {
			both(a, b, listener("0.0.0.0:40000", 0, 128), some(1, sockets.Established, 10, there, 40000, queue(5000, 9000)))
		}, none, OK, Subject{}, nil},
		{"the same port of another process", func(a, b *Sample) {
			a.Sockets = some(1, sockets.Established, 11, there, 40000, queue(5000, 9000))
			b.Sockets = some(1, sockets.Established, 12, there, 40000, queue(5000, 9000))
		}, none, OK, Subject{}, nil},

		// CLOSE_WAIT.
		{"close wait", func(a, b *Sample) {
			both(a, b, some(12, sockets.CloseWait, 11, there, 40000, queue(1, 0)))
			b.Sockets = append(b.Sockets, some(3, sockets.CloseWait, 11, there, 41000)...)
		}, "BERTH2013", Warn, Subject{11, "python3", "192.0.2.7:443", "CLOSE_WAIT", 12, 0}, []string{"python3 (pid 11): 12 sockets in CLOSE_WAIT", "+3", "idle timeout below"}},
		{"close wait with data unread", func(a, b *Sample) {
			both(a, b, some(12, sockets.CloseWait, 11, there, 40000, queue(2001, 0)))
		}, "BERTH2013", Warn, Subject{11, "python3", "192.0.2.7:443", "CLOSE_WAIT", 12, 24000}, []string{"12 of them hold data", "release_conn"}},
		{"one close wait with data unread", func(a, b *Sample) {
			both(a, b, some(1, sockets.CloseWait, 11, there, 40000, queue(2001, 0)))
		}, "BERTH2013", Warn, Subject{11, "python3", "192.0.2.7:443", "CLOSE_WAIT", 1, 2000}, nil},
		{"close wait of a server", func(a, b *Sample) {
			both(a, b, listener("0.0.0.0:8080", 0, 128))
			for i := range 600 {
				both(a, b, []sockets.Socket{{State: sockets.CloseWait, PID: 10, Local: netip.MustParseAddrPort("10.0.0.1:8080"),
					Remote: netip.AddrPortFrom(there.Addr(), uint16(2000+i)), Inode: uint64(i + 1)}})
			}
		}, "BERTH2013", Fail, Subject{10, "shop", "192.0.2.7:2000", "CLOSE_WAIT", 600, 0}, []string{"accepted connection"}},
		{"a pool's few", func(a, b *Sample) { both(a, b, some(9, sockets.CloseWait, 11, there, 40000, queue(1, 0))) }, none, OK, Subject{}, nil},
		{"close wait that passes", func(a, b *Sample) {
			a.Sockets = some(50, sockets.CloseWait, 11, there, 40000)
			b.Sockets = some(50, sockets.CloseWait, 11, there, 45000)
		}, none, OK, Subject{}, nil},

		// FIN_WAIT_2.
		{"half closed", func(a, b *Sample) { both(a, b, some(10, sockets.FinWait2, 11, there, 40000)) },
			"BERTH2014", Warn, Subject{11, "python3", "192.0.2.7:443", "FIN_WAIT2", 10, 0}, []string{"Close the whole socket"}},
		{"orphans that grow", func(a, b *Sample) {
			a.Sockets = some(100, sockets.FinWait2, 0, there, 40000, func(s *sockets.Socket) { s.Inode = 0 })
			b.Sockets = some(200, sockets.FinWait2, 0, there, 40000, func(s *sockets.Socket) { s.Inode = 0 })
		}, "BERTH2014", Warn, Subject{State: "FIN_WAIT2", Count: 200}, []string{"+100", "= 60 seconds"}},
		{"orphans that do not", func(a, b *Sample) {
			both(a, b, some(200, sockets.FinWait2, 0, there, 40000, func(s *sockets.Socket) { s.Inode = 0 }))
		}, none, OK, Subject{}, nil},
		{"few half closed", func(a, b *Sample) { both(a, b, some(9, sockets.FinWait2, 11, there, 40000)) }, none, OK, Subject{}, nil},

		// SYN_SENT.
		{"no answer", func(a, b *Sample) {
			both(a, b, some(1, sockets.SynSent, 12, there, 40000), some(3, sockets.SynSent, 11, there, 41000))
		}, "BERTH2025", Warn, Subject{11, "python3", "192.0.2.7:443", "SYN_SENT", 4, 0}, []string{"192.0.2.7:443 does not answer", "node (pid 12): 1"}},
		{"two without an answer", func(a, b *Sample) { both(a, b, some(2, sockets.SynSent, 11, there, 40000)) }, none, OK, Subject{}, nil},
		{"connects that go on", func(a, b *Sample) {
			a.Sockets, b.Sockets = some(50, sockets.SynSent, 11, there, 40000), some(50, sockets.SynSent, 11, there, 41000)
		}, none, OK, Subject{}, nil},

		// Ports.
		{"half of the ports", func(a, b *Sample) {
			both(a, b, some(14200, sockets.Established, 10, there, 33000))
		}, "BERTH1004", Warn, Subject{10, "shop", "192.0.2.7:443", "TIME_WAIT", 14200, 0}, []string{"14200 of 28232", "50%"}},
		{"nearly all ports", func(a, b *Sample) {
			both(a, b, some(26000, sockets.TimeWait, 0, there, 33000), some(1, sockets.Established, 10, there, 60000))
		}, "BERTH1004", Fail, Subject{10, "shop", "192.0.2.7:443", "TIME_WAIT", 26001, 0}, []string{"92%"}},
		{"the ports of two addresses", func(a, b *Sample) {
			both(a, b, some(14000, sockets.Established, 10, there, 33000), some(14000, sockets.Established, 10, there, 33000, func(s *sockets.Socket) {
				s.Local = netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), s.Local.Port())
			}))
		}, none, OK, Subject{}, nil},
		{"reserved ports are none", func(a, b *Sample) {
			both(a, b, some(9000, sockets.Established, 10, there, 33000))
			b.Settings["net.ipv4.ip_local_reserved_ports"] = "44000-60999"
		}, "BERTH1004", Warn, Subject{10, "shop", "192.0.2.7:443", "TIME_WAIT", 9000, 0}, []string{"9000 of 11232"}},
		{"few ports", func(a, b *Sample) { b.Settings["net.ipv4.ip_local_port_range"] = "60000 60999" },
			"BERTH1004", Warn, Subject{}, []string{"Only 1000", "Widen"}},

		// TIME_WAIT.
		{"many in TIME_WAIT", func(a, b *Sample) {
			a.Sockets = some(5990, sockets.TimeWait, 0, there, 33000)
			b.Sockets = append(some(6000, sockets.TimeWait, 0, there, 33000), some(1, sockets.Established, 11, there, 60000)...)
		}, "BERTH2012", Warn, Subject{11, "python3", "192.0.2.7:443", "TIME_WAIT", 6000, 0}, []string{"+10 in 2.0s"}},
		{"many, and fewer", func(a, b *Sample) {
			a.Sockets = some(6000, sockets.TimeWait, 0, there, 33000)
			b.Sockets = some(5990, sockets.TimeWait, 0, there, 33000)
		}, none, OK, Subject{}, nil},
		{"many of a server", func(a, b *Sample) {
			both(a, b, listener("10.0.0.1:80", 0, 128))
			for i := range 6000 {
				b.Sockets = append(b.Sockets, sockets.Socket{State: sockets.TimeWait, Local: netip.MustParseAddrPort("10.0.0.1:80"), Remote: netip.AddrPortFrom(there.Addr(), uint16(33000+i))})
			}
		}, none, OK, Subject{}, nil},
		{"buckets", func(a, b *Sample) { b.Counters["sockstat.TCP.tw"] = 110000 },
			"BERTH2026", Warn, Subject{State: "TIME_WAIT", Count: 110000}, []string{"tcp_max_tw_buckets"}},
		{"buckets overflow", func(a, b *Sample) { b.Counters["TcpExt.TCPTimeWaitOverflow"] = 7 },
			"BERTH2026", Fail, Subject{State: "TIME_WAIT", Count: 10}, []string{"7 refused"}},

		// A client for each request.
		{"client per request", func(a, b *Sample) {
			a.Sockets = some(100, sockets.TimeWait, 0, there, 40000)
			b.Sockets = append(some(200, sockets.TimeWait, 0, there, 40000), some(1, sockets.Established, 11, there, 50000)...)
		}, "BERTH2002", Warn, Subject{11, "python3", "192.0.2.7:443", "TIME_WAIT", 200, 0}, []string{"50 connections a second", "one client"}},
		{"client per request, met between the looks", func(a, b *Sample) {
			b.Sockets = some(60, sockets.TimeWait, 0, there, 40000)
			b.Between = some(3, sockets.Established, 12, there, 40010)
		}, "BERTH2002", Warn, Subject{12, "node", "192.0.2.7:443", "TIME_WAIT", 60, 0}, nil},
		{"client per request, met by nobody", func(a, b *Sample) {
			b.Sockets = some(60, sockets.TimeWait, 0, there, 40000)
		}, "BERTH2002", Warn, Subject{Destination: "192.0.2.7:443", State: "TIME_WAIT", Count: 60}, []string{"not seen", "--interval"}},
		{"client per request, met by its short-lived sockets", func(a, b *Sample) {
			both(a, b, some(1, sockets.Established, 11, there, 50000)) // the same place, and innocent
			b.Sockets = append(b.Sockets, some(60, sockets.TimeWait, 0, there, 40000)...)
			b.Short = map[int]int{11: 1, 12: 5}
		}, "BERTH2002", Warn, Subject{12, "node", "192.0.2.7:443", "TIME_WAIT", 60, 0}, []string{"named by 5 short-lived sockets"}},
		{"the server has short-lived sockets too", func(a, b *Sample) {
			both(a, b, listener("127.0.0.1:8080", 0, 128))
			b.Sockets = append(b.Sockets, some(60, sockets.TimeWait, 0, local, 40000)...)
			b.Short = map[int]int{10: 50, 12: 5}
		}, "BERTH2002", Warn, Subject{Destination: "127.0.0.1:8080", State: "TIME_WAIT", Count: 60}, []string{"not seen"}},
		{"two that come into question", func(a, b *Sample) {
			b.Sockets = some(60, sockets.TimeWait, 0, there, 40000)
			b.Short = map[int]int{11: 3, 12: 5}
		}, "BERTH2002", Warn, Subject{Destination: "192.0.2.7:443", State: "TIME_WAIT", Count: 60}, []string{"not seen"}},
		{"the same ports again", func(a, b *Sample) {
			a.Sockets = some(60, sockets.TimeWait, 0, local, 40000, func(s *sockets.Socket) { s.Timer = 58 * time.Second })
			b.Sockets = some(60, sockets.TimeWait, 0, local, 40000, func(s *sockets.Socket) { s.Timer = 59 * time.Second })
			b.Between = some(1, sockets.Established, 10, local, 40000)
		}, "BERTH2002", Warn, Subject{10, "shop", "127.0.0.1:8080", "TIME_WAIT", 60, 0}, nil},
		{"a pool that grows", func(a, b *Sample) { b.Sockets = some(100, sockets.Established, 11, there, 40000) }, none, OK, Subject{}, nil},
		{"old TIME_WAIT", func(a, b *Sample) {
			a.Sockets = some(60, sockets.TimeWait, 0, there, 40000)
			b.Sockets = some(60, sockets.TimeWait, 0, there, 40000, func(s *sockets.Socket) { s.Timer -= 2 * time.Second })
		}, none, OK, Subject{}, nil},

		// Descriptors.
		{"descriptors", func(a, b *Sample) {
			b.Processes[11] = sockets.Process{PID: 11, Name: "python3", Files: 830, FilesLimit: 1024}
		},
			"BERTH1005", Warn, Subject{PID: 11, Process: "python3", Count: 830}, []string{"830 of 1024", "81%", "+810"}},
		{"descriptors nearly gone", func(a, b *Sample) {
			b.Processes[11] = sockets.Process{PID: 11, Name: "python3", Files: 1000, FilesLimit: 1024}
		},
			"BERTH1005", Fail, Subject{PID: 11, Process: "python3", Count: 1000}, nil},
		{"descriptors without a limit", func(a, b *Sample) {
			b.Processes[11] = sockets.Process{PID: 11, Name: "python3", Files: 1000, FilesLimit: 1<<64 - 1}
		}, none, OK, Subject{}, nil},
		{"the host's files", func(a, b *Sample) { b.Settings["fs.file-nr"] = "99000 0 100000" }, "BERTH1005", Fail, Subject{Count: 99000}, nil},

		// The kernel's tables.
		{"conntrack", func(a, b *Sample) { b.Settings["net.netfilter.nf_conntrack_count"] = "850" }, "BERTH2021", Warn, Subject{Count: 850}, []string{"+840"}},
		{"conntrack full", func(a, b *Sample) { b.Settings["net.netfilter.nf_conntrack_count"] = "1000" }, "BERTH2021", Fail, Subject{Count: 1000}, nil},
		{"a full accept queue", func(a, b *Sample) { both(a, b, listener("0.0.0.0:80", 129, 128)) },
			"BERTH2022", Fail, Subject{10, "shop", "0.0.0.0:80", "LISTEN", 129, 0}, []string{"129 wait, 128 fit"}},
		{"a queue full for a moment", func(a, b *Sample) {
			a.Sockets, b.Sockets = listener("0.0.0.0:80", 0, 128), listener("0.0.0.0:80", 128, 128)
		}, "BERTH2022", Warn, Subject{10, "shop", "0.0.0.0:80", "LISTEN", 128, 0}, nil},
		{"a queue with room", func(a, b *Sample) { both(a, b, listener("0.0.0.0:80", 127, 128)) }, none, OK, Subject{}, nil},
		{"an empty queue of size 0", func(a, b *Sample) { both(a, b, listener("0.0.0.0:80", 0, 0)) }, none, OK, Subject{}, nil},
		{"drops", func(a, b *Sample) { b.Counters["TcpExt.ListenDrops"] = 8; b.Counters["TcpExt.ListenOverflows"] = 8 },
			"BERTH2022", Fail, Subject{State: "LISTEN", Count: 3}, nil},
		{"memory pressure", func(a, b *Sample) { b.Counters["sockstat.TCP.mem"] = 2000 }, "BERTH2023", Warn, Subject{Count: 2000}, nil},
		{"memory gone", func(a, b *Sample) { b.Counters["sockstat.TCP.mem"] = 2900 }, "BERTH2023", Fail, Subject{Count: 2900}, nil},
		{"aborted for memory", func(a, b *Sample) { b.Counters["TcpExt.TCPAbortOnMemory"] = 1 }, "BERTH2023", Fail, Subject{Count: 100}, nil},
		{"orphans near their limit", func(a, b *Sample) { b.Counters["sockstat.TCP.orphan"] = 900 }, "BERTH2023", Warn, Subject{Count: 900}, nil},

		// Settings.
		{"tcp_tw_recycle", func(a, b *Sample) { b.Settings["net.ipv4.tcp_tw_recycle"] = "1" }, "BERTH2030", Fail, Subject{}, []string{"4.12"}},
		{"tcp_tw_recycle, off", func(a, b *Sample) { b.Settings["net.ipv4.tcp_tw_recycle"] = "0" }, none, OK, Subject{}, nil},
		{"tcp_fin_timeout", func(a, b *Sample) { b.Settings["net.ipv4.tcp_fin_timeout"] = "15" }, "BERTH2030", Warn, Subject{}, []string{"does not shorten TIME_WAIT"}},
		{"timestamps off", func(a, b *Sample) { b.Settings["net.ipv4.tcp_timestamps"] = "0" }, "BERTH2030", Warn, Subject{}, nil},
		{"few buckets", func(a, b *Sample) { b.Settings["net.ipv4.tcp_max_tw_buckets"] = "1024" }, "BERTH2030", Warn, Subject{}, nil},
		{"abort on overflow", func(a, b *Sample) { b.Settings["net.ipv4.tcp_abort_on_overflow"] = "1" }, "BERTH2030", Warn, Subject{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := host(tc.change)
			got := Findings(a, b, Options{})
			if tc.code == none {
				for _, f := range got {
					if f.Level != OK || f.Code != "" || f.Fix != "" {
						t.Errorf("found %+v", f)
					}
				}
				return
			}
			f := one(got, tc.code)
			if f.Code == "" {
				t.Fatalf("not found; got %+v", got)
			}
			if f.Level != tc.level || f.Subject != tc.want {
				t.Errorf("got %v %+v\nwant %v %+v", f.Level, f.Subject, tc.level, tc.want)
			}
			if f.Title == "" || f.Fix == "" || strings.Contains(f.Fix, "\n") {
				t.Errorf("title %q, fix %q", f.Title, f.Fix)
			}
			all := f.Title + "\n" + strings.Join(f.Evidence, "\n") + "\n" + f.Fix
			for _, text := range tc.text {
				if !strings.Contains(all, text) {
					t.Errorf("no %q in\n%s", text, all)
				}
			}
			for _, g := range got {
				if g.Level != OK && g.Code != tc.code && !(tc.code == "BERTH2012" || tc.code == "BERTH1004" || tc.code == "BERTH2002") {
					t.Errorf("found as well: %+v", g)
				}
			}
			// Without limits nothing is too much; what is wrong in itself remains.
			quiet := Findings(a, b, Options{Limits: Limits{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}})
			if f := one(quiet, tc.code); f.Code != "" && f.Code != "BERTH2022" && f.Code != "BERTH2030" {
				t.Errorf("switched off, and found: %+v", f)
			}
			// In the other language the same is found, and no text is wanting.
			zh := Findings(a, b, Options{Lang: "zh"})
			if len(zh) != len(got) {
				t.Fatalf("%d findings in Chinese, %d in English", len(zh), len(got))
			}
			for i := range zh {
				for _, text := range append([]string{zh[i].Title, zh[i].Fix}, append(zh[i].Evidence, append(got[i].Evidence, got[i].Title, got[i].Fix)...)...) {
					if strings.Contains(text, "%!") || strings.HasPrefix(text, "?") {
						t.Errorf("text %q", text)
					}
				}
				if zh[i].Level != got[i].Level || zh[i].Subject != got[i].Subject {
					t.Errorf("%+v\n%+v", zh[i], got[i])
				}
			}
		})
	}
}

func TestEveryCheckSaysWhatItLookedAt(t *testing.T) {
	a, b := host(func(a, b *Sample) {})
	var got []string
	for _, f := range Findings(a, b, Options{}) {
		got = append(got, f.Check)
		if f.Level != OK || f.Title == "" {
			t.Errorf("%+v", f)
		}
	}
	want := []string{"sockets", "unread", "close-wait", "churn", "ports", "time-wait", "connecting", "fin-wait", "files", "conntrack", "listen", "memory", "settings"}
	if !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	say := words("en")
	for _, check := range append(want, "programs") {
		if strings.HasPrefix(say("heading-"+check), "?") {
			t.Errorf("%s has no heading", check)
		}
	}
}

func TestPortsTellWhenTheyRunOut(t *testing.T) {
	// 1000 more a second, none of which comes back within a minute.
	a, b := host(func(a, b *Sample) {
		a.Sockets = some(1000, sockets.TimeWait, 0, there, 33000, func(s *sockets.Socket) { s.Timer = 57 * time.Second })
		b.Sockets = append(some(1000, sockets.TimeWait, 0, there, 33000, func(s *sockets.Socket) { s.Timer = 55 * time.Second }),
			some(2000, sockets.TimeWait, 0, there, 35000)...)
	})
	f := one(Findings(a, b, Options{}), "BERTH1004")
	if f.Level != Fail || !strings.Contains(f.Title, "the last is gone in 25.2s") {
		t.Errorf("%+v", f)
	}
	// On loopback, and with tcp_tw_reuse 1, a port comes back after a second.
	onLoopback := func(list []sockets.Socket) {
		for i := range list {
			list[i].Local, list[i].Remote = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), list[i].Local.Port()), local
		}
	}
	reuse := b
	reuse.Settings = maps.Clone(b.Settings)
	reuse.Settings["net.ipv4.tcp_tw_reuse"] = "1"
	if f := one(Findings(a, reuse, Options{}), "BERTH1004"); f.Code != "" {
		t.Errorf("with tcp_tw_reuse: %+v", f)
	}
	onLoopback(a.Sockets)
	onLoopback(b.Sockets)
	if f := one(Findings(a, b, Options{}), "BERTH1004"); f.Code != "" {
		t.Errorf("on loopback: %+v", f)
	}
	b.Settings["net.ipv4.tcp_timestamps"] = "0" // without them nothing is reused
	if f := one(Findings(a, b, Options{}), "BERTH1004"); f.Code == "" {
		t.Error("on loopback without timestamps: not found")
	}
}

func TestFindingsAreOfWhatIsAskedFor(t *testing.T) {
	other := netip.MustParseAddrPort("192.0.2.8:80")
	a, b := host(func(a, b *Sample) {
		both(a, b, some(20, sockets.CloseWait, 11, there, 40000), some(20, sockets.CloseWait, 12, other, 41000))
		both(a, b, some(20, sockets.CloseWait, 0, netip.MustParseAddrPort("192.0.2.9:80"), 42000))
	})
	codes := func(o Options) (pids []int) {
		for _, f := range Findings(a, b, o) {
			if f.Code == "BERTH2013" {
				pids = append(pids, f.Subject.PID)
			}
		}
		return pids
	}
	for name, tc := range map[string]struct {
		o    Options
		want []int
	}{
		"all":                 {Options{}, []int{0, 11, 12}},
		"a process":           {Options{PIDs: []int{12}}, []int{12}},
		"a destination":       {Options{Destinations: []netip.AddrPort{there}}, []int{11}},
		"any port":            {Options{Destinations: []netip.AddrPort{netip.AddrPortFrom(other.Addr(), 0)}}, []int{12}},
		"another port":        {Options{Destinations: []netip.AddrPort{netip.AddrPortFrom(other.Addr(), 81)}}, nil},
		"neither":             {Options{PIDs: []int{11}, Destinations: []netip.AddrPort{other}}, nil},
		"an address in IPv6":  {Options{Destinations: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom16(there.Addr().As16()), 443)}}, []int{11}},
		"a process not there": {Options{PIDs: []int{99}}, nil},
	} {
		if got := codes(tc.o); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestFullQueuesAreOfTheDestinationsAskedFor(t *testing.T) {
	a, b := host(func(a, b *Sample) {
		both(a, b, listener("127.0.0.1:80", 9, 8), listener("0.0.0.0:81", 9, 8))
	})
	for dest, want := range map[string]int{"127.0.0.1:80": 1, "192.0.2.1:81": 1, "127.0.0.2:80": 0, "192.0.2.1:82": 0} {
		n := 0
		for _, f := range Findings(a, b, Options{Destinations: []netip.AddrPort{netip.MustParseAddrPort(dest)}}) {
			if f.Code == "BERTH2022" {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d findings, want %d", dest, n, want)
		}
	}
}

func TestFixedSetIsToldAsEvidence(t *testing.T) {
	a, b := host(func(a, b *Sample) {
		both(a, b, some(3, sockets.Established, 11, there, 40000, func(s *sockets.Socket) { s.SendQ = 7 }))
		both(a, b, some(2, sockets.Established, 12, there, 41000))
		b.Sockets = append(b.Sockets, some(1, sockets.Established, 12, there, 42000)...)
	})
	f := Findings(a, b, Options{})[0]
	all := strings.Join(f.Evidence, "\n")
	if !strings.Contains(all, "python3 (pid 11): the same 3 connections to 192.0.2.7:443 at both looks; unread data on 0, unacknowledged data on 3") || strings.Contains(all, "node (pid 12): the same") {
		t.Errorf("%s", all)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	a, b := host(func(a, b *Sample) { both(a, b, some(500, sockets.Established, 11, there, 40000, queue(5000, 9000))) })
	f := one(Findings(a, b, Options{}), "BERTH2006")
	if len(f.Evidence) != maxEvidence+1 || f.Evidence[maxEvidence] != "and 481 more" {
		t.Errorf("%d lines, the last %q", len(f.Evidence), f.Evidence[len(f.Evidence)-1])
	}
}

func TestFindingsAreBounded(t *testing.T) {
	a, b := host(func(a, b *Sample) {
		for i := range 50 {
			both(a, b, some(1, sockets.Established, 11, netip.AddrPortFrom(there.Addr(), uint16(1000+i)), 40000+i, queue(5000, 9000)))
		}
	})
	n := 0
	var last Finding
	for _, f := range Findings(a, b, Options{}) {
		if f.Check == "unread" {
			n++
			last = f
		}
	}
	if n != maxFindings+1 || last.Title != "and 30 more" || last.Level != Warn || last.Code != "BERTH2006" {
		t.Errorf("%d findings, the last %+v", n, last)
	}
}

func TestNamesAreFitToPrint(t *testing.T) {
	a, b := host(func(a, b *Sample) {
		both(a, b, some(20, sockets.CloseWait, 11, there, 40000))
		b.Processes[11] = sockets.Process{PID: 11, Name: "evil\x1b[2J\n\xff", Program: "x"}
	})
	f := one(Findings(a, b, Options{}), "BERTH2013")
	if strings.ContainsAny(f.Title, "\x1b\n") || !utf8.ValidString(f.Title) {
		t.Errorf("%q", f.Title)
	}
	if got := clean(strings.Repeat("é", 500)); len([]rune(got)) != 200 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}

// The sample was taken of this package's own starved python3 (testdata/starved), with
// Take, and cut to what matters.
func TestFindingsOnACapturedSample(t *testing.T) {
	data, err := os.ReadFile("testdata/captured/starved-python.json")
	if err != nil {
		t.Fatal(err)
	}
	var looks [2]Sample
	if err := json.Unmarshal(data, &looks); err != nil {
		t.Fatal(err)
	}
	f := one(Findings(looks[0], looks[1], Options{}), "BERTH2006")
	if f.Subject.Process != "python3" || f.Subject.Count != 2 || f.Subject.State != "ESTABLISHED" || f.Subject.Bytes == 0 {
		t.Errorf("%+v", f)
	}
}

func TestReportInText(t *testing.T) {
	a, b := host(func(a, b *Sample) {
		both(a, b, some(2, sockets.Established, 11, there, 40000, queue(5000, 9000)))
		b.Unseen, b.Elsewhere = 3, 2
		b.Missing = []Missing{{"fs.file-nr", "denied"}}
	})
	r := report(a, b, Options{Lang: "en"})
	var out strings.Builder
	if err := r.WriteText(&out, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"[✓] CLOSE_WAIT: none\n",
		"[!] Unread responses: python3 (pid 11): on 2 of 2 ESTABLISHED connections to 192.0.2.7:443",
		"\n    fix: Read each response", "(berth explain BERTH2006)\n",
		"Not seen:\n    • open files of 3 processes", "    • 2 processes live in other", "    • fs.file-nr: denied",
		"\n0 failures, 1 warnings.\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "•  ") || strings.Contains(out.String(), "all its connections") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("evidence or colour unasked:\n%s", out.String())
	}
	out.Reset()
	r.WriteText(&out, Style{Lang: "zh", Verbose: true, Colour: true})
	for _, want := range []string{"\x1b[33m[!]\x1b[0m", "办法: ", "all its connections"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	text, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(text), `"level":"warn"`) || !strings.Contains(string(text), `"schema":1`) {
		t.Errorf("%s, %v", text, err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Level != Warn {
		t.Errorf("%v, %v", back.Level, err)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{-1: "0.0s", 400 * time.Millisecond: "0.4s", 842 * time.Second: "14m02s", 3 * time.Hour: "3h00m"} {
		if got := duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 10239: "10239 B", 10240: "10 KiB", 20 << 20: "20 MiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0%", 0.001: "<1%", 0.5: "50%"} {
		if got := percent(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if got := fmt.Sprint(Level(9)); got != "Level(9)" {
		t.Errorf("%q", got)
	}
}
