// Starved forgets a response body and shows what the next request is told.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/berth-go/berth"
)

func main() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) }))
	defer srv.Close()

	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 1}})
	if err != nil {
		log.Fatal(err)
	}
	defer tr.Close()
	client := &http.Client{Transport: tr}

	forgotten, err := client.Get(srv.URL + "/v1/export")
	if err != nil {
		log.Fatal(err)
	}
	defer forgotten.Body.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/list", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Do(req)
	var starved *berth.AcquireTimeoutError
	if errors.As(err, &starved) {
		fmt.Println(starved)
	}
}
