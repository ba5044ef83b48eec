package dial

import (
	"errors"
	"os"
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
	if errors.As(err, new(*BusyError)) {
		return Ports
	}
	if !errors.As(err, &errno) {
		return None
	}
	r := exhaustedBy(errno)
	if call, ok := errors.AsType[*os.SyscallError](err); ok && r == Ports && call.Syscall == "bind" && noSuchAddress(errno) {
		return None // the address to come from is not one of this host
	}
	return r
}
