package berth_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// long is the size of a body that does not come with its head.
const long = 4 << 20

// forget asks for something and forgets the response.
//
//go:noinline
func forget(t *testing.T, c *http.Client, url string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
}

// longServer answers with bodies that nobody can read at once: of a known length, in
// chunks, compressed, or without end.
func longServer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/length":
		w.Header().Set("Content-Length", fmt.Sprint(long))
	case "/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		zw := gzip.NewWriter(w)
		zw.Write([]byte("begun"))
		zw.Flush()
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	case "/short":
		io.WriteString(w, "short")
		return
	}
	w.WriteHeader(200)
	w.Write(make([]byte, long))
}

// C09: a response that its caller has forgotten gives its connection back, with its place
// in the queue's order, and the place in the program is named.
func TestForgottenBodyGivesItsConnectionBack(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		http2      bool
		timeout    time.Duration
	}{
		{"length", "/length", false, 0},
		{"chunked", "/chunked", false, 0},
		{"gzip", "/gzip", false, 0},
		{"under Client.Timeout", "/length", false, time.Hour},
		{"HTTP/2", "/length", true, 0},
		{"HTTP/2 gzip", "/gzip", true, 0},
		{"HTTP/2 under Client.Timeout", "/length", true, time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, tlsConfig := newTLSServer(t, longServer, func(s *httptest.Server) { s.EnableHTTP2 = tc.http2 })
			var log syncBuffer
			var mu sync.Mutex
			var told []berth.LeakInfo
			tr := mustNew(t, berth.Config{TLS: tlsConfig, Policy: berth.Policy{MaxConns: 1, MaxStreamsPerConn: 1},
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Trace: &berth.Trace{Leak: func(i berth.LeakInfo) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, i)
				}}})
			c := &http.Client{Transport: tr, Timeout: tc.timeout}
			const leaks = 2
			for range leaks {
				forget(t, c, s.URL+tc.path+"?token=secret")
			}
			wantGet(t, tr, s.URL+"/short", "short")

			ep := mustEndpoint(t, tr, s.URL)
			st := ep.Stats()
			if st.Leaks.Reclaimed != leaks || st.Leaks.Suspect != 0 || !tc.http2 && st.Closes["leaked"] != leaks {
				t.Errorf("leaks %+v, closes %v; want %d reclaimed", st.Leaks, st.Closes, leaks)
			}
			sites := tr.Leaks()
			if len(sites) != 1 || sites[0].Reclaimed != leaks || !strings.Contains(sites[0].Site, "leaks_test.go:") ||
				!strings.Contains(sites[0].Site, "forget") {
				t.Errorf("the places are %+v", sites)
			}
			if n := strings.Count(log.String(), "BERTH1018"); n != 1 {
				t.Errorf("the log tells %d times of one place:\n%s", n, &log)
			}
			if strings.Contains(log.String(), "secret") {
				t.Errorf("the log tells the query:\n%s", &log)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(told) != leaks || told[0].State != "reclaimed" || told[0].Lease.Path != tc.path || told[0].Endpoint != ep.String() {
				t.Errorf("Trace.Leak was told %+v", told)
			}
		})
	}
}

// Callers often keep only resp.Body: that is a hold on the response, however often the
// collector looks, while it is read and before.
func TestBodyAloneKeepsItsConnection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2=", http2), func(t *testing.T) {
			t.Parallel()
			const pause, size = 5, 100 << 10
			s, tlsConfig := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
				for i := range pause {
					w.Write(bytes.Repeat([]byte{'a' + byte(i)}, size))
					w.(http.Flusher).Flush()
					select {
					case <-r.Context().Done():
					case <-time.After(500 * time.Millisecond): // the server's own pace: the body lasts for more than two seconds
					}
				}
			}, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			tr := mustNew(t, berth.Config{TLS: tlsConfig})
			body := func() io.ReadCloser {
				resp, err := (&http.Client{Transport: tr}).Get(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				return resp.Body
			}()
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						runtime.GC()
						runtime.Gosched()
					}
				}
			})
			got, err := io.ReadAll(body)
			close(stop)
			wg.Wait()
			var want []byte
			for i := range pause {
				want = append(want, bytes.Repeat([]byte{'a' + byte(i)}, size)...)
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
			}
			if st := mustEndpoint(t, tr, s.URL).Stats(); st.Leaks != (berth.LeakStats{}) {
				t.Errorf("leaks %+v", st.Leaks)
			}
		})
	}
}

// A body that nobody reads for LeakAfter is reported with what is known of it, and the
// report is taken back when it is read again. A stream that is read is no leak however
// long it lasts.
func TestUnreadBodyIsSuspectUntilItIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		var mu sync.Mutex
		var told []string
		r := newRig(t, berth.Config{Policy: berth.Policy{LeakAfter: 10 * time.Second}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Trace: &berth.Trace{Leak: func(i berth.LeakInfo) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprintf("%s %s %v", i.State, i.Lease.Path, i.Lease.Unread))
			}}}, func(c *origin.Conn) {
			c.ReadRequest()
			c.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for c.Write("1\r\nx\r\n") == nil && c.Sleep(5*time.Second) {
			}
		})
		unread := r.hold("/unread?secret")
		stream := r.hold("/stream")
		read := func(resp *http.Response) error {
			_, err := io.ReadFull(resp.Body, make([]byte, 1))
			return err
		}
		go func() {
			for read(stream) == nil {
			}
		}()
		time.Sleep(9 * time.Second)
		if st := r.stats(); st.Leaks != (berth.LeakStats{}) {
			t.Errorf("after 9 s: %+v", st.Leaks)
		}
		time.Sleep(2 * time.Second)
		if st := r.stats(); st.Leaks != (berth.LeakStats{Suspect: 1, Suspected: 1}) {
			t.Errorf("after 11 s: %+v", st.Leaks)
		}
		rep := r.tr.Report().Endpoints[0]
		for _, l := range rep.Leases {
			if l.Suspect != (l.Path == "/unread") || l.Suspect && l.Unread != 11*time.Second {
				t.Errorf("lease %+v", l)
			}
		}
		time.Sleep(30 * time.Second)
		if err := read(unread); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if st := r.stats(); st.Leaks != (berth.LeakStats{Suspected: 1}) {
			t.Errorf("after it was read: %+v", st.Leaks)
		}
		mu.Lock()
		defer mu.Unlock()
		if got, want := strings.Join(told, "; "), "suspect /unread 10s; back /unread "; !strings.HasPrefix(got, want) || len(told) != 2 {
			t.Errorf("told %q", got)
		}
		for _, want := range []string{"level=WARN msg=\"berth: response body is not read; likely leak\"", "starved_test.go:", "(*rig).hold", "unread=10s",
			"level=INFO msg=\"berth: response body is read again; no leak\""} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, &log)
			}
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("the log tells the query:\n%s", &log)
		}
		r.close()
		if st := r.stats(); st.Leaks.Suspect != 0 {
			t.Errorf("in the end: %+v", st.Leaks)
		}
	})
}

// Negative: nothing is reported.
func TestLeakAfterOff(t *testing.T) {
	bubble(t, berth.Policy{LeakAfter: -1, MaxConns: 1}, halfAnswer, func(r *rig) {
		r.hold("/")
		ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
		defer cancel()
		_, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is || e.Verdict != berth.VerdictTooSmall || e.Oldest[0].Suspect || e.Stats.Leaks != (berth.LeakStats{}) {
			r.Errorf("%+v", e)
		}
	})
}

// go tool pprof shows who holds connections, as long as they do.
func TestProfileOfConnectionsInUse(t *testing.T) {
	bubble(t, berth.Policy{}, halfAnswer, func(r *rig) {
		text := func() string {
			var b bytes.Buffer
			if err := pprof.Lookup("berth.inuse").WriteTo(&b, 1); err != nil {
				r.Fatal(err)
			}
			return b.String()
		}
		resp := r.hold("/")
		if s := text(); !strings.Contains(s, "TestProfileOfConnectionsInUse") || !strings.Contains(s, "(*rig).hold") {
			r.Errorf("while it is in use:\n%s", s)
		}
		resp.Body.Close()
		if s := text(); strings.Contains(s, "TestProfileOfConnectionsInUse") {
			r.Errorf("afterwards:\n%s", s)
		}
	})
}

// Call sites are asked for within a budget; an endpoint that starved has all of them asked
// for a minute.
func TestCallSitesAreASampleUntilRequestsStarve(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 50}, halfAnswer, func(r *rig) {
		known := func() (n int) {
			for _, l := range r.tr.Report().Endpoints[0].Leases {
				if l.Site != "" {
					n++
				}
			}
			return n
		}
		for range 50 {
			r.hold("/")
		}
		if n := known(); n < 30 || n > 40 {
			r.Errorf("%d of 50 leases at once have a call site; want those of the budget", n)
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if _, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil)); !errors.As(err, new(*berth.AcquireTimeoutError)) {
			r.Fatal(err)
		}
		for _, resp := range r.held {
			resp.Body.Close()
		}
		r.held = nil
		for range 50 {
			r.hold("/")
		}
		if n := known(); n != 50 {
			r.Errorf("%d of 50 leases have a call site after requests have starved", n)
		}
	})
}

// The queue's error has the same story, with a reason of its own when no limit on
// connections binds.
func TestFullQueueTellsWhoHoldsTheConnections(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1, MaxWaiters: -1}, halfAnswer, func(r *rig) {
		r.hold("/v1/export?secret")
		time.Sleep(2 * time.Minute)
		_, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
		e, is := errors.AsType[*berth.QueueFullError](err)
		if !is || e.Reason != berth.ReasonEndpoint || e.Verdict != berth.VerdictLeaked || e.Oldest[0].Path != "/v1/export" {
			r.Fatalf("%+v", err)
		}
		for _, want := range []string{"queue of http://origin.test is full: 0 requests wait (limit: endpoint max 1)", "oldest lease 2m0s: GET /v1/export, body unread for 2m0s", "BERTH1002"} {
			if !strings.Contains(err.Error(), want) {
				r.Errorf("the text lacks %q:\n%v", want, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			r.Error("the text tells the query")
		}
	})
}

// Requests that find the queue full starve as well: the holders' call sites are asked for,
// and the collector is, though nobody waits.
func TestFullQueueCountsAsStarving(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(longServer))
	defer srv.Close()
	tr := mustNew(t, berth.Config{Policy: berth.Policy{MaxConns: 1, MaxWaiters: -1}})
	forget(t, &http.Client{Transport: tr}, srv.URL+"/length")
	waitFor(t, func() bool {
		body, err := fetch(tr, srv.URL+"/short")
		if err != nil && !errors.As(err, new(*berth.QueueFullError)) {
			t.Fatal(err)
		}
		return body == "short"
	})
}

// A limit that is too small is told from a leak, with the number that the demand asks for.
func TestDemandSaysWhatLimitIsNeeded(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 2, AcquireTimeout: 2 * time.Second}, origin.Latency(100*time.Millisecond, ok("a")), func(r *rig) {
		var (
			mu   sync.Mutex
			errs []*berth.AcquireTimeoutError
			wg   sync.WaitGroup
		)
		for range 300 { // 30 requests a second of 100 ms each: three connections
			wg.Go(func() {
				_, err := fetch(r.tr, rigURL)
				if e, is := errors.AsType[*berth.AcquireTimeoutError](err); is {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, e)
				}
			})
			time.Sleep(time.Second / 30)
		}
		wg.Wait()
		if len(errs) == 0 {
			r.Fatal("nobody starved")
		}
		e := errs[len(errs)/2]
		if d := e.Demand; e.Verdict != berth.VerdictTooSmall || e.Unread != 0 || d.Conns < 2.7 || d.Conns > 3.3 || d.Rate < 27 || d.Rate > 33 || d.Hold != 100*time.Millisecond {
			r.Errorf("demand %+v, verdict %q", d, e.Verdict)
		}
		if !strings.Contains(e.Error(), "too small: raise MaxConns to 5, which the demand loads to 70%") {
			r.Errorf("the text is\n%v", e)
		}
	})
}

// Who set the limit is told when it is not Config.Policy.
func TestStarvedCallerIsToldWhoSetTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Rules: []berth.Rule{{Match: "*.test", Policy: berth.Policy{MaxConns: 1}}}}, halfAnswer)
		r.hold("/")
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		_, err := r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		if err == nil || !strings.Contains(err.Error(), "(limit: endpoint max 1, set by rule 1 (*.test))") {
			t.Error(err)
		}
		r.close()
	})
}

func TestReportServesTheState(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, halfAnswer, func(r *rig) {
		r.hold("/v1/export?secret")
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		time.Sleep(90 * time.Second)
		for _, tc := range []struct {
			method string
			status int
		}{{"GET", 200}, {"HEAD", 200}, {"POST", 405}} {
			w := httptest.NewRecorder()
			r.tr.Handler().ServeHTTP(w, httptest.NewRequest(tc.method, "/debug/berth", nil))
			if w.Code != tc.status {
				r.Errorf("%s: %d", tc.method, w.Code)
			}
			if tc.method != "GET" {
				continue
			}
			var rep berth.Report
			if err := json.Unmarshal(w.Body.Bytes(), &rep); err != nil {
				r.Fatal(err)
			}
			e := rep.Endpoints[0]
			if rep.Schema != berth.ReportSchema || len(rep.Endpoints) != 1 || e.Endpoint != "http://origin.test" || e.Reason != berth.ReasonEndpoint ||
				e.Verdict != berth.VerdictLeaked || e.Stats.Waiting != 1 || len(e.Leases) != 1 || e.Leases[0].Path != "/v1/export" ||
				e.Leases[0].Local == "" || e.Policy.Policy.MaxConns != 1 || len(rep.Leaks) != 1 {
				r.Errorf("the report is %s", w.Body)
			}
			if strings.Contains(w.Body.String(), "secret") {
				r.Error("it tells the query")
			}
		}
		cancel()
		synctest.Wait()
	})
}

// The request of a forgotten body may be cancelled, or its peer hang up, at the moment in
// which it is found.
func TestForgottenBodiesThatEndMeanwhile(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2=", http2), func(t *testing.T) {
			t.Parallel()
			const n = 40
			leave := make(chan struct{})
			s, tlsConfig := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Write(make([]byte, 1<<20))
				if r.URL.Path == "/hang-up" {
					<-leave
					panic(http.ErrAbortHandler)
				}
				<-r.Context().Done()
			}, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			tr := mustNew(t, berth.Config{TLS: tlsConfig})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range n {
				path := "/cancel"
				if i%2 == 0 {
					path = "/hang-up"
				}
				req, _ := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
				if _, err := (&http.Client{Transport: tr}).Do(req); err != nil {
					t.Fatal(err)
				}
			}
			ep := mustEndpoint(t, tr, s.URL)
			waitFor(t, func() bool { runtime.GC(); return ep.Stats().Leaks.Reclaimed > 0 })
			cancel()
			close(leave)
			waitFor(t, func() bool { runtime.GC(); st := ep.Stats(); return st.Leased == 0 && st.Draining == 0 })
			if st := ep.Stats(); st.Leaks.Suspect != 0 || st.Leaks.Reclaimed > n {
				t.Errorf("%+v", st.Leaks)
			}
			wantGetEnds(t, tr, s.URL)
		})
	}
}

// wantGetEnds sends a request that the server lets go on until it is cancelled.
func wantGetEnds(t *testing.T, tr http.RoundTripper, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A transport that is dropped with a response of its own is collected with it, and leaves
// nothing in the profile.
func TestDroppedTransportLeavesTheProfile(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(longServer))
	defer srv.Close()
	inUse := func() int {
		var b bytes.Buffer
		if err := pprof.Lookup("berth.inuse").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		return strings.Count(b.String(), "dropOne")
	}
	dropOne(t, srv.URL)
	waitFor(t, func() bool { runtime.GC(); return inUse() == 0 })
}

//go:noinline
func dropOne(t *testing.T, url string) {
	forget(t, &http.Client{Transport: &berth.Transport{}}, url+"/length")
	var b bytes.Buffer
	if err := pprof.Lookup("berth.inuse").WriteTo(&b, 1); err != nil || !strings.Contains(b.String(), "dropOne") {
		t.Errorf("it is not in the profile: %v\n%s", err, &b)
	}
}
