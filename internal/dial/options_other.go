//go:build !linux

package dial

import (
	"errors"
	"net/netip"
	"runtime"
	"time"
)

// timeWait is how long the side that closes first keeps the port.
func timeWait(netip.Addr) time.Duration {
	if runtime.GOOS == "windows" {
		return 2 * time.Minute
	}
	return 30 * time.Second
}

// systemPorts returns the range of ephemeral ports that macOS and Windows begin with.
func systemPorts() PortRange { return PortRange{49152, 65535} }

func setPorts(uintptr, PortRange) error { return errors.ErrUnsupported }

func bindLate(uintptr) error { return errors.ErrUnsupported }

// Features that this system lacks.
const (
	featurePorts = "IP_LOCAL_PORT_RANGE (Linux 6.3)"
	featureBind  = "IP_BIND_ADDRESS_NO_PORT (Linux 4.2)"
)
