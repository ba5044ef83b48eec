//go:build !unix && !windows

package dial

import "syscall"

// exhaustedBy knows no codes of this system.
func exhaustedBy(syscall.Errno) Resource { return None }

func noSuchAddress(syscall.Errno) bool { return false }
