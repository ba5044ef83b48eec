package realclients

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
)

// search is a typed client as a container's constructors make it.
type search struct{ c *clients.Client }

func newTransport(l fx.Lifecycle) (*berth.Transport, error) {
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err == nil {
		l.Append(fx.StopHook(tr.Shutdown))
	}
	return tr, err
}

func newRegistry(l fx.Lifecycle, tr *berth.Transport, cfg clients.Config) (*clients.Registry, error) {
	reg, err := clients.New(tr, cfg)
	if err == nil {
		l.Append(fx.StopHook(reg.Close))
	}
	return reg, err
}

func newSearch(reg *clients.Registry) (*search, error) {
	return clients.Typed(reg, "search", func(c *clients.Client) *search { return &search{c} })
}

// A container wires transport, registry and typed clients, and ends them in order. A
// singleton that holds a client follows the configuration; a name that is not configured
// fails when the program starts.
func TestContainer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, " ", r.Header.Get("X-Team"))
	}))
	defer srv.Close()
	config := func(team string) clients.Config {
		return clients.Config{Clients: map[string]clients.Settings{"search": {BaseURL: srv.URL + "/v1/", Header: http.Header{"X-Team": {team}}}}}
	}
	var (
		s   *search
		reg *clients.Registry
	)
	app := fxtest.New(t, fx.Provide(newTransport, newRegistry, newSearch), fx.Supply(config("red")), fx.Populate(&s, &reg))
	app.RequireStart()
	get := func() string {
		req, err := s.c.NewRequest(context.Background(), "GET", "find", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.c.Do(req)
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
	if got := get(); got != "/v1/find red" {
		t.Errorf("%q", got)
	}
	if _, err := reg.Apply(config("blue")); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "/v1/find blue" {
		t.Errorf("after a change: %q", got)
	}
	app.RequireStop()
	if _, err := s.c.Get(srv.URL); err == nil {
		t.Error("a request after the end")
	}
	if err := fx.New(fx.NopLogger, fx.Provide(newTransport, newRegistry, newSearch), fx.Supply(clients.Config{}), fx.Invoke(func(*search) {})).Err(); err == nil {
		t.Error("a name that is not configured was wired")
	}
}
