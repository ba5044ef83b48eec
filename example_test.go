package berth_test

import (
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
