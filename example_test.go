package berth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/berth-go/berth"
)

func hello() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	}))
}

// One line changes in a program.
func Example() {
	srv := hello()
	defer srv.Close()

	client := &http.Client{Transport: &berth.Transport{}}
	resp, err := client.Get(srv.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Print(string(body))
	// Output: hello
}

// A Transport with limits.
func ExampleNew() {
	tr, err := berth.New(berth.Config{Policy: berth.Policy{
		MaxConns:       20,              // connections to one endpoint
		AcquireTimeout: 2 * time.Second, // for queue, dial and TLS together
		Lifetime:       5 * time.Minute,
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tr.Close()
	client := &http.Client{Transport: tr}
	_ = client

	_, err = berth.New(berth.Config{Policy: berth.Policy{MaxConns: 2, MaxIdle: 3}})
	fmt.Println(err)
	// Output: berth: config: Policy.MaxIdle: 3 is more than MaxConns, which is 2
}

// What an endpoint's pool does right now, and has done.
func ExampleTransport_Endpoint() {
	srv := hello()
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	client := &http.Client{Transport: tr}
	for range 4 {
		resp, err := client.Get(srv.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}
	ep, err := tr.Endpoint(srv.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	s := ep.Stats()
	fmt.Printf("%d requests, %d dial, %d idle, reuse %.2f\n", s.Requests, s.Dials.OK, s.Idle, s.ReuseRatio())
	// Output: 4 requests, 1 dial, 1 idle, reuse 0.75
}

// The retrier's only question.
func ExampleNotSent() {
	tr := &berth.Transport{}
	tr.Close()
	_, err := (&http.Client{Transport: tr}).Post("http://api.example/pay", "text/plain", nil)
	fmt.Println(berth.NotSent(err), errors.Is(err, berth.ErrClosed))
	// Output: true true
}

// An http.Transport that a program has configured, carried over.
func ExampleFromTransport() {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxConnsPerHost = 50
	cfg, left := berth.FromTransport(t)
	for _, field := range left {
		fmt.Println("not carried over:", field)
	}
	cfg.Policy.AcquireTimeout = 2 * time.Second // what http.Transport does not have
	tr, err := berth.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tr.Close()
	fmt.Println(cfg.Policy.MaxConns, cfg.Policy.IdleTimeout)
	// Output:
	// not carried over: MaxIdleConns 100: idle connections are limited per endpoint (Policy.MaxIdle) and by Policy.IdleTimeout
	// 50 1m30s
}

// A request over a Unix domain socket.
func ExampleTransport_unix() {
	client := &http.Client{Transport: &berth.Transport{}}
	_, err := client.Get("unix:///run/absent.sock:/v1/info")
	fmt.Println(berth.NotSent(err))
	// Output: true
}

// Everything can be changed while requests run.
func ExampleTransport_Apply() {
	tr, err := berth.New(berth.Config{Proxy: berth.NoProxy, Policy: berth.Policy{MaxConns: 20}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tr.Close()

	cfg := tr.Config()
	cfg.Rules = []berth.Rule{{Match: "*.example.com", Policy: berth.Policy{MaxConns: 40}}}
	diff, err := tr.Apply(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(diff)
	ep, err := tr.Endpoint("https://api.example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	p := ep.Policy()
	fmt.Println(p.Policy.MaxConns, "by", p.From["max_conns"])
	// Output:
	// generation 2
	//   rules[0] none → *.example.com
	// 40 by rule 1 (*.example.com)
}

// A group has connections of its own.
func ExampleTransport_Group() {
	srv := hello()
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()

	client := &http.Client{Transport: tr.Group("tenant 7")}
	resp, err := client.Get(srv.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(tr.Groups(), tr.CloseGroup("tenant 7"))
	// Output: [tenant 7] true
}

// A group for requests to wherever others say: it reaches no address that is not public.
func ExampleGroup_SetAllowAddr() {
	transport, err := berth.New(berth.Config{Proxy: berth.NoProxy})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	outside := transport.Group("webhooks")
	outside.SetAllowAddr(func(i berth.AddrInfo) error {
		if a := i.Addr.Addr(); !a.IsGlobalUnicast() || a.IsPrivate() { // one that is not known is neither
			return errors.New("not a public address")
		}
		return nil
	})
	client := &http.Client{Transport: outside}
	_, err = client.Get("http://[::ffff:169.254.169.254]/latest/meta-data/")
	refused, is := errors.AsType[*berth.AddrRefusedError](err)
	fmt.Println(is, refused.Addr, refused.Err)
	// Output: true 169.254.169.254:80 not a public address
}

// A second attempt beside one that runs is worth a connection that is free, and no wait.
func ExampleWithoutQueue() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer") }))
	defer srv.Close()
	transport, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 1}})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	busy, err := transport.Endpoint(srv.URL)
	if err != nil {
		log.Fatal(err)
	}
	if err := busy.Pause(context.Background()); err != nil {
		log.Fatal(err)
	}
	req, err := http.NewRequestWithContext(berth.WithoutQueue(context.Background()), "GET", srv.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = transport.RoundTrip(req)
	fmt.Println(errors.As(err, new(*berth.WouldQueueError)), berth.NotSent(err))
	// Output: true true
}

// What a program's pools do can be read from outside: berth doctor --from does so.
func ExampleTransport_Handler() {
	tr := &berth.Transport{}
	defer tr.Close()
	debug := httptest.NewServer(tr.Handler()) // in a program: http.ListenAndServe("127.0.0.1:6061", tr.Handler())
	defer debug.Close()

	resp, err := http.Get(debug.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var report berth.Report
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
		log.Fatal(err)
	}
	fmt.Println("schema", report.Schema, "with", len(report.Endpoints), "endpoints")
	// Output: schema 1 with 0 endpoints
}
