package sockets

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"time"
)

// commandTime is how long a command of the system may take.
const commandTime = 10 * time.Second

func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	b, err := cmd.Output()
	return string(b), err
}

// List returns the TCP sockets of this host that f selects, as netstat tells them, with
// their owners. It may block for 10 seconds.
func List(ctx context.Context, f Filter) (Table, error) {
	t := Table{Source: "netstat"}
	text, err := output(ctx, "/usr/sbin/netstat", "-anvl", "-p", "tcp")
	if err != nil {
		return t, err
	}
	all, _, err := parseNetstat(text)
	for _, s := range all {
		if f.matches(&s) {
			t.Sockets = append(t.Sockets, s)
		}
	}
	return t, err
}

// Own returns the sockets that this process has open.
func Own(sockets []Socket) ([]Socket, error) { return ownByPID(sockets), nil }

// EphemeralPorts returns the first and the last port that the kernel chooses for
// outgoing connections.
func EphemeralPorts() (lo, hi uint16, err error) {
	text, err := output(context.Background(), "/usr/sbin/sysctl", "net.inet.ip.portrange.first", "net.inet.ip.portrange.last")
	if err != nil {
		return 0, 0, err
	}
	return parsePortRange(text, false)
}

// ReadOwners names the processes. Which socket is whose, List has told.
func ReadOwners(ctx context.Context) (*Owners, error) {
	text, err := output(ctx, "/bin/ps", "-axo", "pid=,comm=")
	if err != nil {
		return nil, err
	}
	o := &Owners{Processes: map[int]Process{}}
	for pid, program := range parsePS(text) {
		o.Processes[pid] = Process{PID: pid, Name: path.Base(program), Program: program}
	}
	return o, nil
}

// Files tells of this process alone, which is pid 0.
func Files(pid int) (used int, limit uint64, err error) {
	if pid != 0 && pid != os.Getpid() {
		return 0, 0, errors.ErrUnsupported
	}
	entries, err := os.ReadDir("/dev/fd")
	return len(entries), 0, err
}
