// Command berth examines this host's connections, shows the pools of running programs,
// explains errors of connections, runs Berth's lab, and checks and explains policy files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/berth-go/berth/lab"
)

func main() {
	lab.Child()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something did not hold, or was interrupted
	exitUsage  = 2
	exitLook   = 3 // the doctor, or top, could not look
)

// failedError: the command did its work, and what it found is not as it should be.
// It has been told already.
type failedError struct{}

func (failedError) Error() string { return "not everything held" }

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	root := &cobra.Command{
		Use:           "berth",
		Short:         "Outbound HTTP connections that say what they are waiting for",
		Long:          "Berth is an http.RoundTripper for Go with connection pools that can be seen, bounded and explained.\nThis command shows at work what they do.",
		Example:       "  berth doctor              what is wrong with the connections of this host\n  berth explain BERTH1004   what an error means, and what helps\n  berth top localhost:6061  the pools of a running program, live\n  berth lab                 run every experiment on real sockets\n  berth lab limit --json limit.json",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(doctorCommand(stdout), explainCommand(stdout, stderr), labCommand(stdout, stderr), policyCommand(stdout), topCommand(stdout, stderr), versionCommand(stdout))
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[failedError](err); ok {
		return exitFailed
	}
	fmt.Fprintf(stderr, "berth: %v\n", err)
	if _, ok := errors.AsType[*lookError](err); ok {
		return exitLook
	}
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return exitFailed
	}
	if _, ok := errors.AsType[*fileError](err); ok {
		return exitFailed
	}
	fmt.Fprintf(stderr, "Run %q for what there is.\n", cmd.CommandPath()+" --help")
	return exitUsage
}

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and the Go that built it",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			version, goVersion := "unknown", "unknown"
			if i, ok := debug.ReadBuildInfo(); ok {
				version, goVersion = i.Main.Version, i.GoVersion
			}
			_, err := fmt.Fprintf(stdout, "berth %s %s\n", version, goVersion)
			return err
		},
	}
}
