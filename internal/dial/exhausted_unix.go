//go:build unix

package dial

import "syscall"

// exhaustedBy knows what connect(2), bind(2) and socket(2) say: EADDRNOTAVAIL when
// no port to the destination is left, EADDRINUSE when the source address has none.
func exhaustedBy(errno syscall.Errno) Resource {
	switch errno {
	case syscall.EADDRNOTAVAIL, syscall.EADDRINUSE:
		return Ports
	case syscall.EMFILE, syscall.ENFILE:
		return Descriptors
	case syscall.ENOBUFS, syscall.ENOMEM:
		return Memory
	}
	return None
}

// noSuchAddress is what bind(2) says of an address that is none of this host's.
func noSuchAddress(errno syscall.Errno) bool { return errno == syscall.EADDRNOTAVAIL }
