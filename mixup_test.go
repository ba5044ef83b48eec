package berth_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

// Whatever happens to requests around it, a response reaches the request that it
// answers: cancellation at random moments, bodies closed early, streams, all over
// few connections.
func TestNoResponseReachesAnotherRequest(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.URL.Query().Get("id")
		if string(body) != "" && string(body) != strings.Repeat(id+" ", len(body)/(len(id)+1)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Id", id)
		switch r.URL.Path {
		case "/small":
			io.WriteString(w, id)
		case "/chunked":
			for range 3 {
				io.WriteString(w, id+" ")
				w.(http.Flusher).Flush()
			}
		case "/big":
			io.WriteString(w, strings.Repeat(id+" ", 20_000))
		case "/slow":
			w.(http.Flusher).Flush()
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			io.WriteString(w, id)
		}
	})
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			srv := httptest.NewUnstartedServer(h)
			cfg := berth.Config{Policy: berth.Policy{MaxConns: 6}}
			if secure {
				srv.StartTLS()
				cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
			} else {
				srv.Start()
			}
			defer srv.Close()
			tr, err := berth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			const workers, each = 16, 150
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(w), 1))
					for i := range each {
						oneRequest(t, tr, srv.URL, fmt.Sprintf("%d-%d", w, i), rnd)
					}
				})
			}
			wg.Wait()
			tr.CloseIdleConnections()
			ep, _ := tr.Endpoint(srv.URL)
			if s := ep.Stats(); s.Leased+s.Waiting != 0 || s.PeakConns > 6 {
				t.Errorf("at the end: %+v", s)
			}
		})
	}
}

func oneRequest(t *testing.T, rt http.RoundTripper, url, id string, rnd *rand.Rand) {
	paths := []string{"/small", "/chunked", "/big", "/slow"}
	path := paths[rnd.IntN(len(paths))]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if rnd.IntN(3) == 0 {
		time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, cancel)
	}
	var body io.Reader
	switch rnd.IntN(4) {
	case 0:
		body = strings.NewReader(strings.Repeat(id+" ", 1+rnd.IntN(3000)))
	case 1:
		body = struct{ io.Reader }{strings.NewReader(strings.Repeat(id+" ", 1+rnd.IntN(3000)))}
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url+path+"?id="+id, body)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s %s: %v", path, id, err)
		}
		return
	}
	if resp.StatusCode != 200 || resp.Header.Get("X-Id") != id {
		t.Errorf("%s %s got status %d of %s", path, id, resp.StatusCode, resp.Header.Get("X-Id"))
	}
	var read io.Reader = resp.Body
	if rnd.IntN(3) == 0 {
		read = io.LimitReader(resp.Body, int64(rnd.IntN(2000)))
	}
	b, err := io.ReadAll(read)
	if err != nil && ctx.Err() == nil {
		t.Errorf("%s %s: body: %v", path, id, err)
	}
	for word := range strings.FieldsSeq(string(b)) {
		if !strings.HasPrefix(id, word) {
			t.Errorf("%s %s: the body holds %q", path, id, word)
			break
		}
	}
	resp.Body.Close()
}
