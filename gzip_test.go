package berth_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

func zipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// zipServer answers with body in gzip when it is asked for, by any of the usual
// framings.
func zipServer(t *testing.T, body []byte, proto string) (*httptest.Server, berth.Config) {
	return serveZip(t, body, zipped(body), proto)
}

func serveZip(t *testing.T, body, z []byte, proto string) (*httptest.Server, berth.Config) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Asked", r.Header.Get("Accept-Encoding"))
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Write(body)
			return
		}
		w.Header().Set("Content-Encoding", r.URL.Query().Get("as"))
		if r.URL.Query().Get("as") == "" {
			w.Header().Set("Content-Encoding", "gzip")
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(z)))
		}
		w.Write(z)
		if r.URL.Path == "/flush" {
			w.(http.Flusher).Flush()
		}
	}))
	cfg := berth.Config{}
	if proto == "HTTP/2" {
		s.EnableHTTP2 = true
		s.StartTLS()
		cfg.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, cfg
}

// Row 27: gzip is asked for and undone, when the caller leaves codings to the
// transport, and only then.
func TestGzipIsTransparent(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			text := bytes.Repeat([]byte("hello gzip "), 10_000)
			s, cfg := zipServer(t, text, protocol)
			tr := mustNew(t, cfg)
			off := cfg
			off.DisableCompression = true
			without := mustNew(t, off)
			for _, c := range []struct {
				name   string
				tr     http.RoundTripper
				method string
				path   string
				change func(http.Header)
				undone bool
				asked  string
			}{
				{"default", tr, "GET", "/", nil, true, "gzip"},
				{"with a length", tr, "GET", "/length", nil, true, "gzip"},
				{"flushed", tr, "POST", "/flush", nil, true, "gzip"},
				{"upper case", tr, "GET", "/?as=GZip", nil, true, "gzip"},
				{"another coding", tr, "GET", "/?as=br", nil, false, "gzip"},
				{"asked for by the caller", tr, "GET", "/", func(h http.Header) { h.Set("Accept-Encoding", "gzip") }, false, "gzip"},
				{"declined by the caller", tr, "GET", "/", func(h http.Header) { h.Set("Accept-Encoding", "identity") }, false, "identity"},
				{"range", tr, "GET", "/", func(h http.Header) { h.Set("Range", "bytes=0-9") }, false, ""},
				{"HEAD", tr, "HEAD", "/length", nil, false, ""},
				{"switched off", without, "GET", "/", nil, false, ""},
			} {
				t.Run(c.name, func(t *testing.T) {
					req := newRequest(t, c.method, s.URL+c.path, nil)
					if c.change != nil {
						c.change(req.Header)
					}
					resp, err := c.tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil {
						t.Fatal(err)
					}
					if got := resp.Header.Get("X-Asked"); got != c.asked {
						t.Errorf("Accept-Encoding was %q, want %q", got, c.asked)
					}
					if resp.Uncompressed != c.undone {
						t.Errorf("Uncompressed is %v", resp.Uncompressed)
					}
					if c.undone && (!bytes.Equal(b, text) || resp.ContentLength != -1 || resp.Header.Get("Content-Encoding")+resp.Header.Get("Content-Length") != "") {
						t.Errorf("%d bytes, length %d, %v", len(b), resp.ContentLength, resp.Header)
					}
					if len(req.Header) > 0 != (c.change != nil) {
						t.Errorf("the request was changed: %v", req.Header)
					}
				})
			}
		})
	}
}

// Row 27: a connection is kept whose response was in gzip: read to its end, closed
// before, or not gzip at all.
func TestGzipKeepsItsConnection(t *testing.T) {
	text := bytes.Repeat([]byte("hello gzip "), 1000)
	s, cfg := zipServer(t, text, "HTTP/1.1")
	cfg.Policy.DrainTimeout = guard // a busy machine is slow, not wrong
	tr := mustNew(t, cfg)
	for _, read := range []int{len(text) * 2, 0, 10, len(text)} {
		for _, path := range []string{"/", "/length", "/flush"} {
			if path == "/flush" && read <= len(text) {
				continue // of a chunked body only the rest that has arrived is read away
			}
			resp, err := tr.RoundTrip(newRequest(t, "GET", s.URL+path, nil))
			if err != nil {
				t.Fatal(err)
			}
			io.CopyN(io.Discard, resp.Body, int64(read))
			resp.Body.Close()
			if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("read after close: %v", err)
			}
		}
	}
	ep, _ := tr.Endpoint(s.URL)
	if st := ep.Stats(); st.Dials.OK != 1 {
		t.Errorf("%d connections", st.Dials.OK)
	}
}

// What is no gzip, or ends too soon, is an error of the body; the response's head
// stands.
func TestGzipThatIsBroken(t *testing.T) {
	z := zipped([]byte(strings.Repeat("text ", 1000)))
	flipped := bytes.Clone(z)
	flipped[len(flipped)-6] ^= 1 // the checksum
	for name, body := range map[string][]byte{"empty": {}, "plain": []byte("plain text, not gzip"), "short": z[:len(z)/2], "checksum": flipped} {
		t.Run(name, func(t *testing.T) {
			bubble(t, berth.Policy{}, origin.Serve("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+string(body)), func(r *rig) {
				resp, err := r.tr.RoundTrip(r.request(r.Context(), "GET", "/", nil))
				if err != nil {
					r.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if name == "empty" {
					if len(b) > 0 {
						r.Errorf("read %q", b)
					}
				} else if err == nil {
					r.Errorf("no error, read %d bytes", len(b))
				}
				_, again := resp.Body.Read(make([]byte, 1))
				if name != "empty" && again != err {
					r.Errorf("first %v, then %v", err, again)
				}
				resp.Body.Close()
			})
		})
	}
}

// A body that is closed while it is read ends that read, and nothing races.
func TestGzipClosedWhileItIsRead(t *testing.T) {
	s, cfg := zipServer(t, bytes.Repeat([]byte("x"), 4<<20), "HTTP/1.1")
	cfg.Policy.MaxInflateRatio = -1
	tr := mustNew(t, cfg)
	for range 20 {
		resp, err := tr.RoundTrip(newRequest(t, "GET", s.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, resp.Body) })
		wg.Go(func() { resp.Body.Close() })
		wg.Wait()
	}
}

// Decompression bombs end in a typed error, in bounded memory, and take their
// connection with them: by ratio, by size, and nested in themselves.
func TestDecompressionBombs(t *testing.T) {
	const large, short = 24 << 20, 8 << 20
	z := map[int][]byte{large: zipped(make([]byte, large)), short: zipped(make([]byte, short))}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		for name, c := range map[string]struct {
			policy berth.Policy
			body   int    // zeros
			limit  string // "" passes
			least  int64  // that is let through
		}{
			"ratio":              {berth.Policy{}, large, "MaxInflateRatio, 250", 8 << 20},
			"ratio of choice":    {berth.Policy{MaxInflateRatio: 20}, large, "MaxInflateRatio, 20", 8 << 20},
			"ratio off":          {berth.Policy{MaxInflateRatio: -1}, large, "", 24 << 20},
			"size":               {berth.Policy{MaxInflatedBytes: 10_000, MaxInflateRatio: -1}, large, "MaxInflatedBytes, 10000", 0},
			"short ones pass":    {berth.Policy{}, short, "", 8 << 20},
			"as large as it may": {berth.Policy{MaxInflatedBytes: short}, short, "", 1 << 20},
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				s, cfg := serveZip(t, nil, z[c.body], protocol)
				cfg.Policy = c.policy
				tr := mustNew(t, cfg)
				resp, err := tr.RoundTrip(newRequest(t, "GET", s.URL, nil))
				if err != nil {
					t.Fatal(err)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				n, err := io.Copy(io.Discard, resp.Body)
				runtime.ReadMemStats(&after)
				resp.Body.Close()
				if n < c.least {
					t.Errorf("%d bytes were let through, want at least %d", n, c.least)
				}
				if after.TotalAlloc-before.TotalAlloc > 8<<20 {
					t.Errorf("%d MiB allocated", (after.TotalAlloc-before.TotalAlloc)>>20)
				}
				if c.limit == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				bomb, is := errors.AsType[*berth.InflateError](err)
				if !is || bomb.Limit != c.limit || bomb.Code() != "BERTH1016" || bomb.Out < n {
					t.Errorf("%v", err)
				}
			})
		}
	}
}
