//go:build !linux && !darwin && !windows

package sockets

import (
	"context"
	"runtime"
)

func unsupported() error {
	return &UnsupportedError{OS: runtime.GOOS, Command: "netstat -an -p tcp"}
}

// List returns an *UnsupportedError on this system.
func List(context.Context, Filter) (Table, error) { return Table{}, unsupported() }

// Own returns an *UnsupportedError on this system.
func Own([]Socket) ([]Socket, error) { return nil, unsupported() }

// EphemeralPorts returns an *UnsupportedError on this system.
func EphemeralPorts() (lo, hi uint16, err error) { return 0, 0, unsupported() }

// ReadOwners returns an *UnsupportedError on this system.
func ReadOwners(context.Context) (*Owners, error) { return nil, unsupported() }

// Files returns an *UnsupportedError on this system.
func Files(int) (used int, limit uint64, err error) { return 0, 0, unsupported() }
