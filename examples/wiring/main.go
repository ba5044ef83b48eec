// Wiring puts a program together: a transport, a registry from a policy file that is
// followed, typed clients, and what ends them. A container (fx, wire, dig) calls the same
// functions: each takes what it needs and returns what it makes.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/policyfile"
)

// NewTransport is the one transport of the program.
func NewTransport() (*berth.Transport, error) { return berth.New(berth.Config{}) }

// NewRegistry has the handlers, which are code; what is configuration comes from the file.
func NewRegistry(tr *berth.Transport) (*clients.Registry, error) {
	return clients.New(tr, clients.Config{Defaults: clients.Settings{Handlers: []clients.Handler{clients.Propagate()}}})
}

// Follow has both follow the file.
func Follow(tr *berth.Transport, reg *clients.Registry, path string) (*policyfile.Watcher, error) {
	return policyfile.Watch(tr, path, policyfile.Options{Registry: reg})
}

// Payments and Search are what the program is about.
type (
	Payments struct{ c *clients.Client }
	Search   struct{ c *http.Client }
)

// NewPayments returns the client of the payments service.
func NewPayments(reg *clients.Registry) (*Payments, error) {
	return clients.Typed(reg, "payments", func(c *clients.Client) *Payments { return &Payments{c} })
}

// NewSearch returns the client of the search service.
func NewSearch(reg *clients.Registry) (*Search, error) {
	return clients.Typed(reg, "search", func(c *http.Client) *Search { return &Search{c} })
}

// State asks for a payment's state.
func (p *Payments) State(ctx context.Context, id string) (string, error) {
	req, err := p.c.NewRequest(ctx, "GET", "payments/"+id, nil)
	if err != nil {
		return "", err
	}
	resp, err := p.c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func main() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by %s", strings.TrimPrefix(r.URL.Path, "/"), r.Header.Get("X-Team"))
	}))
	defer srv.Close()
	dir, err := os.MkdirTemp("", "berth")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "policy.yaml")
	text := `
client_defaults: {timeout: 10s, resilience: {preset: standard}}
clients:
  payments: {base_url: "%s/v1/", headers: {X-Team: checkout}, policy: {max_conns: 10}}
  search: {resilience: {preset: hedging}}
`
	if err := os.WriteFile(path, fmt.Appendf(nil, text, srv.URL), 0o600); err != nil {
		log.Fatal(err)
	}

	tr, err := NewTransport()
	check(err)
	defer tr.Close()
	reg, err := NewRegistry(tr)
	check(err)
	defer reg.Close()
	w, err := Follow(tr, reg, path)
	check(err)
	defer w.Close()
	payments, err := NewPayments(reg)
	check(err)
	_, err = NewSearch(reg)
	check(err)

	state, err := payments.State(context.Background(), "17")
	check(err)
	fmt.Println(state)
	fmt.Println("clients:", strings.Join(reg.Names(), ", "))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
