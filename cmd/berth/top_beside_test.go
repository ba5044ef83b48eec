package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
)

// topBeside is a command of the scripts: berth beside a program that it reads. The first
// argument says what the program serves, and ADDR among the others is where.
func topBeside() {
	serve, ok := map[string]func() (http.Handler, func()){
		"busy": topBusy, "starts": topStarts, "restarts": topRestarts, "fails": topFails, "interrupts": topInterrupts,
		"html":   func() (http.Handler, func()) { return topAnswer(200, "<!DOCTYPE html><html></html>"), nil },
		"404":    func() (http.Handler, func()) { return topAnswer(404, "not here"), nil },
		"other":  func() (http.Handler, func()) { return topAnswer(200, `{"status":"ok"}`), nil },
		"schema": func() (http.Handler, func()) { return topAnswer(200, `{"schema":7}`), nil },
	}[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no program", os.Args[1])
		os.Exit(100)
	}
	h, stop := serve()
	dir, err := os.MkdirTemp("", "berth-top")
	if err != nil {
		panic(err)
	}
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	go http.Serve(ln, h)
	srv := httptest.NewServer(h)
	args := os.Args[2:]
	for i, a := range args {
		a = strings.ReplaceAll(a, "ADDR", strings.TrimPrefix(srv.URL, "http://"))
		args[i] = strings.ReplaceAll(a, "SOCKET", "unix:"+socket)
	}
	code := exitOK
	if len(args) > 0 {
		code = run(args, os.Stdout, os.Stderr)
	} else { // for a person who looks at it
		fmt.Println(srv.URL)
		ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt)
		<-ctx.Done()
	}
	srv.CloseClientConnections()
	if stop != nil {
		stop()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func topAnswer(status int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, text)
	})
}

// topBusy is a transport at work: an endpoint at its limit with requests that wait, one
// at ease, a group, a body that nobody reads, and one that refuses connections.
func topBusy() (http.Handler, func()) {
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(40 * time.Millisecond):
		}
	}))
	quick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 100<<10)) }))
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	nowhere := "http://" + refusing.Addr().String()
	refusing.Close()
	host := strings.TrimPrefix(slow.URL, "http://")
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, Policy: berth.Policy{MaxConns: 20, LeakAfter: 2 * time.Second},
		Rules: []berth.Rule{{Match: host, Policy: berth.Policy{MaxConns: 2}}}})
	if err != nil {
		panic(err)
	}
	blue := tr.Group("blue")
	ctx, cancel := context.WithCancel(context.Background())
	work := func(rt http.RoundTripper, url string, workers int, pause time.Duration) {
		for range workers {
			go func() {
				for ctx.Err() == nil {
					req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
					if resp, err := (&http.Client{Transport: rt}).Do(req); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
					select {
					case <-ctx.Done():
					case <-time.After(pause):
					}
				}
			}()
		}
	}
	work(tr, slow.URL+"/v1/pay", 7, 0)
	work(tr, quick.URL+"/v1/list", 3, 25*time.Millisecond)
	work(blue, quick.URL+"/v1/blue", 1, 100*time.Millisecond)
	work(tr, nowhere, 1, 300*time.Millisecond)
	forgotten, err := (&http.Client{Transport: blue}).Get(quick.URL + "/v1/export")
	if err != nil {
		panic(err)
	}
	ready := func() bool {
		for _, e := range tr.Report().Endpoints {
			if e.Stats.Waiting > 0 && e.Reason == berth.ReasonEndpoint {
				return true
			}
		}
		return false
	}
	for !ready() {
		runtime.Gosched()
	}
	return tr.Handler(), func() { cancel(); forgotten.Body.Close(); tr.Close() }
}

// topSays is a report of a process, with one endpoint that has counted so many requests.
func topSays(pid, second, requests int) string {
	return fmt.Sprintf(`{"schema":1,"time":%q,"pid":%d,"program":"shop","endpoints":[{"endpoint":"https://api.example:443",
	 "policy":{"policy":{"max_conns":10},"from":{"max_conns":"policy"},"generation":1},
	 "stats":{"leased":3,"idle":1,"requests":%d,"reused":%d,"wait":[{"below":2000000,"count":%d}]}}],"leaks":[],"ports":[]}`,
		time.Date(2026, 3, 1, 12, 0, second, 0, time.UTC).Format(time.RFC3339), pid, requests, requests/2, requests)
}

// topStarts answers one report after the other, a second of its own apart.
func topStarts() (http.Handler, func()) {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1))
		io.WriteString(w, topSays(10, n, 100*n*n))
	}), nil
}

// topInterrupts is Ctrl-C at its third report.
func topInterrupts() (http.Handler, func()) {
	h, _ := topStarts()
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 {
			if p, err := os.FindProcess(os.Getpid()); err != nil || p.Signal(os.Interrupt) != nil {
				os.Exit(100)
			}
		}
		h.ServeHTTP(w, r)
	}), nil
}

// topRestarts is another process from the third report on.
func topRestarts() (http.Handler, func()) {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1))
		io.WriteString(w, topSays(10+n/3, n, 100*n))
	}), nil
}

// topFails fails at its second and third report.
func topFails() (http.Handler, func()) {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1))
		if n == 2 || n == 3 {
			w.WriteHeader(500)
			return
		}
		io.WriteString(w, topSays(10, n, 100*n))
	}), nil
}
