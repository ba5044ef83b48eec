// Policyfile follows a policy file that is changed while requests run, as a deployment or a
// person on duty would change it: limits of the transport, and a named client.
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/policyfile"
)

func main() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(20 * time.Millisecond) }))
	defer srv.Close()
	dir, err := os.MkdirTemp("", "berth")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "policy.yaml")
	write(path, "policy: {max_conns: 2}\nclients: {api: {timeout: 5s}}")

	tr := &berth.Transport{}
	defer tr.Close()
	reg, err := clients.New(tr, clients.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	applied := make(chan fmt.Stringer)
	refused := make(chan error)
	w, err := policyfile.Watch(tr, path, policyfile.Options{
		Registry:       reg,
		Applied:        func(d *berth.Diff) { applied <- d },
		ClientsApplied: func(d *clients.Diff) { applied <- d },
		Failed:         func(err error) { refused <- err },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	client := reg.MustClient("api")
	burst(client, srv.URL)
	write(path, "rules: [{match: \"*\", max_conns: 10}]\nclients: {api: {timeout: 5s}}")
	fmt.Println(<-applied)
	burst(client, srv.URL)
	write(path, "rules: [{match: \"*\", max_conns: 10}]\nclients: {api: {timeout: 2s, headers: {Accept: text/plain}}}")
	fmt.Println(<-applied)
	burst(client, srv.URL)
	write(path, "policy: {max_cons: 3}")
	fmt.Println(filepath.Base((<-refused).Error()))
	burst(client, srv.URL)
}

// write replaces the file as a whole.
func write(path, text string) {
	if err := os.WriteFile(path+".new", []byte(text+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		log.Fatal(err)
	}
}

// burst sends twenty requests at once and says how long they took.
func burst(client *http.Client, url string) {
	start := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			resp, err := client.Get(url)
			if err != nil {
				log.Fatal(err)
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	fmt.Printf("20 requests took %v\n", time.Since(start).Round(10*time.Millisecond))
}
