package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berth-go/berth/doctor"
)

// lookError: the doctor could not look, or top found no program.
type lookError struct{ error }

func (e *lookError) Unwrap() error { return e.error }

func doctorCommand(stdout io.Writer) *cobra.Command {
	var (
		o                      doctor.Options
		dests                  []string
		failOn, lang           string
		watch, asJSON, verbose bool
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with this host's outbound connections, and what cures it",
		Long: `Doctor looks twice at the kernel's TCP sockets, and at the pools of Berth programs
that it is told of, and names the process, the state and the remedy of what it finds:
unread responses, CLOSE_WAIT, ports in TIME_WAIT, destinations that do not answer,
descriptors, full queues and tables. It changes nothing. Programs in any language are
seen; as root, those of other users too. With --pid of a process in a container it looks
at that container's sockets.

Exit status: 0 when nothing is found at the level of --fail-on, 1 when something is,
2 for usage, 3 when the sockets, or a program of --from, could not be read.`,
		Example: `  berth doctor                                 everything, for two seconds
  sudo berth doctor -v                         with evidence, and all users' processes
  berth doctor --pid 4711 --dest api.example.com:443
  berth doctor --from http://localhost:6060/debug/berth/ --from unix:/run/app/berth.sock
  berth doctor --watch --interval 5s           again and again until Ctrl-C
  berth doctor --json --fail-on warn           for a script`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var level doctor.Level
			switch failOn {
			case "warn":
				level = doctor.Warn
			case "fail":
				level = doctor.Fail
			case "never":
				level = doctor.Fail + 1
			default:
				return fmt.Errorf("--fail-on %q: give warn, fail or never", failOn)
			}
			l, err := languageOf(lang, os.Getenv)
			if err != nil {
				return err
			}
			o.Lang = string(l)
			for _, d := range dests {
				addrs, err := resolve(cmd.Context(), d)
				if err != nil {
					return err
				}
				o.Destinations = append(o.Destinations, addrs...)
			}
			style := doctor.Style{Lang: o.Lang, Verbose: verbose, Colour: isTerminal(stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
			show := func(r *doctor.Report) error {
				if !asJSON {
					return r.WriteText(stdout, style)
				}
				e := json.NewEncoder(stdout)
				e.SetEscapeHTML(false)
				if !watch {
					e.SetIndent("", "  ")
				}
				return e.Encode(r)
			}
			worst, failed, err := examine(cmd.Context(), o, watch, show, redraw(stdout, watch && !asJSON))
			if _, ok := errors.AsType[*doctor.OptionError](err); ok {
				return err
			}
			switch {
			case err != nil:
				return &lookError{err}
			case worst >= level:
				return failedError{}
			case failed:
				return &lookError{errors.New("not every program of --from could be read")}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Interval, "interval", 2*time.Second, "between two looks")
	f.IntSliceVar(&o.PIDs, "pid", nil, "this `process` only; may be given again")
	f.StringSliceVar(&dests, "dest", nil, "this destination only, `host[:port]`; may be given again")
	f.StringArrayVar(&o.From, "from", nil, "a program's Transport.Handler, `URL` or unix:PATH; may be given again")
	f.StringVar(&failOn, "fail-on", "fail", "exit with 1 from this `level` on: warn, fail or never")
	f.StringVar(&lang, "lang", "", "`en or zh`; else as BERTH_LANG, LC_ALL, LC_MESSAGES, LANG say")
	f.BoolVar(&watch, "watch", false, "examine again and again until Ctrl-C")
	f.BoolVar(&asJSON, "json", false, "write JSON, with --watch a document a line")
	f.BoolVarP(&verbose, "verbose", "v", false, "evidence as well")
	return cmd
}

// examine looks once, or with watch until the context ends. It returns the worst level
// of the last report, and whether a program could not be read for it.
func examine(ctx context.Context, o doctor.Options, watch bool, show func(*doctor.Report) error, before func()) (worst doctor.Level, failed bool, err error) {
	if !watch {
		r, err := doctor.Examine(ctx, o)
		if err != nil {
			return 0, false, err
		}
		return r.Level, len(r.Failed) > 0, show(r)
	}
	var showErr error
	err = doctor.Watch(ctx, o, func(r *doctor.Report) bool {
		before()
		worst, failed = r.Level, len(r.Failed) > 0
		showErr = show(r)
		return showErr == nil
	})
	return worst, failed, errors.Join(err, showErr)
}

// redraw returns what is written before a report of --watch: on a terminal the report
// takes the place of the one before, elsewhere the time stands above it.
func redraw(stdout io.Writer, watch bool) func() {
	return func() {
		switch {
		case !watch:
		case isTerminal(stdout):
			fmt.Fprint(stdout, "\x1b[H\x1b[2J\x1b[3J")
		default:
			fmt.Fprintf(stdout, "--- %s\n", time.Now().Format(time.RFC3339))
		}
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// resolve reads host, host:port, or an address with or without a port, and looks the
// name up.
func resolve(ctx context.Context, dest string) ([]netip.AddrPort, error) {
	if strings.ContainsAny(dest, "/@ ") {
		return nil, fmt.Errorf("--dest %q: give host or host:port", dest)
	}
	host, portText := dest, ""
	if h, p, err := net.SplitHostPort(dest); err == nil {
		host, portText = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	var port uint16
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("--dest %q: no port %q", dest, portText)
		}
		port = uint16(n)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}, nil
	}
	if host == "" || strings.Contains(host, ":") {
		return nil, fmt.Errorf("--dest %q: give host or host:port", dest)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, &lookError{fmt.Errorf("--dest: %w", err)}
	}
	var list []netip.AddrPort
	for _, a := range addrs {
		list = append(list, netip.AddrPortFrom(a.Unmap(), port))
	}
	return list, nil
}
