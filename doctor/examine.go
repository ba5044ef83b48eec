package doctor

import (
	"context"
	"runtime"
)

// Examine looks twice and says what it found. It blocks for o.Interval and some
// milliseconds, at most about ten seconds longer where a program of o.From does not
// answer. The error is an *OptionError, that the socket table
// cannot be read (*sockets.UnsupportedError among others), that a process of o.PIDs may
// not be looked at (fs.ErrPermission), or ctx's. A program of o.From that cannot be
// read is a finding, not an error.
func Examine(ctx context.Context, o Options) (*Report, error) {
	var report *Report
	err := watch(ctx, o, func(r *Report) bool { report = r; return false })
	return report, err
}

// Watch examines again and again and gives each report to show, until that returns false
// or ctx ends, which is no error. Each report is of the time since the one before.
func Watch(ctx context.Context, o Options, show func(*Report) bool) error {
	err := watch(ctx, o, show)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func watch(ctx context.Context, o Options, show func(*Report) bool) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	inside, err := namespaceOf(o.PIDs)
	if err != nil {
		return err
	}
	a, err := take(ctx, o, inside, nil)
	if err != nil {
		return err
	}
	for {
		seen, err := between(ctx, o, inside, &a)
		if err != nil {
			return err
		}
		// What did not answer a moment ago is not waited for again in the same report.
		broken := map[string]string{}
		for _, p := range a.Programs {
			if p.Err != "" && !p.again {
				broken[p.Source] = p.Err
			}
		}
		b, err := take(ctx, o, inside, broken)
		if err != nil {
			return err
		}
		b.met(seen)
		if !show(report(a, b, o)) {
			return nil
		}
		for i := range b.Programs {
			b.Programs[i].again = true // worth another try the next time
		}
		a = b
	}
}

func report(a, b Sample, o Options) *Report {
	r := &Report{
		Schema: 1, Time: b.Time, Interval: b.Time.Sub(a.Time), OS: runtime.GOOS,
		Source: b.Source, Namespace: b.Namespace,
		Findings: Findings(a, b, o), NotSeen: notSeen(b, o), Failed: []string{},
	}
	for _, f := range r.Findings {
		r.Level = max(r.Level, f.Level)
	}
	for _, p := range b.Programs {
		if p.Err != "" {
			r.Failed = append(r.Failed, p.Source)
		}
	}
	return r
}

// notSeen says what the findings do not know of.
func notSeen(s Sample, o Options) []string {
	say := words(o.Lang)
	list := []string{}
	for _, pid := range o.PIDs {
		if _, ok := s.Processes[pid]; !ok {
			list = append(list, say("process-ended", pid))
		}
	}
	if s.Unseen > 0 {
		list = append(list, say("unseen-processes", s.Unseen))
	}
	if s.Elsewhere > 0 {
		list = append(list, say("other-namespaces", s.Elsewhere))
	}
	for _, m := range s.Missing {
		list = append(list, say("missing", m.What, clean(m.Err)))
	}
	if s.Source != "sock_diag" {
		list = append(list, say("no-details", s.Source))
	}
	return list
}
