package berth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// getIn sends a GET in a group by its context.
func (r *rig) getIn(group, path string) error {
	resp, err := r.tr.RoundTrip(r.request(berth.WithGroup(r.Context(), group), "GET", path, nil))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// C73: a group a request does not grow without end, however busy the host is, and groups
// that nobody uses end.
func TestC73GroupPerRequestIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{MaxGroups: 10}, origin.Serve(ok("a")))
		for i := range 500 {
			if err := r.getIn(fmt.Sprint("request ", i), "/"); err != nil {
				t.Fatal(err)
			}
			r.get("/") // the host is never idle
			if open := r.net.Stats("origin.test:80").Open; open > 11 {
				t.Fatalf("%d connections after %d groups", open, i+1)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(r.tr.Groups()); n != 10 {
			t.Errorf("%d groups", n)
		}
		for range 300 {
			r.get("/")
			time.Sleep(time.Second)
		}
		if n, open := len(r.tr.Groups()), r.net.Stats("origin.test:80").Open; n != 0 || open != 1 {
			t.Errorf("%d groups and %d connections after five minutes", n, open)
		}
		r.close()
	})
}

// Groups that come at once do not end each other before their first request.
func TestGroupsAtOnceAllGetTheirRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{MaxGroups: 8}, origin.Latency(time.Millisecond, ok("a")))
		for round := range 50 {
			var waits []func() (int, error)
			for i := range 8 {
				waits = append(waits, r.sendTo(r.tr.Group(fmt.Sprint(round, " ", i)), 1, rigURL))
			}
			for _, w := range waits {
				r.none(w)
			}
			time.Sleep(time.Millisecond)
		}
		if dials := r.dials(); dials != 400 {
			t.Errorf("%d connections for 400 groups", dials)
		}
		r.close()
	})
}

// Groups that are in use are not ended for others: the error says what to do.
func TestTooManyGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{MaxGroups: 2}, origin.Latency(time.Second, ok("a")))
		a, b := r.sendTo(r.tr.Group("a"), 1, rigURL), r.sendTo(r.tr.Group("b"), 1, rigURL)
		time.Sleep(time.Millisecond)
		_, err := fetch(r.tr.Group("c"), rigURL)
		e, is := errors.AsType[*berth.TooManyGroupsError](err)
		if !is || e.Group != "c" || e.MaxGroups != 2 || !berth.NotSent(err) || e.Code() != "BERTH1017" {
			t.Errorf("%v", err)
		}
		if err := r.getIn("a", "/"); err != nil {
			t.Errorf("a group that is there: %v", err)
		}
		r.none(a)
		r.none(b)
		if err := r.getIn("c", "/"); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(r.tr.Groups()); got != "[a c]" {
			t.Errorf("groups %s: the one idle for longest ends", got)
		}
		r.close()
	})
}

// Limits are each group's own; MaxConnsPerHost is all of theirs together, and an idle
// connection of one is closed for another.
func TestLimitsOfGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Policy: berth.Policy{MaxConns: 2, MaxConnsPerHost: 3}}, origin.Latency(time.Second, ok("a")))
		start := time.Now()
		var waits []func() (int, error)
		for _, g := range []string{"a", "b", ""} {
			waits = append(waits, r.sendTo(r.tr.Group(g), 4, rigURL))
		}
		time.Sleep(time.Millisecond)
		if open := r.net.Stats("origin.test:80").Open; open != 3 {
			t.Errorf("%d connections", open)
		}
		for _, w := range waits {
			r.none(w)
		}
		if d := time.Since(start); d > 6*time.Second { // 12 seconds of work over 3
			t.Errorf("took %v", d)
		}
		if s := r.net.Stats("origin.test:80"); s.MaxOpen > 3 {
			t.Errorf("%d connections at once", s.MaxOpen)
		}
		start = time.Now()
		if err := r.getIn("new", "/"); err != nil || time.Since(start) != time.Second {
			t.Errorf("a new group, with only idle connections elsewhere: %v, %v", time.Since(start), err)
		}
		r.close()
	})
}

// C74: idle connections now, busy ones after their response; for one host, or for all.
func TestC74CloseGroup(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		g := r.tr.Group("g")
		r.none(r.sendTo(g, 2, rigURL))
		r.get("/")
		busy := r.sendTo(g, 1, rigURL)
		time.Sleep(time.Millisecond)
		ep, err := g.Endpoint(rigURL)
		if err != nil || ep.String() != "http://origin.test in group g" {
			r.Fatalf("%v, %v", ep, err)
		}
		if !r.endpoint().CloseGroup("g") {
			r.Error("the group did not exist")
		}
		if s := ep.Stats(); s.Idle != 0 || s.Draining != 1 {
			r.Errorf("%d idle, %d draining", s.Idle, s.Draining)
		}
		r.none(busy)
		synctest.Wait()
		if r.tr.CloseGroup("g") || r.endpoint().CloseGroup("other") {
			r.Error("a group without connections existed")
		}
		if s := r.stats(); s.Idle != 1 {
			r.Errorf("the default group has %d idle", s.Idle)
		}
		if err := r.getIn("g", "/"); err != nil {
			r.Errorf("the group begins anew: %v", err)
		}
		if !mustEndpoint(r.T, r.tr, "http://elsewhere.test").CloseGroup("g") == false {
			r.Error("the group was closed for another host")
		}
		if !r.tr.CloseGroup("g") {
			r.Error("CloseGroup everywhere")
		}
	})
}

// Whatever is done, no two groups share a connection, a TLS session, or a tunnel of an
// authenticated proxy.
func TestGroupsAreIsolated(t *testing.T) {
	for _, by := range []string{"directly", "through a proxy"} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(by+", "+protocol, func(t *testing.T) { isolation(t, by == "through a proxy", protocol == "HTTP/2") })
		}
	}
}

func isolation(t *testing.T, proxied, mux bool) {
	var (
		mu       sync.Mutex
		ofConn   = map[int]string{} // the group of a connection, by its number
		resumed  = map[int]int{}    // the connection whose session it resumes
		numbers  = map[net.Conn]int{}
		sessions = 0
		shared   []string
	)
	number := func(c net.Conn) int { // addresses come again
		if numbers[c] == 0 {
			numbers[c] = len(numbers) + 1
		}
		return numbers[c]
	}
	type connKey struct{}
	h := func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		group := req.Header.Get("Group")
		conn := number(req.Context().Value(connKey{}).(*tls.Conn).NetConn())
		if was, ok := ofConn[conn]; ok && was != group {
			shared = append(shared, fmt.Sprintf("connection %d was of %s, now of %s", conn, was, group))
		}
		ofConn[conn] = group
		if req.TLS.DidResume {
			sessions++
		}
	}
	srv, client := newTLSServer(t, h, func(s *httptest.Server) {
		s.EnableHTTP2 = mux
		s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
		// A ticket carries the number of the connection that it was issued on.
		s.TLS = &tls.Config{}
		s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := s.TLS.Clone()
			c.GetConfigForClient = nil
			mu.Lock()
			conn := number(hello.Conn)
			mu.Unlock()
			c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
				ss.Extra = append(ss.Extra, fmt.Appendf(nil, "conn %d", conn))
				return s.TLS.EncryptTicket(cs, ss)
			}
			c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
				ss, err := s.TLS.DecryptTicket(identity, cs)
				if ss != nil {
					for _, e := range ss.Extra {
						if from, ok := bytes.CutPrefix(e, []byte("conn ")); ok {
							mu.Lock()
							resumed[conn], _ = strconv.Atoi(string(from))
							mu.Unlock()
						}
					}
				}
				return ss, err
			}
			return c, nil
		}
	})
	client.ClientSessionCache = tls.NewLRUClientSessionCache(10) // the default group's alone
	cfg := berth.Config{TLS: client, Proxy: berth.NoProxy, MaxGroups: 4, Policy: berth.Policy{MaxConns: 2, Lifetime: 50 * time.Millisecond}}
	if proxied {
		p := newProxy(t, "http", func(p *proxyServer) { p.user = "user:password" })
		cfg.Proxy = p.use()
	}
	tr := mustNew(t, cfg)
	groups := []string{"", "a", "b", "c", "d", "e"}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range 150 {
				group := groups[rnd.IntN(len(groups))]
				req, _ := http.NewRequestWithContext(berth.WithGroup(context.Background(), group), "GET", srv.URL, nil)
				req.Header.Set("Group", group+".")
				var rt http.RoundTripper = tr
				if rnd.IntN(2) == 0 {
					rt = tr.Group(group)
				}
				resp, err := rt.RoundTrip(req)
				if err != nil {
					if !errors.As(err, new(*berth.TooManyGroupsError)) {
						t.Error(err)
					}
					continue
				}
				resp.Body.Close()
				switch rnd.IntN(20) {
				case 0:
					tr.CloseGroup(group)
				case 1:
					tr.Group(group).CloseIdleConnections()
				case 2:
					mustEndpoint(t, tr, srv.URL).CloseGroup(group)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for to, from := range resumed {
		if ofConn[to] != "" && ofConn[from] != "" && ofConn[to] != ofConn[from] {
			shared = append(shared, fmt.Sprintf("a session of %s was resumed by %s", ofConn[from], ofConn[to]))
		}
	}
	if len(shared) > 0 {
		t.Errorf("shared: %s", strings.Join(shared, "\n"))
	}
	if sessions == 0 {
		t.Error("no session was ever resumed: the test shows nothing")
	}
}
