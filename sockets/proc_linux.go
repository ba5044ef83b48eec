package sockets

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// userHZ is the unit of the times in /proc: 100 a second on every architecture
// that Go runs on.
const userHZ = 10 * time.Millisecond

var errProcLine = errors.New("not a socket")

// parseProcLine reads one line of /proc/net/tcp or tcp6:
//
//	sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
func parseProcLine(line string) (s Socket, err error) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return s, errProcLine
	}
	if s.Local, err = parseProcAddr(f[1]); err != nil {
		return s, err
	}
	if s.Remote, err = parseProcAddr(f[2]); err != nil {
		return s, err
	}
	state, err := strconv.ParseUint(f[3], 16, 8)
	if err != nil {
		return s, errProcLine
	}
	s.State = State(state).normal()
	if s.SendQ, s.RecvQ, err = parsePair(f[4]); err != nil {
		return s, err
	}
	if timer, when, err := parsePair(f[5]); err != nil {
		return s, err
	} else if timer != 0 {
		s.Timer = time.Duration(when) * userHZ
	}
	uid, err1 := strconv.ParseUint(f[7], 10, 32)
	inode, err2 := strconv.ParseUint(f[9], 10, 64)
	if err1 != nil || err2 != nil {
		return s, errProcLine
	}
	s.UID, s.Inode = uint32(uid), inode
	return s, nil
}

// parsePair reads two numbers of 32 bits, in hex, with a colon between.
func parsePair(v string) (a, b uint32, err error) {
	x, y, ok := strings.Cut(v, ":")
	m, err1 := strconv.ParseUint(x, 16, 32)
	n, err2 := strconv.ParseUint(y, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, errProcLine
	}
	return uint32(m), uint32(n), nil
}

// parseProcAddr reads an address, words of 32 bits in the machine's byte order, in
// hex, and a port.
func parseProcAddr(v string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(v, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, errProcLine
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, errProcLine
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	ip, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}
