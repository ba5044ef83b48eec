package resilience_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/resilience"
)

// A server that is overloaded is asked twice; then it is left alone for a while.
func ExampleBreaker() {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	handler, err := resilience.Breaker{MinRequests: 2}.Handler()
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: handler(&berth.Transport{})}
	defer client.CloseIdleConnections()

	for range 10 {
		resp, err := client.Get(server.URL)
		var open *resilience.CircuitOpenError
		switch {
		case errors.As(err, &open):
			fmt.Printf("%s: %d of %d requests failed; sent: %v\n", open.State, open.Failures, open.Requests, !berth.NotSent(err))
		case err == nil:
			resp.Body.Close()
			fmt.Println(resp.Status)
			continue
		}
		break
	}
	fmt.Println("the server was asked", asked.Load(), "times")
	// Output:
	// 503 Service Unavailable
	// 503 Service Unavailable
	// open: 2 of 2 requests failed; sent: false
	// the server was asked 2 times
}

// The first answer of the server never comes, the second does.
func ExampleHedge() {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "hello")
	}))
	defer server.Close()
	trace := &resilience.Trace{Attempt: func(i resilience.AttemptInfo) {
		fmt.Printf("attempt %d: status %d, hedge %v, final %v\n", i.N, i.Status, i.Hedge, i.Final)
	}}
	handler, err := resilience.Hedge{Delay: 20 * time.Millisecond, Trace: trace}.Handler()
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: handler(&berth.Transport{})}
	defer client.CloseIdleConnections()

	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	fmt.Printf("%s\n", body)
	// Unordered output:
	// attempt 2: status 200, hedge true, final true
	// attempt 1: status 0, hedge false, final false
	// hello
}
