package dial

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// stagger is the Connection Attempt Delay of RFC 8305 §5.
const stagger = 250 * time.Millisecond

// race tries the addresses in their order, the next one when the one before has
// failed or is slow, and returns the first connection. The others are cancelled;
// race returns when all attempts have ended, with the winner's address. The error is
// the first that occurred: it belongs to the address that was preferred.
func race(ctx context.Context, addrs []netip.AddrPort, connect func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, netip.AddrPort, error) {
	if len(addrs) == 1 {
		c, err := connect(ctx, addrs[0])
		return c, addrs[0], err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type result struct {
		conn net.Conn
		addr netip.AddrPort
		err  error
	}
	results := make(chan result)
	running := 0
	start := func() {
		addr := addrs[0]
		addrs = addrs[1:]
		running++
		go func() { // race receives every result before it returns
			c, err := connect(ctx, addr)
			results <- result{c, addr, err}
		}()
	}
	start()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	var (
		winner   net.Conn
		addr     netip.AddrPort
		firstErr error
	)
	for running > 0 {
		select {
		case r := <-results:
			running--
			switch {
			case r.err == nil && winner == nil:
				winner, addr = r.conn, r.addr
				addrs = nil
				cancel()
			case r.err == nil:
				r.conn.Close()
			case firstErr == nil:
				firstErr = r.err
			}
			if winner == nil && len(addrs) > 0 && ctx.Err() == nil {
				start()
				timer.Reset(stagger)
			}
		case <-timer.C:
			if len(addrs) > 0 {
				start()
				timer.Reset(stagger)
			}
		}
	}
	if winner != nil {
		return winner, addr, nil
	}
	return nil, addr, firstErr
}
