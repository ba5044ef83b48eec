package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/berth-go/berth"
)

// undisposedExperiment forgets response streams, as callers of an SDK do that returns them.
func undisposedExperiment() Experiment {
	return Experiment{
		Name:    "undisposed",
		Source:  "seed 001: streams that are not disposed of burn connections for ever",
		Summary: "as many response streams forgotten as there are connections, and what the next requests get",
		run:     runUndisposed,
	}
}

const (
	undisposedConns   = 4
	undisposedBytes   = 4 << 20
	undisposedTimeout = time.Second // of a request
)

func runUndisposed(ctx context.Context, s *session) error {
	tries := 10
	if s.scale == Quick {
		tries = 6
	}
	s.result.Note = fmt.Sprintf("%d streams are forgotten with a limit of as many connections; then one request after the other, each with %v. "+
		"The collector runs before each of net/http's, too", undisposedConns, undisposedTimeout)
	for i, v := range []struct {
		name         string
		ours, forget bool
	}{
		{"berth, forgotten", true, true},
		{"berth, closed", true, false},
		{"net/http, forgotten", false, true},
		{"net/http, closed", false, false},
	} {
		s.progress("%s, at most %d requests", v.name, tries)
		row, err := undisposedRow(ctx, byte(i+1), v.ours, v.forget, tries)
		if err != nil {
			return err
		}
		row.Name = v.name
		s.add(row)
	}
	return nil
}

func undisposedRow(ctx context.Context, variant byte, ours, forget bool, tries int) (Variant, error) {
	srv, err := serveBytes(18, variant, responseOf(undisposedBytes))
	if err != nil {
		return Variant{}, err
	}
	defer srv.Close()
	var (
		rt http.RoundTripper = &http.Transport{MaxConnsPerHost: undisposedConns}
		tr *berth.Transport
	)
	if ours {
		if tr, err = berth.New(berth.Config{Policy: berth.Policy{MaxConns: undisposedConns}, Proxy: berth.NoProxy}); err != nil {
			return Variant{}, err
		}
		defer tr.Close()
		rt = tr
	}
	stop := follow(ctx, srv, 50*time.Millisecond)
	for range undisposedConns {
		if err := openStream(ctx, rt, srv.url(), !forget); err != nil {
			stop()
			return Variant{}, err
		}
	}
	row := Variant{Measured: map[string]any{}, Expected: map[string]any{"succeeded": "> 0"}}
	start := time.Now()
	succeeded, failed := 0, 0
	for range tries {
		if !ours {
			runtime.GC() // as berth asks for it
		}
		err := fetchWithin(ctx, rt, srv.url(), undisposedTimeout)
		if ctx.Err() != nil {
			stop()
			return Variant{}, errInterrupted
		}
		if err == nil {
			if succeeded++; succeeded == 1 {
				row.Measured["recovered_ms"] = ms(time.Since(start))
			}
			continue
		}
		failed++
		if starved, is := errors.AsType[*berth.AcquireTimeoutError](err); is || row.Measured["error"] == nil {
			row.Measured["error"] = strings.ReplaceAll(err.Error(), srv.addr.String(), "server")
			if is {
				row.Measured["verdict"] = string(starved.Verdict)
			}
		}
	}
	conns, _ := stop()
	row.Series = []Series{conns}
	row.Measured["succeeded"], row.Measured["failed"] = succeeded, failed
	row.OK = succeeded > 0
	switch {
	case ours && forget:
		reclaimed := 0
		for _, l := range tr.Leaks() {
			reclaimed += int(l.Reclaimed)
			row.Measured["site"] = l.Site
		}
		row.Measured["reclaimed"] = reclaimed
		row.Expected["reclaimed"], row.Expected["site"] = undisposedConns, "undisposed.go"
		site, _ := row.Measured["site"].(string)
		row.OK = row.OK && reclaimed == undisposedConns && strings.Contains(site, "undisposed.go:")
	case forget:
		row.Expected["succeeded"] = 0
		row.OK = succeeded == 0
	default:
		row.Expected["failed"] = 0
		row.OK = row.OK && failed == 0
	}
	return row, nil
}

// openStream asks for a stream and does with it what callers do: it reads a little, and
// closes it or not.
//
//go:noinline
func openStream(ctx context.Context, rt http.RoundTripper, url string, dispose bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(resp.Body, make([]byte, 1000))
	if dispose {
		resp.Body.Close()
	}
	return err
}

// fetchWithin sends one request and reads its response.
func fetchWithin(ctx context.Context, rt http.RoundTripper, url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return fetch(ctx, rt, url, true)
}
