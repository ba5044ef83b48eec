//go:build !unix

package h1

// canTryRead says that a descriptor can be read without blocking here. Without it
// a connection is looked at by a read with a deadline.
const canTryRead = false

func (r *Raw) readDescriptor(uintptr) bool { return true }
