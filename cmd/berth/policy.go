package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/policyfile"
)

func policyCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check and explain policy files",
		Long: `A policy file gives a transport its limits, timeouts and rules, and named clients their
settings; it can be changed while the program runs (package policyfile). Variables of the
environment come over it: BERTH_MAX_CONNS for max_conns, BERTH_POLICY_IDLE_TIMEOUT for
policy.idle_timeout. Those that header fields name, like ${GITHUB_TOKEN}, must be set here
too, to anything.`,
		Example: `  berth policy check policy.yaml
  berth policy explain policy.yaml https://api.example.com
  berth policy clients policy.yaml github
  berth policy diff policy.yaml policy.new.yaml
  berth policy schema > policy.schema.json`,
	}
	cmd.AddCommand(policyCheck(stdout), policyExplain(stdout), policyClients(stdout), policyDiff(stdout), policySchema(stdout))
	return cmd
}

func policyCheck(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE...",
		Short:   "Say whether files are valid, and where they are not",
		Example: "  berth policy check policy.yaml\n  GITHUB_TOKEN=any berth policy check policy.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			failed := false
			for _, name := range files {
				f, err := policyfile.Load(name, os.Environ())
				if err != nil {
					failed = true
					fmt.Fprintln(stdout, err)
					continue
				}
				fmt.Fprintf(stdout, "%s: valid, %d rules, %d clients\n", name, len(f.Config.Rules), len(f.Clients.Clients))
			}
			if failed {
				return failedError{}
			}
			return nil
		},
	}
}

// loaded is a file with what it makes.
type loaded struct {
	file *policyfile.File
	tr   *berth.Transport
	reg  *clients.Registry
}

// nobody is the logger of clients that log and send nothing.
var nobody = slog.New(slog.DiscardHandler)

// load makes a transport and clients of a file; no proxy of the environment is asked.
func load(name string) (*loaded, error) {
	f, err := policyfile.Load(name, os.Environ())
	if err != nil {
		return nil, &fileError{err}
	}
	tr, err := berth.New(f.Over(berth.Config{}))
	if err != nil {
		return nil, &fileError{err}
	}
	reg, err := clients.New(tr, f.OverClients(clients.Config{Logger: nobody}))
	if err != nil {
		return nil, &fileError{err}
	}
	return &loaded{f, tr, reg}, nil
}

// fileError: the file is wrong, not the command line.
type fileError struct{ error }

func policyExplain(stdout io.Writer) *cobra.Command {
	var (
		asJSON, all bool
	)
	cmd := &cobra.Command{
		Use:   "explain FILE URL...",
		Short: "Say what holds for an endpoint, and which rule says so",
		Example: `  berth policy explain policy.yaml https://api.example.com
  berth policy explain policy.yaml https://api.example.com --all --json`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := load(args[0])
			if err != nil {
				return err
			}
			explained := map[string]berth.EndpointPolicy{}
			for _, url := range args[1:] {
				ep, err := l.tr.Endpoint(url)
				if err != nil {
					return err
				}
				explained[ep.String()] = ep.Policy()
			}
			if asJSON {
				return printJSON(stdout, explained)
			}
			for _, name := range slices.Sorted(maps.Keys(explained)) {
				fmt.Fprintf(stdout, "%s\n", name)
				if err := printPolicy(stdout, explained[name], all); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	cmd.Flags().BoolVar(&all, "all", false, "defaults as well")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printPolicy(w io.Writer, e berth.EndpointPolicy, all bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	v := reflect.ValueOf(e.Policy)
	shown := 0
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		if e.From[name] == "default" && !all {
			continue
		}
		shown++
		text := fmt.Sprint(v.Field(i).Interface())
		if v.Field(i).Kind() == reflect.Int && v.Field(i).Int() <= 0 {
			text = "none"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", name, text, e.From[name])
	}
	if shown == 0 {
		fmt.Fprintln(tw, "  defaults; --all shows them")
	}
	return tw.Flush()
}

func policyDiff(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:     "diff OLD NEW",
		Short:   "Say what a change of files changes",
		Example: "  berth policy diff policy.yaml policy.new.yaml",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			old, err := load(args[0])
			if err != nil {
				return err
			}
			f, err := policyfile.Load(args[1], os.Environ())
			if err != nil {
				return &fileError{err}
			}
			d, err := old.tr.Compare(f.Over(berth.Config{}))
			if err != nil {
				return &fileError{err}
			}
			named, err := old.reg.Compare(f.OverClients(clients.Config{Logger: nobody}))
			if err != nil {
				return &fileError{err}
			}
			if len(d.Changes) == 0 && named.Empty() {
				fmt.Fprintln(stdout, "nothing changes")
			}
			for _, c := range d.Changes {
				fmt.Fprintln(stdout, strings.TrimSpace(c.String()))
			}
			if !named.Empty() {
				fmt.Fprintln(stdout, named)
			}
			return nil
		},
	}
}

func policySchema(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of the file, for editors",
		Example: "  berth policy schema > policy.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := stdout.Write(policyfile.Schema)
			return err
		},
	}
}
