//go:build !unix

package h1

// canTryRead says that a descriptor can be read without blocking here. Without it
// a connection is looked at by a read with a deadline.
const canTryRead = false

func (r *Raw) readDescriptor(uintptr) bool { return true }

func (r *Raw) swapDescriptor(uintptr) bool { return true }

func (r *Raw) writeDescriptor(uintptr) bool { return true }

func (r *Raw) opError(op string, err error) error { return err }
