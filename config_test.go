package berth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

func TestNewNamesTheBadField(t *testing.T) {
	for field, p := range map[string]berth.Policy{
		"Policy.MaxIdle":                {MaxConns: 2, MaxIdle: 3},
		"Policy.MaxResponseHeaderBytes": {MaxResponseHeaderBytes: -1},
	} {
		_, err := berth.New(berth.Config{Policy: p})
		if e, is := errors.AsType[*berth.ConfigError](err); !is || e.Field != field || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, n := range []int64{1, 127, 1<<30 + 1} {
		if _, err := berth.New(berth.Config{Policy: berth.Policy{MaxResponseHeaderBytes: n}}); err == nil {
			t.Errorf("a header limit of %d passes", n)
		}
	}
}

func TestPolicyAsJSON(t *testing.T) {
	p := berth.Policy{MaxConns: 20, IdleTimeout: 90 * time.Second, Lifetime: -1, DrainTimeout: 1500 * time.Microsecond, Strict: true}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"max_conns":20,"idle_timeout":"90s","lifetime":"-1ns","drain_timeout":"1.5ms","strict":true}`; string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back berth.Policy
	if err := json.Unmarshal(b, &back); err != nil || back != p {
		t.Errorf("read back %+v, %v", back, err)
	}
	for text, want := range map[string]string{
		`{"max_con":1}`:          "policy.max_con: no such setting; known are max_conns",
		`{"idle_timeout":90}`:    `policy.idle_timeout: a duration is a string`,
		`{"idle_timeout":"90"}`:  `"90" is no duration`,
		`{"max_conns":"twenty"}`: "policy.max_conns",
		`[]`:                     "policy",
	} {
		err := json.Unmarshal([]byte(text), &back)
		if _, is := errors.AsType[*berth.ConfigError](err); !is || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	// Every field has a name of its own and survives.
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.String:
			f.SetString(fmt.Sprint("value ", i))
		case reflect.Struct:
			f.Set(reflect.ValueOf(berth.PortBudget{Ports: 1, HoldAfterFIN: 2, HoldAfterRST: 3}))
		default:
			f.SetInt(int64(1000 + i))
		}
	}
	b, _ = json.Marshal(p)
	if err := json.Unmarshal(b, &back); err != nil || back != p {
		t.Errorf("with every field set: %s: %+v, %v", b, back, err)
	}
}

func TestEndpointNames(t *testing.T) {
	tr := &berth.Transport{}
	for raw, want := range map[string]string{
		"http://Example.COM/a?b=c":    "http://example.com",
		"http://example.com:80":       "http://example.com",
		"https://user:pw@example.com": "https://example.com",
		"https://example.com:8443/x":  "https://example.com:8443",
		"http://bücher.example":       "http://xn--bcher-kva.example",
		"http://[2001:db8::1]:80/":    "http://[2001:db8::1]",
		"http://[2001:db8::1]:8080/":  "http://[2001:db8::1]:8080",
	} {
		ep, err := tr.Endpoint(raw)
		if err != nil || ep.String() != want {
			t.Errorf("%s: %v, %v; want %s", raw, ep, err, want)
		}
	}
	for _, raw := range []string{"ftp://x", "http://", "example.com", "http://u:secret@x\x7f"} {
		_, err := tr.Endpoint(raw)
		if _, is := errors.AsType[*berth.ConfigError](err); !is || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// One endpoint, however its host is written.
func TestSpellingsOfAHostShareAnEndpoint(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	for _, host := range []string{"localhost", "LOCALHOST", "LocalHost", "lOcalhost", "loCalhost", "locAlhost", "locaLhost", "localHost", "localhOst", "localhoSt"} {
		resp, err := (&http.Client{Transport: tr}).Get("http://" + host + port)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	eps := tr.Endpoints()
	if len(eps) != 1 || eps[0].Stats().Dials.OK != 1 || eps[0].Stats().Requests != 10 {
		t.Errorf("endpoints %v, %+v", eps, eps[0].Stats())
	}
}

// ReverseProxy needs nothing but a RoundTripper.
func TestReverseProxy(t *testing.T) {
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.URL.Path)) }))
	defer back.Close()
	target, _ := url.Parse(back.URL)
	tr := &berth.Transport{}
	defer tr.Close()
	front := httptest.NewServer(&httputil.ReverseProxy{Transport: tr, Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }})
	defer front.Close()
	resp, err := (&http.Client{Transport: tr}).Get(front.URL + "/through")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 100)
	n, _ := resp.Body.Read(buf)
	if string(buf[:n]) != "/through" {
		t.Errorf("body %q", buf[:n])
	}
}
