package policyfile

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
)

// Watcher has a transport, and a registry of clients, follow a file.
type Watcher struct {
	path    string
	tr      *berth.Transport
	base    berth.Config
	clients clients.Config // the base of Options.Registry
	options Options

	stop    chan struct{}
	done    chan struct{}
	once    sync.Once
	notify  *fsnotify.Watcher // nil: polled
	signals chan os.Signal

	mu   sync.Mutex // guards last, and serialises reloads
	last *File
}

// Options configure a Watcher. The zero Options watch the file's directory and SIGHUP, and
// report nothing.
type Options struct {
	// Environ comes over the file; nil is os.Environ.
	Environ []string

	// Registry has the clients that the file configures, in client_defaults and clients; a
	// file that does is refused without it. It is one over the transport that is watched.
	Registry *clients.Registry

	// Applied is told what a reload has changed in the transport, ClientsApplied what in
	// the clients of Registry; neither when its part of the file says what it said.
	// Failed is told why a file was refused: what was in force stays. They are called one
	// after the other, on the watcher's goroutine; nil is told nothing.
	Applied        func(*berth.Diff)
	ClientsApplied func(*clients.Diff)
	Failed         func(error)

	// IgnoreSIGHUP leaves the signal to the program, which may call Reload.
	IgnoreSIGHUP bool

	// Poll looks at the file so often, instead of being told of changes: for file systems
	// that do not tell. Zero is never.
	Poll time.Duration
}

// settled is how long a directory must be quiet before the file is read: editors and
// deployments change it in several steps.
const settled = 50 * time.Millisecond

// longest is how long a change waits for that at most.
const longest = 500 * time.Millisecond

// Watch reads the file, has the transport and Options.Registry do what it says, and goes on
// to do so whenever the file changes or the process gets SIGHUP. What the file does not set
// stays as in their configurations at this moment. A file that is invalid in either part
// changes nothing. The error is Load's or Apply's, or an *Error for clients without a
// Registry; then nothing is watched. Close ends it.
//
// The file should be replaced by renaming another one over it: one that is written in
// place may be read half written.
func Watch(tr *berth.Transport, path string, o Options) (*Watcher, error) {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	w := &Watcher{path: path, tr: tr, base: tr.Config(), options: o, stop: make(chan struct{}), done: make(chan struct{})}
	if o.Registry != nil {
		w.clients = o.Registry.Config()
	}
	if o.Poll <= 0 {
		var err error
		if w.notify, err = fsnotify.NewWatcher(); err != nil {
			return nil, fmt.Errorf("watch %s: %w", path, err)
		}
		// The directory: the file itself may be replaced, or be a link that changes.
		if err := w.notify.Add(filepath.Dir(path)); err != nil {
			w.notify.Close()
			return nil, fmt.Errorf("watch %s: %w", path, err)
		}
	}
	if _, err := w.Reload(); err != nil {
		if w.notify != nil {
			w.notify.Close()
		}
		return nil, err
	}
	if !o.IgnoreSIGHUP {
		w.signals = make(chan os.Signal, 1)
		signal.Notify(w.signals, syscall.SIGHUP)
	}
	go w.run()
	return w, nil
}

// Reload reads the file now and has the transport and the clients do what it says. It
// returns what has changed in the transport; nil when that part of the file says what it
// said. The error is as in Watch.
func (w *Watcher) Reload() (*berth.Diff, error) {
	d, _, err := w.apply()
	return d, err
}

// apply is Reload that returns the clients' changes too.
func (w *Watcher) apply() (d *berth.Diff, c *clients.Diff, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := Load(w.path, w.options.Environ)
	if err != nil {
		return nil, nil, err
	}
	reg := w.options.Registry
	if f.hasClients() && reg == nil {
		return nil, nil, &Error{File: w.path, Line: f.first.Line, Column: f.first.Column, Reason: "configures clients, and Options.Registry, which would have them, is not set"}
	}
	transport, named := true, f.hasClients()
	if w.last != nil {
		f.keepTLS(w.last)
		transport, named = !f.sameTransport(w.last), reg != nil && !f.sameClients(w.last)
	}
	var cfg clients.Config
	if named { // refused, it must not leave the transport's part in force
		cfg = f.OverClients(w.clients)
		if _, err := reg.Compare(cfg); err != nil {
			return nil, nil, err
		}
	}
	if transport { // refused, it changes nothing by itself
		if d, err = w.tr.Apply(f.Over(w.base)); err != nil {
			return nil, nil, err
		}
	}
	if named {
		if c, err = reg.Apply(cfg); err != nil { // closed meanwhile
			return d, nil, err
		}
	}
	w.last = f
	return d, c, nil
}

// keepTLS takes over the TLS configurations of before that are the same: another one would
// have connections be replaced.
func (f *File) keepTLS(before *File) {
	for i := range f.Config.Rules {
		for j := range before.Config.Rules {
			if old := before.Config.Rules[j].TLS; old != nil && sameTLS(old, f.Config.Rules[i].TLS) {
				f.Config.Rules[i].TLS = old
			}
		}
	}
}

// Close ends the watch and returns when no reload is under way. What is in force stays.
func (w *Watcher) Close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.done
	return nil
}

func (w *Watcher) run() {
	defer close(w.done)
	var (
		events <-chan fsnotify.Event
		errs   <-chan error
		tick   <-chan time.Time
	)
	if w.notify != nil {
		defer w.notify.Close()
		events, errs = w.notify.Events, w.notify.Errors
	} else {
		t := time.NewTicker(w.options.Poll)
		defer t.Stop()
		tick = t.C
	}
	if w.signals != nil {
		defer signal.Stop(w.signals)
	}
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	var first time.Time // of the changes that were not looked at
	for {
		select {
		case <-w.stop:
			return
		case <-events:
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) < longest {
				quiet.Reset(settled)
			}
		case err := <-errs:
			w.failed(fmt.Errorf("watch %s: %w", w.path, err))
			quiet.Reset(settled) // events may have been lost
		case <-quiet.C:
			first = time.Time{}
			w.reload()
		case <-tick:
			w.reload()
		case <-w.signals:
			w.reload()
		}
	}
}

func (w *Watcher) reload() {
	d, c, err := w.apply()
	switch {
	case errors.Is(err, os.ErrNotExist) && w.options.Poll <= 0:
		w.failed(fmt.Errorf("%w: what was in force stays", err))
	case err != nil:
		w.failed(err)
	}
	if d != nil && w.options.Applied != nil {
		w.options.Applied(d)
	}
	if c != nil && w.options.ClientsApplied != nil {
		w.options.ClientsApplied(c)
	}
}

func (w *Watcher) failed(err error) {
	if w.options.Failed != nil {
		w.options.Failed(err)
	}
}
