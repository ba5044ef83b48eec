package berth_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

func TestSmoke(t *testing.T) {
	for _, tlsOn := range []bool{false, true} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if r.URL.Path == "/big" {
				w.Write(bytes.Repeat([]byte("x"), 1<<20))
				return
			}
			if r.URL.Path == "/chunked" {
				w.(http.Flusher).Flush()
				for range 5 {
					fmt.Fprint(w, "chunk")
					w.(http.Flusher).Flush()
				}
				return
			}
			fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(b))
		})
		var srv *httptest.Server
		cfg := berth.Config{}
		if tlsOn {
			srv = httptest.NewTLSServer(h)
			cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
		} else {
			srv = httptest.NewServer(h)
		}
		tr, err := berth.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Transport: tr}
		get := func(path string) string {
			t.Helper()
			resp, err := c.Get(srv.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(path, err)
			}
			resp.Body.Close()
			return string(b)
		}
		if g := get("/a"); g != "GET /a 0" {
			t.Fatal(g)
		}
		if g := get("/big"); len(g) != 1<<20 {
			t.Fatal(len(g))
		}
		if g := get("/chunked"); g != strings.Repeat("chunk", 5) {
			t.Fatal(g)
		}
		for _, n := range []int{0, 10, 5000, 20000, 1 << 20} {
			for _, body := range []io.Reader{bytes.NewReader(make([]byte, n)), strings.NewReader(strings.Repeat("a", n)), io.MultiReader(bytes.NewReader(make([]byte, n)))} {
				resp, err := c.Post(srv.URL+"/p", "text/plain", body)
				if err != nil {
					t.Fatal(n, err)
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(b) != fmt.Sprintf("POST /p %d", n) {
					t.Fatal(n, string(b))
				}
			}
		}
		for range 10 {
			resp, err := c.Get(srv.URL + "/small")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		ep, _ := tr.Endpoint(srv.URL)
		t.Logf("%v %+v", ep, ep.Stats())
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/x", nil)
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		}
		wg.Wait()
		tr.Close()
		t.Logf("%v %+v", ep, ep.Stats())
		srv.Close()
	}
}
