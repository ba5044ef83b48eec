package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
)

// silenceExperiment has connections end without a word: what finds it, and how soon.
func silenceExperiment() Experiment {
	return Experiment{
		Name:    "silence",
		Source:  "connections that something in between forgets, and hosts that answer no SYN",
		Summary: "connections die without a FIN, while in use or idle, and connects are not answered: what notices, and what does not",
		run:     runSilence,
	}
}

// A fiftieth of Berth's defaults for pings, and a five hundredth of the times that
// balancers keep a silent connection.
const (
	silencePing        = 600 * time.Millisecond
	silencePingTimeout = 300 * time.Millisecond
	silenceWorkers     = 4
	silenceTimeout     = 300 * time.Millisecond // of a request
	silenceUntil       = 400 * time.Millisecond // the connection lives so long
	silenceThink       = 50 * time.Millisecond  // after a request that succeeded
)

// rowMaker makes one row, on addresses that are variant's.
type rowMaker struct {
	name string
	make func(ctx context.Context, variant byte) (Variant, error)
}

// together makes the rows at once, since most of their time is waiting, and adds them in
// their order. On a busy machine a request may miss its time: a row is made up to three
// times until it holds.
func (s *session) together(ctx context.Context, makers []rowMaker) error {
	rows, errs := make([]Variant, len(makers)), make([]error, len(makers))
	var wg sync.WaitGroup
	for i, m := range makers {
		wg.Go(func() {
			for attempt := 1; attempt <= 3; attempt++ {
				rows[i], errs[i] = m.make(ctx, byte(i+1))
				rows[i].Name = m.name
				if errs[i] != nil || rows[i].OK || ctx.Err() != nil {
					if errs[i] == nil && attempt > 1 {
						rows[i].Note = join(rows[i].Note, fmt.Sprintf("noisy: it held at attempt %d", attempt))
					}
					return
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	for i, row := range rows {
		switch {
		case errs[i] == nil:
		case unsupported(errs[i]) || errors.Is(errs[i], errors.ErrUnsupported):
			row.OK = true
			row.Note = errs[i].Error()
			for k := range row.Expected {
				row.Measured[k] = NotObserved
			}
		default:
			return fmt.Errorf("%s: %w", row.Name, errs[i])
		}
		s.add(row)
	}
	return nil
}

// compared makes the rows at once, up to three times until judge has found that all of ours
// hold: they are compared with each other, and so have to meet the same machine.
func (s *session) compared(ctx context.Context, variant byte, makers []rowMaker, length time.Duration, judge func(rows []Variant, last bool)) error {
	const attempts = 3
	rows, errs := make([]Variant, len(makers)), make([]error, len(makers))
	for attempt := 1; ; attempt++ {
		s.progress("%s, and %d rows beside it, %v%s", makers[0].name, len(makers)-1, length, again(attempt))
		var wg sync.WaitGroup
		for i, m := range makers {
			wg.Go(func() { rows[i], errs[i] = m.make(ctx, variant+byte(i+1)) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return errInterrupted
		}
		for i, err := range errs {
			if err != nil {
				return fmt.Errorf("%s: %w", makers[i].name, err)
			}
			rows[i].Name = makers[i].name
		}
		judge(rows, attempt == attempts)
		if failed := func(v Variant) bool { return v.Berth() && !v.OK }; attempt == attempts || !slices.ContainsFunc(rows, failed) {
			for _, row := range rows {
				s.add(row)
			}
			return nil
		}
	}
}

func runSilence(ctx context.Context, s *session) error {
	length, pauses := 5*time.Second, 3
	if s.scale == Quick {
		length, pauses = 3200*time.Millisecond, 1
	}
	s.result.Note = fmt.Sprintf("“Dropped” segments are thrown away by the kernel before TCP sees them, and nothing acknowledges them; where a row says “acknowledged”, "+
		"TCP takes all bytes and nobody reads them. A request is given %v; pings ask after %v and wait %v, a fiftieth of Berth's defaults", silenceTimeout, silencePing, silencePingTimeout)
	s.progress("all rows at once, %v", max(length, time.Duration(pauses)*3*time.Second))
	var all []rowMaker
	all = append(all, deadRows(length)...)
	all = append(all, idleDropRows(pauses)...)
	all = append(all, idleResetRows(2*pauses)...)
	return s.together(ctx, append(all, connectRows(min(pauses, 2))...))
}

// silentClient makes a client; end closes it.
type silentClient func() (rt http.RoundTripper, end func(), err error)

// theirs is net/http, with what is changed of it.
func theirs(change func(*http.Transport, *net.Dialer)) silentClient {
	return func() (http.RoundTripper, func(), error) {
		var d net.Dialer
		t := &http.Transport{TLSClientConfig: clientTLS(), ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 100}
		if change != nil {
			change(t, &d)
		}
		if t.DialContext == nil {
			t.DialContext = d.DialContext
		}
		return t, t.CloseIdleConnections, nil
	}
}

// ours is Berth with a policy.
func ours(p berth.Policy) silentClient { return oursWith(berth.Config{Policy: p}) }

func oursWith(cfg berth.Config) silentClient {
	return func() (http.RoundTripper, func(), error) {
		cfg.TLS, cfg.Proxy = clientTLS(), berth.NoProxy
		tr, err := berth.New(cfg)
		if err != nil {
			return nil, nil, err
		}
		return tr, func() { tr.Close() }, nil
	}
}

// deadRow is a client whose connections die in use.
type deadRow struct {
	name     string
	client   silentClient
	http1    bool
	how      oblivion
	streams  int  // that the server allows on a connection
	sweep    bool // CloseIdleConnections after each error
	recovers bool
}

func deadRows(length time.Duration) (all []rowMaker) {
	pings := berth.Policy{PingInterval: silencePing, PingTimeout: silencePingTimeout}
	theirPings := func(t *http.Transport, _ *net.Dialer) {
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: silencePing, PingTimeout: silencePingTimeout}
	}
	giveUp := func(_ *http.Transport, d *net.Dialer) { d.Control = userTimeout(time.Second) }
	for _, r := range []deadRow{
		{name: "berth HTTP/2, dead, pings", client: ours(pings), recovers: true},
		{name: "berth HTTP/2, dead but acknowledged, pings", client: ours(pings), how: swallowed, recovers: true},
		{name: "net/http HTTP/2, dead", client: theirs(nil)},
		{name: "net/http HTTP/2, dead, 10 streams a connection", client: theirs(nil), streams: 10, recovers: true},
		{name: "net/http HTTP/2, dead, pings", client: theirs(theirPings), recovers: true},
		{name: "net/http HTTP/2, dead, TCP keep-alive each second", client: theirs(func(_ *http.Transport, d *net.Dialer) {
			d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}
		})},
		{name: "net/http HTTP/2, dead, IdleConnTimeout 0.3 s", client: theirs(func(t *http.Transport, _ *net.Dialer) { t.IdleConnTimeout = silenceTimeout })},
		{name: "net/http HTTP/2, dead, CloseIdleConnections after each error", client: theirs(nil), sweep: true},
		{name: "net/http HTTP/2, dead, TCP_USER_TIMEOUT 1 s", client: theirs(giveUp), recovers: true},
		{name: "net/http HTTP/2, dead but acknowledged, TCP_USER_TIMEOUT 1 s", client: theirs(giveUp), how: swallowed},
		{name: "berth HTTP/1.1, dead", client: ours(berth.Policy{}), http1: true, recovers: true},
		{name: "net/http HTTP/1.1, dead", client: theirs(nil), http1: true, recovers: true},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) { return r.measure(ctx, variant, length) }})
	}
	return all
}

// measure sends until the time is up; early on, every connection that is open dies.
func (r deadRow) measure(ctx context.Context, variant byte, length time.Duration) (Variant, error) {
	row := Variant{Measured: map[string]any{}, Expected: map[string]any{"succeeded_after": 0}}
	if r.recovers {
		row.Expected["succeeded_after"] = "> 0"
	}
	ln, err := listen(22, variant)
	if err != nil {
		return row, err
	}
	srv := serveBeyond(ln, r.how, 0, !r.http1, r.streams, nil)
	defer srv.Close()
	rt, end, err := r.client()
	if err != nil {
		return row, err
	}
	defer end()
	if err := fetchWithin(ctx, rt, srv.url(), 10*time.Second); err != nil { // TLS, on a busy machine
		return row, err
	}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []sample
	)
	start := time.Now()
	for i := range silenceWorkers {
		wg.Go(func() {
			if pause(ctx, time.Duration(i)*silenceTimeout/silenceWorkers) != nil {
				return
			}
			for ctx.Err() == nil && time.Since(start) < length {
				begun := time.Now()
				err := fetchWithin(ctx, rt, srv.url(), silenceTimeout)
				mu.Lock()
				all = append(all, sample{begun.Sub(start), time.Since(begun), err})
				mu.Unlock()
				switch {
				case err == nil:
					pause(ctx, silenceThink)
				case r.sweep:
					rt.(*http.Transport).CloseIdleConnections()
				}
			}
		})
	}
	pause(ctx, silenceUntil)
	dead := time.Since(start)
	srv.forget()
	wg.Wait()
	accepted, err := srv.counts()
	if err != nil {
		return row, err
	}
	failed, after, before := 0, 0, 0
	recovered := time.Duration(-1)
	row.Series = []Series{{Name: "failed", Unit: "s", Points: [][2]float64{{0, 0}}}}
	row.Marks = []Mark{{At: round3(dead.Seconds()), Text: "the connections die"}}
	for _, one := range all { // by their ends
		ended := one.at + one.took
		switch {
		case one.err != nil:
			failed++
			if one.at < dead-silenceTimeout {
				before++
			}
			if text := strings.ReplaceAll(one.err.Error(), srv.addr.String(), "server"); row.Measured["error"] == nil || !errors.Is(one.err, context.DeadlineExceeded) {
				row.Measured["error"] = text
			}
		case one.at >= dead:
			after++
			if recovered < 0 {
				recovered = ended - dead
			}
		}
		row.Series[0].Points = append(row.Series[0].Points, [2]float64{round3(ended.Seconds()), float64(failed)})
	}
	row.Measured["requests"], row.Measured["failed"], row.Measured["succeeded_after"] = len(all), failed, after
	row.Measured["connections"] = accepted
	if recovered >= 0 {
		row.Measured["recovered_ms"] = ms(recovered)
	}
	row.OK = before == 0 && (after > 0) == r.recovers
	return row, nil
}

// dropAfter is how long what is in between keeps a connection that is silent, and
// dropPause how long the client has nothing to send. Keep-alive probes come each second at
// the most.
const (
	dropAfter = 1500 * time.Millisecond
	dropPause = 2200 * time.Millisecond
)

// idleDropRows have a middlebox forget what is idle, and drop what comes then.
func idleDropRows(pauses int) (all []rowMaker) {
	const shorter = time.Second
	probes := func(c net.KeepAliveConfig) silentClient {
		return theirs(func(_ *http.Transport, d *net.Dialer) { d.KeepAliveConfig = c })
	}
	for _, r := range []struct {
		name   string
		client silentClient
		http2  bool
		fails  bool
	}{
		{"berth, dropped after 1.5 s, idle timeout 1 s", ours(berth.Policy{IdleTimeout: shorter}), false, false},
		{"berth, dropped after 1.5 s, which looks at the socket", ours(berth.Policy{}), false, true},
		{"berth HTTP/2, dropped after 1.5 s, pings each 0.5 s", ours(berth.Policy{PingInterval: dropAfter / 3}), true, false},
		{"net/http, dropped after 1.5 s", theirs(nil), false, true},
		{"net/http, dropped after 1.5 s, idle timeout 1 s", theirs(func(t *http.Transport, _ *net.Dialer) { t.IdleConnTimeout = shorter }), false, false},
		{"net/http, dropped after 1.5 s, TCP keep-alive each second", probes(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second}), false, false},
		{"net/http, dropped after 1.5 s, the system's TCP keep-alive", probes(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}), false, true},
		{"net/http HTTP/2, dropped after 1.5 s", theirs(nil), true, true},
		{"net/http HTTP/2, dropped after 1.5 s, pings each 0.5 s", theirs(func(t *http.Transport, _ *net.Dialer) {
			t.HTTP2 = &http.HTTP2Config{SendPingTimeout: dropAfter / 3, PingTimeout: 10 * time.Second}
		}), true, false},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) {
			row, err := idleDropRow(ctx, variant, r.client, r.http2, pauses)
			row.Expected = map[string]any{"first_failed": 0}
			if r.fails {
				row.Expected["first_failed"] = pauses
			}
			row.OK = row.Measured["first_failed"] == row.Expected["first_failed"]
			if !r.http2 && r.fails {
				row.Expected["second_failed"] = 0
				row.OK = row.OK && row.Measured["second_failed"] == 0
			}
			return row, err
		}})
	}
	return all
}

// idleDropRow sends two requests after each pause.
func idleDropRow(ctx context.Context, variant byte, client silentClient, http2 bool, pauses int) (Variant, error) {
	row := Variant{Measured: map[string]any{}}
	ln, err := listen(22, variant)
	if err != nil {
		return row, err
	}
	srv := serveBeyond(ln, dropped, dropAfter, http2, 0, nil)
	defer srv.Close()
	rt, end, err := client()
	if err != nil {
		return row, err
	}
	defer end()
	if err := fetchWithin(ctx, rt, srv.url(), 10*time.Second); err != nil {
		return row, err
	}
	first, second := 0, 0
	for range pauses {
		if pause(ctx, dropPause) != nil {
			return row, errInterrupted
		}
		if err := fetchWithin(ctx, rt, srv.url(), silenceTimeout); err != nil {
			first++
		}
		if err := fetchWithin(ctx, rt, srv.url(), silenceTimeout); err != nil {
			second++
		}
	}
	accepted, err := srv.counts()
	row.Measured["pauses"], row.Measured["first_failed"], row.Measured["second_failed"], row.Measured["connections"] = pauses, first, second, accepted
	return row, err
}

// resetAfter is how long a middlebox that resets keeps what is silent.
const (
	resetAfter = 300 * time.Millisecond
	resetPause = 600 * time.Millisecond
)

// idleResetRows have a middlebox answer by a reset what comes for a connection that it has
// forgotten; and a server that does the work and resets then.
func idleResetRows(pauses int) (all []rowMaker) {
	const shorter = 150 * time.Millisecond
	get, post := http.MethodGet, http.MethodPost
	for _, r := range []struct {
		name   string
		client silentClient
		method string
		key    string
		fails  bool
	}{
		{"berth GET, reset after a pause", ours(berth.Policy{}), get, "", false},
		{"berth POST, reset after a pause", ours(berth.Policy{}), post, "", true},
		{"berth POST with an Idempotency-Key, reset after a pause", ours(berth.Policy{}), post, "k", false},
		{"berth POST, reset after a pause, a shorter idle timeout", ours(berth.Policy{IdleTimeout: shorter}), post, "", false},
		{"net/http GET, reset after a pause", theirs(nil), get, "", false},
		{"net/http POST, reset after a pause", theirs(nil), post, "", true},
		{"net/http POST, reset after a pause, a shorter idle timeout", theirs(func(t *http.Transport, _ *net.Dialer) { t.IdleConnTimeout = shorter }), post, "", false},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) {
			row := Variant{Measured: map[string]any{}, Expected: map[string]any{"failed": 0}}
			ln, err := listen(22, variant)
			if err != nil {
				return row, err
			}
			srv := serveBeyond(ln, refused, resetAfter, false, 0, nil)
			defer srv.Close()
			rt, end, err := r.client()
			if err != nil {
				return row, err
			}
			defer end()
			failed := 0
			for i := range pauses + 1 {
				err := sendOne(ctx, rt, r.method, srv.url(), r.key)
				switch {
				case ctx.Err() != nil:
					return row, errInterrupted
				case err != nil:
					failed++
					row.Measured["error"] = strings.ReplaceAll(err.Error(), srv.addr.String(), "server")
				}
				if i < pauses {
					pause(ctx, resetPause)
				}
			}
			accepted, err := srv.counts()
			row.Measured["pauses"], row.Measured["failed"], row.Measured["connections"] = pauses, failed, accepted
			row.OK = failed == 0
			if r.fails {
				row.Expected["failed"] = "> 0"
				row.OK = failed > 0
			}
			return row, err
		}})
	}
	const asked = 12
	for _, r := range []struct {
		name   string
		client silentClient
		again  bool
	}{
		{"berth POST, reset after the work", ours(berth.Policy{}), false},
		{"net/http POST, reset after the work, everything sent again", theirs(nil), true},
	} {
		all = append(all, rowMaker{r.name, func(ctx context.Context, variant byte) (Variant, error) {
			return workTwiceRow(ctx, variant, r.client, asked, r.again)
		}})
	}
	return all
}

// sendOne sends a request whose server may not have it.
func sendOne(ctx context.Context, rt http.RoundTripper, method, url, key string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if method == http.MethodPost && err == nil {
		req, err = http.NewRequestWithContext(ctx, method, url, strings.NewReader("one order"))
	}
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// workTwiceRow counts how often a server works that resets every third connection after
// the work, before its answer.
func workTwiceRow(ctx context.Context, variant byte, client silentClient, asked int, again bool) (Variant, error) {
	row := Variant{Measured: map[string]any{"asked": asked}, Expected: map[string]any{"done": asked}}
	ln, err := listen(22, variant)
	if err != nil {
		return row, err
	}
	var mu sync.Mutex
	done := 0
	srv := serveBeyond(ln, refused, 0, false, 0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // what is unread would make every close a reset
		mu.Lock()
		done++
		third := done%3 == 0
		mu.Unlock()
		if c, _, err := http.NewResponseController(w).Hijack(); third && err == nil {
			c.(*passing).SetLinger(0)
			c.Close()
		} else if err == nil {
			c.Write([]byte(strings.Replace(string(answer), "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)))
			c.Close()
		}
	}))
	defer srv.Close()
	rt, end, err := client()
	if err != nil {
		return row, err
	}
	defer end()
	failed := 0
	for range asked {
		err := sendOne(ctx, rt, http.MethodPost, srv.url(), "")
		for tries := 1; again && err != nil && tries < 5 && ctx.Err() == nil; tries++ {
			err = sendOne(ctx, rt, http.MethodPost, srv.url(), "")
		}
		if err != nil {
			failed++
		}
	}
	if ctx.Err() != nil {
		return row, errInterrupted
	}
	mu.Lock()
	defer mu.Unlock()
	row.Measured["done"], row.Measured["failed"] = done, failed
	row.OK = done == asked && failed > 0
	row.Expected["failed"] = "> 0"
	if again {
		row.Expected = map[string]any{"done": fmt.Sprintf("> %d", asked), "failed": 0}
		row.OK = done > asked && failed == 0
	}
	return row, nil
}
