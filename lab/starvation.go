package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// starvationExperiment sends the twenty uploads of seed 001 through two connections, by a
// pipeline that retries, and then through more.
func starvationExperiment() Experiment {
	return Experiment{
		Name:    "starvation",
		Source:  "seed 001: twenty uploads, two connections, “A task was canceled” four times",
		Summary: "twenty uploads at once through 2, 4, 8 and 20 connections, each tried four times",
		run:     runStarvation,
	}
}

const (
	uploaders     = 20
	uploadBytes   = 64 << 10
	uploadLatency = 80 * time.Millisecond // of the server, after the last byte; no multiple of it is the timeout
	uploadTries   = 4
	uploadTimeout = 600 * time.Millisecond // of a try; the seed's is 100 s
)

func runStarvation(ctx context.Context, s *session) error {
	each := 5
	if s.scale == Quick {
		each = 2
	}
	s.result.Note = fmt.Sprintf("an upload takes the server %v, and a try is given %v, the wait for a connection included, where the seed's are given 100 s; "+
		"a wait that ended in a timeout counts as that long", uploadLatency, uploadTimeout)
	variant := byte(0)
	for _, conns := range []int{2, 4, 8, 20} {
		for _, ours := range []bool{true, false} {
			variant++
			name := fmt.Sprintf("net/http, %d connections", conns)
			var rt http.RoundTripper = &http.Transport{MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns}
			if ours {
				name = fmt.Sprintf("berth, %d connections", conns)
				tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: conns}, Proxy: berth.NoProxy})
				if err != nil {
					return err
				}
				defer tr.Close()
				rt = tr
			}
			s.progress("%s, %d uploads", name, uploaders*each)
			row, err := starvationRow(ctx, variant, rt, each)
			// On a busy machine a try may miss its time for want of the processor.
			for again := 0; err == nil && conns == 20 && row.Measured["timeouts"] != 0 && again < 2; again++ {
				row, err = starvationRow(ctx, variant, rt, each)
			}
			if err != nil {
				return err
			}
			row.Name = name
			row.OK = true
			switch failed, timeouts := row.Measured["failed"].(int), row.Measured["timeouts"].(int); conns {
			case 2:
				row.Expected["timeouts"] = "> 0"
				row.OK = timeouts > 0
				if ours {
					row.Expected["error"] = "names the limit"
					text, _ := row.Measured["error"].(string)
					row.OK = row.OK && strings.Contains(text, "limit: endpoint max 2") && strings.Contains(text, "too small: raise MaxConns")
				}
			case 20:
				row.Expected["timeouts"], row.Expected["failed"] = 0, 0
				row.OK = failed == 0 && timeouts == 0
			}
			s.add(row)
		}
	}
	return nil
}

// upload is one, with all its tries.
type upload struct {
	waits    []time.Duration // of each try, until it had a connection
	timeouts int             // tries that ended for want of time
	failures []error         // of the tries that failed
	done     bool            // one succeeded
}

func starvationRow(ctx context.Context, variant byte, rt http.RoundTripper, each int) (Variant, error) {
	ln, err := listen(17, variant)
	if err != nil {
		return Variant{}, err
	}
	srv := &server{origin.New(ln).Handle(func(c *origin.Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil || !c.Sleep(uploadLatency) || c.Write(string(answer)) != nil {
				return
			}
		}
	}), addrOf(ln)}
	defer srv.Close()
	stop := follow(ctx, srv, 20*time.Millisecond)
	var (
		wg  sync.WaitGroup
		all = make([][]upload, uploaders)
	)
	start := time.Now()
	for i := range uploaders {
		wg.Go(func() {
			for range each {
				if ctx.Err() != nil {
					return
				}
				all[i] = append(all[i], uploadWithRetries(ctx, rt, srv.url()))
			}
		})
	}
	wg.Wait()
	wall := time.Since(start)
	conns, _ := stop()
	if ctx.Err() != nil {
		return Variant{}, errInterrupted
	}
	var waits []time.Duration
	done, failed, timeouts := 0, 0, 0
	var first error
	for _, u := range slices.Concat(all...) {
		waits = append(waits, u.waits...)
		timeouts += u.timeouts
		err := errors.Join(u.failures...)
		if u.done {
			done++
		} else {
			failed++
			err = fmt.Errorf("retry failed after %d tries: %w", len(u.failures), err)
		}
		if err != nil {
			first = moreTelling(first, err)
		}
	}
	row := Variant{Expected: map[string]any{}, Measured: map[string]any{
		"uploads_per_s": float64(int(float64(done)/wall.Seconds()*10+0.5)) / 10,
		"wait_p50_ms":   ms(quantile(waits, 0.5)), "wait_p99_ms": ms(quantile(waits, 0.99)),
		"timeouts": timeouts, "failed": failed,
	}, Series: []Series{conns, latencies(waits)}}
	if first != nil {
		row.Measured["error"] = strings.ReplaceAll(first.Error(), srv.addr.String(), "server")
	}
	return row, nil
}

// moreTelling keeps the error that says who holds the connections, if one does.
func moreTelling(kept, err error) error {
	if kept == nil || !errors.As(kept, new(*berth.AcquireTimeoutError)) && errors.As(err, new(*berth.AcquireTimeoutError)) {
		return err
	}
	return kept
}

// uploadWithRetries tries four times, as the pipeline of the seed's SDK does, each time
// with a timeout over all of the try.
func uploadWithRetries(ctx context.Context, rt http.RoundTripper, url string) (u upload) {
	for range uploadTries {
		wait, err := tryUpload(ctx, rt, url)
		u.waits = append(u.waits, wait)
		if u.done = err == nil; u.done {
			return u
		}
		if errors.Is(err, context.DeadlineExceeded) {
			u.timeouts++
		}
		u.failures = append(u.failures, err)
		if ctx.Err() != nil {
			return u
		}
	}
	return u
}

func tryUpload(ctx context.Context, rt http.RoundTripper, url string) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	start := time.Now()
	var mu sync.Mutex
	got := time.Duration(-1)
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		mu.Lock()
		defer mu.Unlock()
		got = time.Since(start)
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPut, url, bytes.NewReader(make([]byte, uploadBytes)))
	if err != nil {
		return 0, err
	}
	resp, err := rt.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if got < 0 {
		got = time.Since(start)
	}
	return got, err
}
