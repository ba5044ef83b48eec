package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Settings of the kernel that belong to a network namespace are tried in one that
// lasts as long as a child process of the lab: it is this program again, which Child
// has do a part of an experiment instead of its own work. The host is left as it is.

// childEnv tells a child which part is its own.
const childEnv = "BERTH_LAB_CHILD"

// isolated is a part of an experiment that runs in a network namespace of its own.
type isolated struct {
	rows []rowKeys // what it measures, in this order
	run  func(ctx context.Context, n *network, scale Scale) ([]Variant, error)
}

// rowKeys names a row and what is measured of it, so that it is there as not observed
// where namespaces are not to be had.
type rowKeys struct {
	name string
	keys []string
}

// isolatedOf returns an experiment's parts.
func isolatedOf(experiment string) []isolated {
	switch experiment {
	case "sysctls":
		return sysctlParts()
	case "backlog":
		return backlogParts()
	case "conntrack":
		return conntrackParts()
	}
	return nil
}

// order is what a child is told.
type order struct {
	Experiment string `json:"experiment"`
	Part       int    `json:"part"`
	Scale      Scale  `json:"scale"`
}

// reply is what a child says.
type reply struct {
	Variants []Variant `json:"variants"`
	Lacking  string    `json:"lacking,omitempty"` // why the namespace cannot be made ready
	Error    string    `json:"error,omitempty"`
}

// lackingError: this host does not grant what a part needs.
type lackingError struct{ reason string }

func (e *lackingError) Error() string { return e.reason }

func lacking(doing string, err error) error {
	return &lackingError{fmt.Sprintf("%s: %v", doing, err)}
}

// Child does a child's part of an experiment and ends the process, if this process is
// one; in any other it returns at once. A program that sets Options.Children calls it
// before anything else.
func Child() {
	text, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	var (
		o order
		r reply
	)
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		go endWithParent() // until the process ends
		r.Variants, err = runPart(o)
	}
	if l, ok := errors.AsType[*lackingError](err); ok {
		r.Lacking = l.reason
	} else if err != nil {
		r.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// endWithParent ends the process when the parent is gone: its end of standard input
// closes then.
func endWithParent() {
	for {
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			os.Exit(1)
		}
	}
}

func runPart(o order) ([]Variant, error) {
	parts := isolatedOf(o.Experiment)
	if o.Part < 0 || o.Part >= len(parts) {
		return nil, fmt.Errorf("no part %d of %q", o.Part, o.Experiment)
	}
	n, err := newNetwork()
	if err != nil {
		return nil, err
	}
	return parts[o.Part].run(context.Background(), n, o.Scale)
}

// isolate runs an experiment's parts beside each other, each in a namespace of its
// own, and adds their rows in their order.
func (s *session) isolate(ctx context.Context) error {
	parts := isolatedOf(s.result.Name)
	replies, errs := make([]reply, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	s.progress("%d network namespaces", len(parts))
	for i := range parts {
		wg.Go(func() {
			if !s.options.Children {
				replies[i].Lacking = "the program starts no children (lab.Options.Children)"
				return
			}
			replies[i], errs[i] = askChild(ctx, order{s.result.Name, i, s.scale})
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, r := range replies {
		if r.Error != "" {
			return fmt.Errorf("in a network namespace: %s", r.Error)
		}
		if r.Lacking != "" {
			for _, row := range parts[i].rows {
				s.add(row.unseen(r.Lacking))
			}
			continue
		}
		for _, v := range r.Variants {
			s.add(whole(v))
		}
	}
	return nil
}

// unseen is the row where it cannot be had.
func (r rowKeys) unseen(reason string) Variant {
	v := Variant{Name: r.name, OK: true, Note: "needs a network namespace of its own: " + reason,
		Measured: map[string]any{}, Expected: map[string]any{}}
	for _, k := range r.keys {
		v.Measured[k], v.Expected[k] = NotObserved, NotObserved
	}
	return v
}

// whole makes integers again of what JSON made floats.
func whole(v Variant) Variant {
	for _, m := range []map[string]any{v.Measured, v.Expected} {
		for k, x := range m {
			if f, ok := x.(float64); ok && f == float64(int(f)) {
				m[k] = int(f)
			}
		}
	}
	return v
}
