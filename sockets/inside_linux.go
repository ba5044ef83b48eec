package sockets

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside calls f in the network namespace of a process, 0 for our own, so that List and
// Sysctl tell of it. That takes CAP_SYS_ADMIN; the error is an *os.PathError or an
// *os.SyscallError when it cannot be entered, else f's. f must not start goroutines that
// are to be inside as well. A panic of f ends the program.
func Inside(pid int, f func() error) error {
	if pid == 0 {
		return f()
	}
	ns, err := os.Open(procOf(pid) + "/ns/net")
	if err != nil {
		return err
	}
	defer ns.Close()
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// onOwnThread calls f on a thread that ends afterwards, so that nobody else finds himself
// in another namespace. The main thread cannot end, and /proc/net is what it sees: it is
// held while another is used.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() { // awaited below
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}
