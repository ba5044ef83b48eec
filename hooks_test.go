package berth_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// heard records the hooks of a request by name.
type heard struct {
	mu     sync.Mutex
	events []string
}

func (h *heard) add(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, s)
}

func (h *heard) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

func (h *heard) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:              func(string) { h.add("GetConn") },
		GotConn:              func(httptrace.GotConnInfo) { h.add("GotConn") },
		PutIdleConn:          func(err error) { h.add("PutIdleConn " + map[bool]string{true: "kept", false: "not kept"}[err == nil]) },
		GotFirstResponseByte: func() { h.add("GotFirstResponseByte") },
		Got100Continue:       func() { h.add("Got100Continue") },
		Wait100Continue:      func() { h.add("Wait100Continue") },
		DNSStart:             func(i httptrace.DNSStartInfo) { h.add("DNSStart " + i.Host) },
		DNSDone:              func(i httptrace.DNSDoneInfo) { h.add("DNSDone") },
		ConnectStart:         func(string, string) { h.add("ConnectStart") },
		ConnectDone:          func(string, string, error) { h.add("ConnectDone") },
		TLSHandshakeStart:    func() { h.add("TLSHandshakeStart") },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { h.add("TLSHandshakeDone") },
		WroteHeaders:         func() { h.add("WroteHeaders") },
		WroteRequest:         func(i httptrace.WroteRequestInfo) { h.add("WroteRequest") },
	}
}

// Row 7: a dial that outlives its request tells that request's hooks nothing more.
func TestHooksAreSilentAfterTheirRequest(t *testing.T) {
	_, roots := origin.Cert()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{TLS: tlsConfig(roots)}, origin.Serve(ok("")))
		ln, err := r.net.Listen("127.0.0.1:443")
		if err != nil {
			t.Fatal(err)
		}
		o := origin.New(origin.TLS(ln)).Handle(origin.Serve(ok("a")))
		r.net.OnDial = func(context.Context, string) error { time.Sleep(2 * time.Second); return nil }
		var h heard
		ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(t.Context(), h.trace()), time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://127.0.0.1/", nil)
		if _, err := r.tr.RoundTrip(req); err == nil {
			t.Fatal("no error")
		}
		before := h.list()
		if !slices.Contains(before, "GetConn") || slices.Contains(before, "GotConn") {
			t.Errorf("during the request: %q", before)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if after := h.list(); len(after) != len(before) {
			t.Errorf("after the request: %q", after[len(before):])
		}
		ep, _ := r.tr.Endpoint("https://127.0.0.1")
		if s := ep.Stats(); s.Idle != 1 {
			t.Errorf("the dial's connection is not kept: %+v", s)
		}
		r.tr.Close()
		o.Close()
		r.close()
	})
}

// Row 7: the hooks of Expect: 100-continue.
func TestHooksOfExpectContinue(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Echo(), func(r *rig) {
		var h heard
		req := r.expecting(strings.NewReader("body"))
		req = req.WithContext(httptrace.WithClientTrace(r.Context(), h.trace()))
		resp, err := r.tr.RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		synctest.Wait()
		want := []string{"GetConn", "GotConn", "WroteHeaders", "Wait100Continue", "GotFirstResponseByte", "Got100Continue", "WroteRequest", "PutIdleConn kept"}
		if got := slices.DeleteFunc(h.list(), func(s string) bool { return strings.HasPrefix(s, "Connect") }); !slices.Equal(got, want) {
			r.Errorf("got\n%q\nwant\n%q", got, want)
		}
	})
}

// Row 7: a name that is looked up shows; a connection that is not kept says so,
// unless nobody asked for it to be.
func TestHooksOfLookupAndOfConnectionsNotKept(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") }))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, closing := range []bool{false, true} {
		var h heard
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), h.trace()), "GET", "http://localhost:"+port, nil)
		req.Close = closing
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := h.list()
		start, done := 1, 2
		if closing {
			start, done = -1, -1 // the second time the name is remembered
		}
		if slices.Index(got, "DNSStart localhost") != start || slices.Index(got, "DNSDone") != done {
			t.Errorf("lookup: %q", got)
		}
		if slices.Contains(got, "PutIdleConn not kept") == closing || slices.Contains(got, "PutIdleConn kept") {
			t.Errorf("request that closes %v: %q", closing, got)
		}
	}
}
