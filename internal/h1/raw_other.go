//go:build !unix

package h1

import "syscall"

// canTryRead says that a descriptor can be read without blocking here. Without it
// a connection is looked at by a read with a deadline, and nothing is done past the
// runtime's reads and writes.
const canTryRead = false

func readDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func writeDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func (r *raw) opError(op string, err error) error { return err }
