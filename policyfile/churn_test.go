package policyfile_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/policyfile"
)

var churnFor = flag.Duration("churn", 3*time.Second, "how long TestChurnOnSockets runs")

// At full load on real sockets the file is rewritten every 100 ms, the name moves every
// second and limits swing: no request fails, no slot leaks, memory stays.
func TestChurnOnSockets(t *testing.T) {
	servers, port := serveOn(t, "127.0.33.1", "127.0.33.2", "127.0.33.3")
	var at atomic.Pointer[[]netip.Addr]
	move := func(r *rand.Rand) {
		n := 1 + r.IntN(len(servers))
		var addrs []netip.Addr
		for _, i := range r.Perm(len(servers))[:n] {
			addrs = append(addrs, servers[i])
		}
		at.Store(&addrs)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	move(rnd)
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, Resolve: func(context.Context, string) ([]netip.Addr, time.Duration, error) {
		return *at.Load(), 500 * time.Millisecond, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	replace(t, path, "{}")
	var applied atomic.Int64
	w, err := policyfile.Watch(tr, path, policyfile.Options{
		Applied: func(*berth.Diff) { applied.Add(1) },
		Failed:  func(err error) { t.Errorf("reload: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	ctx, cancel := context.WithTimeout(t.Context(), *churnFor)
	defer cancel()
	var (
		wg       sync.WaitGroup
		requests atomic.Int64
		failed   atomic.Int64
	)
	for i := range 24 {
		wg.Go(func() {
			group := tr.Group([]string{"", "", "a", "b"}[i%4])
			for ctx.Err() == nil {
				err := get(group, fmt.Sprintf("http://host%d.test:%s/", i%3, port))
				requests.Add(1)
				if err != nil && failed.Add(1) < 5 {
					t.Errorf("after %d requests: %v", requests.Load(), err)
				}
			}
		})
	}
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			replace(t, path, randomFile(rnd))
			if n%10 == 9 {
				move(rnd)
			}
			<-tick.C
		}
	})
	third := time.NewTimer(*churnFor / 3)
	defer third.Stop()
	<-third.C
	before := heap()
	wg.Wait()
	after := heap()
	if limit := before + before/4 + 8<<20; after > limit {
		t.Errorf("the heap was %d KiB after a third of the time, and is %d in the end", before>>10, after>>10)
	}
	tr.CloseIdleConnections()
	deadline := time.Now().Add(20 * time.Second)
	for _, ep := range tr.Endpoints() {
		for {
			s := ep.Stats()
			if s.Leased+s.Waiting+s.Dialing+s.Idle+s.Draining == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s holds %+v when nothing runs", ep, s)
			}
			runtime.Gosched()
		}
	}
	if applied.Load() == 0 {
		t.Error("no file was applied")
	}
	t.Logf("%d requests, %d failed; %d files applied; heap %d KiB, then %d", requests.Load(), failed.Load(), applied.Load(), before>>10, after>>10)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func get(rt http.RoundTripper, url string) error {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// randomFile makes a file that changes much and refuses nobody.
func randomFile(r *rand.Rand) string {
	var b strings.Builder
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	fmt.Fprintf(&b, "max_conns: %s\n", pick("0", "4", "30"))
	fmt.Fprintf(&b, "policy:\n  max_conns: %s\n  lifetime: %s\n  order: %s\n  close: %s\n", pick("0", "2", "10", "20"), pick("0s", "20ms", "300ms"),
		pick("lifo", "fifo", "spread"), pick("reset", "auto", "server-first"))
	b.WriteString("rules:\n")
	for range 1 + r.IntN(3) {
		fmt.Fprintf(&b, "  - match: %q\n    max_conns: %s\n    max_conns_per_host: %s\n    idle_timeout: %s\n", pick("*.test", "host0.test", "host1.test", "*"),
			pick("0", "1", "5", "15"), pick("0", "3", "12"), pick("0s", "5ms", "1s"))
	}
	return b.String()
}

// serveOn serves the same port on several addresses.
func serveOn(t *testing.T, addrs ...string) (list []netip.Addr, port string) {
	t.Helper()
	port = "0"
	for _, a := range addrs {
		ln, err := net.Listen("tcp", net.JoinHostPort(a, port))
		if err != nil {
			t.Skipf("cannot listen on %s: %v", a, err) // only Linux has all of 127.0.0.0/8
		}
		_, port, _ = net.SplitHostPort(ln.Addr().String())
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") })}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
		list = append(list, netip.MustParseAddr(a))
	}
	return list, port
}
