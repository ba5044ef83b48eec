package sockets

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"text/tabwriter"
	"time"
)

// Socket is one TCP socket as the kernel shows it.
type Socket struct {
	State  State
	Local  netip.AddrPort // an IPv4 address even when the socket is of IPv6
	Remote netip.AddrPort
	Inode  uint64        // 0 when no process owns it any more, as in TIME_WAIT
	UID    uint32        // owner
	Timer  time.Duration // until the running timer fires, the end of TIME_WAIT for one; 0 when none runs or it is not told
	RecvQ  uint32        // bytes not yet read; for LISTEN, connections not yet accepted
	SendQ  uint32        // bytes not yet acknowledged; for LISTEN, the backlog
	PID    int           // of a process that has it open; 0 when none does, or the table does not tell (see Owners.Attribute)

	// With Filter.Details, from sock_diag only; zero when not told.
	Received uint64        // bytes that arrived in order since the connection began, a FIN counting as one
	LastData time.Duration // since data last arrived
	LastAck  time.Duration // since anything last arrived
}

// Filter selects sockets. The zero Filter selects all.
type Filter struct {
	States     []State    // nil is every state
	Local      netip.Addr // the zero Addr is any
	Remote     netip.Addr
	LocalPort  uint16 // 0 is any
	RemotePort uint16
	Details    bool // ask for Received, LastData and LastAck as well: 300 bytes more a socket
}

func (f *Filter) matches(s *Socket) bool {
	return (f.States == nil || slices.Contains(f.States, s.State)) &&
		(!f.Local.IsValid() || f.Local.Unmap() == s.Local.Addr()) &&
		(!f.Remote.IsValid() || f.Remote.Unmap() == s.Remote.Addr()) &&
		(f.LocalPort == 0 || f.LocalPort == s.Local.Port()) &&
		(f.RemotePort == 0 || f.RemotePort == s.Remote.Port())
}

// Table is what List found, and where.
type Table struct {
	Sockets []Socket
	Source  string // "sock_diag", "/proc/net/tcp", "netstat" or "iphlpapi"
}

// Count counts sockets by state.
func Count(sockets []Socket) map[State]int {
	n := map[State]int{}
	for _, s := range sockets {
		n[s.State]++
	}
	return n
}

// WriteTable writes the sockets as netstat does, sorted by local, then remote
// address.
func WriteTable(w io.Writer, sockets []Socket) error {
	sorted := slices.Clone(sockets)
	slices.SortFunc(sorted, func(a, b Socket) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote), cmp.Compare(a.State, b.State))
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "Proto\tLocal Address\tForeign Address\tState")
	for _, s := range sorted {
		fmt.Fprintf(tw, "tcp\t%v\t%v\t%v\n", s.Local, s.Remote, s.State)
	}
	return tw.Flush()
}

// UnsupportedError: the socket table cannot be read on this system.
type UnsupportedError struct {
	OS      string
	Command string // what shows it by hand
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("socket table cannot be read on %s; by hand: %s", e.OS, e.Command)
}

// FormatError: the kernel's answer could not be understood.
type FormatError struct {
	Source string
	Detail string
}

func (e *FormatError) Error() string { return fmt.Sprintf("read %s: %s", e.Source, e.Detail) }
