package berth_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/berth-go/berth"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Row 40: a registered protocol serves its scheme, http and https included; it may
// decline a request, which goes the usual way then with its whole body.
func TestRegisterProtocol(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	defer srv.Close()
	tr := &berth.Transport{}
	defer tr.Close()
	var asked []string
	serve := func(req *http.Request) (*http.Response, error) {
		asked = append(asked, req.URL.String())
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("alternative")), Request: req}, nil
	}
	tr.RegisterProtocol("file", roundTripper(serve))
	for range 2 {
		wantGet(t, tr, "file:///etc/motd", "alternative")
	}
	if !slices.Equal(asked, []string{"file:///etc/motd", "file:///etc/motd"}) {
		t.Errorf("asked %q", asked)
	}
	wantGet(t, tr, srv.URL, "")

	func() {
		defer func() {
			if recover() == nil {
				t.Error("registered twice without a panic")
			}
		}()
		tr.RegisterProtocol("file", roundTripper(serve))
	}()

	var read int
	tr.RegisterProtocol("http", roundTripper(func(req *http.Request) (*http.Response, error) {
		io.ReadFull(req.Body, make([]byte, read))
		return nil, http.ErrSkipAltProtocol
	}))
	post := func(body io.Reader) (string, error) {
		resp, err := tr.RoundTrip(newRequest(t, "POST", srv.URL, body))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	for read = range 5 {
		if got, err := post(strings.NewReader("body")); got != "body" || err != nil {
			t.Errorf("%d bytes read by who declined: %q, %v", read, got, err)
		}
	}
	read = 0
	if got, err := post(io.NopCloser(strings.NewReader("body"))); got != "body" || err != nil {
		t.Errorf("unread body without GetBody: %q, %v", got, err)
	}
	read = 1
	body := &closing{Reader: strings.NewReader("body")}
	if _, err := post(body); err == nil || !strings.Contains(err.Error(), "cannot rewind") || body.closed != 1 {
		t.Errorf("read body without GetBody: %v, closed %d times", err, body.closed)
	}
	if _, err := fetch(tr, "gopher://x"); err == nil || !strings.Contains(err.Error(), "unsupported protocol scheme") {
		t.Error(err)
	}
}

type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

// A unix URL names a socket and, behind a colon, the request's path. Sockets are
// endpoints like any other; their paths' spelling is kept.
func TestUnixSockets(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths with a drive letter have a colon")
	}
	dir := t.TempDir()
	sock := filepath.Join(dir, "App Server.sock")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	conns := 0
	srv := &http.Server{ErrorLog: discardLog, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns++
		}
	}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Method+" "+r.Host+" "+r.RequestURI)
	})}
	go srv.Serve(ln)
	defer srv.Close()

	tr := &berth.Transport{}
	defer tr.Close()
	u := "unix://" + strings.ReplaceAll(sock, " ", "%20")
	for path, want := range map[string]string{
		"":                       "GET localhost /",
		":/":                     "GET localhost /",
		":/v1/info?a=b&c=%20":    "GET localhost /v1/info?a=b&c=%20",
		":/a%2Fb/c:d":            "GET localhost /a%2Fb/c:d",
		":/no-host?":             "GET localhost /no-host",
		":/with/trailing/slash/": "GET localhost /with/trailing/slash/",
	} {
		wantGet(t, tr, u+path, want)
	}
	req := newRequest(t, "GET", u+":/x", nil)
	req.Host = "docker"
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "GET docker /x" || resp.Request != req {
		t.Errorf("%q", b)
	}
	resp.Body.Close()
	if conns != 1 {
		t.Errorf("%d connections", conns)
	}
	ep, err := tr.Endpoint(u + ":/x")
	if err != nil {
		t.Fatal(err)
	}
	if st := ep.Stats(); ep.String() != "unix://"+sock || st.Idle != 1 || st.Requests != 7 {
		t.Errorf("%s: %+v", ep, st)
	}

	for _, bad := range []string{"unix://host/sock", "unix://", "unix:///sock:relative", "unix:///%zz"} {
		if _, err := fetch(tr, bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	_, err = fetch(tr, "unix://"+filepath.Join(dir, "nobody.sock")+":/secret?token=1")
	if derr, is := errors.AsType[*berth.DialError](err); !is || !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "token") {
		t.Errorf("%v %v", derr, err)
	}
}
