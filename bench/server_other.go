//go:build !linux

package main

import "net"

func serveFast(ln *net.TCPListener, hold int) { serveEach(ln, hold) }
