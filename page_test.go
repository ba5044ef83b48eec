package berth_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
	"github.com/berth-go/berth/internal/origin"
)

const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// ask serves one request, from this host, with header fields as they are given.
func ask(h http.Handler, method, target, body string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "127.0.0.1:6061"
	for i := 0; i < len(fields); i += 2 {
		switch fields[i] {
		case "Host":
			r.Host = fields[i+1]
		case "From":
			r.RemoteAddr = fields[i+1]
		default:
			r.Header.Set(fields[i], fields[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Browsers get the page where the handler is mounted, everybody else the report everywhere.
func TestPageIsForBrowsers(t *testing.T) {
	tr := mustNew(t, berth.Config{})
	mux := http.NewServeMux()
	mux.Handle("/plain/", tr.Handler())
	mux.Handle("/debug/berth/", http.StripPrefix("/debug/berth", tr.Handler()))
	mux.Handle("/exact", http.StripPrefix("/exact", tr.Handler()))
	bare := tr.Handler()
	for _, tc := range []struct {
		h              http.Handler
		target, accept string
		want           string // "page", "json", or where it leads
	}{
		{bare, "/", browserAccept, "page"},
		{bare, "/", "application/json", "json"},
		{bare, "/", "*/*", "json"},
		{bare, "/", "", "json"},
		{bare, "/?json", browserAccept, "json"},
		{bare, "/", "text/html;q=0, */*", "json"},
		{bare, "/metrics", "application/json", "json"},
		{bare, "/a/b", browserAccept, "./b/"},
		{bare, "/a/b/", browserAccept, "page"},
		{bare, "/a//evil.example", browserAccept, "./evil.example/"},
		{bare, "/a%2Fb", browserAccept, "./a%2Fb/"},
		{mux, "/plain/", browserAccept, "page"},
		{mux, "/plain/x", "", "json"},
		{mux, "/debug/berth/", browserAccept, "page"},
		{mux, "/debug/berth/any", "", "json"},
		{mux, "/exact", browserAccept, "./exact/"},
		{mux, "/exact", "", "json"},
	} {
		w := ask(tc.h, "GET", tc.target, "", "Accept", tc.accept)
		got := w.Header().Get("Location")
		switch kind := w.Header().Get("Content-Type"); {
		case w.Code == 200 && kind == "text/html; charset=utf-8":
			got = "page"
		case w.Code == 200 && kind == "application/json":
			if got = "json"; json.Unmarshal(w.Body.Bytes(), new(berth.Report)) != nil {
				t.Errorf("%s: no report: %s", tc.target, w.Body)
			}
		}
		if got != tc.want {
			t.Errorf("GET %s, Accept %q: %d %s, want %s", tc.target, tc.accept, w.Code, got, tc.want)
		}
		if !strings.Contains(w.Header().Get("Vary"), "Accept") {
			t.Errorf("GET %s: no Vary", tc.target)
		}
	}
	for _, target := range []string{"/", "/events", "/page.js"} {
		if w := ask(bare, "POST", target, "", "Accept", browserAccept); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d", target, w.Code)
		}
	}
	if w := ask(bare, "HEAD", "/events", ""); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD events: %d %s", w.Code, w.Body)
	}
	if w := ask(bare, "GET", "/actions", ""); w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET actions: %d", w.Code)
	}
	if w := ask(bare, "GET", "/endpoint?id=0", ""); w.Code != 404 {
		t.Errorf("an endpoint that is not there: %d", w.Code)
	}
}

// The page is its own: the policy lets it run nothing else, and it names nothing elsewhere.
func TestPageStandsAlone(t *testing.T) {
	h := mustNew(t, berth.Config{}).Handler()
	w := ask(h, "GET", "/", "", "Accept", browserAccept)
	for field, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
		if got := w.Header().Get(field); got != want {
			t.Errorf("%s: %q", field, got)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy+";", want+";") {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %s", policy)
	}
	page := w.Body.String()
	if regexp.MustCompile(`<style|<script>|\sstyle=|\son\w+=|\{[\w.]+\}`).MatchString(page) {
		t.Error("the page has a script or style in it, or a place that is not filled")
	}
	refs := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(refs) < 7 {
		t.Fatalf("only %d addresses", len(refs))
	}
	for _, ref := range refs {
		u, err := url.Parse(ref[1])
		if err != nil || u.Host != "" || strings.HasPrefix(u.Path, "/") {
			t.Errorf("the page refers to %s", ref[1])
			continue
		}
		if u.Scheme == "data" || u.Path == "" {
			continue
		}
		got := ask(h, "GET", "/under/"+ref[1], "")
		if got.Code != 200 || !strings.Contains(got.Header().Get("Cache-Control"), "immutable") || got.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", ref[1], got.Code, got.Header())
		}
		if again := ask(h, "GET", "/"+ref[1], "", "If-None-Match", got.Header().Get("ETag")); again.Code != 304 {
			t.Errorf("%s again: %d", ref[1], again.Code)
		}
		if other := ask(h, "GET", "/"+u.Path+"?v=other", ""); other.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s of another version: %v", u.Path, other.Header())
		}
		if !strings.Contains(u.Path, "uplot") && regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://`).MatchString(got.Body.String()) {
			t.Errorf("%s makes markup of text, or names another place", u.Path)
		}
	}
}

func TestPageSpeaksTheReadersLanguage(t *testing.T) {
	h := mustNew(t, berth.Config{}).Handler()
	for accept, want := range map[string]string{"": "en", "de": "en", "zh-CN,zh;q=0.9,en;q=0.8": "zh", "en-US,en;q=0.9,zh;q=0.8": "en",
		"de, zh-Hans;q=0.5, en;q=0.3": "zh", "ZH": "zh", "zh;q=0": "en", "zh;q=much": "en"} {
		w := ask(h, "GET", "/", "", "Accept", browserAccept, "Accept-Language", accept)
		if !strings.Contains(w.Body.String(), `<html lang="`+want+`">`) {
			t.Errorf("Accept-Language %q: %s", accept, regexp.MustCompile(`<html[^>]*>`).FindString(w.Body.String()))
		}
	}
}

// watched is a rig whose handler is served in the bubble.
type watched struct {
	*rig
	srv *http.Server
	c   *http.Client // of the page
}

func watch(r *rig, cfg berth.HandlerConfig) *watched {
	ln, err := r.net.Listen("page.test:80")
	if err != nil {
		r.Fatal(err)
	}
	w := &watched{rig: r, srv: &http.Server{Handler: r.tr.HandlerWith(cfg), WriteTimeout: 3 * time.Second}}
	w.c = &http.Client{Transport: &http.Transport{DialContext: r.net.DialContext}}
	go w.srv.Serve(ln) // until stop
	return w
}

func (w *watched) stop() {
	w.c.CloseIdleConnections()
	w.srv.Close()
}

// stream is an open stream of events.
type stream struct {
	*watched
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (w *watched) open(last string) *stream {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://page.test/events", nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", last)
	resp, err := w.c.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	s := &stream{watched: w, resp: resp, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	s.lines.Buffer(nil, 1<<20)
	return s
}

func (s *stream) close() {
	s.cancel()
	s.resp.Body.Close()
}

// event is what a page is sent at once.
type event struct {
	name, id  string
	T         int64    `json:"t"`
	IDs       []string `json:"ids"`
	Rest      json.RawMessage
	Endpoints []struct {
		ID, Name, Group string
		Max             int
		Paused          bool
		Stats           berth.Stats
		Reason          berth.Reason
		Limit, Advice   string
	}
}

// next returns the next event; nil at the end.
func (s *stream) next() *event {
	s.Helper()
	var e event
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch field {
		case "":
			return &e
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				s.Fatalf("%v: %s", err, value)
			}
		case "retry":
		default:
			s.Fatalf("line %q", s.lines.Text())
		}
	}
	return nil
}

// A stream tells all at first, then what has changed; one that resumes is told what has
// changed meanwhile. It outlives the server's WriteTimeout, and ends with the transport.
func TestPageStreamTellsWhatChanges(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 2}, origin.Serve(ok("hi")), func(r *rig) {
		r.get("/")
		w := watch(r, berth.HandlerConfig{})
		defer w.stop()
		s := w.open("")
		if kind := s.resp.Header.Get("Content-Type"); kind != "text/event-stream; charset=utf-8" || s.resp.Header.Get("Cache-Control") != "no-store" {
			r.Errorf("%v", s.resp.Header)
		}
		first := s.next()
		if len(first.IDs) != 1 || len(first.Endpoints) != 1 || first.Rest == nil {
			r.Fatalf("at first: %+v", first)
		}
		if e := first.Endpoints[0]; e.ID != first.IDs[0] || e.Name != rigURL || e.Max != 2 || e.Stats.Idle != 1 || e.Stats.Requests != 1 {
			r.Errorf("the endpoint: %+v", e)
		}
		begun := time.Now()
		for range 5 {
			if e := s.next(); e.T == 0 || len(e.Endpoints) != 0 || e.IDs != nil {
				r.Errorf("nothing happened: %+v", e)
			}
		}
		if d := time.Since(begun); d != 5*time.Second {
			r.Errorf("five looks took %v", d)
		}
		r.get("/")
		e := s.next()
		if len(e.Endpoints) != 1 || e.Endpoints[0].Stats.Requests != 2 || e.IDs != nil {
			r.Errorf("after a request: %+v", e)
		}
		s.close()

		same := w.open(e.id)
		if e := same.next(); len(e.Endpoints) != 0 || e.IDs != nil || e.Rest != nil {
			r.Errorf("resumed, nothing has changed: %+v", e)
		}
		same.close()
		time.Sleep(time.Second)
		later := w.open(first.id)
		if e := later.next(); len(e.Endpoints) != 1 || e.Endpoints[0].Stats.Requests != 2 || e.IDs != nil {
			r.Errorf("resumed, one has changed: %+v", e)
		}
		for _, id := range []string{"other-1", "-", first.id + "99999", strings.Repeat("9", 40)} {
			s := w.open(id)
			if e := s.next(); len(e.IDs) != 1 || len(e.Endpoints) != 1 {
				r.Errorf("after %s: %+v", id, e)
			}
			s.close()
		}
		r.tr.Close()
		if e := later.next(); e == nil || e.name != "" {
			r.Errorf("the last look: %+v", e)
		}
		if e := later.next(); e == nil || e.name != "end" {
			r.Errorf("the end: %+v", e)
		}
		if e := later.next(); e != nil {
			r.Errorf("after the end: %+v", e)
		}
		later.close()
	})
}

func TestPageStreamsAreBounded(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve(ok("hi")), func(r *rig) {
		w := watch(r, berth.HandlerConfig{})
		defer w.stop()
		var open []*stream
		for range 16 {
			s := w.open("")
			if s.next() == nil {
				r.Fatal("no event")
			}
			open = append(open, s)
		}
		s := w.open("")
		if s.resp.StatusCode != 503 || s.resp.Header.Get("Retry-After") == "" {
			r.Errorf("the 17th: %s", s.resp.Status)
		}
		s.close()
		open[0].close()
		synctest.Wait()
		s = w.open("")
		if s.resp.StatusCode != 200 {
			r.Errorf("when one has gone: %s", s.resp.Status)
		}
		for _, s := range append(open[1:], s) {
			s.close()
		}
		synctest.Wait()
	})
}

// stuck is a reader that takes nothing.
type stuck struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (s *stuck) SetWriteDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *stuck) Write([]byte) (int, error) {
	time.Sleep(time.Until(s.deadline))
	return 0, os.ErrDeadlineExceeded
}

func TestPageStreamGivesUpWhoTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := mustNew(t, berth.Config{})
		begun := time.Now()
		tr.Handler().ServeHTTP(&stuck{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequest("GET", "/events", nil))
		if d := time.Since(begun); d != 10*time.Second {
			t.Errorf("it was given up after %v", d)
		}
	})
}

// Why requests wait is told, and that an endpoint is paused.
func TestPageTellsWhyRequestsWait(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 1}, halfAnswer, func(r *rig) {
		r.hold("/v1/export?secret")
		ctx, cancel := context.WithCancel(r.Context())
		go r.tr.RoundTrip(r.request(ctx, "GET", "/", nil))
		w := watch(r, berth.HandlerConfig{})
		defer w.stop()
		time.Sleep(90 * time.Second)
		s := w.open("")
		e := s.next().Endpoints[0]
		if e.Reason != berth.ReasonEndpoint || e.Limit != "endpoint max 1" || e.Advice == "" || e.Stats.Waiting != 1 || e.Stats.OldestWait != 90*time.Second {
			r.Errorf("%+v", e)
		}
		resp, err := w.c.Get("http://page.test/endpoint?id=" + e.ID)
		if err != nil {
			r.Fatal(err)
		}
		var near berth.EndpointReport
		if err := json.NewDecoder(resp.Body).Decode(&near); err != nil || len(near.Leases) != 1 || near.Leases[0].Path != "/v1/export" || !near.Leases[0].Suspect || near.Policy.From["max_conns"] != "policy" {
			r.Errorf("%v: %+v", err, near)
		}
		resp.Body.Close()
		cancel()
		s.close()
	})
}

// Nothing that identifies a user is in any of the answers.
func TestPageTellsNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		proxy, err := url.Parse("http://proxyuser:proxypass@origin.test:80")
		if err != nil {
			t.Fatal(err)
		}
		r := newRigOn(t, n, berth.Config{Proxy: func(q *http.Request) (*url.URL, error) {
			if q.URL.Scheme == "http" && q.URL.Host == "origin.test" {
				return nil, nil
			}
			return proxy, nil
		}}, halfAnswer)
		for _, u := range []string{"http://urluser:urlpass@origin.test/path?key=queryvalue#fragmentvalue", "http://urluser:urlpass@other.test/path?key=queryvalue"} {
			req, err := http.NewRequestWithContext(r.Context(), "GET", u, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer headervalue")
			req.Header.Set("Cookie", "session=cookievalue")
			resp, err := r.tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			r.held = append(r.held, resp)
		}
		h := r.tr.HandlerWith(berth.HandlerConfig{Actions: true, Token: "tokenvalue"})
		w := watch(r, berth.HandlerConfig{})
		s := w.open("")
		e := s.next()
		if len(e.Endpoints) != 2 {
			t.Fatalf("%+v", e)
		}
		all, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{string(all), ask(h, "GET", "/", "", "Accept", browserAccept).Body.String(), ask(h, "GET", "/", "").Body.String(),
			ask(h, "POST", "/actions", `{}`, "Content-Type", "application/json").Body.String()}
		for _, id := range e.IDs {
			near := ask(h, "GET", "/endpoint?id="+id, "")
			if !strings.Contains(near.Body.String(), "/path") {
				t.Errorf("the lease is missing: %s", near.Body)
			}
			texts = append(texts, near.Body.String())
		}
		for _, text := range texts {
			for _, secret := range []string{"proxyuser", "proxypass", "urluser", "urlpass", "queryvalue", "fragmentvalue", "headervalue", "cookievalue", "tokenvalue"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s is told: %s", secret, text)
				}
			}
		}
		s.close()
		w.stop()
		r.close()
	})
}

// What peers and callers name cannot end a line or a string of what the page is sent.
func TestPageIsSentHostileNames(t *testing.T) {
	bubble(t, berth.Policy{}, halfAnswer, func(r *rig) {
		const name = "<img src=x onerror=alert(1)>\n\ndata: {\"t\":1}\u2028</script>"
		req := r.request(r.Context(), "GET", "/", nil)
		req.URL.Path = "/" + name
		resp, err := r.tr.Group(name).RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		r.held = append(r.held, resp)
		w := watch(r, berth.HandlerConfig{})
		defer w.stop()
		s := w.open("")
		e := s.next()
		if len(e.Endpoints) != 1 || e.Endpoints[0].Group != name {
			r.Fatalf("%+v", e)
		}
		near := ask(r.tr.Handler(), "GET", "/endpoint?id="+e.IDs[0], "")
		if kind := near.Header().Get("Content-Type"); kind != "application/json" || near.Header().Get("X-Content-Type-Options") != "nosniff" {
			r.Errorf("%v", near.Header())
		}
		if strings.ContainsAny(near.Body.String(), "<>\u2028") {
			r.Errorf("markup: %s", near.Body)
		}
		s.close()
	})
}

// Who may have an action.
func TestPageActionsAreGuarded(t *testing.T) {
	tr := mustNew(t, berth.Config{})
	off, on := berth.HandlerConfig{}, berth.HandlerConfig{Actions: true}
	token := berth.HandlerConfig{Actions: true, Token: "right"}
	hosts := berth.HandlerConfig{Actions: true, Hosts: []string{"debug.example"}}
	const remote = "192.0.2.7:5000"
	for _, tc := range []struct {
		name   string
		cfg    berth.HandlerConfig
		fields []string
		status int // 404 is beyond the guards: no endpoint
	}{
		{"off", off, nil, 403},
		{"off, with a token", off, []string{"Authorization", "Bearer right"}, 403},
		{"here", on, nil, 404},
		{"here, IPv6", on, []string{"From", "[::1]:4000", "Host", "[::1]:6061"}, 404},
		{"here, IPv4 in IPv6", on, []string{"From", "[::ffff:127.0.0.1]:4000"}, 404},
		{"localhost", on, []string{"Host", "localhost:6061"}, 404},
		{"below localhost", on, []string{"Host", "Berth.LOCALHOST."}, 404},
		{"a foreign name", on, []string{"Host", "evil.example:6061"}, 403},
		{"a name like localhost", on, []string{"Host", "localhost.evil.example"}, 403},
		{"no name", on, []string{"Host", ""}, 403},
		{"a name that is allowed", hosts, []string{"Host", "Debug.Example:6061"}, 404},
		{"below one that is allowed", hosts, []string{"Host", "x.debug.example"}, 403},
		{"another origin", on, []string{"Origin", "http://evil.example"}, 403},
		{"another site", on, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"the same site", on, []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"the page itself", on, []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:6061"}, 404},
		{"remote, none set", on, []string{"From", remote}, 403},
		{"remote, none set, an empty one", on, []string{"From", remote, "Authorization", "Bearer "}, 403},
		{"passed on, none set", on, []string{"X-Forwarded-For", "192.0.2.7"}, 403},
		{"passed on, none set", on, []string{"Forwarded", "for=192.0.2.7"}, 403},
		{"remote, no token", token, []string{"From", remote}, 401},
		{"remote, a wrong one", token, []string{"From", remote, "Authorization", "Bearer wrong"}, 401},
		{"remote, another scheme", token, []string{"From", remote, "Authorization", "Basic right"}, 401},
		{"remote, longer", token, []string{"From", remote, "Authorization", "Bearer right!"}, 401},
		{"remote, right", token, []string{"From", remote, "Authorization", "Bearer right"}, 404},
		{"remote by a name, right", token, []string{"From", remote, "Authorization", "bearer right", "Host", "app.example"}, 404},
		{"remote, right, another origin", token, []string{"From", remote, "Authorization", "Bearer right", "Origin", "http://evil.example"}, 403},
		{"here, no token", token, nil, 401},
		{"here, right", token, []string{"Authorization", "Bearer right"}, 404},
		{"no JSON", on, []string{"Content-Type", "text/plain"}, 415},
		{"no sender", on, []string{"From", "nobody"}, 403},
	} {
		w := ask(tr.HandlerWith(tc.cfg), "POST", "/actions", `{"action":"close_idle","endpoint":"0"}`, append([]string{"Content-Type", "application/json"}, tc.fields...)...)
		var result struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &result); err != nil || !strings.HasPrefix(result.Error, "berth: ") {
			t.Errorf("%s: %v: %s", tc.name, err, w.Body)
		}
		if w.Code != tc.status {
			t.Errorf("%s: %d %s, want %d", tc.name, w.Code, result.Error, tc.status)
		}
		if (w.Header().Get("WWW-Authenticate") != "") != (tc.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", tc.name, w.Header().Get("WWW-Authenticate"))
		}
	}
	for name, want := range map[string]struct {
		cfg  berth.HandlerConfig
		from string
	}{"off": {on, remote}, "on": {on, "127.0.0.1:1"}, "token": {token, remote}} {
		if w := ask(tr.HandlerWith(want.cfg), "GET", "/", "", "Accept", browserAccept, "From", want.from); !strings.Contains(w.Body.String(), `data-actions="`+name+`"`) {
			t.Errorf("the page for %s does not offer actions as %s", want.from, name)
		}
	}
}

// Actions do what they say, leave alone what they do not name, and are told in the log.
func TestPageActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, berth.Config{Policy: berth.Policy{MaxConns: 4}, Logger: slog.New(slog.NewTextHandler(&log, nil))}, origin.Serve(ok("hi")))
		ep, err := r.tr.Endpoint(rigURL)
		if err != nil {
			t.Fatal(err)
		}
		if err := ep.SetPolicy(berth.Policy{IdleTimeout: time.Hour}); err != nil {
			t.Fatal(err)
		}
		r.get("/")
		h := r.tr.HandlerWith(berth.HandlerConfig{Actions: true})
		w := watch(r, berth.HandlerConfig{})
		s := w.open("")
		id := s.next().IDs[0]
		s.close()
		w.stop()
		do := func(action, more string, status int) (done bool) {
			t.Helper()
			log.Reset()
			w := ask(h, "POST", "/actions", fmt.Sprintf(`{"action":%q,"endpoint":%q%s}`, action, id, more), "Content-Type", "application/json")
			var result struct {
				Done  bool
				Error string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &result); err != nil || w.Code != status || (result.Error == "") != (status == 200) {
				t.Errorf("%s: %v %d %s", action, err, w.Code, w.Body)
			}
			if line := log.String(); status == 200 && (!strings.Contains(line, "action="+action+" endpoint="+rigURL+" from=127.0.0.1:40000") || strings.Count(line, "\n") != 1) {
				t.Errorf("%s: the log has %q", action, line)
			}
			return result.Done
		}
		if n := r.stats().Idle; n != 1 {
			t.Fatalf("%d are idle", n)
		}
		if !do("close_idle", "", 200) {
			t.Error("close_idle is not done")
		}
		synctest.Wait()
		if n := r.stats().Idle; n != 0 {
			t.Errorf("%d are idle", n)
		}
		r.get("/")
		if !do("reconnect", "", 200) || r.stats().Closes["reconnect"] != 1 {
			t.Errorf("reconnect: %+v", r.stats())
		}
		r.get("/")
		if !do("drain", "", 200) || r.stats().Closes["reconnect"] != 2 {
			t.Errorf("drain: %+v", r.stats())
		}
		if !do("pause", "", 200) {
			t.Error("pause is not done")
		}
		answered := make(chan string, 1)
		go func() { answered <- r.get("/") }()
		synctest.Wait()
		if s := r.stats(); s.Waiting != 1 {
			t.Errorf("paused, and %+v", s)
		}
		do("resume", "", 200)
		<-answered

		do("limit", `,"max_conns":7`, 200)
		if p := ep.Policy(); p.Policy.MaxConns != 7 || p.From["max_conns"] != "endpoint" || p.Policy.IdleTimeout != time.Hour {
			t.Errorf("the limit: %+v", p)
		}
		if !strings.Contains(log.String(), "max_conns=7") {
			t.Errorf("the log has %q", log.String())
		}
		do("limit", `,"max_conns":0`, 200)
		if p := ep.Policy(); p.Policy.MaxConns != 4 || p.From["max_conns"] != "policy" || p.From["idle_timeout"] != "endpoint" {
			t.Errorf("the limit taken back: %+v", p)
		}
		do("limit", "", 400)
		do("close_idle", `,"max_conns":1`, 400)
		do("explode", "", 400)
		do("close_idle", `,"other":1`, 400)
		do("limit", `,"max_conns":"`+strings.Repeat("9", 5000)+`"`, 400)
		r.tr.Close()
		do("pause", "", 200) // what is there is paused, closed or not
		do("resume", "", 200)
		r.close()
	})
}

// A request in the way of drain and pause is waited for, within bounds.
func TestPageActionsDoNotWaitForEver(t *testing.T) {
	bubble(t, berth.Policy{}, halfAnswer, func(r *rig) {
		r.hold("/")
		h := r.tr.HandlerWith(berth.HandlerConfig{Actions: true})
		w := watch(r, berth.HandlerConfig{})
		s := w.open("")
		id := s.next().IDs[0]
		s.close()
		w.stop()
		for action, bound := range map[string]time.Duration{"drain": 10 * time.Second, "pause": time.Second} {
			begun := time.Now()
			got := ask(h, "POST", "/actions", fmt.Sprintf(`{"action":%q,"endpoint":%q}`, action, id), "Content-Type", "application/json")
			if d := time.Since(begun); got.Code != 200 || got.Body.String() != "{\"done\":false}\n" || d != bound {
				r.Errorf("%s: %d %s after %v", action, got.Code, got.Body, d)
			}
		}
		ask(h, "POST", "/actions", fmt.Sprintf(`{"action":"resume","endpoint":%q}`, id), "Content-Type", "application/json")
	})
}

// A page from which people may steer endpoints, if they know the token.
func ExampleTransport_HandlerWith() {
	tr := &berth.Transport{}
	defer tr.Close()
	mux := http.NewServeMux()
	mux.Handle("/debug/berth/", tr.HandlerWith(berth.HandlerConfig{Actions: true, Token: "of the program's secrets"}))
	debug := httptest.NewServer(mux)
	defer debug.Close()

	resp, err := http.Post(debug.URL+"/debug/berth/actions", "application/json", strings.NewReader(`{"action": "drain", "endpoint": "1"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 401 Unauthorized
}
