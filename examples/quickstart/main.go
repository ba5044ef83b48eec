// Quickstart sends requests to a server of its own and prints what the pool did.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/berth-go/berth"
)

func main() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer srv.Close()

	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 4}})
	if err != nil {
		log.Fatal(err)
	}
	defer tr.Close()
	client := &http.Client{Transport: tr}

	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			resp, err := client.Get(srv.URL)
			if err != nil {
				log.Print(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	for _, ep := range tr.Endpoints() {
		s := ep.Stats()
		fmt.Printf("%v: %d requests, %d connections, reuse %.2f, waited up to %v\n",
			ep, s.Requests, s.Dials.OK, s.ReuseRatio(), s.Wait.Quantile(1))
	}
}
