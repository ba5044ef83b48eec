package sockets

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// List returns the TCP sockets of this network namespace that f selects, in no
// order. It asks sock_diag, and reads /proc when that is refused. The error is the
// one of /proc then, or ctx's.
func List(ctx context.Context, f Filter) (Table, error) {
	t, err := listDiag(ctx, f)
	if err == nil || ctx.Err() != nil {
		return t, err
	}
	t, procErr := listProc(ctx, "/proc/thread-self/net", f)
	if procErr != nil {
		return t, errors.Join(procErr, err)
	}
	return t, nil
}

// ListOf returns the sockets of the network namespace that a process lives in, from
// /proc/PID/net; pid 0 is this process, and List. It tells no Filter.Details.
func ListOf(ctx context.Context, pid int, f Filter) (Table, error) {
	if pid == 0 {
		return List(ctx, f)
	}
	return listProc(ctx, procOf(pid)+"/net", f)
}

// Own returns the sockets that this process has open.
func Own(sockets []Socket) ([]Socket, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("list open files: %w", err)
	}
	inodes := map[uint64]bool{}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := socketInode(target); ok {
			inodes[inode] = true
		}
	}
	var own []Socket
	for _, s := range sockets {
		if s.Inode != 0 && inodes[s.Inode] {
			own = append(own, s)
		}
	}
	return own, nil
}

// EphemeralPorts returns the first and the last port that the kernel chooses for
// outgoing connections.
func EphemeralPorts() (lo, hi uint16, err error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	f := bytes.Fields(b)
	if len(f) == 2 {
		a, err1 := strconv.ParseUint(string(f[0]), 10, 16)
		z, err2 := strconv.ParseUint(string(f[1]), 10, 16)
		if err1 == nil && err2 == nil {
			return uint16(a), uint16(z), nil
		}
	}
	return 0, 0, &FormatError{Source: file, Detail: "not two ports"}
}

// listProc reads the files tcp and tcp6 of a directory like /proc/net.
func listProc(ctx context.Context, dir string, f Filter) (Table, error) {
	t := Table{Source: "/proc/net/tcp"}
	for i, file := range []string{dir + "/tcp", dir + "/tcp6"} {
		b, err := os.ReadFile(file)
		if i > 0 && errors.Is(err, os.ErrNotExist) {
			break // no IPv6
		}
		if err != nil {
			return t, err
		}
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
		all, err := parseProc(b)
		if err != nil {
			return t, &FormatError{Source: file, Detail: err.Error()}
		}
		for _, s := range all {
			if f.matches(&s) {
				t.Sockets = append(t.Sockets, s)
			}
		}
	}
	return t, nil
}

// parseProc reads the text of /proc/net/tcp or tcp6.
func parseProc(b []byte) ([]Socket, error) {
	var out []Socket
	sc := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; sc.Scan(); n++ {
		if n == 1 {
			continue // the heading
		}
		s, err := parseProcLine(sc.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, s)
	}
	return out, sc.Err()
}
