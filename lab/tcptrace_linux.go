package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// tracer collects the changes of state of the sockets of one port. It uses an
// instance of its own, so that nobody else's trace is disturbed, under a mount of
// its own, so that the host's mounts are not changed.
type tracer struct {
	mount int    // the mount's descriptor
	dir   string // the instance
}

// startTrace begins a trace. The error says what is not permitted, or not there.
func startTrace(port uint16) (*tracer, error) {
	mount, err := mountTracefs()
	if err != nil {
		return nil, err
	}
	t := &tracer{mount: mount}
	root := fmt.Sprintf("/proc/self/fd/%d", mount)
	dir := filepath.Join(root, "instances", fmt.Sprintf("berth-%d-%d", os.Getpid(), port))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.stop()
		return nil, fmt.Errorf("make an instance of the trace: %w", errors.Unwrap(err))
	}
	t.dir = dir
	for _, set := range []struct{ file, value string }{
		{"trace_clock", "mono"},
		{"buffer_size_kb", "64"},
		{"events/sock/inet_sock_set_state/filter", fmt.Sprintf("sport == %d || dport == %d", port, port)},
		{"events/sock/inet_sock_set_state/enable", "1"},
	} {
		if err := os.WriteFile(filepath.Join(dir, set.file), []byte(set.value), 0); err != nil {
			t.stop()
			return nil, fmt.Errorf("set %s of the trace: %w", set.file, errors.Unwrap(err))
		}
	}
	return t, nil
}

// mountTracefs mounts tracefs where nobody else sees it.
func mountTracefs() (int, error) {
	fs, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("open tracefs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return 0, fmt.Errorf("set tracefs up: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("mount tracefs: %w", err)
	}
	return mount, nil
}

// changes returns what was traced so far.
func (t *tracer) changes() ([]stateChange, error) {
	f, err := os.Open(filepath.Join(t.dir, "trace"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []stateChange
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		c, ok, err := parseTraceLine(lines.Text())
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, c)
		}
	}
	return all, lines.Err()
}

// stop ends the trace and leaves nothing behind.
func (t *tracer) stop() {
	if t.dir != "" {
		os.WriteFile(filepath.Join(t.dir, "events/sock/inet_sock_set_state/enable"), []byte("0"), 0)
		os.Remove(t.dir)
	}
	unix.Close(t.mount)
}

// monotonic returns the time of the trace's clock.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every Linux has it
	}
	return time.Duration(ts.Nano())
}
