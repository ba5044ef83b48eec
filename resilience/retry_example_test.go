package resilience_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/resilience"
)

// A server that is busy at first.
func ExampleRetry() {
	var requests atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		if n == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s at request %d", r.Method, body, n)
	}))
	defer srv.Close()

	retry, err := resilience.Retry{Delay: 10 * time.Millisecond}.Handler()
	if err != nil {
		log.Fatal(err)
	}
	tr := &berth.Transport{}
	defer tr.Close()
	client := &http.Client{Transport: retry(tr)}

	req, err := http.NewRequest("PUT", srv.URL, strings.NewReader("hello"))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body))
	// Output: 200 OK PUT hello at request 2
}

// Why a POST was not sent again.
func ExampleAttemptsError() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		panic(http.ErrAbortHandler) // the connection breaks without an answer
	}))
	defer srv.Close()

	retry, err := resilience.Retry{}.Handler()
	if err != nil {
		log.Fatal(err)
	}
	tr := &berth.Transport{}
	defer tr.Close()
	client := &http.Client{Transport: retry(tr)}

	_, err = client.Post(srv.URL, "text/plain", strings.NewReader("pay"))
	var attempts *resilience.AttemptsError
	if errors.As(err, &attempts) {
		fmt.Println(len(attempts.Attempts), "attempt, stopped by", attempts.Stopped, attempts.Code())
	}
	// Output: 1 attempt, stopped by method BERTH1020
}
