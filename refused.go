package berth

import (
	"fmt"
	"net/netip"
)

// AddrInfo is what a connection is about to be opened to.
type AddrInfo struct {
	Endpoint string         // as [Endpoint.String] has it, with the group and the proxy
	Host     string         // the name or address that is dialled: the proxy's when there is one; "" for a socket
	Addr     netip.AddrPort // the zero AddrPort when it is not known: a socket, or the caller's own dial function has returned something else than TCP
	Proxy    bool           // it is the proxy's; the origin's address is the proxy's to find
	Socket   string         // the path of a Unix domain socket; "" for none
}

// AddrRefusedError: Config.AllowAddr, or the group's ([Group.SetAllowAddr]), does not allow
// a connection to the addresses that the host's name stands for. It unwraps to what that
// said of the last one. Nothing was sent. It holds nobody up: the next request asks again.
// Code BERTH1023.
type AddrRefusedError struct {
	notSent
	Endpoint string
	Addr     netip.AddrPort // of the last that was refused
	Err      error
}

func (e *AddrRefusedError) Error() string {
	at := ""
	if e.Addr.IsValid() {
		at = " at " + e.Addr.String()
	}
	return fmt.Sprintf("berth: %s%s is not allowed: %v [BERTH1023]", e.Endpoint, at, e.Err)
}

// Unwrap returns the cause.
func (e *AddrRefusedError) Unwrap() error { return e.Err }

// Code returns BERTH1023.
func (e *AddrRefusedError) Code() string { return "BERTH1023" }

// WouldQueueError: no connection to the endpoint was free, none could be opened at once,
// and the request's context says that it is not to queue ([WithoutQueue]). Nothing was
// sent. Code BERTH1024.
type WouldQueueError struct {
	notSent
	Endpoint string
}

func (e *WouldQueueError) Error() string {
	return fmt.Sprintf("berth: no connection to %s is free, and the request is not to queue [BERTH1024]", e.Endpoint)
}

// Code returns BERTH1024.
func (e *WouldQueueError) Code() string { return "BERTH1024" }
