// Webhooks sends events to addresses that customers have entered, and is not led into its
// own network by them (server-side request forgery).
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

// Sender delivers events.
type Sender struct{ c *http.Client }

// Deliver posts an event. All attempts carry one idempotency key: a receiver that answers
// late does not act upon it twice.
func (s *Sender) Deliver(ctx context.Context, hook string, event []byte) error {
	req, err := http.NewRequestWithContext(ctx, "POST", hook, bytes.NewReader(event))
	if err != nil {
		return err
	}
	resp, err := s.c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("the receiver answers %s", resp.Status)
	}
	return nil
}

func main() {
	// The customer's server runs on this host here, at an address that is allowed for it.
	deliveries := 0
	customer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if deliveries++; deliveries == 1 {
			w.WriteHeader(http.StatusBadGateway) // its proxy restarts
			return
		}
		fmt.Println("delivered, with a key of", len(r.Header.Get("Idempotency-Key")), "digits")
	}))
	defer customer.Close()
	attacker := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect))
	defer attacker.Close()

	tr := &berth.Transport{}
	defer tr.Close()
	reg, err := clients.New(tr, clients.Config{Clients: map[string]clients.Settings{"webhooks": {
		Timeout:         20 * time.Second,
		Guard:           &clients.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		Policy:          berth.Policy{MaxConns: 4}, // to one receiver: others do not wait for it
		IdempotencyKeys: true,
		Resilience:      &resilience.Config{Preset: "standard", Retry: &resilience.Retry{Delay: 10 * time.Millisecond}},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	sender, err := clients.Typed(reg, "webhooks", func(c *http.Client) *Sender { return &Sender{c} })
	if err != nil {
		log.Fatal(err)
	}

	event := []byte(`{"event":"paid"}`)
	if err := sender.Deliver(context.Background(), customer.URL, event); err != nil {
		log.Fatal(err)
	}
	for _, hook := range []string{"http://10.0.0.7/admin", "http://[::ffff:192.168.1.1]/", attacker.URL} {
		var refused *berth.AddrRefusedError
		if err := sender.Deliver(context.Background(), hook, event); errors.As(err, &refused) {
			fmt.Println(refused)
		} else {
			log.Fatalf("%s: %v", hook, err)
		}
	}
}
