package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
	for _, name := range []string{"X-Team", "Authorization", "Cookie"} {
		if v := r.Header.Get(name); v != "" {
			fmt.Fprintf(w, " %s=%s", name, v)
		}
	}
}

func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func registry(t testing.TB, cfg clients.Config) (*clients.Registry, *berth.Transport) {
	t.Helper()
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := clients.New(tr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close(); tr.Close() })
	return reg, tr
}

func get(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return text(t, resp)
}

func text(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestClientIsTheSameEachTime(t *testing.T) {
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"github": {}, "stripe": {}}})
	a, err := reg.Client("github")
	if err != nil || a != reg.MustClient("github") || a == reg.MustClient("stripe") {
		t.Error(err)
	}
	_, err = reg.Client("Github")
	var unknown *clients.UnknownClientError
	if !errors.As(err, &unknown) || err.Error() != `berth: no client "Github"; there are github, stripe [BERTH1025]` {
		t.Errorf("%v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("MustClient of an unknown name did not panic")
		}
	}()
	reg.MustClient("nobody")
}

// A client that is kept in a long-lived object follows every change: its headers, base
// URL, redirects and cookies. In .NET it never would.
func TestKeptClientFollowsApply(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/landed", http.StatusFound)
		case "/cookie":
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "1", Path: "/"})
		default:
			echo(w, r)
		}
	})
	reg, tr := registry(t, clients.Config{Clients: map[string]clients.Settings{"api": {BaseURL: url, Header: http.Header{"x-team": {"red"}}}}})
	kept, err := reg.Named("api")
	if err != nil {
		t.Fatal(err)
	}
	plain := reg.MustClient("api")
	if got := get(t, plain, url+"/a"); got != "GET /a X-Team=red" {
		t.Errorf("%q", got)
	}
	if got := get(t, plain, url+"/redirect"); got != "GET /landed X-Team=red" {
		t.Errorf("%q", got)
	}
	d, err := reg.Apply(clients.Config{Clients: map[string]clients.Settings{
		"api": {BaseURL: url + "/v2/", Header: http.Header{"X-Team": {"blue"}}, MaxRedirects: -1, Cookies: true}}})
	if err != nil {
		t.Fatal(err)
	}
	want := "client api: base_url " + url + " → " + url + "/v2/, headers.X-Team * → *, max_redirects unset → -1, cookies unset → true"
	if d.String() != want {
		t.Errorf("%s\nwant %s", d, want)
	}
	get(t, plain, url+"/cookie")
	if got := get(t, plain, url+"/a"); got != "GET /a X-Team=blue Cookie=session=1" {
		t.Errorf("%q", got)
	}
	resp, err := plain.Get(url + "/redirect")
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	req, err := kept.NewRequest(t.Context(), "PUT", "users?q=1", nil)
	if err != nil || req.URL.String() != url+"/v2/users?q=1" {
		t.Errorf("%v, %v", req.URL, err)
	}
	if eps := tr.Endpoints(); len(eps) != 1 || eps[0].Stats().Dials.OK != 1 {
		t.Errorf("changes have opened connections")
	}
}

// A name that is no longer configured is not found; who has the client goes on.
func TestRemovedClientGoesOnWhereItIsKept(t *testing.T) {
	url := serve(t, echo)
	cfg := clients.Config{Clients: map[string]clients.Settings{"a": {Header: http.Header{"X-Team": {"red"}}}, "b": {}}}
	reg, _ := registry(t, cfg)
	a := reg.MustClient("a")
	delete(cfg.Clients, "a")
	d, err := reg.Apply(cfg)
	if err != nil || d.String() != "client a: removed" {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := reg.Client("a"); err == nil {
		t.Error("found")
	}
	if got := get(t, a, url+"/x"); got != "GET /x X-Team=red" {
		t.Errorf("%q", got)
	}
	cfg.Clients["a"] = clients.Settings{Header: http.Header{"X-Team": {"green"}}}
	if _, err := reg.Apply(cfg); err != nil || reg.MustClient("a") != a {
		t.Errorf("%v: the name came back as another client", err)
	}
	if got := get(t, a, url+"/x"); got != "GET /x X-Team=green" {
		t.Errorf("%q", got)
	}
}

func TestDefaultsAndWhatIsSetOverThem(t *testing.T) {
	reg, _ := registry(t, clients.Config{
		Defaults: clients.Settings{Timeout: time.Minute, Cookies: true, Header: http.Header{"X-Team": {"red"}, "Accept": {"text/plain"}},
			Policy: berth.Policy{MaxConns: 7, MaxIdle: 2}},
		Clients: map[string]clients.Settings{
			"plain": {},
			"own":   {Timeout: time.Second, Header: http.Header{"accept": {"application/json"}}, Policy: berth.Policy{MaxConns: 3}, Set: []string{"cookies"}},
		}})
	plain, err := reg.Settings("plain")
	if err != nil || plain.Timeout != time.Minute || !plain.Cookies || plain.Policy.MaxConns != 7 || plain.Group != "client:plain" {
		t.Errorf("%+v, %v", plain, err)
	}
	own, err := reg.Settings("own")
	if err != nil || own.Timeout != time.Second || own.Cookies || own.Policy != (berth.Policy{MaxConns: 3, MaxIdle: 2}) ||
		own.Header.Get("Accept") != "application/json" || own.Header.Get("X-Team") != "red" {
		t.Errorf("%+v, %v", own, err)
	}
}

// Requests of two clients share connections; those of one with a policy do not.
func TestPolicyOfAClientIsItsGroups(t *testing.T) {
	url := serve(t, echo)
	reg, tr := registry(t, clients.Config{Clients: map[string]clients.Settings{"a": {}, "b": {}, "own": {Policy: berth.Policy{MaxConns: 3}}}})
	for _, name := range []string{"a", "b", "own"} {
		get(t, reg.MustClient(name), url)
	}
	shared, err := tr.Endpoint(url)
	if err != nil {
		t.Fatal(err)
	}
	own, err := tr.Group("client:own").Endpoint(url)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := shared.Stats().Dials.OK, own.Stats().Dials.OK; a != 1 || b != 1 {
		t.Errorf("%d and %d dials", a, b)
	}
	if p := own.Policy(); p.Policy.MaxConns != 3 || p.From["max_conns"] != "group" {
		t.Errorf("%d by %s", p.Policy.MaxConns, p.From["max_conns"])
	}
	if p := shared.Policy(); p.Policy.MaxConns == 3 {
		t.Error("the policy of one client holds for others")
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	nothing := trip(nil)
	handler := func(http.RoundTripper) http.RoundTripper { return nothing }
	for want, s := range map[string]clients.Settings{
		`Clients["x"].BaseURL: begins neither`:                            {BaseURL: "ftp://a/"},
		`Clients["x"].BaseURL: has no host`:                               {BaseURL: "https:///a"},
		`Clients["x"].BaseURL: has a user`:                                {BaseURL: "https://me:secret@a/"},
		`Clients["x"].BaseURL: has a query`:                               {BaseURL: "https://a/?token=secret"},
		`Clients["x"].BaseURL: is no URL`:                                 {BaseURL: "https://a secret/"},
		`Clients["x"].Header: "a b" is no name`:                           {Header: http.Header{"a b": {"secret"}}},
		`Clients["x"].Header: X-A has a value`:                            {Header: http.Header{"X-A": {"secret\n"}}},
		`Clients["x"].Set: no setting "cooky"`:                            {Set: []string{"cooky"}},
		`Clients["x"].Log: needs Config.Logger`:                           {Log: true},
		`Clients["x"].Timeout: 1ms is not between`:                        {Timeout: time.Millisecond},
		`Clients["x"].Policy.MaxIdle: 3 is more than MaxConns`:            {Policy: berth.Policy{MaxConns: 2, MaxIdle: 3}},
		`Clients["x"].Policy.MaxConnsPerHost:`:                            {Policy: berth.Policy{MaxConnsPerHost: 2}},
		`Clients["x"].Resilience.Preset: "best" is none of`:               {Resilience: &resilience.Config{Preset: "best"}},
		`Clients["x"].Resilience.Attempt.After: 1m0s is more than Total`:  {Resilience: &resilience.Config{Preset: "standard", Attempt: &resilience.Timeout{After: time.Minute}}},
		`Clients["x"].Guard.Ports: 0 is no port`:                          {Guard: &clients.Guard{Ports: []uint16{0}}},
		`Clients["x"].Group: "g" is that of client "first" too, with ano`: {Group: "g", Policy: berth.Policy{MaxConns: 2}},
		`Clients["x"].Handlers: 1 of them is nil`:                         {Handlers: []clients.Handler{handler, nil}},
	} {
		reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"first": {Group: "g"}}})
		before := reg.Names()
		_, err := reg.Apply(clients.Config{Clients: map[string]clients.Settings{"first": {Group: "g"}, "x": s}})
		var e *berth.ConfigError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells a secret", err)
		}
		if after := reg.Names(); len(after) != len(before) {
			t.Errorf("after a refusal there are %v", after)
		}
	}
}

// A default header is a credential, perhaps: it goes where it was meant to.
func TestDefaultHeadersStayAtTheirOrigin(t *testing.T) {
	other := serve(t, echo)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other+"/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		echo(w, r)
	})
	secret := http.Header{"Authorization": {"Bearer s3cret"}}
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"based": {BaseURL: url, Header: secret}, "free": {Header: secret}}})
	for _, tc := range []struct{ client, url, want string }{
		{"based", url + "/a", "GET /a Authorization=Bearer s3cret"},
		{"based", url + "/away", "GET /elsewhere"},
		{"based", other + "/a", "GET /a"},
		{"free", url + "/away", "GET /elsewhere"},
		{"free", other + "/a", "GET /a Authorization=Bearer s3cret"},
	} {
		if got := get(t, reg.MustClient(tc.client), tc.url); got != tc.want {
			t.Errorf("%s %s: %q, want %q", tc.client, tc.url, got, tc.want)
		}
	}
	req, _ := http.NewRequest("GET", url+"/a", nil)
	req.Header.Set("Authorization", "mine")
	resp, err := reg.MustClient("based").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, resp); got != "GET /a Authorization=mine" {
		t.Errorf("%q: a request's own field gave way", got)
	}
	if len(req.Header) != 1 {
		t.Errorf("the request was changed: %v", req.Header)
	}
}

func TestRelativeURLSaysWhatToDo(t *testing.T) {
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"api": {BaseURL: "https://api.example/"}, "none": {}}})
	_, err := reg.MustClient("api").Get("/users?token=s3cret")
	var e *berth.RequestError
	if !errors.As(err, &e) || !strings.Contains(e.Error(), "NewRequest") || strings.Contains(e.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
	none, _ := reg.Named("none")
	if _, err := none.NewRequest(t.Context(), "GET", "users", nil); !errors.As(err, &e) || !strings.Contains(err.Error(), "no base URL") {
		t.Errorf("%v", err)
	}
	if _, err := none.NewRequest(t.Context(), "GET", "http://a/%zz?token=s3cret", nil); !errors.As(err, &e) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
}

// Handlers stand in their order: those of the defaults first, those of attempts within.
func TestOrderOfHandlers(t *testing.T) {
	url := serve(t, echo)
	var mu sync.Mutex
	var order []string
	note := func(name string) clients.Handler {
		return func(next http.RoundTripper) http.RoundTripper {
			return trip(func(req *http.Request) (*http.Response, error) {
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				return next.RoundTrip(req)
			})
		}
	}
	reg, _ := registry(t, clients.Config{
		Defaults: clients.Settings{Handlers: []clients.Handler{note("default")}, AttemptHandlers: []clients.Handler{note("default attempt")}},
		Clients: map[string]clients.Settings{"x": {Handlers: []clients.Handler{note("one"), note("two")},
			AttemptHandlers: []clients.Handler{note("attempt")}, Resilience: &resilience.Config{Preset: "standard"}}}})
	get(t, reg.MustClient("x"), url)
	if got := strings.Join(order, ", "); got != "default, one, two, default attempt, attempt" {
		t.Error(got)
	}
}

// closer is a handler that counts how often it was closed, and what runs within it.
type closer struct {
	next   http.RoundTripper
	closed *atomic.Int32
}

func (c *closer) RoundTrip(req *http.Request) (*http.Response, error) { return c.next.RoundTrip(req) }
func (c *closer) Close() error                                        { c.closed.Add(1); return nil }

func closing(n *atomic.Int32) clients.Handler {
	return func(next http.RoundTripper) http.RoundTripper { return &closer{next, n} }
}

// C67: a replaced pipeline is ended when its last request is, body included, and not
// before; the new one serves at once. Without a change the same one goes on.
func TestC67ReplacedPipelineEndsWithItsLastRequest(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-release
		echo(w, r)
	})
	var first, second atomic.Int32
	cfg := func(n *atomic.Int32) clients.Config {
		return clients.Config{Clients: map[string]clients.Settings{"x": {Handlers: []clients.Handler{closing(n)}}}}
	}
	reg, _ := registry(t, cfg(&first))
	c := reg.MustClient("x")
	resp, err := c.Get(url) // its body is not there yet
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Apply(cfg(&second)); err != nil {
		t.Fatal(err)
	}
	if first.Load() != 0 {
		t.Error("ended with a request on it")
	}
	if reg.MustClient("x") != c {
		t.Error("another client")
	}
	close(release)
	get(t, c, url)
	if first.Load() != 0 {
		t.Error("ended with a body open on it")
	}
	text(t, resp)
	if first.Load() != 1 || second.Load() != 0 {
		t.Errorf("closed %d times, the new one %d times", first.Load(), second.Load())
	}
	reg.Close()
	if _, err := c.Get(url); !errors.Is(err, berth.ErrClosed) || second.Load() != 1 {
		t.Errorf("%v; closed %d times", err, second.Load())
	}
}

// A body that is forgotten does not keep a pipeline for ever.
func TestForgottenBodyDoesNotKeepThePipeline(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })
	var n atomic.Int32
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"x": {Handlers: []clients.Handler{closing(&n)}}}})
	func() {
		if _, err := reg.MustClient("x").Get(url); err != nil {
			t.Fatal(err)
		}
	}()
	if _, err := reg.Apply(clients.Config{Clients: map[string]clients.Settings{"x": {}}}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); n.Load() == 0 && time.Now().Before(deadline); {
		runtime.GC()
		runtime.Gosched()
	}
	if n.Load() != 1 {
		t.Errorf("closed %d times", n.Load())
	}
}

// An Apply that says the same keeps pipelines, and with them breakers and budgets.
func TestApplyOfTheSameKeepsState(t *testing.T) {
	var n atomic.Int32
	h := closing(&n)
	cfg := func(team string) clients.Config {
		return clients.Config{Clients: map[string]clients.Settings{"x": {Handlers: []clients.Handler{h}, Header: http.Header{"X-Team": {team}},
			Resilience: &resilience.Config{Preset: "standard", Retry: &resilience.Retry{MaxRetries: 1}}}}}
	}
	reg, _ := registry(t, cfg("red"))
	d, err := reg.Apply(cfg("red"))
	if err != nil || !d.Empty() || d.String() != "no client changes" || n.Load() != 0 {
		t.Errorf("%v, %v; closed %d times", d, err, n.Load())
	}
	if d, err := reg.Compare(cfg("blue")); err != nil || d.Empty() || n.Load() != 1 { // what was built to compare it
		t.Errorf("%v, %v; closed %d times", d, err, n.Load())
	}
	if d, err := reg.Apply(cfg("blue")); err != nil || d.Empty() || n.Load() != 2 {
		t.Errorf("%v, %v; closed %d times", d, err, n.Load())
	}
}

// Many reloads under load: no request fails, none goes without what every configuration has.
func TestReloadUnderLoadFailsNoRequest(t *testing.T) {
	url := serve(t, echo)
	var closed atomic.Int32
	cfg := func(i int) clients.Config {
		all := map[string]clients.Settings{}
		for n := range 5 {
			s := clients.Settings{Header: http.Header{"X-Team": {fmt.Sprint(i)}}, Timeout: time.Minute + time.Duration(i), Handlers: []clients.Handler{closing(&closed)},
				Resilience: &resilience.Config{Preset: []string{"standard", "hedging"}[(i+n)%2]}}
			if (i+n)%3 == 0 {
				s.Policy.MaxConns = 4 + i%3
			}
			all[fmt.Sprint("c", n)] = s
		}
		return clients.Config{Clients: all}
	}
	reg, _ := registry(t, cfg(0))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var sent atomic.Int64
	for w := range 16 {
		c := reg.MustClient(fmt.Sprint("c", w%5))
		wg.Go(func() {
			for ctx.Err() == nil {
				resp, err := c.Get(url + "/x")
				if err != nil {
					t.Errorf("a reload has failed a request: %v", err)
					return
				}
				if got := text(t, resp); !strings.HasPrefix(got, "GET /x X-Team=") {
					t.Errorf("%q", got)
				}
				sent.Add(1)
			}
		})
	}
	const reloads = 60
	for i := 1; i <= reloads; i++ {
		for until := sent.Load() + 20; sent.Load() < until && !t.Failed(); {
			runtime.Gosched()
		}
		if _, err := reg.Apply(cfg(i)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	if n := closed.Load(); n != 5*reloads {
		t.Errorf("%d of %d replaced pipelines have ended", n, 5*reloads)
	}
}

func TestThousandNames(t *testing.T) {
	url := serve(t, echo)
	all := map[string]clients.Settings{}
	for i := range 1000 {
		all[fmt.Sprint("client-", i)] = clients.Settings{Header: http.Header{"X-Team": {fmt.Sprint(i)}}}
	}
	reg, tr := registry(t, clients.Config{Clients: all})
	for name, s := range all {
		if got := get(t, reg.MustClient(name), url); got != "GET / X-Team="+s.Header["X-Team"][0] {
			t.Fatalf("%s: %q", name, got)
		}
	}
	if eps := tr.Endpoints(); len(eps) != 1 || eps[0].Stats().Dials.OK != 1 {
		t.Errorf("a thousand names over one connection have used more")
	}
	for i := range maxNames {
		all[fmt.Sprint("more-", i)] = clients.Settings{}
	}
	if _, err := reg.Apply(clients.Config{Clients: all}); err == nil || !strings.Contains(err.Error(), "a name a request is mostly a mistake") {
		t.Errorf("%v", err)
	}
}

const maxNames = 10_000

func TestTyped(t *testing.T) {
	url := serve(t, echo)
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"github": {BaseURL: url + "/api/"}}})
	std, err := clients.Typed(reg, "github", func(c *http.Client) *plainAPI { return &plainAPI{c} })
	if err != nil || std.c != reg.MustClient("github") {
		t.Errorf("%v", err)
	}
	ours := clients.MustTyped(reg, "github", newAPI)
	if got, err := ours.user(t.Context(), "octocat"); err != nil || got != "GET /api/users/octocat" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := clients.Typed(reg, "gitlab", newAPI); err == nil {
		t.Error("an unknown name")
	}
}

type plainAPI struct{ c *http.Client }

type api struct{ c *clients.Client }

func newAPI(c *clients.Client) *api { return &api{c} }

func (a *api) user(ctx context.Context, name string) (string, error) {
	req, err := a.c.NewRequest(ctx, "GET", "users/"+name, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// The timeout of a client is one for the call, with its redirects and its body.
func TestTimeoutOfAClient(t *testing.T) {
	stall := make(chan struct{})
	defer close(stall)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-stall:
		case <-r.Context().Done():
		}
	})
	reg, _ := registry(t, clients.Config{Clients: map[string]clients.Settings{"x": {Timeout: 50 * time.Millisecond}}})
	resp, err := reg.MustClient("x").Get(url)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	var late *resilience.TimeoutError
	if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// A request without a URL is refused, and panics nowhere.
func TestRequestWithoutURL(t *testing.T) {
	reg, _ := registry(t, clients.Config{Logger: slog.New(slog.DiscardHandler), Clients: map[string]clients.Settings{"x": {Log: true, Timeout: time.Minute,
		Resilience: &resilience.Config{Preset: "standard"}, Header: http.Header{"X-Team": {"red"}}, IdempotencyKeys: true, Propagate: true}}})
	if _, err := reg.MustClient("x").Transport.RoundTrip(&http.Request{Method: "GET"}); !errors.As(err, new(*berth.RequestError)) {
		t.Errorf("%v", err)
	}
	var seen []*http.Request
	rt := answers(&seen, 0)
	standard, err := resilience.Standard().Handler()
	if err != nil {
		t.Fatal(err)
	}
	hedging, err := resilience.StandardHedging().Handler()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []clients.Handler{standard, hedging, clients.Propagate(), clients.IdempotencyKeys(), clients.DefaultHeader(http.Header{"A": {"b"}}),
		clients.Log{Logger: slog.New(slog.DiscardHandler)}.Handler()} {
		if _, err := h(rt).RoundTrip((&http.Request{Method: "DELETE"}).WithContext(t.Context())); err == nil {
			t.Error("no error")
		}
	}
}

// forget asks for something and forgets the response.
//
//go:noinline
func forget(t *testing.T, c *http.Client, url string) {
	t.Helper()
	if _, err := c.Get(url); err != nil {
		t.Fatal(err)
	}
}

// A forgotten body is found through every pipeline, and the caller's line is named: nothing
// in between keeps it.
func TestForgottenBodyIsFoundThroughAPipeline(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 4<<20)) })
	var n atomic.Int32
	for name, s := range map[string]clients.Settings{
		"nothing":     {},
		"timeout":     {Timeout: time.Hour},
		"standard":    {Resilience: &resilience.Config{Preset: "standard"}},
		"hedging":     {Resilience: &resilience.Config{Preset: "hedging"}},
		"body":        {Resilience: &resilience.Config{Total: &resilience.Timeout{After: time.Hour, Body: true}}},
		"all of them": {Timeout: time.Hour, Log: true, Propagate: true, IdempotencyKeys: true, Cookies: true, Header: http.Header{"X-Team": {"red"}}, Handlers: []clients.Handler{closing(&n)}, Resilience: &resilience.Config{Preset: "standard"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Policy.MaxConns = 1
			reg, tr := registry(t, clients.Config{Logger: slog.New(slog.DiscardHandler), Clients: map[string]clients.Settings{"x": s}})
			c := reg.MustClient("x")
			forget(t, c, url)
			done := make(chan error, 1)
			go func() {
				resp, err := c.Get(url) // when the collector has found the other
				if err == nil {
					resp.Body.Close()
				}
				done <- err
			}()
			limit := time.After(30 * time.Second)
			for waiting := true; waiting; {
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
					waiting = false
				case <-limit:
					t.Fatal("its connection did not come back")
				default:
					runtime.GC()
				}
			}
			if leaks := tr.Leaks(); len(leaks) != 1 || leaks[0].Reclaimed != 1 {
				t.Errorf("%+v", leaks)
			}
		})
	}
}

// funcCloser is a RoundTripper that cannot be compared, and is closed.
type funcCloser struct {
	http.RoundTripper
	closed func()
}

func (f funcCloser) Close() error { f.closed(); return nil }

// Handlers may return what they were given, or values that cannot be compared; one that
// returns nothing is refused, and those that were made beside it are ended.
func TestWhatHandlersReturn(t *testing.T) {
	url := serve(t, echo)
	n := 0
	closing := func(next http.RoundTripper) http.RoundTripper { return funcCloser{next, func() { n++ }} }
	same := func(next http.RoundTripper) http.RoundTripper { return next }
	cfg := func(handlers ...clients.Handler) clients.Config {
		return clients.Config{Clients: map[string]clients.Settings{"x": {Handlers: handlers}}}
	}
	reg, _ := registry(t, cfg(closing, closing, same))
	get(t, reg.MustClient("x"), url)
	_, err := reg.Apply(cfg(func(http.RoundTripper) http.RoundTripper { return nil }, closing))
	if err == nil || !strings.Contains(err.Error(), `Clients["x"].Handlers: one of them returns no RoundTripper`) || n != 1 {
		t.Errorf("%v; closed %d times", err, n)
	}
	get(t, reg.MustClient("x"), url) // what was in force is
	if _, err := reg.Apply(cfg()); err != nil || n != 3 {
		t.Errorf("%v; closed %d times", err, n)
	}
	get(t, reg.MustClient("x"), url) // the transport was not among them
}
