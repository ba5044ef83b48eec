package policyfile_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/policyfile"
	"github.com/berth-go/berth/resilience"
)

const everything = `
client_defaults: {timeout: 30s}
clients:
  all:
    base_url: https://api.example.com/v1/
    headers: {accept: text/plain, X-Two: [a, "b ${ONE}"], X-Literal: "$${ONE} $ {}"}
    timeout: 5s
    max_redirects: 3
    cookies: true
    group: shared
    policy: {max_conns: 20, order: spread, idle_timeout: 9s, strict: true, max_requests_per_conn: 64}
    guard: {deny: ["2001:db8::/32", 203.0.113.7], allow: [10.1.0.0/16, "::1"], ports: [443, 8443], proxy: true, sockets: true}
    resilience:
      preset: standard
      rate: {per_second: 100.5, burst: 20, max_wait: 1s, per_endpoint: true}
      concurrency: {max: 7, max_queue: 8, per_endpoint: true}
      total: {after: 20s, body: true}
      retry: {max_retries: 5, backoff: linear, delay: 200ms, max_delay: 2s, no_jitter: true, ignore_retry_after: true, unsafe: true, budget: {ratio: 0.5, min_per_second: 3}}
      hedge: {max_hedges: 2, delay: 100ms, quantile: 0.9, budget: {ratio: 0.25, min_per_second: 1}, unsafe: true}
      breaker: {failure_ratio: 0.5, min_requests: 10, window: 20s, break: 3s}
      attempt: {after: 4s, body: true}
    log: true
    log_headers: [Accept, X-Two]
    propagate: true
    idempotency_keys: true
`

// Every setting of a client can be given, and is what it says.
func TestClientsSetEverything(t *testing.T) {
	f, err := policyfile.Parse("f.yaml", []byte(everything), []string{"NO=x", "ONE=1"})
	if err != nil {
		t.Fatal(err)
	}
	want := clients.Settings{
		BaseURL: "https://api.example.com/v1/",
		Header:  http.Header{"Accept": {"text/plain"}, "X-Two": {"a", "b 1"}, "X-Literal": {"${ONE} $ {}"}},
		Timeout: 5 * time.Second, MaxRedirects: 3, Cookies: true, Group: "shared",
		Policy: berth.Policy{MaxConns: 20, Order: berth.Spread, IdleTimeout: 9 * time.Second, Strict: true, MaxRequestsPerConn: 64},
		Guard: &clients.Guard{
			Deny:  []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("203.0.113.7/32")},
			Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::1/128")},
			Ports: []uint16{443, 8443}, Proxy: true, Sockets: true,
		},
		Resilience: &resilience.Config{
			Preset:      "standard",
			Rate:        &resilience.Rate{PerSecond: 100.5, Burst: 20, MaxWait: time.Second, PerEndpoint: true},
			Concurrency: &resilience.Concurrency{Max: 7, MaxQueue: 8, PerEndpoint: true},
			Total:       &resilience.Timeout{After: 20 * time.Second, Body: true},
			Retry: &resilience.Retry{MaxRetries: 5, Backoff: "linear", Delay: 200 * time.Millisecond, MaxDelay: 2 * time.Second, NoJitter: true,
				IgnoreRetryAfter: true, Unsafe: true, Budget: resilience.Budget{Ratio: 0.5, MinPerSecond: 3}},
			Hedge:   &resilience.Hedge{MaxHedges: 2, Delay: 100 * time.Millisecond, Quantile: 0.9, Budget: resilience.Budget{Ratio: 0.25, MinPerSecond: 1}, Unsafe: true},
			Breaker: &resilience.Breaker{FailureRatio: 0.5, MinRequests: 10, Window: 20 * time.Second, Break: 3 * time.Second},
			Attempt: &resilience.Timeout{After: 4 * time.Second, Body: true},
		},
		Log: true, LogHeaders: []string{"Accept", "X-Two"}, Propagate: true, IdempotencyKeys: true,
	}
	if got := f.Clients.Clients["all"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if d := f.Clients.Defaults; !reflect.DeepEqual(d, clients.Settings{Timeout: 30 * time.Second}) {
		t.Errorf("defaults %+v", d)
	}
	unset(t, "all", reflect.ValueOf(f.Clients.Clients["all"]))
}

// unset finds what a file could set, and everything does not.
func unset(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Type() == reflect.TypeFor[berth.Policy]() || v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if tag == "" || tag == "-" || tag == "set" {
			continue
		}
		if v.Field(i).IsZero() {
			t.Errorf("%s.%s is not set: the file of this test is to have it", name, tag)
			continue
		}
		unset(t, name+"."+tag, v.Field(i))
	}
}

// What is given as zero is set; what comes by anchors holds where it is not given.
func TestClientsTakeOver(t *testing.T) {
	f, err := policyfile.Parse("f.yaml", []byte(`
client_defaults: &base
  timeout: 30s
  cookies: true
  resilience: &steady {preset: standard, retry: {max_retries: 5}}
clients:
  a: {timeout: 0s, cookies: false, max_redirects: 0}
  b: {<<: *base, timeout: 1s, resilience: {<<: *steady, preset: hedging}}
  c: *base
  d: {<<: [{timeout: 1s}, *base]}
  api.example.com: {}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	steady := &resilience.Config{Preset: "standard", Retry: &resilience.Retry{MaxRetries: 5}}
	base := clients.Settings{Timeout: 30 * time.Second, Cookies: true, Resilience: steady}
	b := base
	b.Timeout = time.Second
	d := b
	b.Resilience = &resilience.Config{Preset: "hedging", Retry: steady.Retry}
	want := map[string]clients.Settings{"a": {Set: []string{"timeout", "cookies", "max_redirects"}}, "b": b, "c": base, "d": d, "api.example.com": {}}
	if !reflect.DeepEqual(f.Clients.Clients, want) {
		t.Errorf("got  %+v\nwant %+v", f.Clients.Clients, want)
	}
	reg, err := clients.New(&berth.Transport{}, f.OverClients(clients.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := reg.Settings("a"); err != nil || s.Timeout != 0 || s.Cookies || s.Resilience == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// The file comes over the program's configuration field by field; what only a program can
// give stays.
func TestClientsOver(t *testing.T) {
	f, err := policyfile.Parse("f.yaml", []byte(`
client_defaults: {timeout: 9s}
clients:
  both:
    headers: {x-file: f, X-Both: f}
    cookies: false
    policy: {max_conns: 5}
    guard: {ports: [443]}
    resilience: {retry: {delay: 1s}, breaker: {}}
  file: {timeout: 1s}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var asked, wrapped bool
	own := clients.Settings{
		Timeout: time.Minute, Cookies: true, Header: http.Header{"x-both": {"p"}, "X-Program": {"p"}}, Set: []string{"log"},
		Policy:     berth.Policy{MaxConns: 1, MaxIdle: 1},
		Guard:      &clients.Guard{Proxy: true},
		Resilience: &resilience.Config{Retry: &resilience.Retry{MaxRetries: 7, Retryable: func(*http.Response, error) bool { asked = true; return false }}},
		Handlers:   []clients.Handler{func(rt http.RoundTripper) http.RoundTripper { wrapped = true; return rt }},
	}
	trace, logger := &resilience.Trace{}, slog.New(slog.DiscardHandler)
	base := clients.Config{Defaults: clients.Settings{Timeout: time.Second, MaxRedirects: 2}, Clients: map[string]clients.Settings{"both": own, "program": {Log: true}}, Trace: trace, Logger: logger}
	got := f.OverClients(base)

	if d := got.Defaults; d.Timeout != 9*time.Second || d.MaxRedirects != 2 {
		t.Errorf("defaults %+v", d)
	}
	if len(got.Clients) != 3 || !got.Clients["program"].Log || got.Clients["file"].Timeout != time.Second || got.Trace != trace || got.Logger != logger {
		t.Errorf("%+v", got)
	}
	s := got.Clients["both"]
	if s.Timeout != time.Minute || s.Cookies || !reflect.DeepEqual(s.Set, []string{"log", "cookies"}) || s.Policy != (berth.Policy{MaxConns: 5, MaxIdle: 1}) {
		t.Errorf("%+v", s)
	}
	if !reflect.DeepEqual(s.Header, http.Header{"X-File": {"f"}, "X-Both": {"f"}, "X-Program": {"p"}}) {
		t.Errorf("headers %v", s.Header)
	}
	if !reflect.DeepEqual(s.Guard, &clients.Guard{Ports: []uint16{443}, Proxy: true}) {
		t.Errorf("guard %+v", s.Guard)
	}
	r := s.Resilience
	if r.Retry.Delay != time.Second || r.Retry.MaxRetries != 7 || r.Breaker == nil || r.Attempt != nil {
		t.Errorf("resilience %+v", r)
	}
	if r.Retry.Retryable(nil, nil); !asked {
		t.Error("the program's Retryable is lost")
	}
	if s.Handlers[0](http.DefaultTransport); !wrapped {
		t.Error("the program's handler is lost")
	}
	// The program's own values are as they were.
	if own.Resilience.Retry.Delay != 0 || own.Resilience.Breaker != nil || own.Guard.Ports != nil || len(own.Header) != 2 || len(own.Set) != 1 || len(base.Clients) != 2 {
		t.Errorf("the base was changed: %+v", own)
	}
}

// What is wrong with clients is told with its place, and without values of header fields.
func TestClientErrors(t *testing.T) {
	const a = "clients:\n  a:\n    "
	for _, tc := range []struct{ text, want string }{
		{"client_default: {}", "1:1: client_default: no such setting; did you mean client_defaults?"},
		{"clients: [a]", "1:10: clients: is no mapping"},
		{"clients:", "1:1: clients: has no value"},
		{"clients: {a: 3}", "1:14: clients.a: is no mapping"},
		{"clients: {'': {}}", "1:11: clients: has a name that is no text"},
		{"clients: {[a]: {}}", "1:11: clients: has a name that is no text"},
		{"clients: {a: {}, a: {}}", "1:18: clients.a: stands here twice"},
		{"clients: {a: }", "1:11: clients.a: has no value"},
		{"clients: {a: &a {<<: *a}}", "1:14: clients.a: takes over itself by <<"},
		{"clients: {a: {<<: {timeot: 1s}}}", "1:20: clients.a.timeot: no such setting; did you mean timeout?"},
		{"clients: {a.b: {timeout: 3}}", `1:26: clients["a.b"].timeout: a duration is a string with a unit, like "90s"`},
		{a + "base_uri: x", "3:5: clients.a.base_uri: no such setting; did you mean base_url?"},
		{a + "set: [log]", "3:5: clients.a.set: no such setting; known are base_url, headers, timeout, max_redirects, cookies, group, policy, guard, resilience, log, log_headers, propagate, idempotency_keys"},
		{a + "base_url: ftp://x", "3:15: clients.a.base_url: begins neither with http:// nor with https://"},
		{a + "timeout: soon", `3:14: clients.a.timeout: "soon" is no duration; write it like "90s" or "1m30s"`},
		{a + "timeout: ~", "3:5: clients.a.timeout: has no value"},
		{a + "timeout: {}", `3:14: clients.a.timeout: a duration is a string with a unit, like "90s"`},
		{a + "timeout: 1ms", "3:14: clients.a.timeout: 1ms is not between 10ms and 24h"},
		{a + "max_redirects: many", "3:20: clients.a.max_redirects: is a string, and should be a whole number"},
		{a + "max_redirects: 2.5", "3:20: clients.a.max_redirects: is a number, and should be a whole number"},
		{a + "cookies: 1", "3:14: clients.a.cookies: is a number, and should be true or false"},
		{a + "group: 7", "3:12: clients.a.group: is a number, and should be text: put it in quotes"},
		{a + "group: []", "3:12: clients.a.group: is a list, and should be text"},
		{a + "log_headers: Accept", "3:18: clients.a.log_headers: is a string, and should be a list"},
		{a + "log_headers: [a, 3]", "3:22: clients.a.log_headers[1]: is a number, and should be text: put it in quotes"},
		{a + "policy: {max_cons: 3}", "3:14: clients.a.policy.max_cons: no such setting; did you mean max_conns?"},
		{a + "policy: {max_conns: 2, max_idle: 3}", "3:38: clients.a.policy.max_idle: 3 is more than MaxConns, which is 2"},
		{a + "policy: {strict: false}", "3:22: clients.a.policy.strict: is zero or false, and a client's policy holds what is not; leave it out, or give it in a rule"},
		{a + "guard: {allow: [10.1]}", "3:21: clients.a.guard.allow[0]: is a number, and should be text: put it in quotes"},
		{a + "guard: {allow: ['10.1']}", `3:21: clients.a.guard.allow[0]: "10.1" is no range of addresses; write it like 10.0.0.0/8, or one address`},
		{a + "guard: {allow: ['fe80::1%eth0']}", `3:21: clients.a.guard.allow[0]: "fe80::1%eth0" is no range of addresses; write it like 10.0.0.0/8, or one address`},
		{a + "guard: {deny: [10.0.0.0/8, 10.1.2.3/16]}", "3:32: clients.a.guard.deny[1]: 10.1.2.3/16 has bits beyond its length; is 10.1.0.0/16 meant?"},
		{a + "guard: {ports: [65536]}", "3:21: clients.a.guard.ports[0]: 65536 is not between 0 and 65535"},
		{a + "guard: {ports: [0]}", "3:20: clients.a.guard.ports: 0 is no port"},
		{a + "guard: true", "3:12: clients.a.guard: is no mapping"},
		{a + "resilience: {preset: standart}", `3:26: clients.a.resilience.preset: "standart" is none of standard, hedging`},
		{a + "resilience: {retry: {delai: 1s}}", "3:26: clients.a.resilience.retry.delai: no such setting; did you mean delay?"},
		{a + "resilience: {retry: {delay: 200}}", `3:33: clients.a.resilience.retry.delay: a duration is a string with a unit, like "90s"`},
		{a + "resilience: {retry: {budget: {ratio: .nan}}}", "3:42: clients.a.resilience.retry.budget.ratio: is not finite"},
		{a + "resilience: {attempt: {after: 1ms}}", "3:35: clients.a.resilience.attempt.after: 1ms is not between 10ms and 24h"},
		{a + "resilience: {preset: standard, total: {after: 5s}}", "3:17: clients.a.resilience.attempt.after: 10s is more than Total.After, which is 5s"},
		{"client_defaults: {resilience: {preset: x}}", `1:40: client_defaults.resilience.preset: "x" is none of standard, hedging`},
		{"client_defaults: {base_url: x}", "1:29: client_defaults.base_url: begins neither with http:// nor with https://"},
		{"client_defaults: {group: g}\nclients: {a: {}, b: {policy: {max_conns: 3}}}", `1:26: client_defaults.group: "g" is that of client "a" too, with another Policy or Guard: connections of a group have one`},
		{"client_defaults: {policy: {max_conns: 3}}\nclients: {a: {policy: {max_idle: 5}}}", "2:34: clients.a.policy.max_idle: 5 is more than MaxConns, which is 3"},

		{a + "headers: {X: 2022-11-28}", "3:18: clients.a.headers.X: is a date, and should be text: put it in quotes"},
		{a + "headers: {X: {secret: secret}}", "3:18: clients.a.headers.X: is a mapping, and should be text"},
		{a + "headers: [secret]", "3:14: clients.a.headers: is no mapping"},
		{a + "headers: {X: *secret}", "has a * before the name of an anchor that there is not"},
		{a + "headers: {X: !secret secret}", "3:18: clients.a.headers.X: is of a kind of its own, and should be text: put it in quotes"},
		{a + "headers: {x: secret, X: secret}", "3:29: clients.a.headers.X: stands here twice: the case of letters makes no other field"},
		{a + "headers: {X Y: secret}", `3:20: clients.a.headers["X Y"]: is no name of a header field`},
		{a + `headers: {X: "secret\n"}`, "3:18: clients.a.headers.X: has a character that is not allowed in a header field"},
		{a + "headers: {X: [ok, 'secret ${NOT_SET}']}", "3:23: clients.a.headers.X: the environment has no NOT_SET, or it is empty"},
		{a + "headers: {X: 'secret ${EMPTY}'}", "3:18: clients.a.headers.X: the environment has no EMPTY, or it is empty"},
		{a + "headers: {X: '${secret}'}", "3:18: clients.a.headers.X: has a character that is not allowed in a header field"},
		{a + "headers: {X: '${secret'}", "3:18: clients.a.headers.X: has a ${ without the name of a variable and } after it; write $${ for the two characters"},
		{a + "headers: {X: '${se cret}'}", "3:18: clients.a.headers.X: has a ${ without the name of a variable and } after it; write $${ for the two characters"},
	} {
		_, err := policyfile.Parse("f.yaml", []byte(tc.text), []string{"EMPTY=", "secret=se\ncret"})
		want := "f.yaml:" + tc.want
		if !strings.Contains(tc.want, ":") {
			want = "f.yaml: " + tc.want
		}
		if _, is := errors.AsType[*policyfile.Error](err); !is || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", tc.text, err, want)
		}
		if err != nil && strings.Contains(tc.text, "headers:") && strings.Contains(err.Error(), "cret") {
			t.Errorf("a header's value is told: %v", err)
		}
	}
}

// What anchors come to is bounded.
func TestClientsThatMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("client_defaults: &d {headers: {")
	for i := range 2000 {
		b.WriteString("X" + strings.Repeat("a", i%50) + strings.Repeat("b", i/50) + ": a, ")
	}
	b.WriteString("}}\nclients: {")
	for i := range 2000 {
		b.WriteString("x" + strings.Repeat("a", i%50) + strings.Repeat("b", i/50) + ": *d, ")
	}
	b.WriteString("}\n")
	_, err := policyfile.Parse("f.yaml", []byte(b.String()), nil)
	if err == nil || !strings.HasSuffix(err.Error(), ": comes to more than 262144 entries by what it takes over") {
		t.Errorf("%v", err)
	}
}

// The files that the documents show are valid, and do what the text says.
func TestDocumentsShowValidFiles(t *testing.T) {
	text, err := os.ReadFile("../docs/steering.md")
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	n, named := 0, 0
	for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
		file, _, _ := strings.Cut(part, "```")
		file = strings.ReplaceAll(file, "/etc/ssl/corp.pem", ca)
		f, err := policyfile.Parse("steering.md", []byte(file), []string{"GITHUB_TOKEN=x"})
		if err != nil {
			t.Errorf("%v in\n%s", err, file)
			continue
		}
		n, named = n+1, named+len(f.Clients.Clients)
	}
	if n < 2 || named < 2 {
		t.Errorf("only %d files with %d clients were found", n, named)
	}
}
