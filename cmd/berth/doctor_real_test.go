package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/doctor"
)

// The doctor reads what a Transport serves on a Unix socket, and joins it to the kernel's
// table: who starves, who holds the connections, since when, from which line.
func TestDoctorReadsATransport(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the sockets of this test are looked up in Linux's table")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 4<<20)) }))
	defer srv.Close()
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 1}, Proxy: berth.NoProxy})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	client := &http.Client{Transport: tr}
	forgotten, err := client.Get(srv.URL + "/v1/export?secret")
	if err != nil {
		t.Fatal(err)
	}
	defer forgotten.Body.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	defer func() { cancel(); <-done }()

	socket := filepath.Join(t.TempDir(), "berth.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	debug := &http.Server{Handler: tr.Handler()}
	go debug.Serve(ln)
	defer debug.Close()
	for end := time.Now().Add(30 * time.Second); ; { // until it counts as forgotten
		if e := tr.Report().Endpoints; len(e) == 1 && e[0].Verdict == berth.VerdictLeaked {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the leak is not seen")
		}
		runtime.Gosched()
	}

	var out, errs bytes.Buffer
	if code := run([]string{"doctor", "--from", "unix:" + socket, "--pid", strconv.Itoa(os.Getpid()), "--interval", "200ms", "--json", "--lang", "en"}, &out, &errs); code != exitFailed {
		t.Errorf("exit status %d: %s", code, &errs)
	}
	var r doctor.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	found := map[string]doctor.Finding{}
	for _, f := range r.Findings {
		found[f.Code] = f
	}
	starved, evidence := found["BERTH1001"], strings.Join(found["BERTH1001"].Evidence, "\n")
	if starved.Level != doctor.Fail || starved.Subject.PID != os.Getpid() || starved.Subject.State != "ESTABLISHED" || !strings.Contains(starved.Title, "endpoint max 1") ||
		!strings.Contains(starved.Fix, "doctor_real_test.go:") || !strings.Contains(evidence, "GET /v1/export, body unread") || !strings.Contains(evidence, "kernel: ESTABLISHED") {
		t.Errorf("starved: %+v", starved)
	}
	if unread := found["BERTH2006"]; unread.Subject.PID != os.Getpid() || unread.Subject.State != "ESTABLISHED" || unread.Subject.Count != 1 {
		t.Errorf("what the kernel shows of it: %+v", unread)
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("the query is told")
	}
}
