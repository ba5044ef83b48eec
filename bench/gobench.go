package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// goBenchmarks are those of the root module that the table quotes.
var goBenchmarks = []struct{ pkg, run string }{
	{"github.com/berth-go/berth/internal/pool", "^Benchmark(AcquireRelease|AcquireRelease64|HandOverBlocked|CancelQueued)$"},
	{"github.com/berth-go/berth", "^BenchmarkEndpoints$"},
}

// runGoBenchmarks returns the metrics of each benchmark, by unit.
func runGoBenchmarks(ctx context.Context, count int, progress func(string)) (map[string]map[string][]float64, error) {
	all := map[string]map[string][]float64{}
	for range count { // each in a process of its own: what one leaves in memory is not the next one's
		for _, b := range goBenchmarks {
			progress("go test -bench " + b.pkg)
			out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", b.run, "-benchtime", "200ms", b.pkg).CombinedOutput()
			if err != nil {
				return nil, fmt.Errorf("go test -bench: %w\n%s", err, out)
			}
			parseGoBench(out, all)
		}
	}
	return all, nil
}

// parseGoBench reads lines like
//
//	BenchmarkName/sub-2   1000   123.4 ns/op   5 B/op
func parseGoBench(out []byte, all map[string]map[string][]float64) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		if all[name] == nil {
			all[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				all[name][f[i+1]] = append(all[name][f[i+1]], v)
			}
		}
	}
}
