package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/berth-go/berth/doctor"
)

func TestDoctorsExitStatus(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sockets are read from Linux here")
	}
	// 12 connections of this process whose peer has closed.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 12 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	starved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"schema":1,"pid":%d,"program":"shop","endpoints":[{"endpoint":"https://api.pay.example","stats":{"waiting":3,"oldest_wait":2000000000},"limit":"endpoint max 2"}]}`, os.Getpid())
	}))
	defer starved.Close()
	pid := []string{"--pid", fmt.Sprint(os.Getpid())}
	here := append(pid, "--dest", ln.Addr().String())
	nowhere := append(slices.Clone(pid), "--dest", "192.0.2.1:9")
	broken := "http://127.0.0.1:1/"
	for _, tc := range []struct {
		name string
		args []string
		want int
		text string
	}{
		{"nothing", append(nowhere, "--fail-on", "warn"), exitOK, "CLOSE_WAIT: none"},
		{"a warning is no failure", here, exitOK, "BERTH2013"},
		{"a warning that is asked for", append(here, "--fail-on", "warn"), exitFailed, "BERTH2013"},
		{"never", append(here, "--fail-on", "never", "--from", starved.URL), exitOK, "BERTH1001"},
		{"a failure", append(here, "--from", starved.URL), exitFailed, "3 requests wait for a connection to https://api.pay.example"},
		{"a failure in JSON", append(here, "--json", "--from", starved.URL), exitFailed, `"code": "BERTH1001"`},
		{"a program not read", append(nowhere, "--from", broken), exitLook, "could not be read"},
		{"a program not read and a failure", append(nowhere, "--from", broken, "--from", starved.URL), exitFailed, "could not be read"},
		{"usage", []string{"--fail-on", "x"}, exitUsage, ""},
		{"a wrong option", []string{"--interval", "-1s"}, exitUsage, ""},
		{"a name that is none", []string{"--dest", "no-such-name.invalid"}, exitLook, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs strings.Builder
			got := run(append([]string{"doctor", "--interval", "100ms", "--lang", "en"}, tc.args...), &out, &errs)
			if got != tc.want || !strings.Contains(out.String(), tc.text) {
				t.Errorf("status %d, want %d with %q\n%s\n%s", got, tc.want, tc.text, out.String(), errs.String())
			}
			if (got == exitUsage || got == exitLook) != (errs.Len() > 0) {
				t.Errorf("status %d and standard error %q", got, errs.String())
			}
			if strings.Contains(tc.name, "JSON") {
				var r doctor.Report
				if err := json.Unmarshal([]byte(out.String()), &r); err != nil || r.Level != doctor.Fail {
					t.Errorf("%v, level %v", err, r.Level)
				}
			}
		})
	}
}

func TestWatchEndsWhenItCannotWrite(t *testing.T) {
	broken := fmt.Errorf("broken")
	_, _, err := examine(context.Background(), doctor.Options{Interval: 10_000_000}, true, func(*doctor.Report) error { return broken }, redraw(io.Discard, true))
	if err == nil || runtime.GOOS == "linux" && err.Error() != broken.Error() {
		t.Errorf("error %v", err)
	}
}

func TestResolveReadsDestinations(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":           "192.0.2.1:0",
		"192.0.2.1:80":        "192.0.2.1:80",
		"2001:db8::1":         "[2001:db8::1]:0",
		"[2001:db8::1]":       "[2001:db8::1]:0",
		"[2001:db8::1]:443":   "[2001:db8::1]:443",
		"::ffff:192.0.2.1":    "192.0.2.1:0",
		"[::ffff:192.0.2.1]:": "192.0.2.1:0",
	} {
		got, err := resolve(context.Background(), text)
		if err != nil || !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort(want)}) {
			t.Errorf("%s: %v, %v; want %s", text, got, err, want)
		}
	}
	if got, err := resolve(context.Background(), "localhost:80"); err != nil || len(got) == 0 || !got[0].Addr().IsLoopback() || got[0].Port() != 80 {
		t.Errorf("localhost: %v, %v", got, err)
	}
	for _, bad := range []string{"", ":80", "x:0", "x:y", "http://x", "a b:80"} {
		if got, err := resolve(context.Background(), bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
