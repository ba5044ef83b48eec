package dial

import (
	"os"
	"strconv"
	"strings"
)

// SocketCounts returns the TCP sockets of this host, or of its network namespace, and
// those in TIME_WAIT; negative when it does not tell.
func SocketCounts() (inUse, timeWait int) {
	inUse, timeWait = -1, -1
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			n, _ := strconv.Atoi(f[i+1])
			switch f[i] {
			case "inuse":
				inUse = n
			case "tw":
				timeWait = n
			}
		}
	}
	return
}
