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
	Short     map[int]int             // by process id: sockets of any kind that it had open between the looks and at neither
	Processes map[int]sockets.Process // by process id
	Unseen    int                     // processes whose sockets have no owner here, for want of a privilege
	Elsewhere int                     // processes in other network namespaces
	Counters  sockets.Counters
	Settings  map[string]string // sysctls, by name; and "ephemeral ports" where there are none
	Programs  []Program
	Missing   []Missing

	owners *sockets.Owners
}

// Missing is something that could not be read.
type Missing struct {
	What string
	Err  string
}

// settings are the sysctls that the checks read, those of the host first.
var settings = []string{
	"fs.file-max", "fs.file-nr",
	"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_tw_reuse_delay", "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_timestamps",
	"net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans",
	"net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_abort_on_overflow", "net.core.somaxconn",
	"net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max",
}

// Take looks once. A part that cannot be read is told in Sample.Missing; the error says
// that the socket table cannot be read, that a process of o.PIDs does not exist or may
// not be looked at, or is ctx's. It blocks for at most some seconds: reading a program of o.From is given up
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
	t, err := list(ctx, inside, sockets.Filter{Details: true})
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

// list reads the table of the network namespace of a process: from inside where that is
// allowed, else from /proc, which tells less.
func list(ctx context.Context, inside int, f sockets.Filter) (t sockets.Table, err error) {
	err = sockets.Inside(inside, func() (err error) {
		t, err = sockets.List(ctx, f)
		return err
	})
	if err != nil && inside != 0 && ctx.Err() == nil {
		return sockets.ListOf(ctx, inside, f)
	}
	return t, err
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
	s.owners = owners
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
	read := func(names []string) {
		for _, name := range names {
			v, err := sockets.Sysctl(name)
			switch {
			case err == nil:
				s.Settings[name] = v
			case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported):
				s.missing(name, err)
			}
		}
	}
	const host = 2 // the first are of the host, the rest of a namespace
	read(settings[:host])
	if err := sockets.Inside(inside, func() error { read(settings[host:]); return nil }); err != nil {
		s.missing("net.* sysctls", err)
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
		if _, _, filesErr := sockets.Files(pid); errors.Is(filesErr, fs.ErrPermission) {
			return 0, fmt.Errorf("doctor: whose sockets process %d has, only its user and root may see: %w", pid, filesErr)
		}
		if err != nil {
			ns = own
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

// meeting is what was met between two looks.
type meeting struct {
	sockets []sockets.Socket
	opened  map[uint64]int // sockets of any kind that were not there at the first look, and whose
}

// between waits for the interval and looks, cheaply, ten times meanwhile: a connection
// that lives for a moment leaves a TIME_WAIT without an owner, and to name the process
// it must be met alive. Mostly it is gone between a look at the table and one at the
// open files; then that the process had a socket which was there at neither of the two
// looks tells something still. Open files are looked at only when something was opened,
// and take at most a tenth of the time. Only Linux is fast enough for any of it.
func between(ctx context.Context, o Options, inside int, a *Sample) (meeting, error) {
	end := time.NewTimer(o.Interval - min(time.Since(a.Time), o.Interval))
	defer end.Stop()
	tick := time.NewTicker(max(o.Interval/10, 10*time.Millisecond))
	defer tick.Stop()
	known := map[uint64]bool{0: true}
	for _, s := range a.Sockets {
		known[s.Inode] = true
	}
	before := map[uint64]bool{}
	for inode := range a.owners.All() {
		before[inode] = true
	}
	alive := []sockets.State{sockets.Established, sockets.SynSent, sockets.FinWait1, sockets.FinWait2, sockets.CloseWait, sockets.LastAck, sockets.Closing}
	m := meeting{opened: map[uint64]int{}}
	opens := a.Counters["Tcp.ActiveOpens"]
	var spent time.Duration
	for {
		select {
		case <-ctx.Done():
			return m, context.Cause(ctx)
		case <-end.C:
			return m, nil
		case <-tick.C:
		}
		if runtime.GOOS != "linux" || len(m.sockets)+len(m.opened) >= maxBetween || spent > o.Interval/10 {
			continue
		}
		began := time.Now()
		c, _ := sockets.ReadCounters(inside)
		if now := c["Tcp.ActiveOpens"]; now == opens {
			continue
		} else {
			opens = now
		}
		t, err := list(ctx, inside, sockets.Filter{States: alive})
		if err != nil {
			continue // the second look will tell
		}
		owners, err := sockets.ReadOwners(ctx)
		if err != nil {
			continue
		}
		for inode, pid := range owners.All() {
			if !before[inode] {
				m.opened[inode] = pid
			}
		}
		fresh := slices.DeleteFunc(t.Sockets, func(s sockets.Socket) bool { return known[s.Inode] })
		owners.Attribute(fresh)
		for _, s := range fresh {
			known[s.Inode] = true
		}
		m.sockets = append(m.sockets, fresh...)
		spent += time.Since(began)
	}
}

// met adds to the second look what was met before it.
func (s *Sample) met(m meeting) {
	s.Between = m.sockets
	s.Short = map[int]int{}
	for inode := range s.owners.All() {
		delete(m.opened, inode)
	}
	for _, pid := range m.opened {
		if ns := s.Processes[pid].Namespace; ns == s.Namespace || ns == "" {
			s.Short[pid]++
		}
	}
}
