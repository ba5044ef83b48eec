package sockets

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// ReadCounters reads sockstat, netstat and snmp of the network namespace of a process;
// pid 0 is this one. No privilege is needed for that. The error is of the first file
// that could not be read; what the others said is returned beside it.
func ReadCounters(pid int) (Counters, error) {
	dir := procOf(pid) + "/net/"
	c := Counters{}
	var errs []error
	for file, parse := range map[string]func([]byte, Counters) error{"sockstat": parseSockstat, "netstat": parsePairs, "snmp": parsePairs} {
		b, err := os.ReadFile(dir + file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := parse(b, c); err != nil {
			errs = append(errs, &FormatError{Source: dir + file, Detail: err.Error()})
		}
	}
	return c, errors.Join(errs...)
}

// Sysctl returns a setting of the kernel by its name with dots, "net.ipv4.tcp_tw_reuse",
// its fields with one blank between. The settings under net. are those of this process's
// network namespace. An error that is fs.ErrNotExist: the kernel has no such setting, or
// its module is not loaded.
func Sysctl(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") || strings.Contains(name, "..") {
		return "", &fs.PathError{Op: "sysctl", Path: name, Err: fs.ErrInvalid}
	}
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(string(b)), " "), nil
}
