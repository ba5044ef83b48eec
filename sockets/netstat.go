package sockets

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// parseNetstat reads what macOS prints for "netstat -anvl -p tcp". Three forms are
// known: the process in a column "pid", the same behind columns "rxbytes" and "txbytes"
// (macOS 15), and a column "process:pid" whose names may have blanks in them (macOS 26).
func parseNetstat(text string) ([]Socket, map[int]string, error) {
	var (
		list    []Socket
		names   = map[int]string{}
		between = -1 // columns between the state and the process
		named   bool
	)
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if i := slices.Index(f, "(state)"); i >= 0 && f[0] == "Proto" {
			between = slices.IndexFunc(f[i+1:], func(c string) bool { return c == "pid" || c == "process:pid" })
			named = between >= 0 && f[i+1+between] == "process:pid"
			continue
		}
		if len(f) < 6 || !strings.HasPrefix(f[0], "tcp") {
			continue
		}
		s, err := parseNetstatSocket(f)
		if err != nil {
			return nil, nil, &FormatError{Source: "netstat", Detail: fmt.Sprintf("line %d: %v", n, err)}
		}
		if rest := f[6:]; between >= 0 && len(rest) > between {
			pid, name := netstatProcess(rest[between:], named)
			if s.PID = pid; name != "" {
				names[pid] = name
			}
		}
		list = append(list, s)
	}
	return list, names, nil
}

// netstatProcess reads the process at the beginning of f.
func netstatProcess(f []string, named bool) (pid int, name string) {
	if !named {
		pid, _ = strconv.Atoi(f[0])
		return max(pid, 0), ""
	}
	for i, word := range f {
		head, tail, ok := cutLast(word, ":")
		if pid, err := strconv.Atoi(tail); ok && err == nil && pid >= 0 {
			return pid, strings.Join(append(slices.Clone(f[:i]), head), " ")
		}
	}
	return 0, ""
}

func parseNetstatSocket(f []string) (Socket, error) {
	recv, err1 := strconv.ParseUint(f[1], 10, 32)
	send, err2 := strconv.ParseUint(f[2], 10, 32)
	if err1 != nil || err2 != nil {
		return Socket{}, fmt.Errorf("queues %q and %q", f[1], f[2])
	}
	s := Socket{RecvQ: uint32(recv), SendQ: uint32(send), State: parseState(f[5])}
	if s.State == 0 {
		return s, fmt.Errorf("state %q", f[5])
	}
	unspecified := netip.IPv4Unspecified()
	if f[0] != "tcp4" {
		unspecified = netip.IPv6Unspecified()
	}
	var err error
	if s.Local, err = parseNetstatAddr(f[3], unspecified); err != nil {
		return s, err
	}
	s.Remote, err = parseNetstatAddr(f[4], unspecified)
	return s, err
}

// parseNetstatAddr reads an address and a port with a dot between, either of which may
// be a star.
func parseNetstatAddr(v string, unspecified netip.Addr) (netip.AddrPort, error) {
	host, port, ok := cutLast(v, ".")
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q", v)
	}
	addr := unspecified
	if host != "*" {
		host, _, _ = strings.Cut(host, "%")
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, fmt.Errorf("address %q", v)
		}
	}
	var n uint64
	if port != "*" {
		var err error
		if n, err = strconv.ParseUint(port, 10, 16); err != nil {
			return netip.AddrPort{}, fmt.Errorf("address %q", v)
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// parseState reads a state as the netstat of any system spells it; 0 for none.
func parseState(v string) State {
	switch v {
	case "CLOSED":
		return Close
	case "SYN_RCVD", "SYN_RECEIVED":
		return SynRecv
	case "FIN_WAIT_1":
		return FinWait1
	case "FIN_WAIT_2":
		return FinWait2
	}
	for s := Established; s < newSynRecv; s++ {
		if stateNames[s] == v {
			return s
		}
	}
	return 0
}

// parsePS reads "ps -axo pid=,comm=": a process id and the path of its program.
func parsePS(text string) map[int]string {
	programs := map[int]string{}
	for line := range strings.Lines(text) {
		id, program, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(id); err == nil && pid > 0 {
			programs[pid] = strings.TrimSpace(program)
		}
	}
	return programs
}

// parsePortRange reads two numbers, each the last word of its line. The second is the
// last port (sysctl of macOS), or with count how many there are (netsh of Windows, whose
// words are in the language of the system).
func parsePortRange(text string, count bool) (lo, hi uint16, err error) {
	var numbers []uint64
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(f[len(f)-1], ":"), 10, 32); err == nil {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 2 {
		first, last := numbers[0], numbers[1]
		if count {
			last += first - 1
		}
		if first > 0 && first <= last && last <= 65535 {
			return uint16(first), uint16(last), nil
		}
	}
	return 0, 0, &FormatError{Source: "range of ephemeral ports", Detail: "not two ports"}
}
