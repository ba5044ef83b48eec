package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/top"
)

// topLines is top where nobody looks at a terminal. The first interval's lines come after
// it; with o.once what is so at once. It ends with the context, which is no error.
func topLines(ctx context.Context, sources []*source.Source, o topOptions, stdout, stderr io.Writer) error {
	l := &topLister{o: o, sources: sources, trackers: topTrackers(sources), shown: make([]*top.Program, len(sources)), out: stdout, err: stderr}
	first := readAllTop(ctx, sources)
	if ctx.Err() != nil {
		return nil
	}
	if err := noneRead(sources, first, o.say); err != nil {
		return err
	}
	if !o.json {
		if err := top.WritePlainHeader(stdout); err != nil {
			return err
		}
	}
	if err := l.take(first, o.once); err != nil {
		return err
	}
	every := time.NewTicker(o.interval)
	defer every.Stop()
	for n := 0; !o.once && (o.count == 0 || n < o.count); n++ {
		select {
		case <-ctx.Done():
			return l.end()
		case <-every.C:
		}
		list := readAllTop(ctx, sources)
		if ctx.Err() != nil {
			return l.end()
		}
		if err := l.take(list, true); err != nil {
			return err
		}
	}
	return l.end()
}

// topLister writes lines.
type topLister struct {
	o        topOptions
	sources  []*source.Source
	trackers []*top.Tracker
	shown    []*top.Program
	out, err io.Writer
}

// take takes what was read, and writes it if it shall. What is told once goes to standard
// error: that a program is lost, is back, or is another process.
func (l *topLister) take(list []topReading, write bool) error {
	for i, r := range list {
		was := l.shown[i]
		p := r.taken(l.trackers[i])
		l.shown[i] = p
		at := r.at.Format("15:04:05")
		switch {
		case p.Lost != nil && (was == nil || was.Lost == nil):
			fmt.Fprintf(l.err, "%s %s: %s: %s\n", at, p.Source, l.o.say("lost"), topTrouble(p.Lost, l.o.say))
		case p.Restarted:
			fmt.Fprintf(l.err, "%s %s: %s\n", at, p.Source, l.o.say("restarted", p.Name(), p.Report.PID))
		case p.Lost == nil && was != nil && was.Lost != nil:
			fmt.Fprintf(l.err, "%s %s: %s\n", at, p.Source, l.o.say("back"))
		}
		if !write {
			continue
		}
		endpoints := top.Select(p.Endpoints, l.o.filter, l.o.sort)
		var err error
		switch {
		case l.o.json:
			e := json.NewEncoder(l.out)
			e.SetEscapeHTML(false)
			err = top.WriteJSON(e, p, endpoints, r.at)
		case p.Lost == nil:
			err = top.WritePlain(l.out, p, endpoints)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end is an error when a program cannot be read at the end.
func (l *topLister) end() error {
	for _, p := range l.shown {
		if p.Lost != nil {
			return &lookError{errors.New(l.o.say("unread-at-end"))}
		}
	}
	return nil
}
