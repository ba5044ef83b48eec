package main

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// start starts a process, on one core alone if pinned. Client and server on the
// same core: on separate ones the waking of an idle core costs more than any
// client does, and hides them all.
func start(cmd *exec.Cmd, pinned bool) error {
	if !pinned {
		return cmd.Start()
	}
	// A child has the affinity of the thread that makes it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	defer unix.SchedSetaffinity(0, &all)
	return cmd.Start()
}
