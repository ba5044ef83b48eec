package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
	"github.com/berth-go/berth/sockets"
)

// unreadBodyExperiment shows what a body that is closed without being read costs.
func unreadBodyExperiment() Experiment {
	return Experiment{
		Name:    "unread-body",
		Source:  "the unread response body that burns its connection",
		Summary: "connections opened when response bodies are closed unread",
		run:     runUnreadBody,
	}
}

// drainBytes is how much of an unread body berth reads away by default.
const drainBytes = 256 << 10

func runUnreadBody(ctx context.Context, s *session) error {
	requests := 1000
	if s.scale == Quick {
		requests = 300
	}
	const workers = 8
	s.result.Note = "a connection that is closed with bytes unread is reset: it leaves no TIME_WAIT, and opens anew all the same"
	variant := byte(0)
	for _, size := range []int{128, 100 << 10, 1 << 20} {
		for _, c := range []struct {
			name string
			read bool
			make func() http.RoundTripper
		}{
			{"berth", false, newBerth},
			{"net/http", false, newTuned(workers)},
			{"net/http, read to the end", true, newTuned(workers)},
		} {
			variant++
			name := fmt.Sprintf("%s, %s", c.name, bytesText(size))
			s.progress("%s, %d requests", name, requests)
			row, err := measureDials(ctx, 4, variant, c.make(), load{requests: requests, workers: workers, body: size, read: c.read})
			if err != nil {
				return err
			}
			row.Name = name
			row.expect(workers)
			if c.name == "berth" && size > drainBytes {
				// More than is worth reading away: the connection is given up.
				row.Expected["connections"], row.OK = requests, row.dials == requests
			}
			s.add(row.Variant)
		}
	}
	return nil
}

func newBerth() http.RoundTripper { return &berth.Transport{} }

// newTuned is net/http as its users learn to set it.
func newTuned(idle int) func() http.RoundTripper {
	return func() http.RoundTripper { return &http.Transport{MaxIdleConnsPerHost: idle} }
}

func bytesText(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// load is what workers do against a server.
type load struct {
	requests, workers int
	body              int // bytes of each response
	read              bool
}

// dialsRow is a row about connections that were opened.
type dialsRow struct {
	Variant
	dials int
}

// expect sets the most connections that may have been opened.
func (r *dialsRow) expect(most int) {
	r.Expected = map[string]any{"connections": fmt.Sprintf("≤ %d", most)}
	r.OK = r.dials <= most
}

// measureDials runs a load against a server of its own and counts the connections
// that the server accepted, and those that the kernel still remembers.
func measureDials(ctx context.Context, experiment, variant byte, rt http.RoundTripper, l load) (dialsRow, error) {
	srv, err := serveBytes(experiment, variant, responseOf(l.body))
	if err != nil {
		return dialsRow{}, err
	}
	defer srv.Close()
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		defer c.CloseIdleConnections()
	}
	var (
		left atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex // of opened
		errs = make([]error, l.workers)
	)
	left.Store(int64(l.requests))
	opened := Series{Name: "connections opened", Unit: "requests"}
	count := func(begun int) {
		mu.Lock()
		defer mu.Unlock()
		opened.Points = append(opened.Points, [2]float64{float64(begun), float64(srv.Stats().Accepted)})
	}
	every := max(l.requests/40, 1)
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				n := int(left.Add(-1))
				if n < 0 {
					break
				}
				if n%every == 0 {
					count(l.requests - n - 1)
				}
				errs[i] = fetch(ctx, rt, srv.url(), l.read)
			}
		})
	}
	wg.Wait()
	count(l.requests)
	slices.SortFunc(opened.Points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
	if ctx.Err() != nil {
		return dialsRow{}, errInterrupted
	}
	for _, err := range errs {
		if err != nil {
			return dialsRow{}, err
		}
	}
	r := dialsRow{dials: srv.Stats().Accepted}
	r.Series = []Series{opened}
	r.Measured = map[string]any{"connections": r.dials, "time_wait": NotObserved, "requests": l.requests}
	if seen, err := clientSockets(ctx, srv.addr, sockets.TimeWait); err == nil {
		r.Measured["time_wait"] = len(seen)
	} else if !unsupported(err) {
		return r, err
	}
	return r, nil
}

// fetch sends one request; its body is read, or closed unread.
func fetch(ctx context.Context, rt http.RoundTripper, url string, read bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if read {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return err
}

func responseOf(body int) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", body, strings.Repeat("x", body))
}

// serveBytes starts a server that answers everything with the same bytes.
func serveBytes(experiment, variant byte, response []byte) (*server, error) {
	ln, err := listen(experiment, variant)
	if err != nil {
		return nil, err
	}
	return &server{origin.Fast(ln, response, 0), addrOf(ln)}, nil
}
