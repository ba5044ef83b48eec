package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/clients"
	"github.com/berth-go/berth/resilience"
)

// answers returns a RoundTripper that answers with these statuses in turn; 0 fails.
func answers(seen *[]*http.Request, statuses ...int) http.RoundTripper {
	return trip(func(req *http.Request) (*http.Response, error) {
		*seen = append(*seen, req)
		status := statuses[min(len(*seen), len(statuses))-1]
		if status == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return &http.Response{StatusCode: status, Header: http.Header{"Set-Cookie": {"s3cret"}, "X-Id": {"7"}}, Body: http.NoBody, Request: req}, nil
	})
}

func send(t *testing.T, rt http.RoundTripper, ctx context.Context, method string, header http.Header) error {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "https://me:s3cret@api.example/v1/a%2Fb?token=s3cret", nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	before := req.Header.Clone()
	resp, err := rt.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	if len(before) != len(req.Header) {
		t.Errorf("the request was changed: %v, was %v", req.Header, before)
	}
	return err
}

func TestIdempotencyKeyIsOneForAllAttempts(t *testing.T) {
	var seen []*http.Request
	retry, err := resilience.Retry{Delay: -1}.Handler()
	if err != nil {
		t.Fatal(err)
	}
	rt := clients.Chain(answers(&seen, 503, 200, 200, 200, 200), clients.IdempotencyKeys(), retry)
	for _, tc := range []struct {
		method string
		own    string
	}{{"POST", ""}, {"PATCH", ""}, {"GET", ""}, {"POST", "mine"}} {
		header := http.Header{}
		if tc.own != "" {
			header.Set("Idempotency-Key", tc.own)
		}
		if err := send(t, rt, t.Context(), tc.method, header); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for _, r := range seen {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
	}
	if len(keys) != 5 || len(keys[0]) != 32 || keys[0] != keys[1] || len(keys[2]) != 32 || keys[2] == keys[0] || keys[3] != "" || keys[4] != "mine" {
		t.Errorf("%q", keys)
	}
}

func TestPropagation(t *testing.T) {
	const parent, state = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "congo=t61rcWkgMzE"
	var seen []*http.Request
	rt := clients.Chain(answers(&seen, 200), clients.Propagate())
	var downstream http.Header
	upstream := clients.Receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := send(t, rt, r.Context(), "GET", downstream); err != nil {
			t.Error(err)
		}
	}))
	for _, tc := range []struct {
		name       string
		in, own    http.Header
		id         string // a pattern
		trace, tst string
	}{
		{name: "all of it", in: http.Header{"X-Correlation-Id": {"order-17"}, "Traceparent": {parent}, "Tracestate": {state}}, id: "^order-17$", trace: parent, tst: state},
		{name: "nothing", id: "^[0-9a-f]{32}$"},
		{name: "an identifier that is too long", in: http.Header{"X-Correlation-Id": {strings.Repeat("x", 129)}}, id: "^[0-9a-f]{32}$"},
		{name: "an identifier with a line end", in: http.Header{"X-Correlation-Id": {"a\r\nX-Admin: 1"}}, id: "^[0-9a-f]{32}$"},
		{name: "the request's own", in: http.Header{"X-Correlation-Id": {"order-17"}, "Traceparent": {parent}},
			own: http.Header{"X-Correlation-Id": {"mine"}, "Traceparent": {"own"}}, id: "^mine$", trace: "own"},
		{name: "zeros", in: http.Header{"Traceparent": {"00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, "Tracestate": {state}}, id: "."},
		{name: "upper case", in: http.Header{"Traceparent": {strings.ToUpper(parent)}}, id: "."},
		{name: "version 00 with more", in: http.Header{"Traceparent": {parent + "-x"}}, id: "."},
		{name: "a later version with more", in: http.Header{"Traceparent": {"cc" + parent[2:] + "-what"}}, id: ".", trace: "cc" + parent[2:] + "-what"},
		{name: "version ff", in: http.Header{"Traceparent": {"ff" + parent[2:]}}, id: "."},
	} {
		seen = nil
		downstream = tc.own
		req := httptest.NewRequest("GET", "/", nil)
		for k, v := range tc.in {
			req.Header[k] = v
		}
		upstream.ServeHTTP(httptest.NewRecorder(), req)
		got := seen[0].Header
		if !regexp.MustCompile(tc.id).MatchString(got.Get("X-Correlation-ID")) || got.Get("Traceparent") != tc.trace || got.Get("Tracestate") != tc.tst {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	seen = nil
	if err := send(t, rt, t.Context(), "GET", nil); err != nil || len(seen[0].Header) != 0 {
		t.Errorf("without a context's: %v, %v", seen[0].Header, err)
	}
}

// The log has the request once around the pipeline and each attempt once on the wire, and
// no secret at any level.
func TestLog(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelError} {
		var out bytes.Buffer
		l := clients.Log{Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level})), Client: "api", ShowHeaders: []string{"x-id", "Accept"}}
		wire := l
		wire.Wire = true
		retry, err := resilience.Retry{Delay: -1}.Handler()
		if err != nil {
			t.Fatal(err)
		}
		var seen []*http.Request
		rt := clients.Chain(answers(&seen, 503, 0, 200), l.Handler(), retry, wire.Handler())
		if err := send(t, rt, t.Context(), "GET", http.Header{"Authorization": {"s3cret"}, "Accept": {"text/plain"}}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "s3cret") {
			t.Errorf("a secret was logged:\n%s", &out)
		}
		var records []map[string]any
		for d := json.NewDecoder(&out); ; {
			var r map[string]any
			if err := d.Decode(&r); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if r["msg"] == "http request ended" {
				records = append(records, r)
			}
		}
		if level == slog.LevelError {
			if len(records) != 0 {
				t.Errorf("%v", records)
			}
			continue
		}
		if len(records) != 4 {
			t.Fatalf("%d records", len(records))
		}
		for i, want := range []struct {
			place   string
			attempt any
			status  any
			kind    any
		}{{"wire", 1.0, 503.0, "503"}, {"wire", 2.0, nil, "errors.errorString"}, {"wire", 3.0, 200.0, nil}, {"pipeline", nil, 200.0, nil}} {
			r := records[i]
			if r["place"] != want.place || r["attempt"] != want.attempt || r["status"] != want.status || r["error.type"] != want.kind ||
				r["client"] != "api" || r["url"] != "https://api.example/v1/a%2Fb" || r["duration"] == nil {
				t.Errorf("record %d: %v", i, r)
			}
			header, _ := r["response.header"].(map[string]any)
			if debug := level == slog.LevelDebug && want.status != nil; debug && (header["X-Id"] != "7" || header["Set-Cookie"] != "*") || !debug && header != nil {
				t.Errorf("record %d: header %v", i, header)
			}
		}
	}
}

// C65: what the log, and telemetry, call an outcome.
func TestC65ErrorType(t *testing.T) {
	response := func(status int) *http.Response { return &http.Response{StatusCode: status} }
	for _, tc := range []struct {
		resp *http.Response
		err  error
		want string
	}{
		{response(200), nil, ""}, {response(302), nil, ""}, {response(404), nil, "404"}, {response(503), nil, "503"},
		{nil, context.Canceled, "canceled"}, {nil, context.DeadlineExceeded, "timeout"},
		{nil, &berth.DialError{Err: io.EOF}, "berth.DialError"}, {nil, &berth.ServerClosedError{}, "berth.ServerClosedError"},
		{nil, &resilience.TimeoutError{After: time.Second, Err: context.DeadlineExceeded}, "resilience.TimeoutError"},
		{nil, &wrapping{&berth.ClosedError{}}, "berth.ClosedError"},
	} {
		if got := clients.ErrorType(tc.resp, tc.err); got != tc.want {
			t.Errorf("%v, %v: %q, want %q", tc.resp, tc.err, got, tc.want)
		}
	}
}

type wrapping struct{ err error }

func (w *wrapping) Error() string { return "wrapped" }
func (w *wrapping) Unwrap() error { return w.err }

// C66: a redirect is two requests, to the log as to telemetry.
func TestC66RedirectIsTwoRequests(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a" {
			http.Redirect(w, r, "/b?token=s3cret", http.StatusFound)
		}
	})
	var out bytes.Buffer
	reg, _ := registry(t, clients.Config{Logger: slog.New(slog.NewTextHandler(&out, nil)), Clients: map[string]clients.Settings{"x": {Log: true}}})
	get(t, reg.MustClient("x"), url+"/a")
	if n := strings.Count(out.String(), "place=pipeline"); n != 2 || strings.Count(out.String(), "place=wire") != 2 || strings.Contains(out.String(), "s3cret") {
		t.Errorf("%d records around the pipeline:\n%s", n, &out)
	}
}

// CloseIdleConnections reaches the transport through handlers that never heard of it.
func TestChainForwards(t *testing.T) {
	inner := &counter{}
	blind := func(next http.RoundTripper) http.RoundTripper { return trip(next.RoundTrip) }
	rt := clients.Chain(inner, blind, clients.Propagate(), blind)
	(&http.Client{Transport: rt}).CloseIdleConnections()
	if inner.n != 1 {
		t.Errorf("reached it %d times", inner.n)
	}
	if u, ok := rt.(interface{ Unwrap() http.RoundTripper }); !ok || u.Unwrap() != http.RoundTripper(inner) {
		t.Error("Unwrap does not return it")
	}
	for name, h := range map[string]clients.Handler{"propagate": clients.Propagate(), "header": clients.DefaultHeader(http.Header{}), "key": clients.IdempotencyKeys(),
		"log": clients.Log{Logger: slog.New(slog.DiscardHandler)}.Handler()} {
		inner.n = 0
		(&http.Client{Transport: h(inner)}).CloseIdleConnections()
		if inner.n != 1 {
			t.Errorf("%s: reached it %d times", name, inner.n)
		}
	}
}

type counter struct{ n int }

func (c *counter) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no") }
func (c *counter) CloseIdleConnections()                           { c.n++ }
