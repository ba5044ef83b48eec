package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/sockets"
)

// clientPerRequestExperiment tries what seeds 000 and 004 warn of: a client for
// each request, thrown away or disposed of, beside a shared one; and the advice
// that seed 000 calls dead ends. In a second part the same has a hundred ports.
func clientPerRequestExperiment() Experiment {
	return Experiment{
		Name:    "client-per-request",
		Source:  "seeds 000 and 004: a client a request, and what is said to help",
		Summary: "sockets, ports and goroutines of a client a request, then with a hundred ports",
		run:     runClientPerRequest,
	}
}

// scarcePorts is how many ports the second part has.
const scarcePorts = 100

// usage is a way to make clients: next returns what sends the next request, and
// what is done with it afterwards; end is called once.
type usage struct {
	name string
	make func(dial dialFunc) (next func() (http.RoundTripper, func()), end func())
	// What is to be seen after n requests. shared means one port for all.
	shared, disposed bool
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

func nothing() {}

func usages() []usage {
	newNetHTTP := func(dial dialFunc, perHost int) *http.Transport {
		return &http.Transport{DialContext: dial, MaxConnsPerHost: perHost, MaxIdleConnsPerHost: perHost}
	}
	newBerth := func(dial dialFunc) *berth.Transport {
		tr, err := berth.New(berth.Config{DialContext: dial})
		if err != nil {
			panic(err) // a dialer alone cannot be wrong
		}
		return tr
	}
	each := func(make func(dialFunc) (http.RoundTripper, func())) func(dialFunc) (func() (http.RoundTripper, func()), func()) {
		return func(dial dialFunc) (func() (http.RoundTripper, func()), func()) {
			return func() (http.RoundTripper, func()) { return make(dial) }, nothing
		}
	}
	one := func(make func(dialFunc) (http.RoundTripper, func())) func(dialFunc) (func() (http.RoundTripper, func()), func()) {
		return func(dial dialFunc) (func() (http.RoundTripper, func()), func()) {
			rt, end := make(dial)
			return func() (http.RoundTripper, func()) { return rt, nothing }, end
		}
	}
	return []usage{
		{name: "berth shared", shared: true, make: one(func(d dialFunc) (http.RoundTripper, func()) {
			tr := newBerth(d)
			return tr, func() { tr.Close() }
		})},
		{name: "berth a request, closed", disposed: true, make: each(func(d dialFunc) (http.RoundTripper, func()) {
			tr := newBerth(d)
			return tr, func() { tr.Close() }
		})},
		{name: "net/http shared", shared: true, make: one(func(d dialFunc) (http.RoundTripper, func()) {
			tr := newNetHTTP(d, 0)
			return tr, tr.CloseIdleConnections
		})},
		{name: "net/http a request, not disposed", make: each(func(d dialFunc) (http.RoundTripper, func()) {
			return newNetHTTP(d, 0), nothing
		})},
		{name: "dead end: a using block (disposed)", disposed: true, make: each(func(d dialFunc) (http.RoundTripper, func()) {
			tr := newNetHTTP(d, 0)
			return tr, tr.CloseIdleConnections
		})},
		{name: "dead end: connection limit 1,000 a client", make: each(func(d dialFunc) (http.RoundTripper, func()) {
			return newNetHTTP(d, 1000), nothing
		})},
		{name: "dead end: connection limit 1,000, disposed", disposed: true, make: each(func(d dialFunc) (http.RoundTripper, func()) {
			tr := newNetHTTP(d, 1000)
			return tr, tr.CloseIdleConnections
		})},
		{name: "http.Client a request over one transport", shared: true, make: func(d dialFunc) (func() (http.RoundTripper, func()), func()) {
			tr := newNetHTTP(d, 0)
			return func() (http.RoundTripper, func()) {
				c := &http.Client{Transport: tr} // costs nothing: it owns no connection
				return c.Transport, nothing
			}, tr.CloseIdleConnections
		}},
	}
}

func runClientPerRequest(ctx context.Context, s *session) error {
	requests := 1000
	if s.scale == Quick {
		requests = 200
	}
	all := usages()
	for i, u := range all {
		if err := s.freeRow(ctx, byte(i+1), u, requests); err != nil {
			return err
		}
	}
	lo, err := scarceRange()
	if err != nil {
		s.result.Note = fmt.Sprintf("a range of %d ports is not observed: %v", scarcePorts, err)
	} else {
		for i, u := range all {
			if err := s.scarceRow(ctx, byte(100+i), u, requests, lo); err != nil {
				return err
			}
		}
	}
	return s.refusedRow(ctx)
}

// freeRow sends requests one after the other and looks at what is left.
func (s *session) freeRow(ctx context.Context, variant byte, u usage, requests int) error {
	srv, err := serve(3, variant, 0)
	if err != nil {
		return err
	}
	defer srv.Close()
	before := quietGoroutines(ctx)
	var d net.Dialer
	next, end := u.make(d.DialContext)
	ended := false
	defer func() {
		if !ended {
			end()
		}
	}()
	counts := newCensus("requests")
	var kept []http.RoundTripper // a client that nobody disposes of is one that somebody holds
	for i := range requests {
		if i%50 == 0 {
			s.progress("%s, request %d of %d", u.name, i, requests)
		}
		if i%(requests/20) == 0 {
			counts.look(ctx, srv, float64(i))
		}
		rt, done := next()
		err := get(ctx, rt, srv.url())
		done()
		kept = append(kept, rt)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s, request %d: %w", u.name, i+1, err)
		}
	}
	expected := map[string]any{"ports": requests, "established": requests, "time_wait": 0}
	switch {
	case u.shared:
		expected["ports"], expected["established"] = 1, 1
	case u.disposed:
		expected["established"], expected["time_wait"] = 0, requests
	}
	row := Variant{Name: u.name, Expected: expected, OK: true,
		Measured: map[string]any{"ports": NotObserved, "established": NotObserved, "time_wait": NotObserved}}
	seen, err := settled(ctx, srv, u.disposed)
	row.Measured["goroutines"] = clientGoroutines() - before
	runtime.KeepAlive(kept)
	if unsupported(err) {
		row.Note = err.Error()
		s.add(row)
		return nil
	}
	if err != nil {
		return err
	}
	counts.look(ctx, srv, float64(requests))
	row.Series = counts.series()
	n := sockets.Count(seen)
	row.Measured["ports"], row.Measured["established"], row.Measured["time_wait"] = countPorts(seen), n[sockets.Established], n[sockets.TimeWait]
	for k, want := range expected {
		row.OK = row.OK && row.Measured[k] == want
	}
	s.add(row)
	for _, rt := range kept { // what was not disposed of is now: the experiment is over
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
	end()
	ended = true
	return nil
}

// settled returns the client's sockets; where all were closed, once the kernel has
// moved the last of them on.
func settled(ctx context.Context, srv *server, closed bool) ([]sockets.Socket, error) {
	for range 100 {
		seen, err := clientSockets(ctx, srv.addr)
		if err != nil || !closed || sockets.Count(seen)[sockets.TimeWait] == len(seen) {
			return seen, err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return clientSockets(ctx, srv.addr)
}

func countPorts(seen []sockets.Socket) int {
	ports := map[uint16]bool{}
	for _, s := range seen {
		ports[s.Local.Port()] = true
	}
	return len(ports)
}

// scarceRow does the same with a hundred ports, until a request fails.
func (s *session) scarceRow(ctx context.Context, variant byte, u usage, requests int, lo uint16) error {
	srv, err := serve(3, variant, 0)
	if err != nil {
		return err
	}
	defer srv.Close()
	d := net.Dialer{Control: portRange(lo, lo+scarcePorts-1)}
	next, end := u.make(d.DialContext)
	defer end()
	row := Variant{Name: fmt.Sprintf("%s, %d ports", u.name, scarcePorts),
		Measured: map[string]any{"failed_at": "none of " + fmt.Sprint(requests)},
		Expected: map[string]any{"failed_at": scarcePorts + 1}}
	if u.shared {
		row.Expected["failed_at"] = row.Measured["failed_at"]
	}
	var kept []http.RoundTripper
	defer func() {
		for _, rt := range kept {
			if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
				c.CloseIdleConnections()
			}
		}
	}()
	for i := range requests {
		rt, done := next()
		err := get(ctx, rt, srv.url())
		done()
		kept = append(kept, rt)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if errors.Is(err, errors.ErrUnsupported) {
			s.result.Note = join(s.result.Note, fmt.Sprintf("a range of %d ports is not observed: %v", scarcePorts, err))
			return nil
		}
		if err != nil {
			row.Measured["failed_at"] = i + 1
			row.Measured["error"] = strings.ReplaceAll(err.Error(), srv.addr.String(), "server")
			break
		}
	}
	row.OK = row.Measured["failed_at"] == row.Expected["failed_at"]
	s.add(row)
	return nil
}

// scarceRange returns the first of a hundred ports inside the system's own range;
// the kernel takes no others.
func scarceRange() (lo uint16, err error) {
	first, last, err := sockets.EphemeralPorts()
	if err != nil {
		return 0, err
	}
	if int(last)-int(first) < 3*scarcePorts {
		return 0, fmt.Errorf("the system's range of %d–%d is too small", first, last)
	}
	return last - 2*scarcePorts, nil
}

// refusedRow shows that the message which seed 000 is filed under is of something
// else: a connection that is refused found no listener, and a port was there.
func (s *session) refusedRow(ctx context.Context) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := ln.Addr().String()
	ln.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	err = get(ctx, tr, "http://"+addr+"/")
	if ctx.Err() != nil {
		return errInterrupted
	}
	e, refused := errors.AsType[*berth.DialError](err)
	row := Variant{Name: "berth, nobody listens (seed 000's own message)",
		Measured: map[string]any{"error": "none"}, Expected: map[string]any{"code": "BERTH1003"}}
	if err != nil {
		row.Measured["error"] = strings.ReplaceAll(err.Error(), addr, "server")
	}
	if refused {
		row.Measured["code"] = e.Code()
		row.OK = e.Code() == "BERTH1003"
	}
	row.Note = "the seed's “actively refused” means that nothing listens; exhaustion says “cannot assign requested address”"
	s.add(row)
	return nil
}

// quietGoroutines is clientGoroutines when those of clients that were closed a
// moment ago have ended.
func quietGoroutines(ctx context.Context) int {
	n := clientGoroutines()
	for still := 0; still < 5 && pause(ctx, 5*time.Millisecond) == nil; {
		if now := clientGoroutines(); now == n {
			still++
		} else {
			n, still = now, 0
		}
	}
	return n
}

// clientGoroutines counts the goroutines that HTTP clients keep.
func clientGoroutines() int {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	count := 0
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "net/http.(*persistConn)") || strings.Contains(g, "berth/internal/h1.") || strings.Contains(g, "berth/internal/pool.") {
			count++
		}
	}
	return count
}
