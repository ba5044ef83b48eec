package policyfile

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/berth-go/berth"
)

// Watcher has a transport follow a file.
type Watcher struct {
	path    string
	tr      *berth.Transport
	base    berth.Config
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

	// Applied is told what a reload has changed; nothing when the file says what it said.
	// Failed is told why one was refused: what was in force stays. They are called one
	// after the other, on the watcher's goroutine; nil is told nothing.
	Applied func(*berth.Diff)
	Failed  func(error)

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

// Watch reads the file, has the transport do what it says, and goes on to do so whenever
// the file changes or the process gets SIGHUP. What the file does not set stays as in the
// transport's configuration at this moment. A file that is invalid changes nothing. The
// error is Load's or Apply's; then nothing is watched. Close ends it.
//
// The file should be replaced by renaming another one over it: one that is written in
// place may be read half written.
func Watch(tr *berth.Transport, path string, o Options) (*Watcher, error) {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	w := &Watcher{path: path, tr: tr, base: tr.Config(), options: o, stop: make(chan struct{}), done: make(chan struct{})}
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

// Reload reads the file now and has the transport do what it says. It returns what has
// changed; nil when nothing has.
func (w *Watcher) Reload() (*berth.Diff, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := Load(w.path, w.options.Environ)
	if err != nil {
		return nil, err
	}
	if w.last != nil {
		f.keepTLS(w.last)
		if reflect.DeepEqual(f, w.last) {
			return nil, nil
		}
	}
	d, err := w.tr.Apply(f.Over(w.base))
	if err != nil {
		return nil, err
	}
	w.last = f
	return d, nil
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
	d, err := w.Reload()
	switch {
	case errors.Is(err, os.ErrNotExist) && w.options.Poll <= 0:
		w.failed(fmt.Errorf("%w: what was in force stays", err))
	case err != nil:
		w.failed(err)
	case d != nil && w.options.Applied != nil:
		w.options.Applied(d)
	}
}

func (w *Watcher) failed(err error) {
	if w.options.Failed != nil {
		w.options.Failed(err)
	}
}
