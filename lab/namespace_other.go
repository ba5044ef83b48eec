//go:build !linux

package lab

import (
	"context"
	"net"
	"runtime"

	"github.com/berth-go/berth/sockets"
)

// network is a network namespace, which Linux alone has.
type network struct{}

func newNetwork() (*network, error) { return nil, onLinuxAlone() }

func onLinuxAlone() error { return &lackingError{"Linux alone has them, not " + runtime.GOOS} }

func askChild(context.Context, order) (reply, error) {
	return reply{Lacking: onLinuxAlone().Error()}, nil
}

func (*network) set(string, string) error { return onLinuxAlone() }

func (*network) listenBeyond() (net.Listener, error) { return nil, onLinuxAlone() }

func (*network) counters() (sockets.Counters, error) { return nil, onLinuxAlone() }

const trackedEstablished, trackedTimeWait = 3, 7

func (*network) track() error { return onLinuxAlone() }

func (*network) exempt() error { return onLinuxAlone() }

func (*network) fill(byte) error { return onLinuxAlone() }

func (*network) forget() error { return onLinuxAlone() }

func (*network) tracked(string) (entries, longest int, err error) { return 0, 0, onLinuxAlone() }

func (*network) trackDrops() (dropped, early int64, err error) { return 0, 0, onLinuxAlone() }

func (*network) moreFiles() error { return onLinuxAlone() }

func listenWithBacklog(int, bool) (net.Listener, error) { return nil, onLinuxAlone() }
