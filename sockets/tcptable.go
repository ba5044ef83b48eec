package sockets

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Sizes of MIB_TCPROW_OWNER_PID and MIB_TCP6ROW_OWNER_PID.
const (
	tcpRow4 = 24
	tcpRow6 = 56
)

// windowsStates are those of MIB_TCP_STATE, by their numbers.
var windowsStates = [...]State{0, Close, Listen, SynSent, SynRecv, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait, Close}

// parseTCPTable reads a MIB_TCPTABLE_OWNER_PID, or with ipv6 a MIB_TCP6TABLE_OWNER_PID,
// of Windows: a number of rows, then the rows, in little endian but for addresses and
// ports. A row in TIME_WAIT has process 0.
func parseTCPTable(b []byte, ipv6 bool) ([]Socket, error) {
	bad := func(format string, args ...any) ([]Socket, error) {
		return nil, &FormatError{Source: "GetExtendedTcpTable", Detail: fmt.Sprintf(format, args...)}
	}
	size := tcpRow4
	if ipv6 {
		size = tcpRow6
	}
	if len(b) < 4 {
		return bad("%d bytes", len(b))
	}
	le, be := binary.LittleEndian, binary.BigEndian
	n, rows := le.Uint32(b), b[4:]
	if uint64(n)*uint64(size) > uint64(len(rows)) {
		return bad("%d rows in %d bytes", n, len(rows))
	}
	list := make([]Socket, 0, n)
	for ; n > 0; n-- {
		r := rows[:size]
		rows = rows[size:]
		var s Socket
		var state uint32
		if ipv6 {
			// local address (16), scope, port; remote address (16), scope, port; state; pid
			s.Local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(r[0:16])).Unmap(), be.Uint16(r[20:]))
			s.Remote = netip.AddrPortFrom(netip.AddrFrom16([16]byte(r[24:40])).Unmap(), be.Uint16(r[44:]))
			state, s.PID = le.Uint32(r[48:]), int(le.Uint32(r[52:]))
		} else {
			// state; local address, port; remote address, port; pid
			s.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(r[4:8])), be.Uint16(r[8:]))
			s.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(r[12:16])), be.Uint16(r[16:]))
			state, s.PID = le.Uint32(r[0:]), int(le.Uint32(r[20:]))
		}
		if state == 0 || int(state) >= len(windowsStates) {
			return bad("state %d", state)
		}
		if s.State = windowsStates[state]; s.State == Listen {
			s.Remote = netip.AddrPortFrom(s.Remote.Addr(), 0) // what stands there means nothing
		}
		list = append(list, s)
	}
	return list, nil
}
