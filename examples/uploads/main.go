// Uploads sends twenty files at once to a store like S3, through two connections and then
// through twenty, with the retries that the Azure SDK makes: four tries in all, from 0.8 s
// on, an exponential back-off (here a hundredth of it). Two connections starve them, which
// the SDK tells as “A task was canceled” four times.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

// azure is Azure.Core's RetryOptions: 3 retries, 0.8 s, at most 1 min, 100 s for a try, in
// hundredths. A PUT may be repeated, so nothing has to be allowed for that.
var azure = &resilience.Config{
	Retry:   &resilience.Retry{MaxRetries: 3, Delay: 8 * time.Millisecond, MaxDelay: 600 * time.Millisecond, Budget: resilience.Budget{Ratio: -1}},
	Attempt: &resilience.Timeout{After: time.Second},
}

func main() {
	srv := httptest.NewServer(http.HandlerFunc(store))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	settings := func(conns int) clients.Config {
		return clients.Config{Clients: map[string]clients.Settings{"store": {BaseURL: srv.URL + "/bucket/", Policy: berth.Policy{MaxConns: conns}, Resilience: azure}}}
	}
	reg, err := clients.New(tr, settings(2))
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	uploads, err := clients.Typed(reg, "store", func(c *clients.Client) *Store { return &Store{c} })
	if err != nil {
		log.Fatal(err)
	}

	starved, first := all(uploads)
	fmt.Printf("two connections: %d of 20 uploads failed, one of them so:\n", starved)
	fmt.Println(first)

	if _, err := reg.Apply(settings(20)); err != nil { // while it runs
		log.Fatal(err)
	}
	starved, _ = all(uploads)
	fmt.Printf("twenty connections: %d of 20 uploads failed\n", starved)
}

// Store puts objects.
type Store struct{ c *clients.Client }

// Put uploads an object. The body can be sent again: NewRequest knows how for a
// bytes.Reader.
func (s *Store) Put(ctx context.Context, key string, content []byte) error {
	req, err := s.c.NewRequest(ctx, "PUT", key, bytes.NewReader(content))
	if err != nil {
		return err
	}
	resp, err := s.c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("put %s: %s", key, resp.Status)
	}
	return nil
}

// all uploads twenty files at once.
func all(s *Store) (failed int, first error) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for i := range 20 {
		wg.Go(func() {
			err := s.Put(context.Background(), fmt.Sprintf("file-%02d", i), make([]byte, 64<<10))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				if first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	return failed, first
}

// store takes 800 ms for an object.
func store(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	time.Sleep(800 * time.Millisecond)
	w.WriteHeader(http.StatusCreated)
}
