package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// The rows of silence whose connections do not come about: nobody answers the SYN, or TLS.

const (
	connectTimeout = 250 * time.Millisecond // of the dial alone
	connectRequest = 1500 * time.Millisecond
	connectCount   = 5 // requests at once
)

// connectRow is a client that connects to where nothing answers.
type connectRow struct {
	name   string
	client silentClient
	names  string // what the error must have; "" for nothing
	not    string // and what it must not have
	tls    bool   // the connection comes about, TLS is not answered
	within time.Duration
	count  int
}

// connectRows are those; with two addresses so many requests are sent in turn.
func connectRows(inTurn int) (all []rowMaker) {
	dial := func(d time.Duration) silentClient {
		return theirs(func(_ *http.Transport, dialer *net.Dialer) { dialer.Timeout = d })
	}
	limited := func(n int) silentClient {
		return theirs(func(t *http.Transport, _ *net.Dialer) { t.MaxConnsPerHost = n })
	}
	quick := berth.Policy{DialTimeout: connectTimeout, TLSTimeout: connectTimeout}
	for _, r := range []connectRow{
		{name: "berth, no answer to the SYN, dial timeout 0.25 s", client: ours(quick), names: "dial"},
		{name: "net/http, no answer to the SYN, dial timeout 0.25 s", client: dial(connectTimeout), names: "dial tcp"},
		{name: "net/http, no answer to the SYN, request timeout 1.5 s alone", client: theirs(nil), not: "dial tcp"},
		{name: "net/http, no answer to the SYN, a longer timeout of 3 s", client: dial(2 * connectRequest), names: "dial tcp", within: 3 * connectRequest},
		{name: "net/http, no answer to the SYN, 5 connections at most", client: limited(5), count: 50},
		{name: "net/http, no answer to the SYN, 50 connections at most", client: limited(50), count: 50},
		{name: "berth, no answer to TLS, TLS timeout 0.25 s", client: ours(quick), names: "TLS", tls: true, count: 1},
		{name: "net/http, no answer to TLS, TLS timeout 0.25 s", client: theirs(func(t *http.Transport, _ *net.Dialer) { t.TLSHandshakeTimeout = connectTimeout }), names: "TLS handshake timeout", tls: true, count: 1},
	} {
		if r.within == 0 {
			r.within = connectRequest
		}
		if r.count == 0 {
			r.count = connectCount
		}
		all = append(all, rowMaker{r.name, r.measure})
	}
	fixed := func(addrs ...netip.Addr) func(context.Context, string) ([]netip.Addr, time.Duration, error) {
		return func(context.Context, string) ([]netip.Addr, time.Duration, error) { return addrs, time.Minute, nil }
	}
	asking := func(timeout time.Duration) func(names *nameServer, _, _ netip.Addr) silentClient {
		return func(names *nameServer, _, _ netip.Addr) silentClient {
			return theirs(func(t *http.Transport, d *net.Dialer) {
				t.DisableKeepAlives = true
				d.Timeout = timeout
				d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, network, names.where())
				}}
			})
		}
	}
	for _, r := range []addressRow{
		{"berth, two addresses, the first is dead", func(_ *nameServer, dead, alive netip.Addr) silentClient {
			return oursWith(berth.Config{Resolve: fixed(dead, alive), Policy: berth.Policy{DisableKeepAlives: true}})
		}, false},
		{"net/http, two addresses, the first is dead, dial timeout 4 s", asking(4 * time.Second), false},
		{"net/http, two addresses, the first is dead, dial timeout 1 s", asking(time.Second), true},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) { return r.measure(ctx, variant, inTurn) }})
	}
	return all
}

func (r connectRow) measure(ctx context.Context, variant byte) (Variant, error) {
	row := Variant{Measured: map[string]any{}, Expected: map[string]any{"failed": r.count}}
	var url string
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 71, 22, variant}), 0)
	if r.tls {
		ln, err := listen(22, variant)
		if err != nil {
			return row, err
		}
		srv := serveBeyond(ln, swallowed, 0, false, 0, nil)
		defer srv.Close()
		srv.blind()
		addr, url = srv.addr, "https://"+srv.addr.String()+"/"
	} else {
		end, at, err := listenDeaf(addr)
		if err != nil {
			return row, err
		}
		defer end()
		addr, url = at, "http://"+at.String()+"/"
	}
	rt, end, err := r.client()
	if err != nil {
		return row, err
	}
	defer end()
	watching, stop := context.WithCancel(ctx)
	syn := Series{Name: "connects in flight", Unit: "s"}
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		for watching.Err() == nil {
			found, err := clientSockets(watching, addr, sockets.SynSent)
			if unsupported(err) {
				return
			}
			if err == nil {
				syn.Points = append(syn.Points, [2]float64{round3(time.Since(start).Seconds()), float64(len(found))})
			}
			pause(watching, 20*time.Millisecond)
		}
	})
	all := make([]sample, r.count)
	var requests sync.WaitGroup
	for i := range all {
		requests.Go(func() {
			begun := time.Now()
			err := fetchWithin(ctx, rt, url, r.within)
			all[i] = sample{begun.Sub(start), time.Since(begun), err}
		})
	}
	requests.Wait()
	stop()
	wg.Wait()
	if ctx.Err() != nil {
		return row, errInterrupted
	}
	failed, named := failures(all), 0
	for _, one := range all {
		if one.err != nil && (r.names == "" || strings.Contains(one.err.Error(), r.names)) && (r.not == "" || !strings.Contains(one.err.Error(), r.not)) {
			named++
		}
	}
	if failed > 0 {
		one := all[slices.IndexFunc(all, func(s sample) bool { return s.err != nil })]
		row.Measured["error"] = strings.ReplaceAll(one.err.Error(), addr.String(), "server")
	}
	row.Measured["requests"], row.Measured["failed"], row.Measured["slowest_ms"] = r.count, failed, ms(slices.Max(durations(all)))
	row.OK = failed == r.count && named == failed
	switch {
	case r.names != "":
		row.Expected["error"] = fmt.Sprintf("says %q", r.names)
	case r.not != "":
		row.Expected["error"] = fmt.Sprintf("does not say %q", r.not)
	}
	if !r.tls {
		row.Measured["syn_sent"] = highest(syn)
		if len(syn.Points) == 0 {
			row.Measured["syn_sent"] = NotObserved
		}
		row.Series = []Series{syn}
	}
	return row, nil
}

// addressRow is a client whose server has two addresses, of which the first answers no SYN.
type addressRow struct {
	name   string
	client func(names *nameServer, dead, alive netip.Addr) silentClient
	fails  bool
}

// measure sends count requests one after the other, each of which dials.
func (r addressRow) measure(ctx context.Context, variant byte, count int) (Variant, error) {
	row := Variant{Measured: map[string]any{}, Expected: map[string]any{"failed": 0}}
	if r.fails {
		row.Expected["failed"] = count
	}
	srv, err := serve(22, variant, 0)
	if err != nil {
		return row, err
	}
	defer srv.Close()
	deadAddr := netip.AddrFrom4([4]byte{127, 71, 22, variant + 100})
	unhold, _, err := listenDeaf(netip.AddrPortFrom(deadAddr, srv.addr.Port()))
	if err != nil {
		return row, err
	}
	defer unhold()
	names, err := serveNames(time.Minute, deadAddr, srv.addr.Addr())
	if err != nil {
		return row, err
	}
	defer names.Close()
	rt, end, err := r.client(names, deadAddr, srv.addr.Addr())()
	if err != nil {
		return row, err
	}
	defer end()
	url := fmt.Sprintf("http://two.lab.test:%d/", srv.addr.Port())
	var took []time.Duration
	failed := 0
	for range count {
		begun := time.Now()
		err := fetchWithin(ctx, rt, url, 10*time.Second)
		took = append(took, time.Since(begun))
		if ctx.Err() != nil {
			return row, errInterrupted
		}
		if err != nil {
			failed++
			row.Measured["error"] = strings.NewReplacer(srv.addr.String(), "server", deadAddr.String(), "dead address").Replace(err.Error())
		}
	}
	row.Measured["requests"], row.Measured["failed"] = count, failed
	row.Measured["slowest_ms"] = ms(slices.Max(took))
	row.OK = failed == row.Expected["failed"]
	return row, nil
}
