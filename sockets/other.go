//go:build !linux

package sockets

import (
	"context"
	"runtime"
)

func unsupported() error {
	command := "netstat -an -p tcp"
	switch runtime.GOOS {
	case "darwin":
		command = "netstat -anv -p tcp"
	case "windows":
		command = "netstat -ano -p tcp"
	}
	return &UnsupportedError{OS: runtime.GOOS, Command: command}
}

// List returns an *UnsupportedError on this system.
func List(context.Context, Filter) (Table, error) { return Table{}, unsupported() }

// Own returns an *UnsupportedError on this system.
func Own([]Socket) ([]Socket, error) { return nil, unsupported() }

// EphemeralPorts returns an *UnsupportedError on this system.
func EphemeralPorts() (lo, hi uint16, err error) { return 0, 0, unsupported() }
