package dial

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options of linux/in.h.
const (
	ipBindAddressNoPort = 24 // since Linux 4.2: the port is chosen at connect, for the destination
	ipLocalPortRange    = 51 // since Linux 6.3: hi<<16 | lo
)

// timeWait is how long the side that closes first keeps the port: 60 s, but what
// tcp_tw_reuse lets be used again is so after a second (tcp_tw_reuse_delay): loopback by
// default (2), everything if it is 1.
func timeWait(to netip.Addr) time.Duration {
	switch reuse := twReuse(); {
	case reuse == "1", reuse != "0" && to.IsLoopback():
		return time.Second
	}
	return time.Minute
}

var twReuse = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_tw_reuse")
	return strings.TrimSpace(string(b))
})

// systemPorts returns the range of ephemeral ports.
func systemPorts() PortRange {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if f := strings.Fields(string(b)); err == nil && len(f) == 2 {
		lo, err1 := strconv.ParseUint(f[0], 10, 16)
		hi, err2 := strconv.ParseUint(f[1], 10, 16)
		if err1 == nil && err2 == nil && lo <= hi {
			return PortRange{uint16(lo), uint16(hi)}
		}
	}
	return PortRange{32768, 60999}
}

// setPorts has connect look for a port in r, from where it begins on, instead of through
// the odd ones first and then the even: past half of the range that takes long.
func setPorts(fd uintptr, r PortRange) error {
	return syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipLocalPortRange, int(int32(uint32(r.Hi)<<16|uint32(r.Lo))))
}

// bindLate has a socket that is bound to an address take its port at connect.
func bindLate(fd uintptr) error {
	return syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
}

// Features that the kernel may lack.
const (
	featurePorts = "IP_LOCAL_PORT_RANGE (Linux 6.3)"
	featureBind  = "IP_BIND_ADDRESS_NO_PORT (Linux 4.2)"
)
