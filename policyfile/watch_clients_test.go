package policyfile_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/policyfile"
)

func certificate(t *testing.T) []byte {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

// registry returns a transport with a registry of one client that the program configures.
func registry(t *testing.T, base string) (*berth.Transport, *clients.Registry) {
	t.Helper()
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	reg, err := clients.New(tr, clients.Config{Logger: slog.New(slog.DiscardHandler), Clients: map[string]clients.Settings{
		"api": {BaseURL: base, MaxRedirects: 2, Header: http.Header{"X-Program": {"p"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return tr, reg
}

// manual follows a file only by Reload.
func manual(reg *clients.Registry) policyfile.Options {
	return policyfile.Options{Poll: time.Hour, IgnoreSIGHUP: true, Registry: reg, Environ: []string{"TOKEN=t"}}
}

// Clients that somebody holds follow the file, over what the program has set.
func TestWatchedClientsFollow(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Join([]string{r.URL.Path, r.Header.Get("X-Program"), r.Header.Get("X-File")}, " "))
	}))
	defer srv.Close()
	tr, reg := registry(t, srv.URL)
	path := filepath.Join(t.TempDir(), "p.yaml")
	replace(t, path, "clients: {api: {headers: {X-File: '${TOKEN}1'}}, other: {log: true}}")
	w, err := policyfile.Watch(tr, path, manual(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	api, err := reg.Named("api")
	if err != nil {
		t.Fatal(err)
	}
	get := func() string {
		t.Helper()
		req, err := api.NewRequest(t.Context(), "GET", "v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := api.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := get(); got != "/v1 p t1" {
		t.Errorf("at first %q", got)
	}
	before := tr.Config()
	replace(t, path, "clients: {api: {headers: {X-File: '${TOKEN}2'}, max_redirects: 0}}")
	if d, err := w.Reload(); d != nil || err != nil {
		t.Errorf("the transport's part is the same: %v, %v", d, err)
	}
	if got := get(); got != "/v1 p t2" {
		t.Errorf("then %q", got)
	}
	if s, _ := reg.Settings("api"); s.MaxRedirects != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := reg.Client("other"); err == nil {
		t.Error("a client is found that the file has no more")
	}
	replace(t, path, "policy: {max_conns: 9}")
	if d, err := w.Reload(); err != nil || len(d.Changes) != 1 {
		t.Errorf("%v, %v", d, err)
	}
	if got := get(); got != "/v1 p " {
		t.Errorf("without a part on clients %q", got)
	}
	if n := tr.Config().Policy.MaxConns; n != 9 || before.Policy.MaxConns != 0 {
		t.Errorf("MaxConns %d", n)
	}
}

// A file of which one part is invalid changes neither, whoever refuses it.
func TestInvalidReloadLeavesBothParts(t *testing.T) {
	tr, reg := registry(t, "https://api.example.com/")
	path := filepath.Join(t.TempDir(), "p.yaml")
	const good = "policy: {max_conns: 3}\nclients: {api: {timeout: 1s}}"
	replace(t, path, good)
	w, err := policyfile.Watch(tr, path, manual(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for text, want := range map[string]string{
		"policy: {max_conns: 5}\nclients: {api: {timeout: 1}}":                         "2:26: clients.api.timeout: ",
		"policy: {max_cons: 5}\nclients: {api: {timeout: 2s}}":                         "did you mean max_conns?",
		"policy: {max_conns: 5}\nclients: {api: {headers: {X: '${NONE}'}}}":            "the environment has no NONE",
		"policy: {max_conns: 2, max_idle: 3}\nclients: {api: {timeout: 2s}}":           "policy.max_idle: ",
		"policy: {max_conns: 5}\nclients: {api: {group: g}, b: {group: g, guard: {}}}": `clients.b.group: "g" is that of client "api"`,
	} {
		replace(t, path, text)
		if d, err := w.Reload(); d != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, d, err)
		}
		if s, _ := reg.Settings("api"); tr.Config().Policy.MaxConns != 3 || s.Timeout != time.Second {
			t.Errorf("%q: one part was applied: %+v, %+v", text, tr.Config().Policy, s)
		}
	}
	replace(t, path, good)
	if d, err := w.Reload(); d != nil || err != nil {
		t.Errorf("what is in force: %v, %v", d, err)
	}
}

// What is valid alone may be refused over the program's configuration: then neither part
// is applied.
func TestReloadRefusedByTheBase(t *testing.T) {
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	reg, err := clients.New(tr, clients.Config{}) // without a logger
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p.yaml")
	replace(t, path, "{}")
	w, err := policyfile.Watch(tr, path, manual(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for text, want := range map[string]string{
		"max_conns: 7\nclients: {a: {log: true}}":            `Clients["a"].Log: needs Config.Logger`,
		"policy: {max_idle: 9}\nclients: {a: {timeout: 1s}}": "Policy.MaxIdle: 9 is more than MaxConns",
	} {
		replace(t, path, text)
		if _, err := w.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if tr.Config().MaxConns != 0 || len(reg.Names()) != 0 {
			t.Errorf("%q: one part was applied", text)
		}
	}
}

// A file that configures clients needs somebody who has them.
func TestClientsNeedARegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	for text, at := range map[string]string{"max_conns: 3\nclients: {a: {}}": ":2:10: ", "client_defaults: {}": ":1:18: "} {
		replace(t, path, text)
		if _, err := policyfile.Load(path, nil); err != nil {
			t.Error(err)
		}
		tr := &berth.Transport{}
		_, err := policyfile.Watch(tr, path, manual(nil))
		if err == nil || err.Error() != path+at+"configures clients, and Options.Registry, which would have them, is not set" {
			t.Errorf("%v", err)
		}
		if tr.Config().MaxConns != 0 {
			t.Error("the other part was applied")
		}
		tr.Close()
	}
}

// Each part's changes are told to the one who asked for them.
func TestWatchTellsOfClients(t *testing.T) {
	tr, reg := registry(t, "https://api.example.com/")
	path := filepath.Join(t.TempDir(), "p.yaml")
	replace(t, path, "{}")
	said := make(chan string, 100)
	w, err := policyfile.Watch(tr, path, policyfile.Options{Poll: time.Millisecond, IgnoreSIGHUP: true, Registry: reg,
		Applied:        func(d *berth.Diff) { said <- fmt.Sprint(d.Changes) },
		ClientsApplied: func(d *clients.Diff) { said <- d.String() },
		Failed:         func(err error) { said <- err.Error() },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, step := range []struct {
		text string
		want []string
	}{
		{"clients: {api: {headers: {X: secret}, timeout: 3s}}", []string{"client api: headers.X none → *, timeout unset → 3s"}},
		{"max_conns: 3\nclients: {api: {headers: {X: secret}, timeout: 3s}}", []string{"[max_conns 0 → 3]"}},
		{"max_conns: 4\nclients: {b: {}}", []string{"[max_conns 3 → 4]", "client b: added\nclient api: headers.X * → none, timeout 3s → unset"}},
	} {
		replace(t, path, step.text)
		for _, want := range step.want {
			if got := wait(t, said); got != want {
				t.Errorf("%s:\ngot  %s\nwant %s", step.text, got, want)
			}
		}
	}
}

// While the file changes without a pause, fifty callers that hold their clients lose no
// request.
func TestReloadUnderLoad(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-File")) }))
	defer srv.Close()
	tr, reg := registry(t, srv.URL)
	path := filepath.Join(t.TempDir(), "p.yaml")
	replace(t, path, "clients: {second: {headers: {X-File: v0}}, api: {headers: {X-File: v0}}}")
	w, err := policyfile.Watch(tr, path, manual(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const callers, requests = 50, 60
	var (
		wg   sync.WaitGroup
		done atomic.Int64
		seen sync.Map
	)
	for i := range callers {
		client := reg.MustClient([]string{"api", "second"}[i%2])
		wg.Go(func() {
			defer done.Add(1)
			for range requests {
				resp, err := client.Get(srv.URL)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !strings.HasPrefix(string(b), "v") {
					t.Errorf("%q, %v", b, err)
					return
				}
				seen.Store(string(b), true)
			}
		})
	}
	n := 0
	for done.Load() < callers {
		n++
		second := fmt.Sprintf("second: {headers: {X-File: v%d}}", n)
		text := fmt.Sprintf(`
policy: {max_conns: %d, idle_timeout: %ds}
client_defaults: {timeout: %ds, log: %v, resilience: {preset: %s, retry: {delay: 20ms, max_delay: %dms}}}
clients:
  api: {headers: {X-File: v%d}, propagate: %v, policy: {max_conns: %d}, guard: {allow: [127.0.0.0/8]}}
  %s`, 5+n%7, 1+n%3, 20+n%3, n%2 == 0, []string{"standard", "hedging"}[n%2], 30+n%3, n, n%3 == 0, 3+n%5, second)
		switch {
		case n%5 == 4: // a client may go while it is used
			text = strings.Replace(text, second, "third: {}", 1)
		case n%5 == 3:
			text += "\nclints: {}"
		}
		replace(t, path, text)
		if _, err := w.Reload(); (err != nil) != (n%5 == 3) {
			t.Fatalf("reload %d: %v", n, err)
		}
	}
	wg.Wait()
	versions := 0
	seen.Range(func(any, any) bool { versions++; return true })
	if versions < 2 {
		t.Errorf("%d reloads, and the callers saw one configuration", n)
	}
	t.Logf("%d reloads in %d requests, which saw %d configurations", n, callers*requests, versions)
}
