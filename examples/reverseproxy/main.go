// Reverseproxy puts Berth behind httputil.ReverseProxy.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"github.com/berth-go/berth"
)

func main() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "origin saw", r.URL.Path) }))
	defer origin.Close()
	target, err := url.Parse(origin.URL)
	if err != nil {
		log.Fatal(err)
	}
	tr := &berth.Transport{}
	defer tr.Close()
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: tr,
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
	})
	defer proxy.Close()

	resp, err := http.Get(proxy.URL + "/hello")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(body))
}
