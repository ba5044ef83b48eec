package berth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/berth-go/berth"
)

// A peer that floods, or breaks HTTP/2, fails its request with a *ProtocolError, in
// bounded memory and time, and its connection is not used again.
func TestHTTP2HostilePeers(t *testing.T) {
	endless := func(f func(c *h2conn, s *h2stream) error) func(*h2stream) {
		return func(s *h2stream) {
			for err := error(nil); err == nil; {
				select {
				case <-s.gone:
					return
				default:
				}
				s.c.write(func() { err = f(s.c, s) })
			}
		}
	}
	for name, serve := range map[string]func(*h2stream){
		"SETTINGS flood": endless(func(c *h2conn, s *h2stream) error { return c.fr.WriteSettings() }),
		"PING flood":     endless(func(c *h2conn, s *h2stream) error { return c.fr.WritePing(false, [8]byte{}) }),
		"PRIORITY flood": endless(func(c *h2conn, s *h2stream) error {
			return c.fr.WritePriority(s.id, http2.PriorityParam{StreamDep: 3})
		}),
		"unknown frames": endless(func(c *h2conn, s *h2stream) error { return c.fr.WriteRawFrame(0xbe, 0, s.id, nil) }),
		"CONTINUATION flood": func(s *h2stream) {
			s.c.write(func() {
				s.c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: s.c.block(":status", "200")})
			})
			endless(func(c *h2conn, s *h2stream) error {
				return c.fr.WriteContinuation(s.id, false, c.block("x-pad", strings.Repeat("y", 1000)))
			})(s)
		},
		"empty CONTINUATION flood": func(s *h2stream) {
			s.c.write(func() {
				s.c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: s.c.block(":status", "200")})
			})
			endless(func(c *h2conn, s *h2stream) error { return c.fr.WriteContinuation(s.id, false, nil) })(s)
		},
		"header bomb": func(s *h2stream) {
			// A long field put into the table once, then named by one byte each time.
			b := s.c.block(":status", "200", "x-bomb", strings.Repeat("b", 4000))
			s.c.write(func() {
				s.c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: append(b, strings.Repeat("\xbe", 10_000)...), EndHeaders: true})
			})
		},
		"1xx flood": func(s *h2stream) {
			endless(func(c *h2conn, s *h2stream) error {
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: c.block(":status", "103", "link", strings.Repeat("l", 500)), EndHeaders: true})
			})(s)
		},
		"small 1xx flood": func(s *h2stream) {
			endless(func(c *h2conn, s *h2stream) error {
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: c.block(":status", "103"), EndHeaders: true})
			})(s)
		},
		"no status":      func(s *h2stream) { s.head(true, "server", "none") },
		"bad status":     func(s *h2stream) { s.head(true, ":status", "abc") },
		"upper case":     func(s *h2stream) { s.head(true, ":status", "200", "X-Upper", "1") },
		"data first":     func(s *h2stream) { s.data(true, "no head") },
		"unknown stream": func(s *h2stream) { s.c.write(func() { s.c.fr.WriteData(99, true, []byte("x")) }) },
		"not HTTP/2":     func(s *h2stream) { s.c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"endless frame":  func(s *h2stream) { s.c.Write([]byte("\xff\xff\xff\x00\x00\x00\x00\x00\x01xxxx")) },
		"push": func(s *h2stream) {
			s.c.write(func() {
				s.c.fr.WritePushPromise(http2.PushPromiseParam{StreamID: s.id, PromiseID: 2, BlockFragment: s.c.block(":method", "GET"), EndHeaders: true})
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &h2peer{limit: 10}
			p.serve = func(s *h2stream) {
				if s.path == "/hostile" {
					serve(s)
				} else {
					s.answer(s.path)
				}
			}
			h2bubble(t, berth.Policy{ResponseHeaderTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10}, p, func(r *h2rig) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := r.do(r.Context(), "POST", "/hostile", nil)
				runtime.ReadMemStats(&after)
				if _, is := errors.AsType[*berth.ProtocolError](err); !is {
					r.Errorf("%T %v", err, err)
				}
				if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
					r.Errorf("%d MiB were allocated", got>>20)
				}
				r.get("/after")
				if s := r.stats(); s.Leased != 0 {
					r.Errorf("%+v", s)
				}
			})
		})
	}
}

// Floods while a body is read end it in the same way.
func TestHTTP2FloodWithinABody(t *testing.T) {
	p := &h2peer{limit: 10, serve: func(s *h2stream) {
		s.head(false, ":status", "200")
		for err := error(nil); err == nil; {
			s.c.write(func() { err = s.c.fr.WriteData(s.id, false, nil) })
		}
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		_, err := r.do(r.Context(), "GET", "/", nil)
		if _, is := errors.AsType[*berth.ProtocolError](err); !is {
			r.Errorf("%T %v", err, err)
		}
	})
}

// What a busy connection brings in the course of its life is no flood.
func TestHTTP2ManyControlFramesOfABusyServerAreNoFlood(t *testing.T) {
	p := &h2peer{limit: 10, serve: func(s *h2stream) {
		s.c.write(func() {
			s.c.fr.WritePing(false, [8]byte{1})
			s.c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10})
		})
		time.Sleep(50 * time.Millisecond)
		s.answer(s.path)
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for range 1000 {
			r.burst(10)
		}
		r.wantConns(1)
	})
}

// Over HTTP/2 too a response reaches no other request, whatever happens around it:
// streams cut at random by either side, bodies closed early, connections that go.
func TestHTTP2NoResponseReachesAnotherRequest(t *testing.T) {
	p := &h2peer{limit: 5}
	p.serve = func(s *h2stream) {
		body := s.text()
		if body != "" && body != "sent to "+s.path {
			s.answer("mixed up: " + body)
			return
		}
		n := len(s.path) * int(s.id)
		time.Sleep(time.Duration(n%7) * time.Millisecond)
		switch n % 11 {
		case 0:
			s.reset(http2.ErrCodeRefusedStream)
			return
		case 1:
			s.c.goAway(s.id, http2.ErrCodeNo)
		case 2:
			s.head(false, ":status", "200", "x-path", s.path)
			s.data(false, s.path)
			time.Sleep(time.Millisecond)
			s.reset(http2.ErrCodeCancel)
			return
		}
		s.head(false, ":status", "200", "x-path", s.path)
		for i := range 3 {
			time.Sleep(time.Duration(n%3) * time.Millisecond)
			s.data(i == 2, s.path)
		}
	}
	h2bubble(t, berth.Policy{MaxConns: 4}, p, func(r *h2rig) {
		var wg sync.WaitGroup
		for w := range 40 {
			wg.Go(func() {
				for i := range 100 {
					path := fmt.Sprintf("/%d-%d", w, i)
					ctx, cancel := context.WithTimeout(r.Context(), time.Duration(1+(w*31+i*17)%23)*time.Millisecond)
					req := newRequest(r.T, "POST", rigURL+path, strings.NewReader("sent to "+path)).WithContext(ctx)
					resp, err := r.tr.RoundTrip(req)
					if err == nil {
						if got := resp.Header.Get("X-Path"); got != path {
							r.Errorf("%s got the head of %q", path, got)
						}
						b, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(path)*(1+i%5))))
						if whole := strings.Repeat(path, 3); !strings.HasPrefix(whole, string(b)) {
							r.Errorf("%s got %q, %v", path, b, err)
						}
						resp.Body.Close()
					}
					cancel()
				}
			})
		}
		wg.Wait()
		if s := r.stats(); s.Leased != 0 || s.Waiting != 0 {
			r.Errorf("%+v", s)
		}
	})
}
