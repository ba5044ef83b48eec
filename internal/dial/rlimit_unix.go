//go:build unix

package dial

import "syscall"

// DescriptorLimit returns how many files and sockets the process may have open; 0 when
// that is not known.
func DescriptorLimit() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return int(r.Cur)
}
