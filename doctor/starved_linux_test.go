package doctor

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth/sockets"
)

// TestStarvedPrograms runs a client in each of three languages that forgets two bodies,
// which is all that its pool may have, and looks at it from outside.
func TestStarvedPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("runs other programs")
	}
	for _, tc := range []struct {
		name    string
		process string // what it is named by
		remedy  string
		command func(t *testing.T) []string
	}{
		{"go", "starved", "resp.Body.Close", func(t *testing.T) []string {
			program := filepath.Join(t.TempDir(), "starved")
			if out, err := exec.Command("go", "build", "-o", program, "./testdata/starved/go").CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			return []string{program}
		}},
		{"python", "python", "release_conn", func(t *testing.T) []string {
			for _, python := range []string{"python3", "/usr/bin/python3"} {
				if exec.Command(python, "-c", "import urllib3").Run() == nil {
					return []string{python, "testdata/starved/python/starved.py"}
				}
			}
			t.Skip("no python3 with urllib3")
			return nil
		}},
		{"node", "node", "body?.cancel()", func(t *testing.T) []string {
			if exec.Command("node", "-e", "process.exit(typeof fetch === 'function' ? 0 : 1)").Run() != nil {
				t.Skip("no node with fetch")
			}
			return []string{"node", "testdata/starved/node/starved.mjs"}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			command := tc.command(t)
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 1024 {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			}))
			defer origin.Close()
			defer origin.CloseClientConnections()
			pid := start(t, append(command, origin.URL+"/")...)
			dest := netip.MustParseAddrPort(origin.Listener.Addr().String())
			o := Options{Interval: 300 * time.Millisecond, PIDs: []int{pid}, Destinations: []netip.AddrPort{dest}}
			var f Finding
			eventually(t, "a finding", func() bool {
				r, err := Examine(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				f = one(r.Findings, "BERTH2006")
				// A program that has just begun may be read from still.
				return f.Subject.Count == 2
			})
			s := f.Subject
			if s.PID != pid || !strings.HasPrefix(s.Process, tc.process) || s.State != "ESTABLISHED" || s.Destination != dest.String() || s.Bytes < 2048 {
				t.Errorf("subject %+v; want process %d named %s…, 2 ESTABLISHED to %s, their bytes", s, pid, tc.process, dest)
			}
			if f.Level != Warn || !strings.Contains(f.Fix, tc.remedy) {
				t.Errorf("%v, fix %q; want a warning whose remedy names %s", f.Level, f.Fix, tc.remedy)
			}
			if !strings.Contains(f.Title, "2 of 2 ESTABLISHED") || !strings.Contains(strings.Join(f.Evidence, "\n"), "all its connections") {
				t.Errorf("title %q, evidence %q", f.Title, f.Evidence)
			}
		})
	}
}

// start runs a program until the test ends and waits for its line "ready".
func start(t *testing.T, command ...string) (pid int) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	// No proxy of the environment comes between.
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%v said %q, %v; want ready", command, line, err)
	}
	return cmd.Process.Pid
}

// eventually repeats ok until it holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

func TestExamineFindsACloseWaitOfThisProcess(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dest := netip.MustParseAddrPort(ln.Addr().String())
	for range 3 {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server.Close()
	}
	o := Options{Interval: 100 * time.Millisecond, PIDs: []int{os.Getpid()}, Destinations: []netip.AddrPort{dest}, Limits: Limits{CloseWait: 3}}
	var r *Report
	eventually(t, "finding", func() bool {
		if r, err = Examine(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		return one(r.Findings, "BERTH2013").Code != ""
	})
	f := one(r.Findings, "BERTH2013")
	if f.Subject.PID != os.Getpid() || f.Subject.State != "CLOSE_WAIT" || f.Subject.Count != 3 || f.Subject.Destination != dest.String() {
		t.Errorf("subject %+v", f.Subject)
	}
	if !strings.Contains(f.Title, f.Subject.Process) || f.Fix == "" || r.Level != Warn {
		t.Errorf("%+v, level %v", f, r.Level)
	}
	// Of another process nothing is told.
	o.PIDs = []int{os.Getppid()}
	r, err = Examine(context.Background(), o)
	if err != nil || one(r.Findings, "BERTH2013").Code != "" {
		t.Errorf("%v, %v", r, err)
	}
}

func TestExamineNamesAClientPerRequest(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			tr := &http.Transport{}
			if resp, err := (&http.Client{Transport: tr}).Get(origin.URL); err == nil {
				resp.Body.Close()
			}
			// Alive for long enough to be met by one of the looks.
			time.Sleep(5 * time.Millisecond)
			tr.CloseIdleConnections()
		}
	}()
	dest := netip.MustParseAddrPort(origin.Listener.Addr().String())
	var f Finding
	eventually(t, "finding", func() bool {
		r, err := Examine(context.Background(), Options{Interval: 500 * time.Millisecond, Destinations: []netip.AddrPort{dest}})
		if err != nil {
			t.Fatal(err)
		}
		f = one(r.Findings, "BERTH2002")
		return f.Subject.PID != 0
	})
	cancel()
	<-done
	if f.Subject.PID != os.Getpid() || f.Subject.State != "TIME_WAIT" || f.Subject.Destination != dest.String() {
		t.Errorf("%+v", f)
	}
}

func TestExamineRefusesWhatItCannotDo(t *testing.T) {
	for name, o := range map[string]Options{
		"interval":    {Interval: time.Millisecond},
		"negative":    {Interval: -1},
		"language":    {Lang: "fr"},
		"pid":         {PIDs: []int{-1}},
		"no process":  {PIDs: []int{1 << 30}},
		"destination": {Destinations: []netip.AddrPort{{}}},
		"from":        {From: []string{"ftp://x/"}},
		"secret":      {From: []string{"http://user:secret@%zz/"}},
	} {
		_, err := Examine(context.Background(), o)
		if _, ok := err.(*OptionError); !ok {
			t.Errorf("%s: error %v, want an *OptionError", name, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Examine(ctx, Options{}); err == nil {
		t.Error("an ended context is no error")
	}
	if err := Watch(ctx, Options{}, func(*Report) bool { return true }); err != nil {
		t.Errorf("Watch: %v", err)
	}
}

func TestWatchReportsUntilItIsToldToStop(t *testing.T) {
	n := 0
	err := Watch(context.Background(), Options{Interval: 10 * time.Millisecond}, func(r *Report) bool {
		n++
		if r.Schema != 1 || len(r.Findings) == 0 || r.Interval < 10*time.Millisecond {
			t.Errorf("report %+v", r)
		}
		return n < 3
	})
	if err != nil || n != 3 {
		t.Errorf("%d reports, %v", n, err)
	}
}

func TestTakeAttributesSockets(t *testing.T) {
	s, err := Take(context.Background(), Options{})
	if err != nil || s.Source == "" || s.Settings["net.ipv4.ip_local_port_range"] == "" || s.Processes[os.Getpid()].PID == 0 {
		t.Errorf("%v, %v", s, err)
	}
	var _ []sockets.Socket = s.Sockets
}
