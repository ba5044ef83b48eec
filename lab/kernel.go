package lab

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/berth-go/berth/sockets"
)

// NotObserved stands in a Variant for what this system does not show, or this
// scale does not measure.
const NotObserved = "not observed"

// clientSockets returns the client's ends of the connections to a server.
func clientSockets(ctx context.Context, server netip.AddrPort, states ...sockets.State) ([]sockets.Socket, error) {
	t, err := sockets.List(ctx, sockets.Filter{States: states, Remote: server.Addr(), RemotePort: server.Port()})
	return t.Sockets, err
}

// watch samples how many connections to server the kernel shows as established.
// stop ends it and returns the most that it saw, and false where the kernel does
// not show them.
func watch(ctx context.Context, server netip.AddrPort) (stop func() (most int, ok bool)) {
	ctx, cancel := context.WithCancel(ctx)
	var (
		wg   sync.WaitGroup
		most int
		err  error
	)
	look := func() {
		var found []sockets.Socket
		if found, err = clientSockets(ctx, server, sockets.Established); err == nil {
			most = max(most, len(found))
		}
	}
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				look()
			}
			if unsupported(err) {
				return
			}
		}
	})
	return func() (int, bool) {
		cancel()
		wg.Wait()
		return most, !unsupported(err)
	}
}

func unsupported(err error) bool {
	_, ok := errors.AsType[*sockets.UnsupportedError](err)
	return ok
}
