package lab

import (
	"context"
	"fmt"
	"net/http"
)

// churnExperiment shows what http.DefaultTransport's two idle connections a host
// do to many workers.
func churnExperiment() Experiment {
	return Experiment{
		Name:    "churn",
		Source:  "http.DefaultTransport keeps two idle connections a host",
		Summary: "connections opened by 64 workers, with the defaults of both",
		run:     runChurn,
	}
}

// steadyWorkers send one request after the other.
const steadyWorkers = 64

func runChurn(ctx context.Context, s *session) error {
	requests := 10_000
	if s.scale == Quick {
		requests = 2_000
	}
	for i, c := range []struct {
		name string
		rt   http.RoundTripper
	}{
		{"berth, its defaults", newBerth()},
		{"net/http, http.DefaultTransport's settings", http.DefaultTransport.(*http.Transport).Clone()},
		{"net/http, MaxIdleConnsPerHost 64", newTuned(steadyWorkers)()},
	} {
		name := fmt.Sprintf("%s, %d workers", c.name, steadyWorkers)
		s.progress("%s, %d requests", name, requests)
		row, err := measureDials(ctx, 5, byte(i+1), c.rt, load{requests: requests, workers: steadyWorkers, body: 128, read: true})
		if err != nil {
			return err
		}
		row.Name = name
		row.expect(steadyWorkers)
		s.add(row.Variant)
	}
	return nil
}
