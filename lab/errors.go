package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// errorsExperiment makes requests fail before anything is sent, and looks at what is said
// of it and at what trying again costs.
func errorsExperiment() Experiment {
	return Experiment{
		Name:    "errors",
		Source:  "golang/go#34595: an error that does not say which phase failed; seed 001: requests that got no connection are retried",
		Summary: "bad settings, invalid requests, a closed transport, a starved pool and three timeouts: what the errors name, and what is done meanwhile",
		run:     runErrors,
	}
}

const (
	errorTimeout  = 60 * time.Millisecond // of a try or a phase; nothing that it is for ever comes
	errorLatency  = 250 * time.Millisecond
	errorCallers  = 10
	shutdownConns = 2
	shutdownCalls = 6
)

func runErrors(ctx context.Context, s *session) error {
	s.result.Note = fmt.Sprintf("“received” is what reached the server; a try, and a phase, is given %v. Retries are four tries", errorTimeout)
	variant := byte(0)
	for _, v := range []struct {
		name string
		run  func(context.Context, *server) (Variant, error)
		want map[string]any
	}{
		{"berth, a bad setting, started three times", oursMisconfigured, map[string]any{"starts": 3, "failed": 3, "error": "contains Policy.MaxIdle"}},
		{"berth, a bad setting while it runs", oursMisapplied, map[string]any{"applied": 0, "requests": 10, "failed": 0, "error": "contains Policy.MaxIdle"}},
		{"net/http, a bad setting, started three times", theirsMisconfigured, map[string]any{"starts": 3, "failed": 0}},

		{"berth, invalid requests", invalidRequests(true, 1), map[string]any{"requests": 4, "tries": 4, "failed": 4, "connections": 0, "values_told": 0}},
		{"berth, invalid requests, retried", invalidRequests(true, againTries), map[string]any{"requests": 4, "tries": 16, "failed": 4, "connections": 0}},
		{"net/http, invalid requests", invalidRequests(false, 1), map[string]any{"requests": 4, "failed": 4, "connections": 0}},

		{"berth, Shutdown", shutDown(func(ctx context.Context, tr *berth.Transport) { tr.Shutdown(ctx) }),
			map[string]any{"requests": shutdownCalls, "served": shutdownCalls, "later": "contains transport is closed"}},
		{"berth, Close", shutDown(func(_ context.Context, tr *berth.Transport) { tr.Close() }),
			map[string]any{"requests": shutdownCalls, "served": shutdownConns, "later": "contains transport is closed"}},
		{"net/http, CloseIdleConnections", theirsShutDown, map[string]any{"requests": shutdownCalls, "served": shutdownCalls, "later": "served"}},

		{"berth, starved, not retried", starvedCallers(true, func(err error) bool { return !errors.As(err, new(*berth.AcquireTimeoutError)) }),
			map[string]any{"callers": errorCallers, "tries": errorCallers, "failed": errorCallers, "received": 0, "oldest_lease": "contains GET /monthly-report"}},
		{"berth, starved, retried", starvedCallers(true, func(error) bool { return true }),
			map[string]any{"callers": errorCallers, "tries": errorCallers * againTries, "failed": errorCallers, "received": 0}},
		{"net/http, starved, retried", starvedCallers(false, func(error) bool { return true }),
			map[string]any{"callers": errorCallers, "tries": errorCallers * againTries, "failed": errorCallers, "received": 0}},

		{"berth, a limit for each phase", phases(true), map[string]any{"distinct": 3, "waiting": "contains BERTH1001", "dialling": "contains BERTH1003", "head": "contains BERTH1008"}},
		{"net/http, one timeout for all", phases(false), map[string]any{"distinct": "≤ 2"}},
	} {
		variant++
		s.progress("%s", v.name)
		ln, err := listen(43, variant)
		if err != nil {
			return err
		}
		srv := &server{origin.New(ln).Handle(halfReport), addrOf(ln)}
		row, err := v.run(ctx, srv)
		srv.Close()
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return err
		}
		row.Name, row.Expected = v.name, v.want
		row.OK = row.meets()
		s.add(row)
	}
	return nil
}

// reportPath is asked for by whoever holds a connection for ever.
const reportPath = "/monthly-report"

// halfReport answers after a while, and a report only half.
func halfReport(c *origin.Conn) {
	for {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		if r.URL.Path == reportPath {
			c.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")
			c.Stall()
			return
		}
		if !c.Sleep(errorLatency) || c.Write(string(answer)) != nil {
			return
		}
	}
}

// contradicting keeps more idle than there may be.
func contradicting() berth.Config {
	return berth.Config{Policy: berth.Policy{MaxConns: 2, MaxIdle: 5}, Proxy: berth.NoProxy}
}

func oursMisconfigured(context.Context, *server) (Variant, error) {
	failed := 0
	var last error
	for range 3 {
		tr, err := berth.New(contradicting())
		if err != nil {
			failed, last = failed+1, err
			continue
		}
		tr.Close()
	}
	return Variant{Measured: map[string]any{"starts": 3, "failed": failed, "error": fmt.Sprint(last)}}, nil
}

func oursMisapplied(ctx context.Context, srv *server) (Variant, error) {
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		return Variant{}, err
	}
	defer tr.Close()
	applied := 0
	_, wrong := tr.Apply(contradicting())
	if wrong == nil {
		applied++
	}
	all := burstOf(ctx, tr, srv.url(), srv, true, 10)
	return Variant{Measured: map[string]any{"applied": applied, "requests": len(all), "failed": failures(all), "max_conns": tr.Config().Policy.MaxConns,
		"connections": srv.Stats().Accepted, "error": fmt.Sprint(wrong)}}, nil
}

func theirsMisconfigured(ctx context.Context, srv *server) (Variant, error) {
	failed := 0
	for range 3 {
		t := &http.Transport{MaxConnsPerHost: 2, MaxIdleConnsPerHost: 5}
		if get(ctx, t, srv.url()) != nil {
			failed++
		}
		t.CloseIdleConnections()
	}
	return Variant{Measured: map[string]any{"starts": 3, "failed": failed}}, nil
}

// invalidRequests sends what cannot be sent.
func invalidRequests(ours bool, tries int) func(context.Context, *server) (Variant, error) {
	const value = "open sesame"
	return func(ctx context.Context, srv *server) (Variant, error) {
		rt, end, err := oursOr(ours, berth.Config{}, &http.Transport{})
		if err != nil {
			return Variant{}, err
		}
		defer end()
		var sent atomic.Int64
		wrapped := &retrying{roundTripFunc(func(req *http.Request) (*http.Response, error) {
			sent.Add(1)
			return rt.RoundTrip(req)
		}), func(error) bool { return tries > 1 }}
		row := Variant{Measured: map[string]any{}}
		failed, told, all := 0, 0, 0
		for name, spoil := range map[string]func(*http.Request){
			"scheme": func(r *http.Request) { r.URL.Scheme = "htp" },
			"method": func(r *http.Request) { r.Method = "G ET" },
			"header": func(r *http.Request) { r.Header.Set("X-Key", value+"\r\nX-More: 1") },
			"host":   func(r *http.Request) { r.URL.Host, r.Host = "", "" },
		} {
			all++
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.url(), nil)
			if err != nil {
				return row, err
			}
			spoil(req)
			resp, err := wrapped.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
				continue
			}
			failed++
			if strings.Contains(err.Error(), value) {
				told++
			}
			row.Measured[name] = anonymous(err.Error(), srv)
		}
		row.Measured["requests"], row.Measured["tries"], row.Measured["failed"] = all, int(sent.Load()), failed
		row.Measured["values_told"], row.Measured["connections"] = told, srv.Stats().Accepted
		return row, nil
	}
}

// oursOr makes one of the two clients.
func oursOr(ours bool, cfg berth.Config, theirs *http.Transport) (http.RoundTripper, func(), error) {
	if ours {
		return newOurs(cfg)
	}
	return theirs, theirs.CloseIdleConnections, nil
}

// callers sends one request each, all at once, and says when the first ones are at the
// server.
func callers(ctx context.Context, rt http.RoundTripper, srv *server, n, begun int) (wait func() (served int)) {
	var (
		wg sync.WaitGroup
		ok atomic.Int64
	)
	for range n {
		wg.Go(func() {
			if get(ctx, rt, srv.url()) == nil {
				ok.Add(1)
			}
		})
	}
	for i := 0; i < 1000 && srv.Stats().Requests < begun && pause(ctx, time.Millisecond) == nil; i++ {
	}
	return func() int {
		wg.Wait()
		return int(ok.Load())
	}
}

// shutDown ends a transport while two requests run and the others wait.
func shutDown(end func(context.Context, *berth.Transport)) func(context.Context, *server) (Variant, error) {
	return func(ctx context.Context, srv *server) (Variant, error) {
		tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: shutdownConns}, Proxy: berth.NoProxy})
		if err != nil {
			return Variant{}, err
		}
		defer tr.Close()
		wait := callers(ctx, tr, srv, shutdownCalls, shutdownConns)
		for i := 0; i < 100 && queued(tr) < shutdownCalls-shutdownConns && pause(ctx, time.Millisecond) == nil; i++ {
		}
		end(ctx, tr)
		return ended(ctx, tr, srv, wait()), nil
	}
}

// queued is how many requests wait in a transport.
func queued(tr *berth.Transport) (n int) {
	for _, e := range tr.Endpoints() {
		n += e.Stats().Waiting
	}
	return n
}

func theirsShutDown(ctx context.Context, srv *server) (Variant, error) {
	t := &http.Transport{MaxConnsPerHost: shutdownConns}
	defer t.CloseIdleConnections()
	wait := callers(ctx, t, srv, shutdownCalls, shutdownConns)
	t.CloseIdleConnections()
	return ended(ctx, t, srv, wait()), nil
}

// ended says what became of the requests, and of one that comes later.
func ended(ctx context.Context, rt http.RoundTripper, srv *server, served int) Variant {
	later := "served"
	if err := get(ctx, rt, srv.url()); err != nil {
		later = anonymous(err.Error(), srv)
	}
	return Variant{Measured: map[string]any{"requests": shutdownCalls, "served": served, "later": later}}
}

// hold keeps the only connection: its response does not end.
func hold(ctx context.Context, rt http.RoundTripper, srv *server) (release func(), err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+srv.addr.String()+reportPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return func() { resp.Body.Close() }, nil
}

// starvedCallers ask a pool of one connection, which somebody holds.
func starvedCallers(ours bool, retry func(error) bool) func(context.Context, *server) (Variant, error) {
	return func(ctx context.Context, srv *server) (Variant, error) {
		rt, end, err := oursOr(ours, berth.Config{Policy: berth.Policy{MaxConns: 1}}, &http.Transport{MaxConnsPerHost: 1})
		if err != nil {
			return Variant{}, err
		}
		defer end()
		release, err := hold(ctx, rt, srv)
		if err != nil {
			return Variant{}, err
		}
		defer release()
		var tries, failed atomic.Int64
		once := roundTripFunc(func(req *http.Request) (*http.Response, error) {
			tries.Add(1)
			ctx, cancel := context.WithTimeout(req.Context(), errorTimeout)
			defer cancel() // none is served
			return rt.RoundTrip(req.WithContext(ctx))
		})
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			said error
		)
		start := time.Now()
		for range errorCallers {
			wg.Go(func() {
				if err := get(ctx, &retrying{once, retry}, srv.url()); err != nil {
					failed.Add(1)
					mu.Lock()
					defer mu.Unlock()
					said = moreTelling(said, err)
				}
			})
		}
		wg.Wait()
		row := Variant{Measured: map[string]any{"callers": errorCallers, "tries": int(tries.Load()), "failed": int(failed.Load()),
			"received": srv.Stats().Requests - 1, "wall_ms": ms(time.Since(start))}}
		if said != nil {
			row.Measured["error"] = anonymous(said.Error(), srv)
			for line := range strings.Lines(said.Error()) {
				if lease, is := strings.CutPrefix(strings.TrimSpace(line), "oldest lease "); is {
					row.Measured["oldest_lease"] = lease
				}
			}
		}
		return row, nil
	}
}

// phases ends a request in each of three phases: the wait for a connection, the dial, the
// response's head.
func phases(ours bool) func(context.Context, *server) (Variant, error) {
	return func(ctx context.Context, srv *server) (Variant, error) {
		ln, err := listen(43, 100)
		if err != nil {
			return Variant{}, err
		}
		silent := &server{origin.New(ln).Handle((*origin.Conn).Stall), addrOf(ln)}
		defer silent.Close()
		never := func(ctx context.Context, _, _ string) (net.Conn, error) { // as a host behind a firewall
			<-ctx.Done()
			return nil, ctx.Err()
		}
		row := Variant{Measured: map[string]any{}}
		distinct := map[string]bool{}
		for _, p := range []struct {
			name   string
			policy berth.Policy
			dial   dialFunc
			srv    *server
			held   bool
		}{
			{"waiting", berth.Policy{MaxConns: 1, AcquireTimeout: errorTimeout}, nil, srv, true},
			{"dialling", berth.Policy{DialTimeout: errorTimeout}, never, srv, false},
			{"head", berth.Policy{ResponseHeaderTimeout: errorTimeout}, nil, silent, false},
		} {
			theirs := &http.Transport{MaxConnsPerHost: p.policy.MaxConns, DialContext: p.dial}
			rt, end, err := oursOr(ours, berth.Config{Policy: p.policy, DialContext: p.dial}, theirs)
			if err != nil {
				return row, err
			}
			defer end()
			if p.held {
				release, err := hold(ctx, rt, p.srv)
				if err != nil {
					return row, err
				}
				defer release()
			}
			client := http.Client{Transport: rt}
			if !ours {
				client.Timeout = errorTimeout
			}
			said := clientError(ctx, &client, p.srv)
			row.Measured[p.name] = said
			distinct[said] = true
		}
		row.Measured["distinct"] = len(distinct)
		return row, nil
	}
}

// clientError is the first line of what a client says, without the URL.
func clientError(ctx context.Context, c *http.Client, srv *server) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.url(), nil)
	if err != nil {
		return err.Error()
	}
	resp, err := c.Do(req)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return fmt.Sprint("no error, ", err)
	}
	if wrapped, is := errors.AsType[*url.Error](err); is {
		err = wrapped.Err
	}
	lines := strings.Split(anonymous(err.Error(), srv), "\n")
	var coded interface{ Code() string }
	if errors.As(err, &coded) && !strings.Contains(lines[0], coded.Code()) {
		lines[0] += " [" + coded.Code() + "]"
	}
	return lines[0]
}
