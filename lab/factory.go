package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/sockets"
)

// factoryExperiment compares the ways to come by a client that seeds 000 and 004 name, and
// changes the configuration while they are used.
func factoryExperiment() Experiment {
	return Experiment{
		Name:    "factory",
		Source:  "seeds 000 and 004: a client a request, a static one, a factory that replaces handlers",
		Summary: "five named clients to three servers: ports, lookups, TIME_WAIT, memory, and what a reload costs",
		run:     runFactory,
	}
}

const (
	factoryLives   = 4 // of the imitation's transports in a row
	factoryEvery   = 100 * time.Millisecond
	factoryLatency = 2 * time.Millisecond // of the servers under load
	factoryMany    = 400                  // clients that are weighed
	factoryTTL     = time.Minute
)

// factoryNames are the named clients: three of the five go to one server.
var factoryNames = []struct {
	name, host string
	server     int
}{{"orders", "shop.test", 0}, {"invoices", "shop.test", 0}, {"prices", "shop.test", 0}, {"stock", "stock.test", 1}, {"mail", "mail.test", 2}}

const factoryServers = 3

// factoryWay is a way to come by clients, and what is to be seen of it. requests is how
// many are sent.
type factoryWay struct {
	name    string
	make    func(f *fleet, requests int) (supply, error)
	expect  func(requests int) map[string]any
	reloads bool // its configuration can be changed
}

func runFactory(ctx context.Context, s *session) error {
	requests, length := 1000, 2*time.Second
	if s.scale == Quick {
		requests, length = 200, time.Second
	}
	s.result.Note = fmt.Sprintf("“A factory that rotates” imitates IHttpClientFactory: a transport a name, replaced after a quarter of the requests where that does it every two minutes, "+
		"and closed when nobody has a client over it. Names are looked up at a name server of the experiment, with a TTL of %v. "+
		"Memory is the heap's after a collection, without what a connection takes that is a socket alone", factoryTTL)
	ways := factoryWays()
	for i, w := range ways {
		if err := s.factoryRow(ctx, byte(i+1), w, requests, false); err != nil {
			return err
		}
	}
	for i, w := range []factoryWay{ways[0], ways[len(ways)-1]} { // TLS
		if err := s.factoryRow(ctx, byte(20+i), w, requests/5, true); err != nil {
			return err
		}
	}
	for i, w := range ways {
		if w.reloads {
			if err := s.reloadRow(ctx, byte(40+i), w, length); err != nil {
				return err
			}
		}
	}
	return s.weighRows(ctx)
}

func factoryWays() []factoryWay {
	each := func(n int) map[string]any { return map[string]any{"failed": 0, "ports": n, "lookups": n} }
	shared := func(int) map[string]any {
		return map[string]any{"failed": 0, "ports": factoryServers, "lookups": factoryServers, "time_wait": 0}
	}
	return []factoryWay{
		{name: "net/http, a client a request", make: func(f *fleet, _ int) (supply, error) { return &eachSupply{fleet: f}, nil }, expect: each},
		{name: "net/http, a client a request, closed", make: func(f *fleet, _ int) (supply, error) { return &eachSupply{fleet: f, closes: true}, nil }, expect: each},
		{name: "a factory that rotates", reloads: true, make: func(f *fleet, requests int) (supply, error) {
			return &rotatingSupply{fleet: f, life: requests / factoryLives, version: "1"}, nil
		}, expect: func(int) map[string]any {
			n := len(factoryNames) * factoryLives
			return map[string]any{"failed": 0, "ports": n, "lookups": n, "captured_sends": "1"}
		}},
		{name: "net/http, one static client", make: func(f *fleet, _ int) (supply, error) {
			t := f.transport()
			return &oneSupply{&http.Client{Transport: t}, t.CloseIdleConnections}, nil
		}, expect: shared},
		{name: "berth, one transport", make: func(f *fleet, _ int) (supply, error) {
			tr, err := f.berth()
			return &oneSupply{&http.Client{Transport: tr}, func() { tr.Close() }}, err
		}, expect: shared},
		{name: "berth, a registry of names", reloads: true, make: func(f *fleet, _ int) (supply, error) { return newRegistrySupply(f) }, expect: func(n int) map[string]any {
			e := shared(n)
			e["captured_sends"], e["connections_by_reload"] = "2", 0
			return e
		}},
	}
}

// versionSent sends a request and returns the version that it was made by.
func versionSent(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// factoryRow sends requests one after the other, by each name in turn, with a reload after
// half of them.
func (s *session) factoryRow(ctx context.Context, variant byte, w factoryWay, requests int, secure bool) error {
	f, err := newFleet(variant, 0, secure)
	if err != nil {
		return err
	}
	defer f.Close()
	row := Variant{Name: w.name, Expected: w.expect(requests), Measured: map[string]any{"requests": requests}}
	if secure {
		row.Name += ", TLS"
	}
	before := quietGoroutines(ctx)
	from, err := w.make(f, requests)
	if err != nil {
		return err
	}
	defer from.end()
	captured, done := from.client(0)
	defer done()
	failed := 0
	var wall time.Duration // of all requests
	counts := []Series{{Name: "ports", Unit: "requests"}, {Name: "time_wait", Unit: "requests"}}
	look := func(i int) {
		if seen, ports, err := f.sockets(ctx); err == nil {
			counts[0].Points = append(counts[0].Points, [2]float64{float64(i), float64(ports)})
			counts[1].Points = append(counts[1].Points, [2]float64{float64(i), float64(sockets.Count(seen)[sockets.TimeWait])})
		}
	}
	send := func(c *http.Client, i int) string {
		begun := time.Now()
		version, err := versionSent(ctx, c, f.url(i))
		wall += time.Since(begun)
		if err != nil {
			failed++
			if row.Measured["error"] == nil {
				row.Measured["error"] = err.Error()
			}
		}
		return version
	}
	opened := 0
	for i := range requests {
		if i%(requests/20) == 0 {
			s.progress("%s, request %d of %d", row.Name, i, requests)
			look(i)
		}
		if i == requests/2 && w.reloads {
			opened = f.accepted()
			if err := from.reload("2"); err != nil {
				return err
			}
			row.Marks = []Mark{{float64(i), "reload"}}
		}
		c, done := from.client(i % len(factoryNames))
		send(c, i%len(factoryNames))
		done()
		if ctx.Err() != nil {
			return errInterrupted
		}
		if i == requests/2+len(factoryNames)-1 { // each name has sent one since
			opened = f.accepted() - opened
		}
	}
	if w.reloads {
		row.Measured["captured_sends"] = send(captured, 0)
		if w.Berth() {
			row.Measured["connections_by_reload"] = opened
		}
	}
	row.Measured["failed"], row.Measured["lookups"], row.Measured["connections"] = failed, int(f.names.queries.Load()), f.accepted()
	if secure {
		row.Measured["wall_ms"] = ms(wall)
	}
	row.Measured["ports"], row.Measured["time_wait"], row.Measured["established"] = NotObserved, NotObserved, NotObserved
	row.Measured["goroutines"] = max(quietGoroutines(ctx)-before, 0)
	look(requests)
	seen, ports, err := f.sockets(ctx)
	switch {
	case unsupported(err):
		row.Note = err.Error()
	case err != nil:
		return err
	default:
		n := sockets.Count(seen)
		row.Measured["ports"], row.Measured["time_wait"], row.Measured["established"] = ports, n[sockets.TimeWait], n[sockets.Established]
		row.Series = counts
	}
	row.OK = row.meets()
	s.add(row)
	return nil
}

// Berth says that the way is one of ours.
func (w *factoryWay) Berth() bool { return (&Variant{Name: w.name}).Berth() }

// reloadRow changes the configuration again and again under load. Each worker has one name;
// of ours it keeps the client that it has got, of the imitation it asks for one each time.
func (s *session) reloadRow(ctx context.Context, variant byte, w factoryWay, length time.Duration) error {
	f, err := newFleet(variant, factoryLatency, false)
	if err != nil {
		return err
	}
	defer f.Close()
	from, err := w.make(f, 0)
	if err != nil {
		return err
	}
	defer from.end()
	row := Variant{Name: w.name + ", reloads under load", Measured: map[string]any{}, Expected: map[string]any{"failed": 0, "stale": 0}}
	s.progress("%s, %v", row.Name, length)
	loading, stop := context.WithTimeout(ctx, length)
	defer stop()
	var (
		wg                      sync.WaitGroup
		version                 atomic.Int64 // in force, at least
		requests, failed, stale atomic.Int64
		first                   = make([]error, len(factoryNames))
		opened                  = Series{Name: "connections opened", Unit: "s"}
	)
	version.Store(1)
	start := time.Now()
	for i := range factoryNames {
		wg.Go(func() {
			c, done := from.client(i)
			for loading.Err() == nil {
				asked := version.Load()
				if !w.Berth() {
					done()
					c, done = from.client(i)
				}
				got, err := versionSent(ctx, c, f.url(i)) // not by loading: what runs may end
				requests.Add(1)
				var sent int64
				if _, e := fmt.Sscan(got, &sent); err == nil && e == nil && sent < asked {
					stale.Add(1)
				}
				if err != nil {
					failed.Add(1)
					first[i] = err
				}
			}
			done()
		})
	}
	reloads := 0
	for pause(loading, factoryEvery) == nil {
		opened.Points = append(opened.Points, [2]float64{round3(time.Since(start).Seconds()), float64(f.accepted())})
		if err := from.reload(fmt.Sprint(version.Load() + 1)); err != nil {
			stop()
			wg.Wait()
			return err
		}
		version.Add(1)
		reloads++
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	opened.Points = append(opened.Points, [2]float64{round3(time.Since(start).Seconds()), float64(f.accepted())})
	row.Series = []Series{opened}
	row.Measured["requests"], row.Measured["failed"], row.Measured["stale"] = int(requests.Load()), int(failed.Load()), int(stale.Load())
	row.Measured["reloads"], row.Measured["connections"] = reloads, f.accepted()
	row.Measured["lookups"] = int(f.names.queries.Load())
	if err := errors.Join(first...); err != nil {
		row.Measured["error"] = first[slices.IndexFunc(first, func(e error) bool { return e != nil })].Error()
	}
	row.Expected["connections"] = "> " + fmt.Sprint(len(factoryNames))
	if w.Berth() {
		row.Expected["connections"] = "≤ " + fmt.Sprint(len(factoryNames))
		row.Expected["lookups"] = factoryServers
		row.Expected["reloads"] = "> 0"
	}
	row.OK = row.meets()
	s.add(row)
	return nil
}
