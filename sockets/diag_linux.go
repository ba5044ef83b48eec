package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Constants of linux/sock_diag.h, linux/inet_diag.h and linux/netlink.h.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	nlmFlagDumpIntr  = 0x10

	diagRequestSize = 56 // struct inet_diag_req_v2
	diagMessageSize = 72 // struct inet_diag_msg

	diagInfo = 2 // INET_DIAG_INFO, a struct tcp_info
)

// errChanged: the table changed while the kernel wrote it out.
var errChanged = errors.New("socket table changed while it was read")

// listDiag asks sock_diag for the IPv4 and the IPv6 sockets. The kernel selects
// the states; addresses and ports are selected here.
func listDiag(ctx context.Context, f Filter) (Table, error) {
	t := Table{Source: "sock_diag"}
	for _, family := range []uint8{syscall.AF_INET, syscall.AF_INET6} {
		var found []Socket
		err := errChanged
		for try := 0; try < 5 && errors.Is(err, errChanged); try++ {
			if ctx.Err() != nil {
				return t, context.Cause(ctx)
			}
			found = found[:0]
			err = dump(ctx, diagRequest(family, stateMask(f.States), f.Details), func(s Socket) {
				if f.matches(&s) {
					found = append(found, s)
				}
			})
		}
		if errors.Is(err, errChanged) {
			err = nil // every line is true, some may be missing: no better is to be had
		}
		if err != nil {
			return t, err
		}
		t.Sockets = append(t.Sockets, found...)
	}
	return t, nil
}

func stateMask(states []State) uint32 {
	if states == nil {
		return 1<<(newSynRecv+1) - 1
	}
	var mask uint32
	for _, s := range states {
		mask |= 1 << s
		if s == SynRecv {
			mask |= 1 << newSynRecv
		}
	}
	return mask
}

// dump has the kernel write out the sockets that are asked for. It blocks for at most
// 5 seconds when the kernel does not answer.
func dump(ctx context.Context, request []byte, found func(Socket)) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	// A kernel that does not answer must not hold us up for ever.
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 5})
	for {
		err = syscall.Sendto(fd, request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK})
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return os.NewSyscallError("sendto", err)
		}
	}
	return receive(ctx, fd, found)
}

// receive reads the datagrams of one dump up to its end. ctx is asked between two
// of them. The error is errChanged when the kernel marked any of them so.
func receive(ctx context.Context, fd int, found func(Socket)) error {
	buf := make([]byte, 64<<10)
	changed := false
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, _, flags, _, err := syscall.Recvmsg(fd, buf, nil, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvmsg", err)
		}
		// A cut may fall between two messages, where no length tells of it.
		if flags&syscall.MSG_TRUNC != 0 {
			return &FormatError{Source: "sock_diag", Detail: fmt.Sprintf("datagram longer than %d bytes", len(buf))}
		}
		if n == 0 {
			return &FormatError{Source: "sock_diag", Detail: "empty datagram"}
		}
		done, intr, err := parseDiag(buf[:n], found)
		changed = changed || intr
		switch {
		case err != nil:
			return err
		case done && changed:
			return errChanged
		case done:
			return nil
		}
	}
}

// diagRequest is a struct nlmsghdr and a struct inet_diag_req_v2.
func diagRequest(family uint8, states uint32, details bool) []byte {
	b := make([]byte, syscall.NLMSG_HDRLEN+diagRequestSize)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	r := b[syscall.NLMSG_HDRLEN:]
	r[0], r[1] = family, syscall.IPPROTO_TCP
	if details {
		r[2] = 1 << (diagInfo - 1)
	}
	ne.PutUint32(r[4:], states)
	return b
}

// parseDiag reads one datagram of netlink messages.
func parseDiag(b []byte, found func(Socket)) (done, changed bool, err error) {
	bad := func(detail string) (bool, bool, error) {
		return false, false, &FormatError{Source: "sock_diag", Detail: detail}
	}
	ne := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < syscall.NLMSG_HDRLEN {
			return bad("message header cut short")
		}
		size := int(ne.Uint32(b))
		if size < syscall.NLMSG_HDRLEN || size > len(b) {
			return bad(fmt.Sprintf("message of %d bytes in %d", size, len(b)))
		}
		kind, flags := ne.Uint16(b[4:]), ne.Uint16(b[6:])
		changed = changed || flags&nlmFlagDumpIntr != 0
		body := b[syscall.NLMSG_HDRLEN:size]
		switch kind {
		case syscall.NLMSG_DONE:
			// A dump that failed half way says so here, not in NLMSG_ERROR.
			if len(body) >= 4 {
				if err := diagErrno(body); err != nil {
					return false, changed, err
				}
			}
			return true, changed, nil
		case syscall.NLMSG_ERROR:
			if len(body) < 4 {
				return bad("error message cut short")
			}
			// 0 is an acknowledgement.
			if err := diagErrno(body); err != nil {
				return false, changed, err
			}
		case sockDiagByFamily:
			if len(body) < diagMessageSize {
				return bad("socket cut short")
			}
			s, err := parseDiagSocket(body)
			if err != nil {
				return false, changed, err
			}
			found(s)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, changed, nil
}

// diagErrno reads the negated errno that a message begins with. Zero and above is
// no error: NLMSG_DONE may carry a count.
func diagErrno(body []byte) error {
	if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
		return os.NewSyscallError("sock_diag", syscall.Errno(-int64(code)))
	}
	return nil
}

// parseDiagSocket reads a struct inet_diag_msg: family, state, timer, retransmits,
// ports (2+2), addresses (16+16), interface, cookie (8), expires, rqueue, wqueue,
// uid, inode.
func parseDiagSocket(m []byte) (Socket, error) {
	ne, be := binary.NativeEndian, binary.BigEndian
	addr := func(b []byte) (ip netip.Addr) {
		if m[0] == syscall.AF_INET {
			b = b[:4]
		}
		ip, _ = netip.AddrFromSlice(b)
		return ip.Unmap()
	}
	if m[0] != syscall.AF_INET && m[0] != syscall.AF_INET6 {
		return Socket{}, &FormatError{Source: "sock_diag", Detail: fmt.Sprintf("address family %d", m[0])}
	}
	s := Socket{
		State:  State(m[1]).normal(),
		Local:  netip.AddrPortFrom(addr(m[8:24]), be.Uint16(m[4:])),
		Remote: netip.AddrPortFrom(addr(m[24:40]), be.Uint16(m[6:])),
		RecvQ:  ne.Uint32(m[56:]),
		SendQ:  ne.Uint32(m[60:]),
		UID:    ne.Uint32(m[64:]),
		Inode:  uint64(ne.Uint32(m[68:])),
	}
	if m[2] != 0 {
		s.Timer = time.Duration(ne.Uint32(m[52:])) * time.Millisecond
	}
	err := parseDiagDetails(m[diagMessageSize:], &s)
	return s, err
}

// parseDiagDetails reads the attributes behind a socket: a length of two bytes that
// counts itself, a type of two, the value, filled up to four. Of a struct tcp_info it
// takes tcpi_last_data_recv, tcpi_last_ack_recv and tcpi_bytes_received.
func parseDiagDetails(b []byte, s *Socket) error {
	ne := binary.NativeEndian
	for len(b) >= 4 {
		size := int(ne.Uint16(b))
		if size < 4 || size > len(b) {
			return &FormatError{Source: "sock_diag", Detail: fmt.Sprintf("attribute of %d bytes in %d", size, len(b))}
		}
		if info := b[4:size]; ne.Uint16(b[2:]) == diagInfo && len(info) >= 136 {
			s.LastData = time.Duration(ne.Uint32(info[52:])) * time.Millisecond
			s.LastAck = time.Duration(ne.Uint32(info[56:])) * time.Millisecond
			s.Received = ne.Uint64(info[128:])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}
