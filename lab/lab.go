// Package lab runs experiments that show at work, on real sockets, what a
// connection pool does. What it says about connections is read from the kernel's
// socket table, never from the pool's own counters. cmd/berth runs it; the JSON
// schema of a Report is documented in docs/lab.md.
package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Schema is the version of the JSON form of a Report.
const Schema = 1

// Report is the outcome of a run.
type Report struct {
	Schema      int      `json:"schema"`
	Scale       string   `json:"scale"` // "quick", "default" or "full"
	Env         Env      `json:"env"`
	Experiments []Result `json:"experiments"`
	// Interrupted says that the run was ended early; what is here was finished.
	Interrupted bool `json:"interrupted,omitempty"`
}

// OK reports whether every one of Berth's own variants held, and nothing was left
// out.
func (r *Report) OK() bool {
	for _, e := range r.Experiments {
		if e.Error != "" {
			return false
		}
		for _, v := range e.Variants {
			if v.Berth() && !v.OK {
				return false
			}
		}
	}
	return !r.Interrupted
}

// Result is one experiment's outcome.
type Result struct {
	Name     string    `json:"name"`
	Source   string    `json:"source"` // the document whose claim is tried
	Variants []Variant `json:"variants"`
	Note     string    `json:"note,omitempty"`
	Table    string    `json:"table,omitempty"` // socket tables, as netstat writes them
	Error    string    `json:"error,omitempty"` // why the experiment could not be run
}

// Variant is one way to do the same thing, beside the others.
type Variant struct {
	Name     string         `json:"name"` // Berth's own begin with "berth"
	Measured map[string]any `json:"measured"`
	Expected map[string]any `json:"expected"`
	OK       bool           `json:"ok"`
	Note     string         `json:"note,omitempty"`
	Series   []Series       `json:"series,omitempty"`
	Marks    []Mark         `json:"marks,omitempty"`    // on the series
	Timeline []Lane         `json:"timeline,omitempty"` // states over time
}

// Berth reports whether the variant is one of Berth's own: those decide.
func (v *Variant) Berth() bool { return strings.HasPrefix(v.Name, "berth") }

// Series is a measurement over time or over a parameter.
type Series struct {
	Name   string       `json:"name"`
	Unit   string       `json:"unit"`
	Points [][2]float64 `json:"points"`
}

// Scale says how large the experiments are. Ratios are the same in all of them,
// and the kernel's own times are never scaled.
type Scale int

const (
	Default Scale = iota
	Quick         // a few seconds an experiment
	Full          // the documents' own times and sizes
)

func (s Scale) String() string { return [...]string{"default", "quick", "full"}[s] }

// Experiment is one of the lab's experiments.
type Experiment struct {
	Name    string
	Source  string
	Summary string
	run     func(context.Context, *session) error
}

// Experiments returns all experiments in the order in which they run.
func Experiments() []Experiment {
	return []Experiment{limitExperiment(), lifetimeExperiment(), clientPerRequestExperiment(), unreadBodyExperiment(),
		churnExperiment(), tcpStatesExperiment(), kneeExperiment(),
		groupsExperiment(), dnsExperiment(), liveLimitsExperiment(), portsExperiment(), parityExperiment(), herdExperiment(),
		starvationExperiment(), undisposedExperiment(), closeWaitExperiment(), finWaitExperiment(), infinitePoolExperiment(),
		silenceExperiment(), dialStormExperiment(), sysctlsExperiment(), backlogExperiment(), conntrackExperiment(),
		sentAgainExperiment(), http2Experiment(), errorsExperiment(), proxiesExperiment(), boundsExperiment(),
		factoryExperiment(), retryStormExperiment(), hedgeExperiment()}
}

// UnknownError: there is no experiment of that name.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no experiment %q; there are %s", e.Name, strings.Join(e.Known, ", "))
}

// Select returns the experiments with those names, or all when there are none. The
// error is an *UnknownError.
func Select(names []string) ([]Experiment, error) {
	all := Experiments()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	byName := map[string]Experiment{}
	for _, e := range all {
		known = append(known, e.Name)
		byName[e.Name] = e
	}
	var picked []Experiment
	for _, n := range names {
		e, ok := byName[n]
		if !ok {
			return nil, &UnknownError{Name: n, Known: known}
		}
		picked = append(picked, e)
	}
	return picked, nil
}

// Options configure a run.
type Options struct {
	Scale Scale
	// Progress is told what is being done, several times a second at most; nil is
	// told nothing.
	Progress func(experiment, text string)
	// Children says that the program calls Child first of all, so that experiments may
	// start it again where they need a network namespace of their own. Without it
	// these are not observed.
	Children bool
	// Finished is told of each variant, and Done of each experiment, as soon as it
	// is done; both may be nil.
	Finished func(experiment string, v Variant)
	Done     func(Result)
}

// Run runs the experiments one after the other. When ctx ends, it returns what is
// finished and marks the report as interrupted.
func Run(ctx context.Context, experiments []Experiment, o Options) *Report {
	r := &Report{Schema: Schema, Scale: o.Scale.String(), Env: environment(), Experiments: []Result{}}
	for _, e := range experiments {
		s := &session{scale: o.Scale, options: o, result: Result{Name: e.Name, Source: e.Source, Variants: []Variant{}}}
		err := e.run(ctx, s)
		if ctx.Err() != nil {
			r.Interrupted = true
		} else if err != nil {
			s.result.Error = err.Error()
		}
		r.Experiments = append(r.Experiments, s.result)
		if o.Done != nil {
			o.Done(s.result)
		}
		if r.Interrupted {
			break
		}
	}
	return r
}

// session is one experiment's run.
type session struct {
	scale   Scale
	options Options
	result  Result
}

func (s *session) progress(format string, args ...any) {
	if s.options.Progress != nil {
		s.options.Progress(s.result.Name, fmt.Sprintf(format, args...))
	}
}

func (s *session) add(v Variant) {
	s.result.Variants = append(s.result.Variants, v)
	if s.options.Finished != nil {
		s.options.Finished(s.result.Name, v)
	}
}

// errInterrupted ends an experiment whose context has ended.
var errInterrupted = errors.New("interrupted")
