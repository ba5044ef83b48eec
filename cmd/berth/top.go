package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/top"
)

const (
	topIntervalLeast = 100 * time.Millisecond
	topIntervalMost  = time.Hour
	topSourcesMost   = 64
)

// topOptions are the flags of berth top.
type topOptions struct {
	interval    time.Duration
	count       int // intervals; 0 goes on
	once        bool
	plain, json bool
	sort        top.Key
	filter      string
	say         func(key string, args ...any) string
}

func topCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		o             topOptions
		sortBy, lang  string
		sources       []*source.Source
		defaultSorted = "waiting; of --plain and --json: endpoint"
	)
	cmd := &cobra.Command{
		Use:   "top ADDR...",
		Short: "Show the pools of running programs, live",
		Long: `Top reads what programs serve with Transport.Handler, once a second, and shows every
endpoint: connections against the limit, requests that wait, rates, reuse, failures.
ADDR is http://host:port/path, host:port, or unix:/path of a socket; several programs
are shown one below the other. All rates are differences between two reports.

Keys: q quits, s sorts (w waiting, c connections, r requests, e endpoint), / filters,
enter opens an endpoint, esc goes back, p pauses, h and l scroll columns, ? helps.
Where the output is no terminal it writes a line for each endpoint and interval.
! marks endpoints whose requests wait, ~ those near a limit, with failures or with
response bodies that nobody reads.

Exit status: 0 at the end that was asked for, 1 when the output cannot be written,
2 for usage, 3 when no program could be read at the start, or one could not at the end
of --once, --plain or --json.`,
		Example: `  berth top localhost:6061                          a program that serves Transport.Handler
  berth top http://localhost:6060/debug/berth unix:/run/app/berth.sock
  berth top localhost:6061 --sort requests --filter pay
  berth top localhost:6061 --plain -n 60 >pools.txt  a minute, a line for each endpoint and second
  berth top localhost:6061 --json --interval 10s     for a script
  berth top localhost:6061 --once                    what is so now, without rates`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return errors.New("nothing to show: give the address at which a program serves Transport.Handler")
			case len(args) > topSourcesMost:
				return fmt.Errorf("%d addresses: at most %d", len(args), topSourcesMost)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := languageOf(lang, os.Getenv)
			if err != nil {
				return err
			}
			o.say = topWords(l)
			screen := !o.plain && !o.json && !o.once && isTerminal(stdout) && isTerminal(os.Stdin) && os.Getenv("TERM") != "dumb"
			if !screen {
				o.sort = top.ByName
			}
			if sortBy != "" {
				if o.sort, err = top.ParseKey(sortBy); err != nil {
					return fmt.Errorf("--sort %w", err)
				}
			}
			switch {
			case o.interval < topIntervalLeast || o.interval > topIntervalMost:
				return fmt.Errorf("--interval %v: from %v to %v", o.interval, topIntervalLeast, topIntervalMost)
			case o.count < 0:
				return fmt.Errorf("--count %d: is negative; 0 goes on", o.count)
			case o.once && o.count > 0:
				return errors.New("--once and --count exclude each other")
			case o.plain && o.json:
				return errors.New("--plain and --json exclude each other")
			}
			for _, a := range args {
				s, err := source.Parse(topAddress(a))
				if err != nil {
					return err
				}
				s.KeepAlive()
				defer s.Close()
				sources = append(sources, s)
			}
			if screen {
				return topScreen(cmd.Context(), sources, o, os.Stdin, stdout)
			}
			return topLines(cmd.Context(), sources, o, stdout, stderr)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.interval, "interval", time.Second, "between two reports")
	f.IntVarP(&o.count, "count", "n", 0, "end after so many `intervals`")
	f.BoolVar(&o.once, "once", false, "write what is so now and end; there are no rates")
	f.BoolVar(&o.plain, "plain", false, "a line for each endpoint and interval, also on a terminal")
	f.BoolVar(&o.json, "json", false, "a JSON object for each program and interval")
	f.StringVar(&sortBy, "sort", "", "`key`: "+strings.Join(top.Keys(), ", ")+" (default "+defaultSorted+")")
	f.StringVar(&o.filter, "filter", "", "only endpoints with this `text` in their name or group")
	f.StringVar(&lang, "lang", "", "`en or zh`; else as BERTH_LANG, LC_ALL, LC_MESSAGES, LANG say")
	return cmd
}

// topAddress lets host:port stand for its URL.
func topAddress(a string) string {
	if strings.Contains(a, "://") || strings.HasPrefix(a, "unix:") || !strings.Contains(a, ":") {
		return a
	}
	return "http://" + a
}

// topReading is an attempt to read a program.
type topReading struct {
	i      int // of the source
	report *top.Report
	err    error
	at     time.Time // when it ended
}

func readTop(ctx context.Context, i int, s *source.Source) topReading {
	r := topReading{i: i, report: &top.Report{}}
	r.err = s.Read(ctx, r.report)
	r.at = time.Now()
	return r
}

// taken has the tracker take it.
func (r topReading) taken(t *top.Tracker) *top.Program {
	if r.err != nil {
		return t.Lost(r.err, r.at)
	}
	return t.Report(r.report, r.at)
}

// readAllTop reads all at once.
func readAllTop(ctx context.Context, sources []*source.Source) []topReading {
	done := make(chan topReading, len(sources))
	for i, s := range sources {
		go func() { done <- readTop(ctx, i, s) }()
	}
	list := make([]topReading, len(sources))
	for range sources {
		r := <-done
		list[r.i] = r
	}
	return list
}

// noneRead is what all readings failed for; nil when one did not.
func noneRead(sources []*source.Source, list []topReading, say func(string, ...any) string) error {
	var all []string
	for i, r := range list {
		if r.err == nil {
			return nil
		}
		all = append(all, sources[i].Name()+": "+topTrouble(r.err, say))
	}
	return &lookError{errors.New(strings.Join(all, "\nberth: "))}
}

// topTrouble says what is wrong with a program that cannot be read, and what to do.
func topTrouble(err error, say func(string, ...any) string) string {
	text := source.Clean(err.Error())
	if fix := topFix(err, say); fix != "" {
		text += "; " + fix
	}
	return text
}

func topFix(err error, say func(string, ...any) string) string {
	e, ok := errors.AsType[*source.Error](err)
	if !ok {
		return ""
	}
	return say(map[source.Kind]string{source.Unreachable: "fix-unreachable", source.Slow: "fix-slow", source.Status: "fix-status",
		source.NoReport: "fix-no-report", source.OtherSchema: "fix-schema"}[e.Kind])
}

// topTrackers returns a tracker for each source.
func topTrackers(sources []*source.Source) []*top.Tracker {
	var list []*top.Tracker
	for _, s := range sources {
		list = append(list, top.NewTracker(s.Name()))
	}
	return list
}
