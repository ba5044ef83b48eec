package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-go/berth/sockets"
)

// askChild starts this program again, in a network namespace of its own, and returns
// what it says. Without root that takes a user namespace, where those are allowed. The
// child ends with ctx, with its parent, and the namespaces end with the child.
func askChild(ctx context.Context, o order) (reply, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return reply{}, err
	}
	start := func(flags uintptr) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer, error) {
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Args = os.Args[:1]
		cmd.Env = append(os.Environ(), childEnv+"="+string(text))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if flags&unix.CLONE_NEWUSER != 0 {
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		}
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		lifeline, err := cmd.StdinPipe() // closed by Wait, or with this process
		if err != nil {
			return nil, nil, nil, err
		}
		if err := cmd.Start(); err != nil {
			lifeline.Close()
			return nil, nil, nil, err
		}
		return cmd, &out, &complaint, nil
	}
	cmd, out, complaint, err := start(unix.CLONE_NEWNET)
	if errors.Is(err, syscall.EPERM) {
		cmd, out, complaint, err = start(unix.CLONE_NEWNET | unix.CLONE_NEWUSER)
	}
	if err != nil {
		if ctx.Err() != nil {
			return reply{}, errInterrupted
		}
		return reply{Lacking: err.Error()}, nil
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return reply{}, errInterrupted
		}
		said, _, _ := strings.Cut(complaint.String(), "\n")
		return reply{}, fmt.Errorf("the experiment's child process: %w: %s", err, said)
	}
	var r reply
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return reply{}, fmt.Errorf("the experiment's child process said %.100q: %w", out, err)
	}
	return r, nil
}

// network is the namespace that this process has for itself, and a second one that a
// pair of virtual Ethernet interfaces leads to.
type network struct {
	here   *os.File
	beyond *os.File // the second; nil until it is asked for
}

// The ends of the pair. The range is RFC 5737's for documentation, and nobody else is
// in these namespaces.
func nearAddr() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }
func farAddr() netip.Addr  { return netip.AddrFrom4([4]byte{192, 0, 2, 2}) }

const threadNamespace = "/proc/thread-self/ns/net"

const nearName, farName = "near", "far"

// newNetwork makes the namespace ready that the process was started in.
func newNetwork() (*network, error) {
	if err := linkUp("lo"); err != nil {
		return nil, lacking("loopback", err)
	}
	here, err := os.Open(threadNamespace)
	if err != nil {
		return nil, err
	}
	return &network{here: here}, nil
}

// set changes a setting of the namespace.
func (n *network) set(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
		return lacking(name, err)
	}
	return nil
}

// counters returns the namespace's.
func (n *network) counters() (sockets.Counters, error) { return sockets.ReadCounters(0) }

// listenBeyond listens in the second namespace, which no route but the pair leads to:
// for the kernel the peer is another host.
func (n *network) listenBeyond() (net.Listener, error) {
	if n.beyond == nil {
		if err := n.bridge(); err != nil {
			return nil, err
		}
	}
	var ln net.Listener
	err := n.there(func() (err error) {
		ln, err = net.Listen("tcp4", netip.AddrPortFrom(farAddr(), 0).String())
		return err
	})
	return ln, err
}

// there calls f on a thread that is in the second namespace. A socket belongs to the
// namespace of the thread that makes it, whoever uses it later.
func (n *network) there(f func() error) error {
	return n.away(func() error { return os.NewSyscallError("setns", unix.Setns(int(n.beyond.Fd()), unix.CLONE_NEWNET)) }, f)
}

// away has this goroutine's thread leave for another namespace, call f there, and come
// back. A thread that cannot is never used again.
func (n *network) away(leave, f func() error) error {
	runtime.LockOSThread()
	defer func() {
		if unix.Setns(int(n.here.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	if err := leave(); err != nil {
		return err
	}
	return f()
}

// bridge makes the second namespace and the pair between.
func (n *network) bridge() error {
	err := n.away(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		n.beyond, err = os.Open(threadNamespace)
		return err
	})
	if err != nil {
		return lacking("a second one", err)
	}
	if err := makePair(nearName, farName, int(n.beyond.Fd())); err != nil {
		return lacking("a pair of virtual interfaces (veth)", err)
	}
	ready := func(name string, a netip.Addr) error {
		if err := addAddr(name, a, 24); err != nil {
			return err
		}
		return linkUp(name)
	}
	if err := errors.Join(ready(nearName, nearAddr()), n.there(func() error {
		return errors.Join(linkUp("lo"), ready(farName, farAddr()))
	})); err != nil {
		return lacking("addresses of the pair", err)
	}
	if err := n.reach(); err != nil {
		return lacking("the pair", err)
	}
	return nil
}

// reach waits until a datagram has gone to the second namespace and back: an interface
// that has just been set up loses what is sent, and who has an address is asked for
// again after a whole second.
func (n *network) reach() error {
	if err := n.set("net.ipv4.neigh."+nearName+".retrans_time_ms", "20"); err != nil {
		return err
	}
	var far net.PacketConn
	if err := n.there(func() (err error) {
		far, err = net.ListenPacket("udp4", netip.AddrPortFrom(farAddr(), 0).String())
		return err
	}); err != nil {
		return err
	}
	echoed := make(chan struct{})
	go func() { // until far is closed
		defer close(echoed)
		b := make([]byte, 1)
		for {
			_, from, err := far.ReadFrom(b)
			if err != nil {
				return
			}
			far.WriteTo(b, from)
		}
	}()
	defer func() { far.Close(); <-echoed }()
	near, err := net.Dial("udp4", far.LocalAddr().String())
	if err != nil {
		return err
	}
	defer near.Close()
	for range 100 {
		near.Write([]byte{1}) // in vain at first
		near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err = near.Read(make([]byte, 1)); err == nil {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // an error may come at once
	}
	return err
}

// listenWithBacklog listens on loopback with a queue of the size asked for; with
// deferred, a connection stays half-open until its client sends something.
func listenWithBacklog(backlog int, deferred bool) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if deferred {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30)
	}
	if err == nil {
		_, err = listenOn(fd, netip.MustParseAddrPort("127.0.0.1:0"), backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close() // net takes a descriptor of its own
	return net.FileListener(f)
}
