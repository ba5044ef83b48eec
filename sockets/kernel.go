package sockets

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Counters are numbers of the kernel, by name: "TcpExt.ListenDrops" and
// "Tcp.ActiveOpens" count from boot on, "sockstat.TCP.tw" is what there is now.
type Counters map[string]int64

// maxCounters is far above the number of counters of any kernel.
const maxCounters = 4096

// parsePairs reads /proc/net/netstat and /proc/net/snmp: a line of names and a line of
// numbers, both beginning with the same word.
func parsePairs(b []byte, into Counters) error {
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || names[0] != values[0] || !strings.HasSuffix(names[0], ":") {
			return fmt.Errorf("line %d: names and numbers do not fit", i+1)
		}
		if len(into)+len(names) > maxCounters {
			return fmt.Errorf("line %d: more than %d numbers", i+1, maxCounters)
		}
		group := strings.TrimSuffix(names[0], ":")
		for j := 1; j < len(names); j++ {
			n, err := parseCounter(values[j])
			if err != nil {
				return fmt.Errorf("line %d: %s is no number", i+2, names[j])
			}
			into[group+"."+names[j]] = n
		}
	}
	return nil
}

// parseCounter reads a number; one beyond an int64 is as large as that goes.
func parseCounter(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n, nil
	}
	if _, err := strconv.ParseUint(s, 10, 64); err != nil {
		return 0, err
	}
	return math.MaxInt64, nil
}

// parseSockstat reads /proc/net/sockstat: a word, then names and numbers in turn.
func parseSockstat(b []byte, into Counters) error {
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		group, ok := strings.CutSuffix(f[0], ":")
		if !ok || len(f)%2 == 0 || len(into)+len(f) > maxCounters {
			return fmt.Errorf("line %d: not names and numbers in turn", n)
		}
		for i := 1; i+1 < len(f); i += 2 {
			v, err := parseCounter(f[i+1])
			if err != nil {
				return fmt.Errorf("line %d: %s is no number", n, f[i])
			}
			into["sockstat."+group+"."+f[i]] = v
		}
	}
	return nil
}

// parseLimits reads the soft limit of open files out of /proc/PID/limits. Unlimited is
// the largest number.
func parseLimits(b []byte) (uint64, error) {
	const name = "Max open files"
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		if f := strings.Fields(rest); len(f) >= 2 {
			if f[0] == "unlimited" {
				return math.MaxUint64, nil
			}
			if n, err := strconv.ParseUint(f[0], 10, 64); err == nil {
				return n, nil
			}
		}
	}
	return 0, &FormatError{Source: "limits", Detail: "no limit of open files"}
}

// firstArgument returns the first word of a command line, whose words end with a zero
// byte. A program that rewrote its title has none: then it is up to the first blank, so
// that no argument shows.
func firstArgument(b []byte) string {
	first, _, words := bytes.Cut(b, []byte{0})
	rest := bytes.TrimRight(b[min(len(first)+1, len(b)):], "\x00")
	if !words || len(rest) == 0 {
		first, _, _ = bytes.Cut(first, []byte(" "))
	}
	return string(first)
}

// PortRange is the ports from First to Last, both included.
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// ParsePorts reads a list of ports as net.ipv4.ip_local_reserved_ports has it:
// "8080,9000-9010". The empty list has none. The error is a *FormatError.
func ParsePorts(s string) ([]PortRange, error) {
	var list []PortRange
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 16)
		hi, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || lo > hi {
			return nil, &FormatError{Source: "list of ports", Detail: strconv.Quote(part) + " is no port and no range"}
		}
		list = append(list, PortRange{uint16(lo), uint16(hi)})
	}
	return list, nil
}

// Usable counts the ports of r that are in none of reserved.
func (r PortRange) Usable(reserved []PortRange) int {
	var taken [1 << 16]bool
	for _, x := range reserved {
		for p := int(x.First); p <= int(x.Last); p++ {
			taken[p] = true
		}
	}
	n := 0
	for p := int(r.First); p <= int(r.Last); p++ {
		if !taken[p] {
			n++
		}
	}
	return n
}
