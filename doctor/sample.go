package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/berth-go/berth/sockets"
)

// Sample is one look at a host.
type Sample struct {
	Time      time.Time
	Source    string                  // of the socket table
	Namespace string                  // of the network, where there are any
	Sockets   []sockets.Socket        // with their owners
	Between   []sockets.Socket        // that lived, some of them shortly, since the look before
	Processes map[int]sockets.Process // by process id
	Unseen    int                     // processes whose sockets have no owner here, for want of a privilege
	Elsewhere int                     // processes in other network namespaces
	Counters  sockets.Counters
	Settings  map[string]string // sysctls, by name; and "ephemeral ports" where there are none
	Programs  []Program
	Missing   []Missing
}

// Missing is something that could not be read.
type Missing struct {
	What string
	Err  string
}

// settings are the sysctls that the checks read.
var settings = [...]string{
	"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_tw_reuse_delay", "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_timestamps",
	"net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans",
	"net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_abort_on_overflow", "net.core.somaxconn",
	"net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max",
	"fs.file-max", "fs.file-nr",
}

// Take looks once. A part that cannot be read is told in Sample.Missing; the error says
// that the socket table cannot be read, that a process of o.PIDs does not exist, or is
// ctx's. It blocks for at most some seconds: reading a program of o.From is given up
// after 3.
func Take(ctx context.Context, o Options) (Sample, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Sample{}, err
	}
	inside, err := namespaceOf(o.PIDs)
	if err != nil {
		return Sample{}, err
	}
	return take(ctx, o, inside, nil)
}

// take looks in the network namespace of a process, 0 for our own. The programs in
// broken are not asked again.
func take(ctx context.Context, o Options, inside int, broken map[string]string) (Sample, error) {
	var programs []Program
	var reading sync.WaitGroup
	reading.Go(func() { programs = readPrograms(ctx, o.From, broken) })
	defer reading.Wait()

	s := Sample{Settings: map[string]string{}}
	t, err := sockets.ListOf(ctx, inside, sockets.Filter{Details: true})
	if err != nil {
		return s, fmt.Errorf("doctor: read the socket table: %w", err)
	}
	s.Time, s.Source, s.Sockets = time.Now(), t.Source, t.Sockets
	if s.Namespace, err = sockets.NetworkNamespace(inside); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		s.missing("network namespace", err)
	}
	s.readOwners(ctx)
	s.readKernel(inside)
	reading.Wait()
	s.Programs = programs
	if ctx.Err() != nil {
		return s, context.Cause(ctx)
	}
	return s, nil
}

func (s *Sample) missing(what string, err error) {
	s.Missing = append(s.Missing, Missing{what, err.Error()})
}

func (s *Sample) readOwners(ctx context.Context) {
	owners, err := sockets.ReadOwners(ctx)
	if err != nil {
		s.missing("owners of sockets", err)
		return
	}
	owners.Attribute(s.Sockets)
	s.Processes, s.Unseen = owners.Processes, owners.Unseen
	for _, p := range owners.Processes {
		if p.Namespace != "" && s.Namespace != "" && p.Namespace != s.Namespace {
			s.Elsewhere++
		}
	}
}

func (s *Sample) readKernel(inside int) {
	if runtime.GOOS == "linux" {
		var err error
		if s.Counters, err = sockets.ReadCounters(inside); err != nil {
			s.missing("counters of the kernel", err)
		}
	}
	for _, name := range settings {
		v, err := sockets.Sysctl(name)
		switch {
		case err == nil:
			s.Settings[name] = v
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported):
			s.missing(name, err)
		}
	}
	if inside != 0 {
		// Those under net. are of our namespace, not of the one looked at.
		for name := range s.Settings {
			if name != "fs.file-max" && name != "fs.file-nr" {
				delete(s.Settings, name)
			}
		}
		s.missing("net sysctls", errors.New("those of another network namespace show inside it only: nsenter"))
	}
	if s.Settings["net.ipv4.ip_local_port_range"] == "" && inside == 0 {
		if lo, hi, err := sockets.EphemeralPorts(); err == nil {
			s.Settings["net.ipv4.ip_local_port_range"] = fmt.Sprintf("%d %d", lo, hi)
		} else {
			s.missing("ephemeral ports", err)
		}
	}
}

// namespaceOf returns a process through which to look at the network of pids, or 0
// where that is our own.
func namespaceOf(pids []int) (int, error) {
	own, err := sockets.NetworkNamespace(0)
	if err != nil {
		return 0, nil // there are none, or all that we see is ours
	}
	first := ""
	for i, pid := range pids {
		ns, err := sockets.NetworkNamespace(pid)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, &OptionError{"pid", fmt.Sprintf("no process %d", pid)}
		}
		if err != nil {
			ns = own // not ours to see; its sockets are not either
		}
		if i > 0 && ns != first {
			return 0, &OptionError{"pid", fmt.Sprintf("%d and %d live in different network namespaces: examine one at a time", pids[0], pid)}
		}
		first = ns
	}
	if len(pids) == 0 || first == own {
		return 0, nil
	}
	return pids[0], nil
}

// maxBetween bounds how many sockets are remembered between two looks.
const maxBetween = 10_000

// between waits for the interval and looks, cheaply, ten times meanwhile: a connection
// that lives for a moment leaves a TIME_WAIT without an owner, and to name the process
// it must be met alive. Looking at owners takes at most a tenth of the time. Only
// sock_diag is fast enough for it.
func between(ctx context.Context, o Options, a *Sample) ([]sockets.Socket, error) {
	end := time.NewTimer(o.Interval - min(time.Since(a.Time), o.Interval))
	defer end.Stop()
	tick := time.NewTicker(max(o.Interval/10, 10*time.Millisecond))
	defer tick.Stop()
	known := map[uint64]bool{}
	for _, s := range a.Sockets {
		known[s.Inode] = true
	}
	known[0] = true
	alive := []sockets.State{sockets.Established, sockets.SynSent, sockets.FinWait1, sockets.FinWait2, sockets.CloseWait, sockets.LastAck, sockets.Closing}
	var seen []sockets.Socket
	var spent time.Duration
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-end.C:
			return seen, nil
		case <-tick.C:
		}
		if a.Source != "sock_diag" || len(seen) >= maxBetween || spent > o.Interval/10 {
			continue
		}
		began := time.Now()
		t, err := sockets.List(ctx, sockets.Filter{States: alive})
		if err != nil {
			continue // the second look will tell
		}
		fresh := slices.DeleteFunc(t.Sockets, func(s sockets.Socket) bool { return known[s.Inode] })
		if len(fresh) > 0 {
			if owners, err := sockets.ReadOwners(ctx); err == nil {
				owners.Attribute(fresh)
			}
		}
		for _, s := range fresh {
			known[s.Inode] = true
		}
		seen = append(seen, fresh...)
		spent += time.Since(began)
	}
}
