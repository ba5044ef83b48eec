package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The few requests to the kernel that set up a network namespace, by netlink
// (rtnetlink(7)): no program of the host's is needed for them.

// netlink sends the requests to the kernel as one datagram each, and waits for the
// answer to each. The error is a syscall.Errno within an *os.SyscallError.
func netlink(family int, doing string, requests ...[]byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for _, r := range requests {
		if err := unix.Sendto(fd, r, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return os.NewSyscallError(doing, err)
		}
		if err := acknowledged(fd); err != nil {
			return os.NewSyscallError(doing, err)
		}
	}
	return nil
}

// acknowledged reads up to an answer, and returns the error that it has.
func acknowledged(fd int) error {
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				return syscall.Errno(-code)
			}
			return nil
		}
	}
}

// message is a request: its head, what the family wants first, and its attributes.
func message(kind, flags uint16, fixed []byte, attributes ...[]byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN)
	b = append(b, padded(fixed)...)
	for _, a := range attributes {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_REQUEST)
	return b
}

// attribute is one attribute; several values one after the other are nested ones.
func attribute(kind uint16, values ...[]byte) []byte {
	b := make([]byte, unix.SizeofRtAttr)
	for _, v := range values {
		b = append(b, v...)
	}
	binary.NativeEndian.PutUint16(b, uint16(len(b)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	return padded(b)
}

func padded(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func zeroEnded(s string) []byte { return append([]byte(s), 0) }

// linkMessage is a struct ifinfomsg.
func linkMessage(index int, flags, change uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	b = append(b, native32(uint32(index))...)
	return append(append(b, native32(flags)...), native32(change)...)
}

// linkUp sets an interface up.
func linkUp(name string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	return netlink(unix.NETLINK_ROUTE, "set "+name+" up", message(unix.RTM_NEWLINK, unix.NLM_F_ACK, linkMessage(i.Index, unix.IFF_UP, unix.IFF_UP)))
}

// makePair makes two interfaces, what goes into one of which comes out of the other,
// the second one in the namespace that ns is a descriptor of.
func makePair(name, peer string, ns int) error {
	const vethInfoPeer = 1 // VETH_INFO_PEER of linux/veth.h
	other := attribute(vethInfoPeer, linkMessage(0, 0, 0),
		attribute(unix.IFLA_IFNAME, zeroEnded(peer)), attribute(unix.IFLA_NET_NS_FD, native32(uint32(ns))))
	return netlink(unix.NETLINK_ROUTE, "make "+name, message(unix.RTM_NEWLINK, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkMessage(0, 0, 0),
		attribute(unix.IFLA_IFNAME, zeroEnded(name)),
		attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth")), attribute(unix.IFLA_INFO_DATA, other))))
}

// addAddr gives an interface an address.
func addAddr(name string, a netip.Addr, bits byte) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	ip := a.As4()
	fixed := append([]byte{unix.AF_INET, bits, 0, 0}, native32(uint32(i.Index))...) // struct ifaddrmsg
	return netlink(unix.NETLINK_ROUTE, "address of "+name, message(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, fixed,
		attribute(unix.IFA_LOCAL, ip[:]), attribute(unix.IFA_ADDRESS, ip[:])))
}
