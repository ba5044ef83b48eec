package dial

import "syscall"

// Windows Sockets error codes that package syscall does not name.
const (
	wsaEMFILE        = syscall.Errno(10024)
	wsaEADDRINUSE    = syscall.Errno(10048)
	wsaEADDRNOTAVAIL = syscall.Errno(10049)
	wsaENOBUFS       = syscall.Errno(10055)
)

// exhaustedBy knows what Windows says: WSAEADDRINUSE when the dynamic ports are
// used up, WSAENOBUFS for want of buffers or ports.
func exhaustedBy(errno syscall.Errno) Resource {
	switch errno {
	case wsaEADDRINUSE, wsaEADDRNOTAVAIL:
		return Ports
	case wsaEMFILE:
		return Descriptors
	case wsaENOBUFS:
		return Memory
	}
	return None
}

// noSuchAddress is what bind says of an address that is none of this host's.
func noSuchAddress(errno syscall.Errno) bool { return errno == wsaEADDRNOTAVAIL }
