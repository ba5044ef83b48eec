//go:build !linux

package dial

// SocketCounts returns -1: this system does not tell.
func SocketCounts() (inUse, timeWait int) { return -1, -1 }
