package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// backlogExperiment has a burst meet a server that stands still for a moment.
func backlogExperiment() Experiment {
	return Experiment{
		Name:    "backlog",
		Source:  "listen(2): the queue holds the smaller of backlog and somaxconn; a SYN that finds it full is dropped",
		Summary: "forty requests at once to a server that accepts nothing for half a second, with queues of 4 and 512",
		run:     runBacklog,
	}
}

const (
	backlogBurst = 40
	backlogStill = 500 * time.Millisecond // the server accepts nothing for so long
	backlogTime  = 3 * time.Second        // of a request
	backlogSmall = 4
	backlogLarge = 512
)

func runBacklog(ctx context.Context, s *session) error {
	s.result.Note = fmt.Sprintf("the server accepts nothing for %v, and then whatever comes; a request has %v. “over_1s” counts the requests that took longer than a second, "+
		"“dropped” is ListenDrops of the server's namespace", backlogStill, backlogTime)
	return s.isolate(ctx)
}

// backlogTry is a burst to a server with a queue.
type backlogTry struct {
	name      string
	backlog   int
	somaxconn string
	policy    *berth.Policy // nil is net/http
	reuse     bool          // net/http keeps its connections
	halfOpen  bool          // the queue is full of connections whose clients are silent
	cookies   string
	slow      bool // some requests take longer than a second
}

func backlogTries() []backlogTry {
	return []backlogTry{
		{name: "berth, backlog 4", backlog: backlogSmall, somaxconn: "4096", policy: &berth.Policy{}},
		{name: "berth, backlog 4, MaxDials 4", backlog: backlogSmall, somaxconn: "4096", policy: &berth.Policy{MaxDials: backlogSmall}},
		{name: "net/http, backlog 4", backlog: backlogSmall, somaxconn: "4096", reuse: true},
		{name: "net/http, a connection a request, backlog 4", backlog: backlogSmall, somaxconn: "128", slow: true},
		{name: "net/http, a connection a request, backlog 4, somaxconn 4096", backlog: backlogSmall, somaxconn: "4096", slow: true},
		{name: "net/http, a connection a request, backlog 512, somaxconn 4", backlog: backlogLarge, somaxconn: "4", slow: true},
		{name: "net/http, a connection a request, backlog 512, somaxconn 4096", backlog: backlogLarge, somaxconn: "4096"},
		{name: "net/http, a connection a request, half-open queue full, SYN cookies on", backlog: backlogSmall, somaxconn: "4096", halfOpen: true, cookies: "1"},
		{name: "net/http, a connection a request, half-open queue full, SYN cookies off", backlog: backlogSmall, somaxconn: "4096", halfOpen: true, cookies: "0", slow: true},
	}
}

func backlogParts() []isolated {
	var parts []isolated
	for i, t := range backlogTries() {
		parts = append(parts, isolated{
			rows: []rowKeys{{t.name, []string{"requests", "failed", "over_1s", "p99_ms", "dials", "dropped"}}},
			run: func(ctx context.Context, n *network, _ Scale) ([]Variant, error) {
				v, err := backlogTries()[i].row(ctx, n)
				return []Variant{v}, err
			},
		})
	}
	return parts
}

// lateListener accepts nothing before its time.
type lateListener struct {
	net.Listener
	from time.Time
}

func (l *lateListener) Accept() (net.Conn, error) {
	time.Sleep(time.Until(l.from))
	return l.Listener.Accept()
}

func (t backlogTry) row(ctx context.Context, n *network) (Variant, error) {
	cookies := t.cookies
	if cookies == "" {
		cookies = "1"
	}
	for name, value := range map[string]string{"net.core.somaxconn": t.somaxconn, "net.ipv4.tcp_syncookies": cookies} {
		if err := n.set(name, value); err != nil {
			return Variant{}, err
		}
	}
	ln, err := listenWithBacklog(t.backlog, t.halfOpen)
	if err != nil {
		return Variant{}, err
	}
	addr := addrOf(ln)
	if t.halfOpen {
		for range t.backlog + 1 {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				return Variant{}, err
			}
			defer c.Close()
		}
	} else {
		ln = &lateListener{ln, time.Now().Add(backlogStill)}
	}
	srv := &server{origin.Fast(ln, answer, 0), addr}
	defer srv.Close()
	before, err := n.counters()
	if err != nil {
		return Variant{}, err
	}
	transport := &http.Transport{DisableKeepAlives: !t.reuse}
	defer transport.CloseIdleConnections()
	var rt http.RoundTripper = transport
	if t.policy != nil {
		tr, err := berth.New(berth.Config{Policy: *t.policy, Proxy: berth.NoProxy})
		if err != nil {
			return Variant{}, err
		}
		defer tr.Close()
		rt = tr
	}
	burst := backlogBurst
	if t.halfOpen { // no more than the other queue takes, of whole connections
		burst = backlogSmall
	}
	all := make([]sample, burst)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			limited, cancel := context.WithTimeout(ctx, backlogTime)
			defer cancel()
			begun := time.Now()
			err := get(limited, rt, srv.url())
			all[i] = sample{begun.Sub(start), time.Since(begun), err}
		})
	}
	wg.Wait()
	after, err := n.counters()
	if err != nil {
		return Variant{}, err
	}
	over := 0
	for _, r := range all {
		if r.took > time.Second {
			over++
		}
	}
	row := Variant{Name: t.name, Measured: map[string]any{
		"requests": len(all), "failed": failures(all), "over_1s": over, "p99_ms": ms(quantile(durations(all), 0.99)),
		"dials":   after["Tcp.ActiveOpens"] - before["Tcp.ActiveOpens"],
		"dropped": after["TcpExt.ListenDrops"] - before["TcpExt.ListenDrops"],
	}, Expected: map[string]any{"over_1s": 0}, OK: over == 0 && failures(all) == 0, Series: []Series{latencies(durations(all))}}
	if t.slow {
		row.Expected["over_1s"] = "> 0"
		row.OK = over > 0
	}
	for _, r := range all {
		if r.err != nil {
			row.Measured["error"] = r.err.Error()
			break
		}
	}
	return scrub(row, srv), nil
}
