package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// sysctlsExperiment tries the settings that are recommended where ports run out, on
// connections that are not reused.
func sysctlsExperiment() Experiment {
	return Experiment{
		Name:    "sysctls",
		Source:  "advice against TIME_WAIT: tcp_tw_reuse, tcp_tw_recycle, tcp_fin_timeout, tcp_max_tw_buckets, a wider range, keep-alive",
		Summary: "70 connections a second with 100 ports, and the sysctls that are said to help, each in a network namespace of its own",
		run:     runSysctls,
	}
}

func runSysctls(ctx context.Context, s *session) error {
	s.result.Note = "the peer is in a second network namespace, so that nothing of loopback's is in the way, unless a row says loopback; " +
		"“seconds” is the kernel's own timer: of the port that stays longest, or of the first keep-alive probe"
	return s.isolate(ctx)
}

const (
	sysctlRate     = 70 // connections a second
	sysctlRequests = 210
)

// sysctlTry is a client with some settings.
type sysctlTry struct {
	name     string
	settings string // name=value, blanks between
	ports    int
	policy   *berth.Policy // nil is net/http with a connection a request
	loopback bool
	gateway  bool                       // a simulated one in between has 128 ports
	stuck    bool                       // the server never closes: FIN_WAIT_2 instead of TIME_WAIT
	fails    bool                       // with the request after the last port
	lasts    func(seconds float64) bool // the timer of what is left
	lasting  string                     // lasts, in words
}

func sysctlTries() []sysctlTry {
	minute := func(s float64) bool { return s > 50 && s <= 60.5 }
	const aMinute = "50 to 60"
	const ours, theirs = "net.ipv4.tcp_tw_reuse=0", "net.ipv4.tcp_tw_reuse=1"
	return []sysctlTry{
		{name: "berth, 100 ports", settings: ours, policy: &berth.Policy{}},
		{name: "berth, a connection a request, close auto, 100 ports", settings: ours, policy: &berth.Policy{DisableKeepAlives: true, Close: berth.CloseAuto}},
		{name: "net/http, 100 ports, tcp_tw_reuse 0", settings: ours, fails: true, lasts: minute, lasting: aMinute},
		{name: "net/http, 100 ports, tcp_tw_reuse 1", settings: theirs},
		{name: "net/http, 100 ports, tcp_tw_reuse 1, no timestamps", settings: theirs + " net.ipv4.tcp_timestamps=0", fails: true, lasts: minute, lasting: aMinute},
		{name: "net/http, 100 ports, tcp_tw_reuse 2", settings: "net.ipv4.tcp_tw_reuse=2", fails: true},
		{name: "net/http, 100 ports, tcp_tw_reuse 2, loopback", settings: "net.ipv4.tcp_tw_reuse=2", loopback: true},
		{name: "net/http, 100 ports, tcp_fin_timeout 1", settings: ours + " net.ipv4.tcp_fin_timeout=1", fails: true, lasts: minute, lasting: aMinute},
		{name: "net/http, 100 ports, tcp_max_tw_buckets 50", settings: ours + " net.ipv4.tcp_max_tw_buckets=50"},
		{name: "net/http, 200 ports, tcp_tw_reuse 0", settings: ours, ports: 200, fails: true},
		{name: "net/http, 20,000 ports, tcp_tw_reuse 1, snat-128 (simulated)", settings: theirs, ports: 20_000, gateway: true, fails: true},
		{name: "net/http, 100 ports, FIN_WAIT_2", settings: ours, stuck: true, fails: true, lasts: minute, lasting: aMinute},
		{name: "net/http, 100 ports, FIN_WAIT_2, tcp_fin_timeout 1", settings: ours + " net.ipv4.tcp_fin_timeout=1", stuck: true,
			lasts: func(s float64) bool { return s <= 1.5 }, lasting: "≤ 1.5"},
		{name: "net/http, 100 ports, FIN_WAIT_2, tcp_tw_reuse 1", settings: theirs, stuck: true, fails: true, lasts: minute, lasting: aMinute},
	}
}

// sysctlParts are the experiment's parts: a namespace for each client, so that none
// meets the ports of another.
func sysctlParts() []isolated {
	var parts []isolated
	for i, t := range sysctlTries() {
		parts = append(parts, isolated{
			rows: []rowKeys{{t.name, t.keys()}},
			run: func(ctx context.Context, n *network, scale Scale) ([]Variant, error) {
				v, err := sysctlTries()[i].row(ctx, n, scale)
				return []Variant{v}, err
			},
		})
	}
	return append(parts,
		isolated{rows: []rowKeys{{recycleName, []string{"exists"}}}, run: recycleRow},
		isolated{rows: []rowKeys{{probeNames()[0], []string{"seconds"}}, {probeNames()[1], []string{"seconds"}}, {probeNames()[2], []string{"seconds"}}, {probeNames()[3], []string{"seconds"}}},
			run: probeRows},
		isolated{rows: []rowKeys{{bufferNames()[0], []string{"held_kib"}}, {bufferNames()[1], []string{"held_kib"}}}, run: bufferRows})
}

// keys are what is measured.
func (t sysctlTry) keys() []string {
	keys := []string{"requests", "failed", "failed_at", "seconds"}
	switch {
	case t.stuck:
		return append(keys, "fin_wait2")
	case strings.Contains(t.settings, "buckets"):
		return append(keys, "time_wait", "overflowed")
	}
	return append(keys, "time_wait")
}

func (t sysctlTry) row(ctx context.Context, n *network, scale Scale) (Variant, error) {
	ports, requests := 100, sysctlRequests
	if t.ports > 0 {
		ports = t.ports
	}
	for setting := range strings.FieldsSeq(t.settings + fmt.Sprintf(" net.ipv4.tcp_fin_timeout=60 net.ipv4.ip_local_port_range=40000:%d", 40000+ports-1)) {
		name, value, _ := strings.Cut(setting, "=")
		if name == "net.ipv4.tcp_fin_timeout" && value == "60" && strings.Contains(t.settings, name) {
			continue
		}
		if err := n.set(name, strings.ReplaceAll(value, ":", " ")); err != nil {
			return Variant{}, err
		}
	}
	before, err := n.counters()
	if err != nil {
		return Variant{}, err
	}
	srv, err := t.server(n)
	if err != nil {
		return Variant{}, err
	}
	defer srv.Close()
	transport := &http.Transport{DisableKeepAlives: true}
	if t.gateway {
		ports = snatPorts
		transport.DialContext = (&gateway{to: srv.addr.String(), ports: snatPorts, fin: snatFIN, rst: snatRST}).dial
	}
	var rt http.RoundTripper = transport
	if t.policy != nil {
		tr, err := berth.New(berth.Config{Policy: *t.policy, Proxy: berth.NoProxy})
		if err != nil {
			return Variant{}, err
		}
		defer tr.Close()
		rt = tr
	}
	counts, start := takeCensus(ctx, srv, 100*time.Millisecond), time.Now()
	all := onePerTick(ctx, rt, srv.url(), sysctlRequests, sysctlRate)
	seen, err := clientSockets(ctx, srv.addr)
	if err != nil {
		return Variant{}, err
	}
	left := sockets.Count(seen)
	longest := time.Duration(0)
	for _, sock := range seen {
		if sock.State == sockets.TimeWait || sock.State == sockets.FinWait2 {
			longest = max(longest, sock.Timer)
		}
	}
	seconds := float64(longest.Round(100*time.Millisecond).Milliseconds()) / 1000
	if scale == Full { // past the minute after which ports come back
		requests = 75 * sysctlRate
		soFar := time.Since(start)
		for _, r := range onePerTick(ctx, rt, srv.url(), requests-sysctlRequests, sysctlRate) {
			r.at += soFar
			all = append(all, r)
		}
	}
	taken := counts()
	after, err := n.counters()
	if err != nil {
		return Variant{}, err
	}
	row := Variant{Name: t.name, Measured: map[string]any{
		"requests": requests, "failed": failures(all), "failed_at": fmt.Sprintf("none of %d", requests),
		"time_wait": left[sockets.TimeWait], "fin_wait2": left[sockets.FinWait2], "seconds": seconds,
		"overflowed": after["TcpExt.TCPTimeWaitOverflow"] - before["TcpExt.TCPTimeWaitOverflow"],
	}, Expected: map[string]any{"failed": 0}, OK: failures(all) == 0}
	maps.DeleteFunc(row.Measured, func(key string, _ any) bool { return !slices.Contains(t.keys(), key) })
	for i, r := range all {
		if r.err != nil {
			row.Measured["failed_at"], row.Measured["error"] = i+1, r.err.Error()
			break
		}
	}
	if t.fails {
		delete(row.Expected, "failed")
		row.Expected["failed_at"] = ports + 1
		row.OK = row.Measured["failed_at"] == ports+1
	}
	if t.lasts != nil {
		row.Expected["seconds"] = t.lasting
		row.OK = row.OK && t.lasts(seconds)
	}
	row.Series = append(taken.series(), failedOver(all, sysctlRate))
	return scrub(row, srv), nil
}

// server is the one that a try talks to.
func (t sysctlTry) server(n *network) (*server, error) {
	var ln net.Listener
	var err error
	if t.loopback {
		ln, err = net.Listen("tcp4", "127.0.0.1:0")
	} else {
		ln, err = n.listenBeyond()
	}
	if err != nil {
		return nil, err
	}
	if !t.stuck {
		return &server{origin.Fast(ln, answer, 0), addrOf(ln)}, nil
	}
	return &server{origin.New(ln).Handle(func(c *origin.Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil || c.Write(string(answer)) != nil {
				c.Stall() // it has seen the end, and closes nothing
				return
			}
		}
	}), addrOf(ln)}, nil
}

// onePerTick sends one request after the other, at a rate that is not exceeded.
func onePerTick(ctx context.Context, rt http.RoundTripper, url string, n, rate int) []sample {
	all := make([]sample, 0, n)
	start := time.Now()
	next := start
	for range n {
		if pause(ctx, time.Until(next)) != nil {
			break
		}
		next = time.Now().Add(time.Second / time.Duration(rate)) // what is late is not caught up with
		begun := time.Now()
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := get(limited, rt, url)
		cancel()
		all = append(all, sample{begun.Sub(start), time.Since(begun), err})
	}
	return all
}

const recycleName = "tcp_tw_recycle"

// recycleRow looks for a setting that is gone since Linux 4.12.
func recycleRow(_ context.Context, n *network, _ Scale) ([]Variant, error) {
	row := Variant{Name: recycleName, Measured: map[string]any{"exists": "no"}, Expected: map[string]any{"exists": "no"}}
	_, err := sockets.Sysctl("net.ipv4.tcp_tw_recycle")
	if row.OK = errors.Is(err, fs.ErrNotExist); !row.OK {
		row.Measured["exists"] = "yes"
	}
	return []Variant{row}, nil
}

func probeNames() [4]string {
	return [...]string{"berth, first keep-alive probe", "net.Dialer, first keep-alive probe",
		"SO_KEEPALIVE alone, first keep-alive probe", "SO_KEEPALIVE alone, tcp_keepalive_time 60, first keep-alive probe"}
}

// probeRows reads when the kernel will look after a connection that is silent.
func probeRows(ctx context.Context, n *network, _ Scale) ([]Variant, error) {
	if err := n.set("net.ipv4.tcp_keepalive_time", "7200"); err != nil { // the default
		return nil, err
	}
	alone := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}
	plain := net.Dialer{}
	dialed := func(d net.Dialer) func(context.Context, netip.AddrPort) (func(), error) {
		return func(ctx context.Context, addr netip.AddrPort) (func(), error) {
			c, err := d.DialContext(ctx, "tcp", addr.String())
			if err != nil {
				return nil, err
			}
			return func() { c.Close() }, nil
		}
	}
	names := probeNames()
	var rows []Variant
	for i, v := range []struct {
		open    func(context.Context, netip.AddrPort) (func(), error)
		seconds float64
	}{
		{func(ctx context.Context, addr netip.AddrPort) (func(), error) {
			tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
			if err != nil {
				return nil, err
			}
			return func() { tr.Close() }, get(ctx, tr, "http://"+addr.String()+"/")
		}, 30},
		{dialed(plain), 15},
		{dialed(alone), 7200},
		{dialed(alone), 60},
	} {
		if i == 3 {
			if err := n.set("net.ipv4.tcp_keepalive_time", "60"); err != nil {
				return nil, err
			}
		}
		srv, err := serve(22, byte(i+1), 0)
		if err != nil {
			return nil, err
		}
		defer srv.Close()
		release, err := v.open(ctx, srv.addr)
		if release != nil {
			defer release()
		}
		if err != nil {
			return nil, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
		seen, err := clientSockets(ctx, srv.addr, sockets.Established)
		if err != nil {
			return nil, err
		}
		row := Variant{Name: names[i], Measured: map[string]any{"seconds": "none"}, Expected: map[string]any{"seconds": fmt.Sprintf("≤ %v", v.seconds)}}
		if len(seen) == 1 && seen[0].Timer > 0 {
			seconds := float64(int(seen[0].Timer.Seconds() + 0.9)) // it runs since a moment
			row.Measured["seconds"] = seconds
			row.OK = seconds <= v.seconds && seconds > v.seconds-5
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func bufferNames() [2]string {
	return [...]string{"net.Conn, the peer reads nothing, buffers up to 64 KiB", "net.Conn, the peer reads nothing, buffers up to 4 MiB"}
}

// bufferRows writes to a peer that reads nothing until no more is taken.
func bufferRows(_ context.Context, n *network, _ Scale) ([]Variant, error) {
	var rows []Variant
	for i, largest := range []int{64 << 10, 4 << 20} {
		for _, name := range []string{"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"} {
			if err := n.set(name, fmt.Sprintf("4096 16384 %d", largest)); err != nil {
				return nil, err
			}
		}
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		c, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		defer c.Close()
		held, b := 0, make([]byte, 16<<10)
		for err == nil { // what is not taken for half a second will not be
			var wrote int
			c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			wrote, err = c.Write(b)
			held += wrote
		}
		row := Variant{Name: bufferNames()[i], Measured: map[string]any{"held_kib": held >> 10}, Expected: map[string]any{"held_kib": fmt.Sprintf("≤ %d", 2*largest>>10)}}
		row.OK = held <= 2*largest
		if i > 0 {
			row.Expected["held_kib"] = "> 1024"
			row.OK = held > 1<<20
		}
		rows = append(rows, row)
	}
	return rows, nil
}
