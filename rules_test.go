package berth_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

func mustEndpoint(t testing.TB, tr *berth.Transport, url string) *berth.Endpoint {
	t.Helper()
	ep, err := tr.Endpoint(url)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// For each value the first rule that matches and sets it wins, and the endpoint says so.
func TestFirstRuleThatSetsAValueWins(t *testing.T) {
	tr := mustNew(t, berth.Config{
		Proxy:  berth.NoProxy,
		Policy: berth.Policy{MaxIdle: 7, IdleTimeout: 20 * time.Second, Strict: true},
		Rules: []berth.Rule{
			{Match: "https://api.example.com:8443", Policy: berth.Policy{MaxConns: 40}},
			{Match: "*.example.com", Policy: berth.Policy{MaxConns: 30, Lifetime: time.Minute}, Set: []string{"strict"}},
			{Match: "http://*", Policy: berth.Policy{MaxConns: 20, Lifetime: time.Hour}},
			{Match: "*", Policy: berth.Policy{MaxDials: 5}, Set: []string{"idle_timeout"}},
		},
	})
	for _, tc := range []struct {
		url      string
		conns    int
		lifetime time.Duration
		strict   bool
		from     string // of max_conns
	}{
		{"https://api.example.com:8443/x", 40, time.Minute, false, "rule 1 (https://api.example.com:8443)"},
		{"https://api.example.com", 30, time.Minute, false, "rule 2 (*.example.com)"},
		{"https://a.b.example.com", 30, time.Minute, false, "rule 2 (*.example.com)"},
		{"http://API.example.com:8443", 30, time.Minute, false, "rule 2 (*.example.com)"},
		{"http://example.com", 20, time.Hour, true, "rule 3 (http://*)"},
		{"https://example.com", 0, 10 * time.Minute, true, "default"},
		{"https://notexample.com", 0, 10 * time.Minute, true, "default"},
	} {
		e := mustEndpoint(t, tr, tc.url).Policy()
		p := e.Policy
		if p.MaxConns != tc.conns || p.Lifetime != tc.lifetime || p.Strict != tc.strict || e.From["max_conns"] != tc.from {
			t.Errorf("%s: MaxConns %d by %q, Lifetime %v, Strict %v", tc.url, p.MaxConns, e.From["max_conns"], p.Lifetime, p.Strict)
		}
		if p.MaxIdle != 7 || e.From["max_idle"] != "policy" || p.MaxDials != 5 || e.From["max_dials"] != "rule 4 (*)" {
			t.Errorf("%s: MaxIdle %d by %q, MaxDials %d by %q", tc.url, p.MaxIdle, e.From["max_idle"], p.MaxDials, e.From["max_dials"])
		}
		if p.IdleTimeout != time.Minute || e.From["idle_timeout"] != "rule 4 (*)" {
			t.Errorf("%s: IdleTimeout %v by %q: the rule sets it to the default", tc.url, p.IdleTimeout, e.From["idle_timeout"])
		}
		if p.MaxWaiters != 10_000 || e.From["max_waiters"] != "default" || e.Generation != 1 {
			t.Errorf("%s: MaxWaiters %d by %q, generation %d", tc.url, p.MaxWaiters, e.From["max_waiters"], e.Generation)
		}
	}
}

// C71: `*` = 20 and an exact host = 40 are two rules; .NET's exact string has no port.
// Azure.Core's "50, where the user left the default" is a last rule.
func TestC71RulesOfDotNet(t *testing.T) {
	tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, Rules: []berth.Rule{
		{Match: "http://www.contoso.com:80", Policy: berth.Policy{MaxConns: 40}},
		{Match: "*", Policy: berth.Policy{MaxConns: 20}},
	}})
	for url, want := range map[string]int{"http://www.contoso.com": 40, "http://www.contoso.com:8080": 20, "https://www.contoso.com": 20, "http://other": 20} {
		if got := mustEndpoint(t, tr, url).Policy().Policy.MaxConns; got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
	azure := berth.Rule{Match: "*", Policy: berth.Policy{MaxConns: 50, Lifetime: 5 * time.Minute}}
	for _, tc := range []struct {
		user berth.Policy
		want int
	}{{berth.Policy{}, 50}, {berth.Policy{MaxConns: 8}, 8}, {berth.Policy{MaxConns: -1}, -1}} {
		tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, Rules: []berth.Rule{{Match: "*", Policy: tc.user}, azure}})
		if got := mustEndpoint(t, tr, "https://x").Policy().Policy; got.MaxConns != tc.want || got.Lifetime != 5*time.Minute {
			t.Errorf("user %+v: MaxConns %d, want %d; Lifetime %v", tc.user, got.MaxConns, tc.want, got.Lifetime)
		}
	}
}

func TestRulesAreValidated(t *testing.T) {
	for _, tc := range []struct {
		rule  berth.Rule
		field string
	}{
		{berth.Rule{}, "Rules[0].Match"},
		{berth.Rule{Match: "ftp://x"}, "Rules[0].Match"},
		{berth.Rule{Match: "a*.example.com"}, "Rules[0].Match"},
		{berth.Rule{Match: "*.*.example.com"}, "Rules[0].Match"},
		{berth.Rule{Match: "https://user@host"}, "Rules[0].Match"},
		{berth.Rule{Match: "host:http"}, "Rules[0].Match"},
		{berth.Rule{Match: "host/path"}, "Rules[0].Match"},
		{berth.Rule{Match: "1:2:3"}, "Rules[0].Match"},
		{berth.Rule{Match: "*", Policy: berth.Policy{MaxIdle: 3, MaxConns: 2}}, "Rules[0].Policy.MaxIdle"},
		{berth.Rule{Match: "*", Policy: berth.Policy{MinIdle: 3, MaxConns: 2}}, "Rules[0].Policy.MinIdle"},
		{berth.Rule{Match: "*", Policy: berth.Policy{Order: "random"}}, "Rules[0].Policy.Order"},
		{berth.Rule{Match: "*", Policy: berth.Policy{Close: "hard"}}, "Rules[0].Policy.Close"},
		{berth.Rule{Match: "*", Policy: berth.Policy{PortBudget: berth.PortBudget{Ports: -1}}}, "Rules[0].Policy.PortBudget.Ports"},
		{berth.Rule{Match: "*", Set: []string{"max_cons"}}, "Rules[0].Set"},
		{berth.Rule{Match: "*", Proxy: "ftp://proxy"}, "Rules[0].Proxy"},
		{berth.Rule{Match: "*", Proxy: "http://user:secret@%zz"}, "Rules[0].Proxy"},
	} {
		_, err := berth.New(berth.Config{Rules: []berth.Rule{tc.rule}})
		e, is := errors.AsType[*berth.ConfigError](err)
		if !is || e.Field != tc.field || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %s", tc.rule, err, tc.field)
		}
	}
	for _, match := range []string{"*", "*:443", "https://*", "[2001:db8::1]:8443", "2001:db8::1", "[2001:db8::1]", "*.EXAMPLE.com",
		"bücher.example", "unix:///run/app.sock", "unix://*", "*://host", "host:*", "localhost"} {
		if _, err := berth.New(berth.Config{Rules: []berth.Rule{{Match: match}}}); err != nil {
			t.Errorf("%s: %v", match, err)
		}
	}
}

// C47: connections through an HTTP proxy are the proxy's, for whatever origin: rules are
// matched with its address. A tunnel's are with the origin.
func TestC47RulesBehindAProxy(t *testing.T) {
	tr := mustNew(t, berth.Config{Rules: []berth.Rule{
		{Match: "proxy.example:3128", Policy: berth.Policy{MaxConns: 3}},
		{Match: "origin.example", Policy: berth.Policy{MaxConns: 9}},
		{Match: "*", Proxy: "http://user:pw@Proxy.example:3128"},
	}})
	for url, want := range map[string]int{"http://origin.example": 3, "https://origin.example": 9} {
		ep := mustEndpoint(t, tr, url)
		if got := ep.Policy().Policy.MaxConns; got != want || strings.Contains(ep.String(), "pw") {
			t.Errorf("%s is %s: %d, want %d", url, ep, got, want)
		}
	}
}

func TestConfigAsJSON(t *testing.T) {
	text := `{"policy":{"max_conns":20,"port_budget":"azure-app-service"},"rules":[{"match":"*.example.com","policy":{"order":"spread","close":"auto"},` +
		`"set":["strict"],"proxy":"direct"}],"max_conns":500,"max_groups":10,"port_budget":{"ports":1000,"hold_after_fin":"240s"},` +
		`"local_addrs":["192.0.2.7"],"local_ports":{"lo":40000,"hi":49999}}`
	var cfg berth.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	r := cfg.Rules[0]
	if cfg.MaxConns != 500 || cfg.Policy.PortBudget.Ports != 128 || cfg.Policy.PortBudget.HoldAfterRST != 15*time.Second ||
		r.Policy.Order != berth.Spread || r.Set[0] != "strict" || cfg.PortBudget.HoldAfterFIN != 4*time.Minute {
		t.Errorf("%+v", cfg)
	}
	b, err := json.Marshal(cfg)
	var again berth.Config
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if c, _ := json.Marshal(again); err != nil || string(c) != string(b) {
		t.Errorf("%s\nbecame\n%s: %v", b, c, err)
	}
	for _, bad := range []string{`{"policy":{"port_budget":"azure"}}`, `{"policy":{"port_budget":{"port":1}}}`} {
		if err := json.Unmarshal([]byte(bad), &cfg); err == nil || !strings.Contains(err.Error(), "port_budget") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A rule's TLS is used for its endpoints alone.
func TestRuleHasTLSOfItsOwn(t *testing.T) {
	srv, client := newTLSServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") }, func(*httptest.Server) {})
	tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, Rules: []berth.Rule{{Match: "https://127.0.0.1", TLS: client}}})
	wantGet(t, tr, srv.URL, "a")
	if _, err := fetch(tr, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)); err == nil {
		t.Error("the rule's roots are trusted for another host")
	}
}

// A rule sends requests over a Unix domain socket, past any proxy; the first rule that
// names a way decides.
func TestRuleHasASocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "berth") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Skip("no Unix domain sockets: ", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })}
	go srv.Serve(ln)
	defer srv.Close()
	p := newProxy(t, "http", nil)
	tr := mustNew(t, berth.Config{Proxy: p.use(), Rules: []berth.Rule{
		{Match: "docker.test", Socket: dir + "/s"},
		{Match: "*", Socket: dir + "/nowhere", Proxy: p.url().String()},
	}})
	wantGet(t, tr, "http://docker.test/v1", "docker.test")
	if asked, _, _ := p.seen(); len(asked) > 0 {
		t.Errorf("the proxy was asked %q", asked)
	}
	direct := httptest.NewServer(srv.Handler)
	defer direct.Close()
	wantGet(t, tr, direct.URL, direct.Listener.Addr().String())
	if asked, _, _ := p.seen(); len(asked) != 1 {
		t.Errorf("the proxy was asked %q", asked)
	}
}

// What was set for an endpoint is for its origin, whatever the way to it.
func TestSettingsOutliveTheProxy(t *testing.T) {
	tr := mustNew(t, berth.Config{Proxy: berth.NoProxy})
	if err := mustEndpoint(t, tr, "https://origin.test").SetPolicy(berth.Policy{MaxConns: 3}); err != nil {
		t.Fatal(err)
	}
	cfg := tr.Config()
	cfg.Rules = []berth.Rule{{Match: "*", Proxy: "http://proxy.test"}}
	if _, err := tr.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	ep := mustEndpoint(t, tr, "https://origin.test")
	if ep.String() != "https://origin.test through http://proxy.test:80" || ep.Policy().Policy.MaxConns != 3 {
		t.Errorf("%v: %d", ep, ep.Policy().Policy.MaxConns)
	}
}
