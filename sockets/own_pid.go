//go:build darwin || windows

package sockets

import "os"

func ownByPID(sockets []Socket) []Socket {
	var own []Socket
	for _, s := range sockets {
		if s.PID == os.Getpid() {
			own = append(own, s)
		}
	}
	return own
}
