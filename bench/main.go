// Command bench measures Berth beside net/http, fasthttp and a raw loop of writes
// and reads, and prints the table of docs/performance.md.
//
// A sample is a process of its own; its CPU time is the kernel's (getrusage). The
// server is another process, on the same core, and cheaper than any client. In
// every round each client has one turn, in an order drawn anew; ratios are taken
// within a round, and their median is the figure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var (
		o                 options
		list              bool
		jsonFile, earlier string
	)
	cmd := &cobra.Command{
		Use:   "bench [SCENARIO...]",
		Short: "Measure Berth beside net/http, fasthttp and a raw loop",
		Long: `Bench prints ratios of CPU time, memory, allocations and dials, each beside what
is promised (reach) and what is wanted (aim). SCENARIO may be a pattern: "get*".

Exit status: 0, or 1 with --gate when a figure that repeats misses its reach.`,
		Example: `  bench                  everything, about eleven minutes
  bench --quick get      one scenario, roughly
  bench --gate           only what repeats: allocations, dials, goroutines, memory
  bench --json out.json  every sample
  bench --compare baseline.json get   beside what this repository had last`,
		Args:         cobra.ArbitraryArgs, // the hidden commands would make others an error
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			picked, err := pick(patterns)
			if err != nil {
				return err
			}
			if list {
				for _, s := range picked {
					fmt.Println(s.name)
				}
				return nil
			}
			o.benchmarks = len(patterns) == 0
			var before report
			if earlier != "" {
				if err := readReport(earlier, &before); err != nil {
					return err
				}
			}
			r, err := o.run(cmd.Context(), picked)
			if err != nil {
				return err
			}
			r.compare(&before)
			if jsonFile != "" {
				b, err := json.MarshalIndent(r, "", "  ")
				if err == nil {
					err = os.WriteFile(jsonFile, append(b, '\n'), 0o644)
				}
				if err != nil {
					return err
				}
			}
			if err := errors.Join(r.print(os.Stdout), r.printSamples(os.Stdout)); err != nil {
				return err
			}
			if missed := r.missed(true); o.gate && len(missed) > 0 {
				return fmt.Errorf("below what is promised: %s", strings.Join(missed, "; "))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.rounds, "rounds", 7, "how often each client has its turn")
	f.BoolVar(&o.quick, "quick", false, "three rounds of a quarter of the requests")
	f.BoolVar(&o.gate, "gate", false, "measure only what repeats, and fail where it misses its reach")
	f.BoolVar(&list, "list", false, "list the scenarios and measure nothing")
	f.StringVar(&jsonFile, "json", "", "write every sample to `FILE`")
	f.StringVar(&earlier, "compare", "", "print the figures of an earlier report, from `FILE`, beside those of this one")
	f.StringVar(&o.profiles, "profiles", "", "write a CPU profile of each client's last sample to `DIR` (it costs some time)")
	cmd.AddCommand(serveCommand(), sampleCommand())
	return cmd
}

func readReport(file string, r *report) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, r); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// options are how a run is made.
type options struct {
	rounds      int
	quick, gate bool
	benchmarks  bool // Go's own as well
	profiles    string
}

func (o options) run(ctx context.Context, picked []scenario) (*report, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &driver{self: self, profiles: o.profiles, rounds: o.rounds, divide: 1, progress: progress()}
	if o.quick {
		d.rounds, d.divide = 3, 4
	}
	if o.gate {
		d.rounds, d.divide = 5, 4
	}
	r := &report{Env: here(), Rounds: d.rounds}
	for _, s := range picked {
		if o.gate && !s.repeats && s.name != "get" {
			continue
		}
		if o.gate && s.kind == kindBurst {
			s.clients = []string{"berth"} // the others wait for their deadlines, and promise nothing
		}
		m, err := d.run(ctx, s)
		if err != nil {
			return nil, err
		}
		r.Scenarios = append(r.Scenarios, m)
	}
	if o.benchmarks {
		if r.Go, err = runGoBenchmarks(ctx, d.rounds, d.progress); err != nil {
			return nil, err
		}
	}
	d.progress("")
	all := figures()
	if o.gate {
		kept := all[:0]
		for _, f := range all {
			if f.repeats {
				kept = append(kept, f)
			}
		}
		all = kept
	}
	r.lines(all)
	return r, nil
}

// pick returns the scenarios that match a pattern, all without one.
func pick(patterns []string) ([]scenario, error) {
	if len(patterns) == 0 {
		return scenarios(), nil
	}
	var picked []scenario
	for _, s := range scenarios() {
		for _, p := range patterns {
			if ok, err := path.Match(p, s.name); err != nil {
				return nil, err
			} else if ok {
				picked = append(picked, s)
				break
			}
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("no scenario matches %q; --list shows them", patterns)
	}
	return picked, nil
}

// progress returns what shows on one line of a terminal what is being done.
func progress() func(string) {
	if !term.IsTerminal(int(os.Stderr.Fd())) || os.Getenv("CI") != "" {
		return func(string) {}
	}
	return func(s string) { fmt.Fprintf(os.Stderr, "\r\x1b[K%s", s) }
}

func here() environment {
	e := environment{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU()}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = strings.TrimSpace(string(b))
	}
	return e
}

// serveCommand is the server process.
func serveCommand() *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{Use: "serve", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return runServer(o) }}
	cmd.Flags().BoolVar(&o.tls, "tls", false, "")
	cmd.Flags().IntVar(&o.hold, "hold", 1, "")
	cmd.Flags().DurationVar(&o.latency, "latency", time.Duration(0), "")
	cmd.Flags().IntVar(&o.streams, "streams", 0, "")
	return cmd
}

// sampleCommand is the client process.
func sampleCommand() *cobra.Command {
	var (
		name, client, addr, profile string
		requests                    int
	)
	cmd := &cobra.Command{Use: "sample", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		for _, s := range scenarios() {
			if s.name == name {
				stop, err := startProfile(profile)
				if err != nil {
					return err
				}
				defer stop()
				v, err := s.sampleOf(client, addr, requests)
				if err != nil {
					return err
				}
				return json.NewEncoder(os.Stdout).Encode(v)
			}
		}
		return fmt.Errorf("no scenario %q", name)
	}}
	f := cmd.Flags()
	f.StringVar(&name, "scenario", "", "")
	f.StringVar(&client, "client", "", "")
	f.StringVar(&addr, "addr", "", "")
	f.IntVar(&requests, "requests", 0, "")
	f.StringVar(&profile, "profile", "", "")
	return cmd
}

// startProfile writes a CPU profile of the sample to a file, if one is named.
func startProfile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
