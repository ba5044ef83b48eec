//go:build !linux

package main

import "os/exec"

// start starts a process. Processes are pinned to a core on Linux alone.
func start(cmd *exec.Cmd, pinned bool) error { return cmd.Start() }
