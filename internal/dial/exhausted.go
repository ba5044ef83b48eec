package dial

import (
	"errors"
	"syscall"
)

// Resource is what this host has run out of.
type Resource uint8

const (
	None        Resource = iota
	Ports                // ephemeral ports to the destination, or of the source address
	Descriptors          // of the process, or of the system
	Memory               // socket buffers
)

func (r Resource) String() string {
	return [...]string{"", "ports", "descriptors", "memory"}[r]
}

// Exhausted says which resource of this host a dial failed for want of.
func Exhausted(err error) Resource {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return None
	}
	return exhaustedBy(errno)
}
