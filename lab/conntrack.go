package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/berth-go/berth"
)

// conntrackExperiment fills the table in which netfilter remembers connections.
func conntrackExperiment() Experiment {
	return Experiment{
		Name:    "conntrack",
		Source:  "“nf_conntrack: table full, dropping packet”, and what is said to help",
		Summary: "connections through a conntrack table that is full, in a network namespace of its own",
		run:     runConntrack,
	}
}

const (
	trackedMost     = 1 << 19 // entries that the experiment fills at most; 300 bytes each
	trackedRequests = 10
)

// trackedTime is a request's.
func trackedTime(scale Scale) time.Duration {
	if scale == Quick {
		return 600 * time.Millisecond
	}
	return 1200 * time.Millisecond
}

func runConntrack(ctx context.Context, s *session) error {
	s.result.Note = fmt.Sprintf("nf_conntrack_max is the host's and not changed: a namespace's table is filled up to it with connections that were never made. "+
		"A request has %v. “dropped” counts packets, “made_room” entries that were evicted", trackedTime(s.scale))
	return s.isolate(ctx)
}

const (
	fullBerth    = "berth, reuses, table full"
	fullOne      = "net/http, a connection a request, table full"
	fullRetried  = "net/http, a connection a request, table full, retried at once"
	fullPorts    = "net/http, a connection a request, table full, twice the ports, more descriptors"
	fullExempt   = "net/http, a connection a request, table full, NOTRACK"
	fullTimeWait = "net/http, a connection a request, table full of TIME_WAIT"
	keptDefault  = "net/http, a connection a request, time_wait 120"
	keptShort    = "net/http, a connection a request, time_wait 30"
)

func conntrackParts() []isolated {
	full := []string{"requests", "failed", "p99_ms", "dropped", "made_room"}
	var rows []rowKeys
	for _, name := range []string{fullBerth, fullOne, fullRetried, fullPorts, fullExempt} {
		rows = append(rows, rowKeys{name, full})
	}
	kept := []string{"requests", "entries", "seconds"}
	return []isolated{
		{rows: rows, run: fullRows},
		{rows: []rowKeys{{fullTimeWait, full}}, run: fullTimeWaitRow},
		{rows: []rowKeys{{keptDefault, kept}, {keptShort, kept}}, run: keptRows},
	}
}

// fullTable is a server behind a table that takes no more entries.
type fullTable struct {
	*network
	srv  *server
	time time.Duration // of a request
}

// newFullTable tracks, has before done, and fills the table with connections in a state.
func newFullTable(n *network, scale Scale, state byte, before func(url string) error) (*fullTable, error) {
	if err := n.track(); err != nil {
		return nil, err
	}
	srv, err := serve(24, 1, 0)
	if err != nil {
		return nil, err
	}
	if err := before(srv.url()); err != nil {
		srv.Close()
		return nil, err
	}
	if err := n.fill(state); err != nil {
		srv.Close()
		return nil, err
	}
	return &fullTable{n, srv, trackedTime(scale)}, nil
}

// row sends requests at once; each has some tries within its time. A nil rt is net/http
// with a connection a request.
func (f *fullTable) row(ctx context.Context, name string, rt http.RoundTripper, tries int, fails bool) (Variant, error) {
	each := f.time / time.Duration(tries)
	if rt == nil { // whose dials outlive their requests, unless they are bounded
		rt = &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: each}).DialContext}
	}
	dropped, early, err := f.trackDrops()
	if err != nil {
		return Variant{}, err
	}
	all := make([]sample, trackedRequests)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			begun := time.Now()
			var err error
			for range tries {
				limited, cancel := context.WithTimeout(ctx, each)
				err = get(limited, rt, f.srv.url())
				cancel()
				if err == nil {
					break
				}
			}
			all[i] = sample{begun.Sub(start), time.Since(begun), err}
		})
	}
	wg.Wait()
	droppedNow, earlyNow, err := f.trackDrops()
	if err != nil {
		return Variant{}, err
	}
	v := Variant{Name: name, Measured: map[string]any{"requests": len(all), "failed": failures(all), "p99_ms": ms(quantile(durations(all), 0.99)),
		"dropped": droppedNow - dropped, "made_room": earlyNow - early},
		Expected: map[string]any{"failed": 0}, OK: failures(all) == 0, Series: []Series{latencies(durations(all))}}
	if fails {
		v.Expected["failed"] = len(all)
		v.OK = failures(all) == len(all)
	}
	for _, r := range all {
		if r.err != nil {
			v.Measured["error"] = r.err.Error()
			break
		}
	}
	return scrub(v, f.srv), nil
}

// fullRows has a table that is full of established connections.
func fullRows(ctx context.Context, n *network, scale Scale) ([]Variant, error) {
	ours, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 1}, Proxy: berth.NoProxy})
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	f, err := newFullTable(n, scale, trackedEstablished, func(url string) error { return get(ctx, ours, url) })
	if err != nil {
		return nil, err
	}
	defer f.srv.Close()
	var rows []Variant
	add := func(name string, rt http.RoundTripper, tries int, fails bool) func() error {
		return func() error {
			v, err := f.row(ctx, name, rt, tries, fails)
			rows = append(rows, v)
			return err
		}
	}
	for _, step := range []func() error{
		add(fullBerth, ours, 1, false),
		add(fullOne, nil, 1, true),
		add(fullRetried, nil, 4, true),
		func() error { return n.set("net.ipv4.ip_local_port_range", "1024 65535") },
		n.moreFiles,
		add(fullPorts, nil, 1, true),
		n.exempt,
		add(fullExempt, nil, 1, false),
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// fullTimeWaitRow has one that is full of such as were closed.
func fullTimeWaitRow(ctx context.Context, n *network, scale Scale) ([]Variant, error) {
	f, err := newFullTable(n, scale, trackedTimeWait, func(string) error { return nil })
	if err != nil {
		return nil, err
	}
	defer f.srv.Close()
	v, err := f.row(ctx, fullTimeWait, nil, 1, false)
	// The kernel sweeps such entries out when it next comes by, maybe within the time.
	dropped, _ := v.Measured["dropped"].(int64)
	v.Expected, v.OK = map[string]any{"dropped": "> 0"}, dropped > 0
	return []Variant{v}, err
}

// keptRows looks at how long connections that are over stay in the table.
func keptRows(ctx context.Context, n *network, _ Scale) ([]Variant, error) {
	if err := n.track(); err != nil {
		return nil, err
	}
	theirs := &http.Transport{DisableKeepAlives: true}
	var rows []Variant
	for i, v := range []struct {
		name    string
		seconds int
	}{{keptDefault, 120}, {keptShort, 30}} {
		if err := n.set("net.netfilter.nf_conntrack_tcp_timeout_time_wait", fmt.Sprint(v.seconds)); err != nil {
			return nil, err
		}
		srv, err := serve(24, byte(i+2), 0)
		if err != nil {
			return nil, err
		}
		defer srv.Close()
		for range trackedRequests {
			if err := get(ctx, theirs, srv.url()); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
		entries, longest, err := n.tracked("TIME_WAIT")
		if err != nil {
			return nil, err
		}
		rows = append(rows, Variant{Name: v.name, Measured: map[string]any{"requests": trackedRequests, "entries": entries, "seconds": longest},
			Expected: map[string]any{"entries": trackedRequests, "seconds": fmt.Sprintf("≤ %d", v.seconds)},
			OK:       entries == trackedRequests && longest <= v.seconds && longest > v.seconds-5})
		if err := n.forget(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
