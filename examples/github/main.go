// Github is a typed client of a JSON API: its base URL, headers, limits and resilience are
// configuration, and change while a service keeps the client.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

// GitHub knows the API and nothing of connections.
type GitHub struct{ c *clients.Client }

// NewGitHub is what clients.Typed calls.
func NewGitHub(c *clients.Client) *GitHub { return &GitHub{c} }

// Repo is what it is asked for.
type Repo struct {
	Name  string `json:"name"`
	Stars int    `json:"stargazers_count"`
}

// Repos returns an organisation's repositories.
func (g *GitHub) Repos(ctx context.Context, org string) ([]Repo, error) {
	req, err := g.c.NewRequest(ctx, "GET", "orgs/"+url.PathEscape(org)+"/repos", nil)
	if err != nil {
		return nil, err
	}
	resp, err := g.c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
		return nil, fmt.Errorf("repositories of %s: %s", org, resp.Status)
	}
	var repos []Repo
	return repos, json.NewDecoder(resp.Body).Decode(&repos)
}

func main() {
	srv := httptest.NewServer(api())
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	cfg := clients.Config{
		Defaults: clients.Settings{Timeout: 30 * time.Second, Resilience: &resilience.Config{
			Preset: "standard", Retry: &resilience.Retry{Delay: 10 * time.Millisecond}}},
		Clients: map[string]clients.Settings{"github": {
			BaseURL: srv.URL + "/",
			Header:  http.Header{"Accept": {"application/vnd.github+json"}, "Authorization": {"Bearer of-the-example"}},
			Policy:  berth.Policy{MaxConns: 20},
		}},
	}
	reg, err := clients.New(tr, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	github, err := clients.Typed(reg, "github", NewGitHub)
	if err != nil {
		log.Fatal(err)
	}

	// The first answer is 503: the pipeline asks again, and nobody here sees it.
	repos, err := github.Repos(context.Background(), "berth-go")
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range repos {
		fmt.Printf("%s has %d stars\n", r.Name, r.Stars)
	}

	// The token is replaced: the service that keeps the client sends the new one.
	next := cfg.Clients["github"]
	next.Header = http.Header{"Accept": {"application/vnd.github+json"}, "Authorization": {"Bearer of-tomorrow"}}
	d, err := reg.Apply(clients.Config{Defaults: cfg.Defaults, Clients: map[string]clients.Settings{"github": next}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d)
	if _, err := github.Repos(context.Background(), "berth-go"); err != nil {
		log.Fatal(err)
	}

	_, err = reg.Client("gitlab")
	fmt.Println(err)
}

// api is a server that is overloaded once, and then accepts each token once.
func api() http.Handler {
	mux := http.NewServeMux()
	overloaded := true
	used := map[string]bool{}
	mux.HandleFunc("GET /orgs/{org}/repos", func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		switch {
		case overloaded:
			overloaded = false
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case used[token]:
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		used[token] = true
		json.NewEncoder(w).Encode([]Repo{{"berth", 1287}, {"harbour", 12}})
	})
	return mux
}
