package sockets

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// tcpTableOwnerPIDAll is TCP_TABLE_OWNER_PID_ALL of iprtrmib.h.
const tcpTableOwnerPIDAll = 5

// List returns the TCP sockets of this host that f selects, with their owners, from
// GetExtendedTcpTable.
func List(ctx context.Context, f Filter) (Table, error) {
	t := Table{Source: "iphlpapi"}
	call := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")
	if err := call.Find(); err != nil {
		return t, err
	}
	for _, family := range []uint32{windows.AF_INET, windows.AF_INET6} {
		b, err := tcpTable(ctx, call, family)
		if err != nil {
			return t, err
		}
		all, err := parseTCPTable(b, family == windows.AF_INET6)
		if err != nil {
			return t, err
		}
		for _, s := range all {
			if f.matches(&s) {
				t.Sockets = append(t.Sockets, s)
			}
		}
	}
	return t, nil
}

// tcpTable asks with a larger buffer until the table, which may grow meanwhile, fits.
func tcpTable(ctx context.Context, call *windows.LazyProc, family uint32) ([]byte, error) {
	size := uint32(64 << 10)
	for range 8 {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b := make([]byte, size)
		code, _, _ := call.Call(uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0, uintptr(family), tcpTableOwnerPIDAll, 0)
		switch err := syscall.Errno(code); err {
		case 0:
			return b, nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += size / 8
		default:
			return nil, &FormatError{Source: "GetExtendedTcpTable", Detail: err.Error()}
		}
	}
	return nil, &FormatError{Source: "GetExtendedTcpTable", Detail: "the table grows faster than it is read"}
}

// Own returns the sockets that this process has open.
func Own(sockets []Socket) ([]Socket, error) { return ownByPID(sockets), nil }

// EphemeralPorts returns the first and the last port that the system chooses for
// outgoing connections. It may block for 10 seconds.
func EphemeralPorts() (lo, hi uint16, err error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "netsh.exe"), "int", "ipv4", "show", "dynamicport", "tcp")
	cmd.WaitDelay = time.Second
	b, err := cmd.Output()
	if err != nil {
		return 0, 0, err
	}
	return parsePortRange(string(b), true)
}

// ReadOwners names the processes. Which socket is whose, List has told.
func ReadOwners(ctx context.Context) (*Owners, error) {
	snapshot, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(snapshot)
	o := &Owners{Processes: map[int]Process{}}
	e := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(snapshot, &e); err == nil; err = windows.Process32Next(snapshot, &e) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pid := int(e.ProcessID)
		o.Processes[pid] = Process{PID: pid, Name: windows.UTF16ToString(e.ExeFile[:])}
	}
	if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		err = nil
	}
	return o, err
}

// Files returns errors.ErrUnsupported on this system, which has no such limit.
func Files(int) (used int, limit uint64, err error) { return 0, 0, errors.ErrUnsupported }
