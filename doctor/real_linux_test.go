package doctor

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fullListener listens with room for one connection, which nobody accepts.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
}

func TestExamineFindsAFullQueueAndThoseThatItLetsWait(t *testing.T) {
	at := fullListener(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 8 {
		go func() {
			if c, err := new(net.Dialer).DialContext(ctx, "tcp", at.String()); err == nil {
				<-ctx.Done()
				c.Close()
			}
		}()
	}
	o := Options{Interval: 200 * time.Millisecond, PIDs: []int{os.Getpid()}, Destinations: []netip.AddrPort{at}}
	var queue, waiting Finding
	eventually(t, "findings", func() bool {
		r, err := Examine(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		queue, waiting = one(r.Findings, "BERTH2022"), one(r.Findings, "BERTH2025")
		return queue.Level == Fail && waiting.Level == Warn
	})
	if s := queue.Subject; s.PID != os.Getpid() || s.State != "LISTEN" || s.Destination != at.String() {
		t.Errorf("%+v", queue)
	}
	if s := waiting.Subject; s.PID != os.Getpid() || s.State != "SYN_SENT" || s.Destination != at.String() || s.Count < 3 {
		t.Errorf("%+v", waiting)
	}
}

func TestExamineFindsAResponseThatTheServerFinishedAndNobodyReads(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	o := Options{Interval: 100 * time.Millisecond, PIDs: []int{os.Getpid()}, Destinations: []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())}}
	var f Finding
	eventually(t, "a finding", func() bool {
		r, err := Examine(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		f = one(r.Findings, "BERTH2013")
		return f.Code != ""
	})
	if s := f.Subject; s.State != "CLOSE_WAIT" || s.Count != 1 || s.Bytes != 5000 || !strings.Contains(f.Fix, "resp.Body.Close") {
		t.Errorf("%+v", f)
	}
}
