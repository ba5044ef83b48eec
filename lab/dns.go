package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// dnsExperiment tries what seed 002 says of a singleton that never sees DNS change.
func dnsExperiment() Experiment {
	return Experiment{
		Name:    "dns",
		Source:  "seed 002: a pooled connection keeps its address as long as it lives",
		Summary: "a name moves under load: who follows, how soon, and what fails",
		run:     runDNS,
	}
}

const (
	dnsTTL      = time.Second
	dnsLifetime = 2 * time.Second // of the variant that has nothing else
	dnsWorkers  = 8
)

func runDNS(ctx context.Context, s *session) error {
	length := 9 * time.Second
	if s.scale == Quick {
		length = 4500 * time.Millisecond
	}
	s.result.Note = fmt.Sprintf("TTL %v, from a name server of the experiment's own; the name moves after a third of %v", dnsTTL, length)
	over := func(policy berth.Policy) func(string) (http.RoundTripper, func()) {
		return func(nameserver string) (http.RoundTripper, func()) {
			tr, err := berth.New(berth.Config{Policy: policy, Resolve: berth.Nameservers(nameserver), Proxy: berth.NoProxy})
			if err != nil {
				panic(err) // constants
			}
			return tr, func() { tr.Close() }
		}
	}
	for i, v := range []struct {
		name    string
		make    func(nameserver string) (http.RoundTripper, func())
		follows time.Duration // all requests go to the new address so long after the move; 0 is never
	}{
		{"berth", over(berth.Policy{}), dnsTTL + time.Second},
		{"berth, a lifetime of 2 s alone", over(berth.Policy{DNSMaxTTL: -1, Lifetime: dnsLifetime}), dnsLifetime + time.Second},
		{"net/http", func(nameserver string) (http.RoundTripper, func()) {
			d := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, nameserver)
			}}}
			tr := &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: dnsWorkers}
			return tr, tr.CloseIdleConnections
		}, 0},
	} {
		s.progress("%s, %v", v.name, length)
		row, err := measureDNS(ctx, byte(2*i+1), v.make, length)
		if err != nil {
			return err
		}
		row.Name = v.name
		last := row.Measured["last_to_old_ms"].(float64)
		row.Expected = map[string]any{"failed": 0, "share_new_at_the_end": 0}
		row.OK = row.Measured["failed"] == 0 && row.Measured["share_new_at_the_end"] == 0.0
		if v.follows > 0 {
			row.Expected = map[string]any{"failed": 0}
			row.Expected["last_to_old_ms"] = fmt.Sprintf("≤ %v", ms(v.follows))
			row.OK = row.Measured["failed"] == 0 && last <= ms(v.follows)
		}
		s.add(row)
	}
	return nil
}

// serveTwo starts two servers on two addresses with one port.
func serveTwo(experiment, variant byte, latency time.Duration) (a, b *server, err error) {
	for range 10 {
		if a, err = serve(experiment, variant, latency); err != nil {
			return nil, nil, err
		}
		host := fmt.Sprintf("127.71.%d.%d", experiment, variant+1)
		ln, err2 := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(a.addr.Port())))
		if err2 == nil {
			return a, &server{origin.Fast(ln, answer, latency), addrOf(ln)}, nil
		}
		a.Close()
		err = fmt.Errorf("two addresses with one port: %w", err2)
	}
	return nil, nil, err
}

func measureDNS(ctx context.Context, variant byte, makeTransport func(string) (http.RoundTripper, func()), length time.Duration) (Variant, error) {
	a, b, err := serveTwo(11, variant, 2*time.Millisecond)
	if err != nil {
		return Variant{}, err
	}
	defer a.Close()
	defer b.Close()
	names, err := serveNames(dnsTTL, a.addr.Addr())
	if err != nil {
		return Variant{}, err
	}
	defer names.Close()
	rt, done := makeTransport(names.where())
	defer done()

	moveAt := length / 3
	moved := time.AfterFunc(moveAt, func() { names.move(b.addr.Addr()) })
	defer moved.Stop()
	share := Series{Name: "share of the new address", Unit: "s"}
	var lastOld time.Duration
	looked := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	go func() { // received from below
		defer close(looked)
		start := time.Now()
		oldBefore, newBefore := int64(0), int64(0)
		for pause(watching, 100*time.Millisecond) == nil {
			oldNow, newNow := int64(a.Stats().Requests), int64(b.Stats().Requests)
			at := time.Since(start)
			if n := oldNow - oldBefore + newNow - newBefore; n > 0 {
				share.Points = append(share.Points, [2]float64{round3(at.Seconds()), round3(float64(newNow-newBefore) / float64(n))})
			}
			if oldNow > oldBefore {
				lastOld = at
			}
			oldBefore, newBefore = oldNow, newNow
		}
	}()
	url := fmt.Sprintf("http://lab.test:%d/", a.addr.Port())
	all := closedLoop(ctx, func() http.RoundTripper { return rt }, url, dnsWorkers, length, time.Millisecond)
	stop()
	<-looked
	if ctx.Err() != nil {
		return Variant{}, errInterrupted
	}
	row := Variant{Series: []Series{share}, Marks: []Mark{{round3(moveAt.Seconds()), "the name moves"}}, Measured: map[string]any{"requests": len(all), "failed": failures(all), "queries": names.queries.Load(),
		"last_to_old_ms": ms(max(lastOld-moveAt, 0)), "share_new_at_the_end": 0.0}}
	if n := len(share.Points); n > 0 {
		row.Measured["share_new_at_the_end"] = share.Points[n-1][1]
	}
	for _, r := range all {
		if r.err != nil {
			row.Measured["error"] = r.err.Error()
			break
		}
	}
	return row, nil
}
