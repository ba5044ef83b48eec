package sockets

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestReadOwnersFindsThisProcess(t *testing.T) {
	client, server := pair(t, "127.8.0.3")
	local, remote := addrPort(client.LocalAddr()), addrPort(server.LocalAddr())
	o, err := ReadOwners(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	table, err := List(context.Background(), Filter{LocalPort: local.Port(), Remote: remote.Addr(), RemotePort: remote.Port()})
	if err != nil || len(table.Sockets) != 1 {
		t.Fatal(err)
	}
	o.Attribute(table.Sockets)
	for _, s := range table.Sockets {
		if s.PID != os.Getpid() {
			t.Errorf("socket %+v has process %d, want %d", s, s.PID, os.Getpid())
		}
	}
	found := false
	for inode, pid := range o.All() {
		found = found || inode == table.Sockets[0].Inode && pid == os.Getpid()
	}
	if !found {
		t.Error("All does not give this process's socket")
	}
	for range (*Owners)(nil).All() {
		t.Error("no owners have a socket")
	}
	p := o.Processes[os.Getpid()]
	if p.Name == "" || p.Program != os.Args[0] || p.Files == 0 || p.FilesLimit == 0 {
		t.Errorf("this process is %+v", p)
	}
	if ns, err := NetworkNamespace(0); err != nil || ns != p.Namespace {
		t.Errorf("namespace %q, %v; want %q", ns, err, p.Namespace)
	}
	if used, limit, err := Files(os.Getpid()); err != nil || used == 0 || limit != p.FilesLimit {
		t.Errorf("%d files of %d, %v", used, limit, err)
	}
}

func TestDetailsTellWhatWasReceived(t *testing.T) {
	client, server := pair(t, "127.8.0.4")
	if _, err := server.Write(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	c, r := addrPort(client.LocalAddr()), addrPort(server.LocalAddr())
	var s Socket
	eventually(t, "3000 bytes unread", func() bool {
		table, err := List(context.Background(), Filter{LocalPort: c.Port(), Remote: r.Addr(), RemotePort: r.Port(), Details: true})
		if err != nil {
			t.Fatal(err)
		}
		s = table.Sockets[0]
		return s.RecvQ == 3000
	})
	if s.Received != 3000 {
		t.Errorf("%d received, want 3000", s.Received)
	}
	if s.LastData > 5*time.Second {
		t.Errorf("last data %v ago", s.LastData)
	}
}

func TestListOfReadsTheNamespaceOfAProcess(t *testing.T) {
	client, server := pair(t, "127.8.0.5")
	c, r := addrPort(client.LocalAddr()), addrPort(server.LocalAddr())
	table, err := ListOf(context.Background(), os.Getpid(), Filter{LocalPort: c.Port(), Remote: r.Addr(), RemotePort: r.Port()})
	if err != nil || len(table.Sockets) != 1 || table.Source != "/proc/net/tcp" {
		t.Errorf("%+v, %v", table, err)
	}
	if _, err := ListOf(context.Background(), 1<<30, Filter{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func TestReadOwnersCountsWhatItMayNotSee(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"17", "18/fd", "self"} {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A file where a directory should be cannot be listed, whoever asks.
	os.WriteFile(filepath.Join(dir, "17/fd"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "17/comm"), []byte("other\n"), 0o600)
	os.Symlink("socket:[4711]", filepath.Join(dir, "18/fd/3"))
	os.Symlink("socket:[x]", filepath.Join(dir, "18/fd/4"))
	o, err := readOwners(context.Background(), dir)
	if err != nil || o.Unseen != 1 || o.Processes[17].Name != "other" || o.PID(4711) != 18 || o.Processes[18].Files != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := readOwners(ctx, dir); !errors.Is(err, cause) {
		t.Errorf("error %v, want the context's cause", err)
	}
}

func TestSysctl(t *testing.T) {
	if v, err := Sysctl("net.ipv4.ip_local_port_range"); err != nil || v == "" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := Sysctl("net.ipv4.no_such_setting"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	for _, bad := range []string{"", "net/../../self/environ", "..self"} {
		if v, err := Sysctl(bad); err == nil {
			t.Errorf("%q: %q", bad, v)
		}
	}
}

func TestReadCounters(t *testing.T) {
	for _, pid := range []int{0, os.Getpid()} {
		c, err := ReadCounters(pid)
		if _, ok := c["TcpExt.ListenDrops"]; err != nil || !ok {
			t.Errorf("pid %d: %d counters, %v", pid, len(c), err)
		}
	}
	if _, err := ReadCounters(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func TestInsideEntersAnotherNetworkNamespace(t *testing.T) {
	other := exec.Command("unshare", "-n", "sh", "-c", "echo ready; exec sleep 60")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Skipf("no unshare: %v", err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Skip("no network namespace without root")
	}
	pair(t, "127.8.0.6") // there is something to see here
	var there Table
	err = Inside(other.Process.Pid, func() (err error) {
		there, err = List(context.Background(), Filter{})
		return err
	})
	if err != nil || len(there.Sockets) != 0 || there.Source != "sock_diag" {
		t.Errorf("%+v, %v; want no socket", there, err)
	}
	here, err := List(context.Background(), Filter{States: []State{Established}})
	if err != nil || len(here.Sockets) < 2 {
		t.Errorf("%d sockets here, %v", len(here.Sockets), err)
	}
	broken := errors.New("broken")
	if err := Inside(0, func() error { return broken }); err != broken {
		t.Errorf("%v", err)
	}
	if err := Inside(1<<30, func() error { t.Error("run"); return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}
