package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-go/berth/kb"
	"github.com/berth-go/berth/lab"
	"github.com/berth-go/berth/lab/report"
)

func labCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		list, quick, full bool
		jsonFile          string
		reportFile, from  string
	)
	cmd := &cobra.Command{
		Use:   "lab [NAME...]",
		Short: "Run the experiments on real sockets",
		Long: `Lab runs experiments against local servers of its own and prints, for each way
of doing a thing, what was measured and what theory or the source document says.
Numbers of connections are read from the kernel. No root is needed: what is tried
in a network namespace is not observed where neither root nor a user namespace is
to be had.

A row "noisy" missed its time three times on a busy machine: the counts decide.

--report writes a page for people: what each experiment tries and what came out, with
plots. It is one file that needs no network. --from makes it of a report that --json
wrote before, and runs nothing.

Exit status: 0 when every berth row holds, 1 when one does not or the run was
interrupted, 2 for usage. With --from, 0 when the page was written.`,
		Example: `  berth lab                    every experiment, about five minutes
  berth lab lifetime --full    one experiment, with its source's own times
  berth lab --quick --json -   a few seconds each, the report as JSON
  berth lab --report lab.html  every experiment, with a page to read
  berth lab --from lab.json --report lab.html
                               the page of a run that was recorded before`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if quick && full {
				return errors.New("--quick and --full exclude each other")
			}
			if from != "" {
				if len(names) > 0 || quick || full || list || jsonFile != "" {
					return errors.New("--from runs nothing: it goes with --report alone")
				}
				return renderRecorded(from, reportFile, stdout)
			}
			picked, err := lab.Select(names)
			if err != nil {
				return err
			}
			if list {
				return printList(stdout, picked)
			}
			if jsonFile != "" && jsonFile == reportFile {
				return errors.New("--json and --report name the same file")
			}
			human := stdout
			if jsonFile == "-" || reportFile == "-" {
				human = stderr
			}
			jsonOut, err := openOutput(jsonFile, stdout)
			if err != nil {
				return err
			}
			reportOut, err := openOutput(reportFile, stdout)
			if err != nil {
				return err
			}
			p := newProgress(stderr)
			var printErr error
			options := lab.Options{Children: true, Progress: p.show, Done: func(r lab.Result) {
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
			result := lab.Run(cmd.Context(), picked, options)
			err = errors.Join(printErr, printSummary(human, result))
			// Each is tried, whatever became of the others.
			err = errors.Join(err, jsonOut.write(func(w io.Writer) error { return writeJSON(w, result) }))
			err = errors.Join(err, reportOut.write(func(w io.Writer) error { return report.Write(w, result, pageOptions()) }))
			if err != nil {
				return err
			}
			if !result.OK() {
				return failedError{}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&list, "list", false, "list the experiments and run none")
	f.StringVar(&jsonFile, "json", "", "write the report as JSON to `FILE`, or to standard output with -")
	f.StringVar(&reportFile, "report", "", "write a page for people, with plots, to `FILE`, or to standard output with -")
	f.StringVar(&from, "from", "", "run nothing: make the page of the report that --json wrote to `FILE`")
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

// output is a file that was asked for, or none.
type output struct {
	w    io.Writer // nil is none
	file *os.File  // nil is standard output
}

// openOutput opens a file before the experiments run: a name that cannot be written is
// told at once, not two minutes later.
func openOutput(name string, stdout io.Writer) (output, error) {
	switch name {
	case "":
		return output{}, nil
	case "-":
		return output{w: stdout}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return output{}, err
	}
	return output{f, f}, nil
}

// write writes and closes what was opened.
func (o output) write(content func(io.Writer) error) error {
	if o.w == nil {
		return nil
	}
	err := content(o.w)
	if o.file != nil {
		err = errors.Join(err, o.file.Close())
	}
	return err
}

// renderRecorded writes the page of a recorded report.
func renderRecorded(from, to string, stdout io.Writer) error {
	if to == "" {
		return errors.New("--from needs --report FILE: where the page goes")
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	recorded, err := lab.Read(in)
	if err != nil {
		return &fileError{fmt.Errorf("%s: %w", from, err)}
	}
	if a, err := in.Stat(); err == nil {
		if b, err := os.Stat(to); err == nil && os.SameFile(a, b) {
			return errors.New("--from and --report name the same file")
		}
	}
	out, err := openOutput(to, stdout)
	if err != nil {
		return err
	}
	return out.write(func(w io.Writer) error { return report.Write(w, recorded, pageOptions()) })
}

func writeJSON(w io.Writer, r *lab.Report) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// pageOptions has the page tell the titles of the knowledge base.
func pageOptions() report.Options {
	return report.Options{Title: func(code string) string {
		if e, ok := kb.Lookup(code); ok {
			return e.Title.EN
		}
		return ""
	}}
}
