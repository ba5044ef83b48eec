package main

import (
	"context"
	"net"
)

// The clients of the ablation: what a request costs without one thing or another.
const (
	berthWrapped = "berth, wrapped socket" // ADR 7 and 8 do not apply: watch armed at once, three system calls
	rawParked    = "raw, parked at once"   // two system calls: the floor of what berth does
	callerAlone  = "caller alone"          // a context and a request, and nothing sent
)

// wrapped is a socket that is no *net.TCPConn any more, as one that somebody counts
// the bytes of.
type wrapped struct{ *net.TCPConn }

func (c *client) dialWrapped(ctx context.Context, network, addr string) (net.Conn, error) {
	nc, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return wrapped{nc.(*net.TCPConn)}, nil
}

// useNothing makes requests and sends none.
func (c *client) useNothing(l load) {
	c.worker = func() (func() error, error) {
		next, err := requests(l)
		if err != nil {
			return nil, err
		}
		return func() error {
			_, cancel := next()
			cancel()
			return nil
		}, nil
	}
}
