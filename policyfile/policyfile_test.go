package policyfile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/policyfile"
)

const example = `# yaml-language-server: $schema=policy.schema.json
max_conns: 500
port_budget: {ports: 1000, hold_after_fin: 240s}
local_addrs: [192.0.2.7]
local_ports: {lo: 40000, hi: 49999}
policy: &base
  max_conns: 20
  idle_timeout: 90s
rules:
  - match: "https://*.blob.core.windows.net"
    max_conns: 50
    strict: false
    lifetime: 0s
    port_budget: azure-app-service
  - match: "*"
    idle_timeout: 90s
    <<: {max_conns: 3, idle_timeout: 5s}
    order: spread
    proxy: direct
`

func TestFile(t *testing.T) {
	f, err := policyfile.Parse("p.yaml", []byte(example), []string{"BERTH_MAX_CONNS=7", "BERTH_POLICY_STRICT=true", "BERTH_REAL_PEERS=1", "PATH=x"})
	if err != nil {
		t.Fatal(err)
	}
	c := f.Config
	want := berth.Policy{MaxConns: 20, IdleTimeout: 90 * time.Second, Strict: true}
	if c.Policy != want || c.MaxConns != 7 || c.LocalPorts.Hi != 49999 || c.PortBudget.HoldAfterFIN != 4*time.Minute {
		t.Errorf("%+v", c)
	}
	r := c.Rules
	if len(r) != 2 || r[0].Policy.MaxConns != 50 || r[0].Policy.PortBudget.Ports != 128 || !reflect.DeepEqual(r[0].Set, []string{"strict", "lifetime"}) ||
		r[1].Policy.IdleTimeout != 90*time.Second || r[1].Policy.Order != berth.Spread || r[1].Proxy != "direct" {
		t.Errorf("%+v", r)
	}
	base := berth.Config{Policy: berth.Policy{MaxConns: 1, MaxIdle: 1}, MaxGroups: 5, DisableCompression: true}
	if got := f.Over(base); got.Policy.MaxConns != 20 || got.Policy.MaxIdle != 1 || got.MaxGroups != 5 || !got.DisableCompression || got.MaxConns != 7 {
		t.Errorf("over another: %+v", got)
	}
}

// What is wrong is told with its place and what was probably meant.
func TestErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "f.yaml: is empty: write {} to set nothing"},
		{"- a", "f.yaml:1:1: is no mapping; it begins like policy:"},
		{"a: b: c", "f.yaml: mapping values are not allowed in this context"},
		{"policy:\n  max_cons: 3", "f.yaml:2:3: policy.max_cons: no such setting; did you mean max_conns?"},
		{"polcy: {}", "f.yaml:1:1: polcy: no such setting; did you mean policy?"},
		{"zzzzzzzzzz: 1", "f.yaml:1:1: zzzzzzzzzz: no such setting; known are policy, rules, max_conns"},
		{"policy:\n  max_conns: twenty", "f.yaml:2:14: policy.max_conns: is a string, and should be int"},
		{"policy:\n  idle_timeout: 90", `f.yaml:2:17: policy.idle_timeout: a duration is a string with a unit, like "90s"`},
		{"policy:\n  idle_timeout: 90 s", `f.yaml:2:17: policy.idle_timeout: "90 s" is no duration`},
		{"policy:\n  strict: 1", "f.yaml:2:11: policy.strict: is a number, and should be bool"},
		{"policy:\n  max_conns: 1\n  max_conns: 2", "f.yaml:3:3: policy.max_conns: stands here twice"},
		{"policy:\n  max_conns:", "f.yaml:2:3: policy.max_conns: has no value"},
		{"policy:\n  order: random", `f.yaml:2:10: policy.order: "random" is none of lifo, fifo, spread`},
		{"policy:\n  max_idle: 9\n  max_conns: 3", "f.yaml:2:13: policy.max_idle: 9 is more than MaxConns, which is 3"},
		{"rules: {}", "f.yaml:1:8: rules: is no list; each rule begins with - match:"},
		{"rules:\n  - max_conns: 3", "f.yaml:2:5: rules[0].match: is empty; write * for every endpoint"},
		{"rules:\n  - match: a\n    max_idel: 3", "f.yaml:3:5: rules[0].max_idel: no such setting; did you mean max_idle?"},
		{"rules:\n  - match: a\n  - match: a*b", `f.yaml:3:12: rules[1].match: host "a*b"; it is exact, or *.example.com, or *`},
		{"rules:\n  - match: a\n    max_idle: 9\n    max_conns: 3", "f.yaml:3:15: rules[0].max_idle: 9 is more than MaxConns"},
		{"rules:\n  - match: a\n    proxy: ftp://x", `f.yaml:3:12: rules[0].proxy: scheme "ftp" is none of`},
		{"rules:\n  - match: a\n    port_budget: azure", `f.yaml:3:18: rules[0].port_budget: no budget "azure"; known are aws-nat-gateway`},
		{"rules:\n  - match: a\n    tls: {ca_fil: x}", "f.yaml:3:11: rules[0].tls.ca_fil: no such setting; did you mean ca_file?"},
		{"rules:\n  - match: a\n    tls: {ca_file: /nowhere.pem}", "f.yaml:3:20: rules[0].tls.ca_file: open /nowhere.pem"},
		{"rules:\n  - match: a\n    tls: {cert_file: a.pem}", "cert_file and key_file go together"},
		{"rules:\n  - match: a\n    tls: {min_version: '1.1'}", "f.yaml:3:24: rules[0].tls.min_version: is none of 1.2, 1.3"},
		{"policy: {}\n---\npolicy: {}", "has a second document"},
		{"policy: &a {<<: *a}", "f.yaml:1:9: policy: takes over itself by <<"},
		{"local_addrs: &a [*a]", "f.yaml:1:14: local_addrs: anchor 'a' value contains itself"},
		{"local_addrs: [localhost]", "f.yaml:1:14: local_addrs: "},
		{"local_ports: {lo: 9, hi: 3}", "f.yaml:1:14: local_ports: 9 to 3 is no range of ports"},
		{strings.Repeat("#", 1<<20+1), "f.yaml: is longer than"},
	} {
		_, err := policyfile.Parse("f.yaml", []byte(tc.text), nil)
		if _, is := errors.AsType[*policyfile.Error](err); !is || !strings.HasPrefix(err.Error(), tc.want) && !strings.Contains(err.Error(), "f.yaml:") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q:\ngot  %v\nwant %s", tc.text, err, tc.want)
		}
	}
	for variable, want := range map[string]string{
		"BERTH_POLICY_MAX_CONS=3":        "environment: BERTH_POLICY_MAX_CONS: no such setting; did you mean BERTH_POLICY_MAX_CONNS?",
		"BERTH_POLICY_MAX_CONNS=many":    "environment: BERTH_POLICY_MAX_CONNS: is a string",
		"BERTH_POLICY_IDLE_TIMEOUT=fast": `environment: BERTH_POLICY_IDLE_TIMEOUT: "fast" is no duration`,
	} {
		if _, err := policyfile.Parse("f.yaml", []byte("{}"), []string{variable}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", variable, err, want)
		}
	}
}

// replace writes a file as deployments do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func limit(n int) string { return fmt.Sprintf("policy: {max_conns: %d}", n) }

// The file is followed; one that is invalid changes nothing and is told.
func TestWatch(t *testing.T) {
	for _, poll := range []time.Duration{0, time.Millisecond} {
		t.Run(poll.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "p.yaml")
			replace(t, path, limit(3))
			tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxIdle: 2}})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			applied, failed := make(chan *berth.Diff, 100), make(chan error, 1000)
			w, err := policyfile.Watch(tr, path, policyfile.Options{Poll: poll,
				Applied: func(d *berth.Diff) { applied <- d }, Failed: func(err error) { failed <- err }})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if p := tr.Config().Policy; p.MaxConns != 3 || p.MaxIdle != 2 {
				t.Errorf("at first %+v", p)
			}
			replace(t, path, limit(5))
			if d := wait(t, applied); len(d.Changes) != 1 || d.Changes[0].String() != "policy.max_conns 3 → 5" {
				t.Errorf("%v", d)
			}
			replace(t, path, "policy: {max_cons: 9}")
			if err := wait(t, failed); !strings.Contains(err.Error(), "did you mean max_conns") {
				t.Errorf("%v", err)
			}
			if p := tr.Config().Policy; p.MaxConns != 5 {
				t.Errorf("after an invalid file: %+v", p)
			}
			replace(t, path, limit(7))
			wait(t, applied)
			if poll == 0 {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				for err := range failed { // errors of the invalid file may be there still
					if errors.Is(err, os.ErrNotExist) {
						break
					}
				}
			}
			w.Close()
			if p := tr.Config().Policy; p.MaxConns != 7 {
				t.Errorf("in the end %+v", p)
			}
		})
	}
}

func wait[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// A ConfigMap is replaced by changing a link of the directory.
func TestWatchFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		sub := filepath.Join(dir, fmt.Sprint("v", i))
		os.Mkdir(sub, 0o755)
		replace(t, filepath.Join(sub, "p.yaml"), limit(i+1))
	}
	link := func(i int) {
		if err := os.Symlink(fmt.Sprint("v", i), filepath.Join(dir, "..new")); err != nil {
			t.Skip("no symbolic links: ", err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link(0)
	path := filepath.Join(dir, "p.yaml")
	if err := os.Symlink("..data/p.yaml", path); err != nil {
		t.Fatal(err)
	}
	tr := &berth.Transport{}
	defer tr.Close()
	applied := make(chan *berth.Diff, 10)
	w, err := policyfile.Watch(tr, path, policyfile.Options{Applied: func(d *berth.Diff) { applied <- d }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	link(1)
	wait(t, applied)
	if n := tr.Config().Policy.MaxConns; n != 2 {
		t.Errorf("MaxConns %d", n)
	}
}

// SIGHUP has the file be read, told of or not.
func TestWatchHearsSIGHUP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	replace(t, path, limit(1))
	tr := &berth.Transport{}
	defer tr.Close()
	failed := make(chan error, 100)
	w, err := policyfile.Watch(tr, path, policyfile.Options{Poll: time.Hour, Failed: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	replace(t, path, "bad")
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(syscall.SIGHUP)
	}
	if err != nil {
		t.Skip("no signals: ", err)
	}
	if err := wait(t, failed); !strings.Contains(err.Error(), "no mapping") {
		t.Errorf("%v", err)
	}
}

// A reload that says the same of TLS keeps the connections.
func TestReloadKeepsTLS(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "p.yaml")
	rule := "rules: [{match: '*', tls: {server_name: example.com}}]\nmax_conns: %d\n"
	replace(t, path, fmt.Sprintf(rule, 1))
	tr := &berth.Transport{}
	defer tr.Close()
	w, err := policyfile.Watch(tr, path, policyfile.Options{Poll: time.Hour, IgnoreSIGHUP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before := tr.Config().Rules[0].TLS
	replace(t, path, fmt.Sprintf(rule, 2))
	if d, err := w.Reload(); err != nil || len(d.Changes) != 1 || tr.Config().Rules[0].TLS != before {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := w.Reload(); d != nil || err != nil {
		t.Errorf("without a change: %v, %v", d, err)
	}
	replace(t, path, strings.Replace(fmt.Sprintf(rule, 2), "example.com", "example.org", 1))
	if _, err := w.Reload(); err != nil || tr.Config().Rules[0].TLS == before {
		t.Errorf("another name: %v", err)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(policyfile.Schema, &s); err != nil || s["$schema"] == nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("rules: [{match: x, <<: {max_conns: 0}}]"))
	f.Add([]byte("policy: &a {<<: *a}"))
	f.Add([]byte(everything))
	f.Add([]byte("client_defaults: &d {guard: {allow: [::1]}, headers: {x: '${ONE}$${'}}\nclients: {a: {<<: [*d, {timeout: 0s}]}, b: *d}"))
	f.Add([]byte("clients: {a: {group: g}, b: {group: g, policy: {max_conns: 1}}}"))
	f.Add([]byte("clients: {a: {resilience: {preset: hedging, retry: {budget: {ratio: .5}}}, log: true}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := policyfile.Parse("f", data, []string{"ONE=1"})
		if (err == nil) == (file == nil) && err == nil {
			t.Fatal("neither a file nor an error")
		}
		if err != nil {
			if _, is := errors.AsType[*policyfile.Error](err); !is {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if _, err := berth.New(file.Over(berth.Config{})); err != nil {
			t.Fatalf("a file that is valid is refused: %v", err)
		}
		if _, err := clients.New(&berth.Transport{}, file.OverClients(clients.Config{Logger: slog.New(slog.DiscardHandler)})); err != nil {
			t.Fatalf("clients that are valid are refused: %v", err)
		}
	})
}
