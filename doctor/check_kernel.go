package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-go/berth/sockets"
)

// number reads a setting; 0 where there is none.
func number(v string) int64 {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// grown is how much a counter of the kernel grew between the looks.
func (e *exam) grown(name string) int64 {
	was, ok1 := e.a.Counters[name]
	is, ok2 := e.b.Counters[name]
	if !ok1 || !ok2 {
		return 0
	}
	return max(is-was, 0)
}

// table compares how full a table of the kernel is; a table without a size is never full.
func (e *exam) table(used, size int64) Level {
	if size <= 0 {
		return OK
	}
	return level(float64(used)/float64(size), e.o.Limits.TableWarn, e.o.Limits.TableFail)
}

// files finds processes near their limit of descriptors, and the host near its.
func (e *exam) files() {
	n := len(e.out)
	byPID := map[int]int{}
	for _, s := range e.b.Sockets {
		if s.PID != 0 {
			byPID[s.PID]++
		}
	}
	share := func(p sockets.Process) float64 {
		if p.FilesLimit == 0 || p.FilesLimit > math.MaxInt64 {
			return 0
		}
		return float64(p.Files) / float64(p.FilesLimit)
	}
	list := slices.SortedFunc(maps.Values(e.b.Processes), func(x, y sockets.Process) int {
		return cmp.Or(cmp.Compare(share(y), share(x)), cmp.Compare(x.PID, y.PID))
	})
	counted := 0
	most := ""
	for _, p := range list {
		if p.Files == 0 || p.FilesLimit == 0 || !e.wants(p.PID, netip.AddrPort{}) {
			continue
		}
		counted++
		line := e.say("files-of", e.process(p.PID), p.Files, fmt.Sprint(p.FilesLimit), percent(share(p)), byPID[p.PID])
		if most == "" {
			most = line
		}
		at := level(share(p), e.o.Limits.FilesWarn, e.o.Limits.FilesFail)
		if at == OK {
			continue
		}
		e.add(Finding{
			Check: "files", Code: "BERTH1005", Level: at, Title: line,
			Evidence: []string{e.say("files-growth", p.Files-e.a.Processes[p.PID].Files, duration(e.took))},
			Fix:      e.say("fix-files"), Subject: e.subject(p.PID, netip.AddrPort{}, 0, p.Files),
		})
	}
	var evidence []string
	if most != "" {
		evidence = append(evidence, most)
	}
	if f := strings.Fields(e.b.Settings["fs.file-nr"]); len(f) == 3 {
		used, limit := number(f[0]), number(f[2])
		evidence = append(evidence, e.say("files-host", int(used), f[2]))
		if limit > 0 && level(float64(used)/float64(limit), e.o.Limits.FilesWarn, e.o.Limits.FilesFail) != OK {
			e.add(Finding{
				Check: "files", Code: "BERTH1005", Level: level(float64(used)/float64(limit), e.o.Limits.FilesWarn, e.o.Limits.FilesFail),
				Title: e.say("files-host", int(used), f[2]), Fix: e.say("fix-files-host"), Subject: Subject{Count: int(used)},
			})
		}
	}
	if counted == 0 {
		e.ok("files", n, e.say("files-unknown"), evidence...)
	}
	e.ok("files", n, e.say("files-ok", counted, percent(e.o.Limits.FilesWarn)), evidence...)
}

// conntrack compares the table of tracked connections with its size.
func (e *exam) conntrack() {
	n := len(e.out)
	limit := number(e.b.Settings["net.netfilter.nf_conntrack_max"])
	if limit == 0 {
		e.ok("conntrack", n, e.say("conntrack-none"))
		return
	}
	used := number(e.b.Settings["net.netfilter.nf_conntrack_count"])
	growth := used - number(e.a.Settings["net.netfilter.nf_conntrack_count"])
	line := e.say("conntrack", int(used), int(limit), percent(float64(used)/float64(limit)))
	if at := e.table(used, limit); at != OK {
		e.add(Finding{
			Check: "conntrack", Code: "BERTH2021", Level: at, Title: line,
			Evidence: []string{e.say("conntrack-growth", int(growth), duration(e.took))},
			Fix:      e.say("fix-conntrack"), Subject: Subject{Count: int(used)},
		})
	}
	e.ok("conntrack", n, line)
}

// wantsListener is wants for a server of this host: its own address is the destination.
func (e *exam) wantsListener(s sockets.Socket) bool {
	if !s.Local.Addr().IsUnspecified() {
		return e.wants(s.PID, s.Local)
	}
	return e.wants(s.PID, netip.AddrPort{}) && (len(e.o.Destinations) == 0 || slices.ContainsFunc(e.o.Destinations, func(d netip.AddrPort) bool {
		return d.Port() == s.Local.Port()
	}))
}

// listening finds servers that do not accept, which is what their clients time out on.
func (e *exam) listening() {
	n := len(e.out)
	total := 0
	var evidence []string
	for _, s := range e.b.Sockets {
		if s.State != sockets.Listen {
			continue
		}
		total++
		if s.RecvQ == 0 || s.RecvQ < s.SendQ || !e.wantsListener(s) {
			continue
		}
		at := Warn
		if was, ok := e.stayed(s); ok && was.RecvQ >= was.SendQ && was.RecvQ > 0 {
			at = Fail
		}
		e.add(Finding{
			Check: "listen", Code: "BERTH2022", Level: at,
			Title:    e.say("listen-full", e.process(s.PID), s.Local.String(), int(s.RecvQ), int(s.SendQ)),
			Evidence: []string{e.say("listen-somaxconn", e.b.Settings["net.core.somaxconn"])},
			Fix:      e.say("fix-listen"),
			Subject:  e.subject(s.PID, s.Local, sockets.Listen, int(s.RecvQ)),
		})
	}
	drops, overflows := e.grown("TcpExt.ListenDrops"), e.grown("TcpExt.ListenOverflows")
	requests := e.grown("TcpExt.TCPReqQFullDrop")
	evidence = append(evidence, e.say("listen-counts", int(e.b.Counters["TcpExt.ListenOverflows"]), int(e.b.Counters["TcpExt.ListenDrops"]), int(e.b.Counters["TcpExt.TCPReqQFullDrop"])))
	if drops+overflows+requests > 0 && len(e.out) == n && len(e.o.PIDs)+len(e.o.Destinations) == 0 {
		e.add(Finding{
			Check: "listen", Code: "BERTH2022", Level: Fail,
			Title:    e.say("listen-drops", int(max(drops, overflows)+requests), duration(e.took)),
			Evidence: evidence, Fix: e.say("fix-listen"),
			Subject: Subject{State: sockets.Listen.String(), Count: int(max(drops, overflows) + requests)},
		})
	}
	e.ok("listen", n, e.say("listen-ok", total), evidence...)
}

// memory compares what TCP takes with what the kernel lets it have.
func (e *exam) memory() {
	n := len(e.out)
	limits := strings.Fields(e.b.Settings["net.ipv4.tcp_mem"])
	pages := e.b.Counters["sockstat.TCP.mem"]
	orphans, maxOrphans := e.b.Counters["sockstat.TCP.orphan"], number(e.b.Settings["net.ipv4.tcp_max_orphans"])
	if len(limits) != 3 {
		e.ok("memory", n, e.say("memory-unknown"))
		return
	}
	pressure, most := number(limits[1]), number(limits[2])
	line := e.say("memory-pages", int(pages), int(pressure), int(most))
	counts := e.say("memory-orphans", int(orphans), int(maxOrphans))
	at := e.table(pages, most)
	if pressure > 0 && pages >= pressure {
		at = max(at, Warn)
	}
	aborted := e.grown("TcpExt.TCPAbortOnMemory")
	if aborted > 0 {
		at = Fail
	}
	if e.o.Limits.TableWarn > 1 {
		at = OK
	}
	if at != OK {
		e.add(Finding{
			Check: "memory", Code: "BERTH2023", Level: at, Title: line,
			Evidence: []string{e.say("memory-aborted", int(aborted), int(e.b.Counters["TcpExt.TCPAbortOnMemory"]), duration(e.took)), counts},
			Fix:      e.say("fix-memory"), Subject: Subject{Count: int(pages)},
		})
	}
	if at := e.table(orphans, maxOrphans); at != OK {
		e.add(Finding{
			Check: "memory", Code: "BERTH2023", Level: at, Title: counts,
			Evidence: []string{line}, Fix: e.say("fix-orphans"), Subject: Subject{Count: int(orphans)},
		})
	}
	e.ok("memory", n, line, counts)
}

// settings shows the sysctls that matter, and says of some that they do not help.
func (e *exam) settings() {
	n := len(e.out)
	var all, notes []string
	for _, name := range settings {
		if v, ok := e.b.Settings[name]; ok && name != "fs.file-nr" && name != "net.netfilter.nf_conntrack_count" {
			all = append(all, name+" = "+cmp.Or(clean(v), "–"))
		}
	}
	if len(all) == 0 {
		e.ok("settings", n, e.say("settings-none"))
		return
	}
	useless := func(name string, at Level, key string) {
		v := e.b.Settings[name]
		e.add(Finding{Check: "settings", Code: "BERTH2030", Level: at, Title: e.say(key, clean(v)), Evidence: []string{name + " = " + clean(v)}, Fix: e.say("fix-" + key)})
	}
	set := e.b.Settings
	if v := set["net.ipv4.tcp_tw_recycle"]; v != "" && v != "0" {
		useless("net.ipv4.tcp_tw_recycle", Fail, "setting-recycle")
	}
	if v := number(set["net.ipv4.tcp_fin_timeout"]); v > 0 && v < 60 {
		useless("net.ipv4.tcp_fin_timeout", Warn, "setting-fin-timeout")
	}
	if set["net.ipv4.tcp_timestamps"] == "0" && set["net.ipv4.tcp_tw_reuse"] != "0" {
		useless("net.ipv4.tcp_timestamps", Warn, "setting-timestamps")
	}
	if v := number(set["net.ipv4.tcp_max_tw_buckets"]); v > 0 && v < 4096 {
		useless("net.ipv4.tcp_max_tw_buckets", Warn, "setting-buckets")
	}
	if v := set["net.ipv4.tcp_abort_on_overflow"]; v != "" && v != "0" {
		useless("net.ipv4.tcp_abort_on_overflow", Warn, "setting-abort")
	}
	if _, there := set["net.ipv4.tcp_tw_recycle"]; !there && e.b.Source != "netstat" && e.b.Source != "iphlpapi" {
		notes = append(notes, e.say("note-recycle"))
	}
	if _, there := set["net.ipv4.tcp_fin_timeout"]; there {
		notes = append(notes, e.say("note-fin-timeout"))
	}
	e.ok("settings", n, e.say("settings-ok", len(all)), append(notes, all...)...)
}
