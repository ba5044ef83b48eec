//go:build !linux

package sockets

import (
	"context"
	"errors"
)

// What only Linux has.

// ListOf returns the sockets of this host for pid 0, and else errors.ErrUnsupported:
// there are no network namespaces.
func ListOf(ctx context.Context, pid int, f Filter) (Table, error) {
	if pid != 0 {
		return Table{}, errors.ErrUnsupported
	}
	return List(ctx, f)
}

// Inside calls f for pid 0, and else returns errors.ErrUnsupported.
func Inside(pid int, f func() error) error {
	if pid != 0 {
		return errors.ErrUnsupported
	}
	return f()
}

// NetworkNamespace returns errors.ErrUnsupported on this system.
func NetworkNamespace(int) (string, error) { return "", errors.ErrUnsupported }

// ReadCounters returns errors.ErrUnsupported on this system.
func ReadCounters(int) (Counters, error) { return Counters{}, errors.ErrUnsupported }

// Sysctl returns errors.ErrUnsupported on this system.
func Sysctl(string) (string, error) { return "", errors.ErrUnsupported }
