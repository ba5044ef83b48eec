package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// message is one netlink message.
func message(kind, flags uint16, body []byte) []byte {
	b := make([]byte, syscall.NLMSG_HDRLEN, syscall.NLMSG_HDRLEN+len(body))
	binary.NativeEndian.PutUint32(b, uint32(syscall.NLMSG_HDRLEN+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	return append(b, body...)
}

// code is the body of a message that carries an errno, or 0.
func code(errno syscall.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

// diagSocket is a struct inet_diag_msg of an IPv4 socket in TIME_WAIT.
func diagSocket() []byte {
	m := make([]byte, diagMessageSize)
	m[0], m[1], m[2] = syscall.AF_INET, byte(TimeWait), 3
	binary.BigEndian.PutUint16(m[4:], 50000)
	binary.BigEndian.PutUint16(m[6:], 8080)
	copy(m[8:], []byte{127, 0, 0, 2})
	copy(m[24:], []byte{127, 0, 0, 1})
	binary.NativeEndian.PutUint32(m[52:], 60000)
	binary.NativeEndian.PutUint32(m[56:], 7)
	binary.NativeEndian.PutUint32(m[60:], 9)
	binary.NativeEndian.PutUint32(m[64:], 1000)
	binary.NativeEndian.PutUint32(m[68:], 4711)
	return m
}

// diagAttribute is a struct tcp_info of n bytes: 5000 received, data 2 s ago, an
// acknowledgement 1 s ago.
func diagAttribute(n int) []byte {
	b := make([]byte, 4+max(n, 136))
	binary.NativeEndian.PutUint16(b, uint16(4+n))
	binary.NativeEndian.PutUint16(b[2:], diagInfo)
	binary.NativeEndian.PutUint32(b[4+52:], 2000)
	binary.NativeEndian.PutUint32(b[4+56:], 1000)
	binary.NativeEndian.PutUint64(b[4+128:], 5000)
	return b[:4+n]
}

var diagWant = Socket{
	State: TimeWait, Local: netip.MustParseAddrPort("127.0.0.2:50000"), Remote: netip.MustParseAddrPort("127.0.0.1:8080"),
	Inode: 4711, UID: 1000, Timer: time.Minute, RecvQ: 7, SendQ: 9,
}

// script is a socket from which the datagrams can be received, in order.
func script(t *testing.T, datagrams ...[]byte) (fd int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
	// A receive beyond the script fails, and does not hang.
	syscall.SetsockoptTimeval(fds[0], syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 5})
	for _, d := range datagrams {
		if _, err := syscall.Write(fds[1], d); err != nil {
			t.Fatal(err)
		}
	}
	return fds[0]
}

func TestReceiveReadsADumpToItsEnd(t *testing.T) {
	socket := message(sockDiagByFamily, 0, diagSocket())
	mapped := diagSocket()
	mapped[0] = syscall.AF_INET6
	for _, at := range []int{8, 24} {
		a := netip.AddrFrom4([4]byte(mapped[at:])).As16()
		copy(mapped[at:], a[:])
	}
	done := message(syscall.NLMSG_DONE, 0, code(0))
	for _, tc := range []struct {
		name      string
		datagrams [][]byte
		want      int
		err       error // nil, errChanged or an errno
		malformed bool
	}{
		{"two datagrams", [][]byte{slices.Concat(socket, socket), slices.Concat(socket, done)}, 3, nil, false},
		{"an IPv4 address in IPv6 clothes", [][]byte{message(sockDiagByFamily, 0, mapped), done}, 1, nil, false},
		{"an acknowledgement amid", [][]byte{message(syscall.NLMSG_ERROR, 0, code(0)), socket, done}, 1, nil, false},
		{"an end without a code", [][]byte{socket, message(syscall.NLMSG_DONE, 0, nil)}, 1, nil, false},
		{"changed in the first datagram", [][]byte{message(sockDiagByFamily, nlmFlagDumpIntr, diagSocket()), done}, 1, errChanged, false},
		{"changed at the end", [][]byte{socket, message(syscall.NLMSG_DONE, nlmFlagDumpIntr, code(0))}, 1, errChanged, false},
		{"refused", [][]byte{message(syscall.NLMSG_ERROR, 0, code(syscall.EPERM))}, 0, syscall.EPERM, false},
		{"failed half way", [][]byte{socket, message(syscall.NLMSG_DONE, 0, code(syscall.ENOMEM))}, 1, syscall.ENOMEM, false},
		// 728 messages of 88 bytes and one of 1472 fill the buffer exactly, so that
		// only the flag tells of what is lost behind.
		{"longer than the buffer", [][]byte{slices.Concat(slices.Repeat(socket, 728), message(0xff, 0, make([]byte, 1456)), socket)}, 0, nil, true},
		{"empty datagram", [][]byte{{}}, 0, nil, true},
		{"message cut short", [][]byte{socket[:len(socket)-1]}, 0, nil, true},
		{"header cut short", [][]byte{socket[:8]}, 0, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []Socket
			err := receive(context.Background(), script(t, tc.datagrams...), func(s Socket) { got = append(got, s) })
			if tc.malformed {
				if bad, ok := errors.AsType[*FormatError](err); !ok || bad.Source != "sock_diag" {
					t.Errorf("error %v, want a *FormatError of sock_diag", err)
				}
			} else if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if len(got) != tc.want {
				t.Errorf("%d sockets, want %d", len(got), tc.want)
			}
			for _, s := range got {
				if s != diagWant {
					t.Errorf("got %+v\nwant %+v", s, diagWant)
				}
			}
		})
	}
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	socket := message(sockDiagByFamily, 0, diagSocket())
	fd := script(t, socket, socket)
	n := 0
	err := receive(ctx, fd, func(Socket) { n++; cancel(cause) })
	if !errors.Is(err, cause) || n != 1 {
		t.Errorf("error %v after %d sockets, want the context's cause after 1", err, n)
	}
}

func TestParseDiagRefusesMalformedMessages(t *testing.T) {
	family := diagSocket()
	family[0] = syscall.AF_UNIX
	long := message(sockDiagByFamily, 0, diagSocket())
	binary.NativeEndian.PutUint32(long, 1<<31)
	small := message(sockDiagByFamily, 0, diagSocket())
	binary.NativeEndian.PutUint32(small, syscall.NLMSG_HDRLEN-1)
	for name, b := range map[string][]byte{
		"length beyond the datagram":    long,
		"length below the header":       small,
		"socket without its last field": message(sockDiagByFamily, 0, diagSocket()[:diagMessageSize-4]),
		"error without a code":          message(syscall.NLMSG_ERROR, 0, nil),
		"another address family":        message(sockDiagByFamily, 0, family),
	} {
		_, _, err := parseDiag(b, func(Socket) { t.Errorf("%s: taken for a socket", name) })
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Errorf("%s: error %v, want a *FormatError", name, err)
		}
	}
}

func TestParseDiagReadsDetails(t *testing.T) {
	parse := func(attributes ...byte) (got Socket, err error) {
		_, _, err = parseDiag(message(sockDiagByFamily, 0, append(diagSocket(), attributes...)), func(s Socket) { got = s })
		return got, err
	}
	want := diagWant
	want.Received, want.LastData, want.LastAck = 5000, 2*time.Second, time.Second
	other := []byte{5, 0, 9, 0, 1, 0, 0, 0} // another attribute, filled up
	if got, err := parse(slices.Concat(other, diagAttribute(232))...); err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := parse(diagAttribute(100)...); err != nil || got != diagWant {
		t.Errorf("an old kernel's shorter tcp_info: got %+v, %v", got, err)
	}
	for _, bad := range [][]byte{{3, 0, 2, 0}, {9, 0, 2, 0, 0, 0, 0, 0}} {
		if _, err := parse(bad...); err == nil {
			t.Errorf("attribute % x is taken", bad)
		}
	}
	if with, without := diagRequest(2, 1, true), diagRequest(2, 1, false); slices.Equal(with, without) {
		t.Error("details are not asked for")
	}
}

func TestStateMaskAsksForBothHalfOpenStates(t *testing.T) {
	for _, tc := range []struct {
		states []State
		want   uint32
	}{
		{nil, 0x1fff},
		{[]State{}, 0},
		{[]State{Established, TimeWait}, 1<<1 | 1<<6},
		{[]State{SynRecv}, 1<<3 | 1<<12},
		{[]State{255}, 0},
	} {
		if got := stateMask(tc.states); got != tc.want {
			t.Errorf("%v: mask %#x, want %#x", tc.states, got, tc.want)
		}
	}
}

// FuzzParseDiag: whatever the bytes, every socket has addresses, and an error is
// one of the two types that List promises.
func FuzzParseDiag(f *testing.F) {
	f.Add(message(sockDiagByFamily, 0, diagSocket()))
	f.Add(message(syscall.NLMSG_DONE, nlmFlagDumpIntr, code(syscall.ENOMEM)))
	f.Add(diagRequest(syscall.AF_INET, 1, true))
	f.Add(message(sockDiagByFamily, 0, append(diagSocket(), diagAttribute(136)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		done, _, err := parseDiag(b, func(s Socket) {
			if !s.Local.IsValid() || !s.Remote.IsValid() || s.Local.Addr().Is4In6() || s.State == newSynRecv {
				t.Errorf("socket %+v", s)
			}
		})
		if err == nil {
			return
		}
		_, malformed := errors.AsType[*FormatError](err)
		_, refused := errors.AsType[*os.SyscallError](err)
		if done || !malformed && !refused {
			t.Errorf("done %t, error %T %v", done, err, err)
		}
	})
}
