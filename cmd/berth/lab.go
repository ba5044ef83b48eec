package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-go/berth/lab"
)

func labCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		list, quick, full bool
		jsonFile          string
	)
	cmd := &cobra.Command{
		Use:   "lab [NAME...]",
		Short: "Run the experiments on real sockets",
		Long: `Lab runs experiments against local servers of its own and prints, for each way
of doing a thing, what was measured and what theory or the source document says.
Numbers of connections are read from the kernel. No root is needed.

A row "noisy" missed its time three times on a busy machine: the counts decide.
Exit status: 0 when every berth row holds, 1 when one does not or the run was
interrupted, 2 for usage.`,
		Example: `  berth lab                    every experiment, about two and a half minutes
  berth lab lifetime --full    one experiment, with its source's own times
  berth lab --quick --json -   a few seconds each, the report as JSON`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if quick && full {
				return errors.New("--quick and --full exclude each other")
			}
			picked, err := lab.Select(names)
			if err != nil {
				return err
			}
			if list {
				return printList(stdout, picked)
			}
			human := stdout
			if jsonFile == "-" {
				human = stderr
			}
			out, closeOut, err := openJSON(jsonFile, stdout)
			if err != nil {
				return err
			}
			p := newProgress(stderr)
			var printErr error
			options := lab.Options{Progress: p.show, Done: func(r lab.Result) {
				p.clear()
				if err := printResult(human, r); err != nil {
					printErr = err
				}
			}}
			switch {
			case quick:
				options.Scale = lab.Quick
			case full:
				options.Scale = lab.Full
			}
			report := lab.Run(cmd.Context(), picked, options)
			if err := errors.Join(printErr, printSummary(human, report)); err != nil {
				return err
			}
			if out != nil {
				if err := writeJSON(out, report); err != nil {
					return err
				}
				if err := closeOut(); err != nil {
					return err
				}
			}
			if !report.OK() {
				return failedError{}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&list, "list", false, "list the experiments and run none")
	f.StringVar(&jsonFile, "json", "", "write the report as JSON to `FILE`, or to standard output with -")
	f.BoolVar(&quick, "quick", false, "a few seconds an experiment")
	f.BoolVar(&full, "full", false, "the source documents' own times and sizes")
	return cmd
}

func printList(w io.Writer, experiments []lab.Experiment) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range experiments {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", e.Name, e.Summary, e.Source)
	}
	return tw.Flush()
}

// openJSON opens the file before the experiments run: a name that cannot be
// written is told at once, not two minutes later.
func openJSON(name string, stdout io.Writer) (io.Writer, func() error, error) {
	switch name {
	case "":
		return nil, nil, nil
	case "-":
		return stdout, func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

func writeJSON(w io.Writer, report *lab.Report) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(report)
}
