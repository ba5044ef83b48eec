package berth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/berth-go/berth"
)

// slowly answers after a while, with the path.
func slowly(d time.Duration) func(*h2stream) {
	return func(s *h2stream) {
		select {
		case <-time.After(d):
			s.answer(s.path)
		case <-s.gone:
		}
	}
}

// C51: a burst at a new server waits for the first connection, and
// opens as many as the server's limit asks for, no more.
func TestHTTP2BurstOpensAsManyConnectionsAsTheStreamLimitAsksFor(t *testing.T) {
	for _, c := range []struct{ requests, limit, conns int }{
		{1, 100, 1}, {100, 100, 1}, {100, 0, 1}, {20, 2, 10}, {101, 100, 2}, {500, 2, 250}, {500, 100, 5},
	} {
		t.Run(fmt.Sprintf("%d at %d", c.requests, c.limit), func(t *testing.T) {
			h2bubble(t, berth.Policy{}, &h2peer{limit: uint32(c.limit), serve: slowly(time.Second)}, func(r *h2rig) {
				r.net.OnDial = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
				start := time.Now()
				r.burst(c.requests)
				if took := time.Since(start); took > 1200*time.Millisecond {
					r.Errorf("took %v: requests waited for a stream", took)
				}
				r.wantConns(c.conns)
				if most := r.p.peak(); c.limit > 0 && most > c.limit {
					r.Errorf("%d streams at once, the peer allows %d", most, c.limit)
				}
			})
		})
	}
}

// C53: a request for which no stream is free opens a connection at once; it does not wait
// for another request's end.
func TestHTTP2NextConnectionIsOpenedBeforeARequestWaits(t *testing.T) {
	h2bubble(t, berth.Policy{}, &h2peer{limit: 2, serve: slowly(time.Hour)}, func(r *h2rig) {
		ctx, cancel := context.WithCancel(r.Context())
		var wg sync.WaitGroup
		for i, conns := range []int{1, 1, 2, 2, 3} {
			wg.Go(func() { r.do(ctx, "GET", "/", nil) })
			synctest.Wait()
			if s := r.stats(); s.Leased != conns || s.Waiting != 0 {
				r.Errorf("after request %d: %d connections, %d requests wait; want %d and none", i+1, s.Leased, s.Waiting, conns)
			}
		}
		cancel()
		wg.Wait()
	})
}

// C52: MaxConns times the server's limit is what runs at once; the rest waits its turn.
func TestHTTP2RequestsBeyondMaxConnsWait(t *testing.T) {
	h2bubble(t, berth.Policy{MaxConns: 2}, &h2peer{limit: 5, serve: slowly(time.Second)}, func(r *h2rig) {
		start := time.Now()
		r.burst(30)
		if took := time.Since(start); took != 3*time.Second {
			r.Errorf("30 requests, 10 at once: took %v", took)
		}
		r.wantConns(2)
		if most := r.p.peak(); most != 5 {
			r.Errorf("%d streams at once, want 5", most)
		}
	})
}

// Policy.MaxStreamsPerConn is kept below what the server allows.
func TestHTTP2MaxStreamsPerConn(t *testing.T) {
	h2bubble(t, berth.Policy{MaxStreamsPerConn: 3}, &h2peer{limit: 100, serve: slowly(time.Second)}, func(r *h2rig) {
		r.net.OnDial = func(context.Context, string) error { time.Sleep(500 * time.Millisecond); return nil }
		start := time.Now()
		r.burst(9)
		r.wantConns(3)
		if took := time.Since(start); took != 1500*time.Millisecond {
			r.Errorf("took %v: dials waited for each other", took)
		}
		if most := r.p.peak(); most != 3 {
			r.Errorf("%d streams at once, want 3", most)
		}
	})
}

// A server that lowers its limit gets no stream beyond it; one that raises it
// gets more.
func TestHTTP2LimitThatChangesIsKeptTo(t *testing.T) {
	h2bubble(t, berth.Policy{MaxConns: 1}, &h2peer{limit: 10, serve: slowly(time.Second)}, func(r *h2rig) {
		r.burst(10)
		c := r.p.all()[0]
		for _, limit := range []int{3, 20, 1, 0, 7} {
			c.settings(uint32(limit))
			if limit == 0 { // no limit is not zero: say zero
				c.write(func() { c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0}) })
			}
			c.look(func() { c.peak = 0 })
			if limit == 0 {
				ctx, cancel := context.WithTimeout(r.Context(), time.Second)
				if _, err := r.do(ctx, "GET", "/", nil); !errors.Is(err, context.DeadlineExceeded) {
					r.Errorf("server that takes no stream: %v", err)
				}
				cancel()
				continue
			}
			start := time.Now()
			r.burst(20)
			if took, want := time.Since(start), time.Duration((20+limit-1)/limit)*time.Second; took != want {
				r.Errorf("limit %d: 20 requests took %v, want %v", limit, took, want)
			}
			if most := r.p.peak(); most != limit {
				r.Errorf("limit %d: %d streams at once", limit, most)
			}
		}
		r.wantConns(1)
	})
}

// A limit that is lowered while more streams are open lets those finish.
func TestHTTP2LimitLoweredBelowWhatRuns(t *testing.T) {
	h2bubble(t, berth.Policy{MaxConns: 1}, &h2peer{limit: 10, serve: slowly(time.Second)}, func(r *h2rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.burst(10) })
		synctest.Wait()
		c := r.p.all()[0]
		c.settings(2)
		synctest.Wait()
		start := time.Now()
		wg.Go(func() { r.burst(4) })
		wg.Wait()
		if took := time.Since(start); took != 3*time.Second {
			r.Errorf("took %v, want 3s: 10 at once, then 2 and 2", took)
		}
		r.wantConns(1)
	})
}

// SETTINGS that come late hold further requests back, and fail none.
func TestHTTP2LateSettings(t *testing.T) {
	p := &h2peer{serve: slowly(10 * time.Millisecond), greet: func(c *h2conn) {
		c.p.wg.Go(func() {
			time.Sleep(2 * time.Second)
			c.settings(4)
		})
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		r.burst(8)
		if most := r.p.peak(); most > 4 {
			r.Errorf("%d streams at once, the peer allows 4", most)
		}
		if n := len(r.p.all()); n > 8 {
			r.Errorf("%d connections for 8 requests", n)
		}
	})
}

// A server that never sends SETTINGS fails its requests with an error, in bounded
// time, and leaves nothing behind.
func TestHTTP2SettingsThatNeverCome(t *testing.T) {
	h2bubble(t, berth.Policy{}, &h2peer{serve: func(*h2stream) {}, greet: func(*h2conn) {}}, func(r *h2rig) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := r.do(r.Context(), "POST", "/", strings.NewReader("x")); err == nil {
					r.Error("no error")
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took > 5*time.Minute {
			r.Errorf("took %v", took)
		}
	})
}

// C56: GOAWAY costs no request: those in flight finish, those that the server did
// not look at go to another connection, whatever their method.
func TestHTTP2GoAwayFailsNoRequest(t *testing.T) {
	var once sync.Once
	p := &h2peer{limit: 100}
	p.serve = func(s *h2stream) {
		body := s.text()
		if s.c.nth == 0 && s.id == 5 {
			once.Do(func() { s.c.goAway(5, http2.ErrCodeNo) })
		}
		if s.c.nth == 0 && s.id > 5 {
			return // not looked at
		}
		time.Sleep(time.Second)
		s.answer(s.path + body)
	}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		r.do(r.Context(), "GET", "/first", nil) // so that the limit is known
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				path := fmt.Sprintf("/%d", i)
				got, err := r.do(r.Context(), "POST", path, strings.NewReader(" with body"))
				if err != nil || got != path+" with body" {
					r.Errorf("POST %s: %q, %v", path, got, err)
				}
			})
		}
		wg.Wait()
		r.wantConns(2)
		if s := r.stats(); s.Draining != 0 || s.Idle != 1 {
			r.Errorf("%+v", s)
		}
	})
}

// C55: a connection that goes away takes no further request, also while it still
// finishes what it has.
func TestHTTP2ConnectionThatGoesAwayGetsNoRequest(t *testing.T) {
	h2bubble(t, berth.Policy{}, &h2peer{limit: 100, serve: slowly(10 * time.Second)}, func(r *h2rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.get("/old") })
		synctest.Wait()
		r.p.all()[0].goAway(1, http2.ErrCodeNo)
		synctest.Wait()
		if s := r.stats(); s.Draining != 1 {
			r.Errorf("the connection does not drain: %+v", s)
		}
		wg.Go(func() { r.get("/new") })
		wg.Wait()
		r.wantConns(2)
	})
}

// C56: REFUSED_STREAM is tried again, whatever the method, its body sent anew.
func TestHTTP2RefusedStreamIsTriedAgain(t *testing.T) {
	var mu sync.Mutex
	tries := map[string]int{}
	p := &h2peer{limit: 100, serve: func(s *h2stream) {
		body := s.text()
		mu.Lock()
		tries[s.path]++
		n := tries[s.path]
		mu.Unlock()
		if n < 4 {
			s.reset(http2.ErrCodeRefusedStream)
			return
		}
		s.answer(s.path + body)
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for i := range 5 {
			path := fmt.Sprintf("/%d", i)
			if got, err := r.do(r.Context(), "POST", path, strings.NewReader("body")); err != nil || got != path+"body" {
				r.Errorf("%q, %v", got, err)
			}
		}
		r.wantConns(1)
	})
}

// A server that refuses every stream is asked ever more slowly, until the context
// ends the request.
func TestHTTP2ServerThatRefusesEverything(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) { s.reset(http2.ErrCodeRefusedStream) }}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		_, err := r.do(ctx, "GET", "/", nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			r.Errorf("%v", err)
		}
		c := r.p.all()[0]
		c.look(func() {
			if c.requests > 40 {
				r.Errorf("asked %d times in 10 s", c.requests)
			}
		})
		_, err = r.do(r.Context(), "GET", "/", nil)
		var stream *berth.StreamError
		if !errors.As(err, &stream) || stream.ErrorCode != 7 || !berth.NotSent(err) {
			r.Errorf("without a deadline: %v", err)
		}
	})
}

// A stream that the server resets for another reason is the caller's error, with
// its code, and leaves the connection to the others.
func TestHTTP2ResetStream(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) {
		switch s.path {
		case "/early":
			s.reset(http2.ErrCodeEnhanceYourCalm)
		case "/late":
			s.head(false, ":status", "200")
			s.data(false, "some")
			s.reset(http2.ErrCodeInternal)
		default:
			s.answer(s.path)
		}
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for path, code := range map[string]uint32{"/early": 11, "/late": 2} {
			got, err := r.do(r.Context(), "GET", path, nil)
			var stream *berth.StreamError
			if !errors.As(err, &stream) || stream.ErrorCode != code || stream.Code() != "BERTH1015" || berth.NotSent(err) {
				r.Errorf("%s: %v", path, err)
			}
			var theirs http2.StreamError
			if !errors.As(err, &theirs) || theirs.Code != http2.ErrCode(code) {
				r.Errorf("%s: no http2.StreamError within %v", path, err)
			}
			if path == "/late" && got != "some" {
				r.Errorf("body before the reset: %q", got)
			}
		}
		r.get("/after")
		r.wantConns(1)
	})
}

// C58, C60: a peer that is dead without a word is found by a ping, on
// connections that are idle, in use, full and draining; what can be sent again is.
func TestHTTP2DeadPeerIsFoundByPing(t *testing.T) {
	for _, state := range []string{"idle", "in use", "full", "draining"} {
		t.Run(state, func(t *testing.T) {
			p := &h2peer{limit: 2}
			p.serve = func(s *h2stream) {
				if s.path == "/hang" && s.c.nth == 0 {
					return
				}
				s.answer(s.path)
			}
			p.deafPing = true
			h2bubble(t, berth.Policy{IdleTimeout: -1, Lifetime: -1}, p, func(r *h2rig) {
				r.get("/")
				var wg sync.WaitGroup
				hanging := map[string]int{"in use": 1, "full": 2, "draining": 1}[state]
				for range hanging {
					wg.Go(func() { r.get("/hang") })
				}
				synctest.Wait()
				if state == "draining" {
					r.p.all()[0].goAway(1<<31-1, http2.ErrCodeNo)
				}
				start := time.Now()
				if state == "idle" {
					time.Sleep(time.Minute)
				}
				wg.Wait()
				if took := time.Since(start); state != "idle" && took > 46*time.Second {
					r.Errorf("found after %v, want 30 s + 15 s", took)
				}
				if s := r.stats(); state == "idle" && s.Idle != 0 {
					r.Errorf("the dead connection is kept: %+v", s)
				}
			})
		})
	}
}

// C59: a peer that answers pings is kept, however long it takes to answer a request.
func TestHTTP2SlowPeerThatLivesIsKept(t *testing.T) {
	h2bubble(t, berth.Policy{}, &h2peer{limit: 2, serve: slowly(5 * time.Minute)}, func(r *h2rig) {
		r.get("/")
		r.wantConns(1)
		c := r.p.all()[0]
		c.look(func() {
			if c.pings < 9 {
				r.Errorf("%d pings in five minutes", c.pings)
			}
		})
	})
}

// A server that greets every connection with GOAWAY is backed off, not stormed.
func TestHTTP2ServerThatTurnsEverybodyAway(t *testing.T) {
	p := &h2peer{greet: func(c *h2conn) {
		c.settings(100)
		c.goAway(0, http2.ErrCodeEnhanceYourCalm)
	}, serve: func(*h2stream) {}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := r.do(ctx, "GET", "/", nil); err == nil {
						r.Error("no error")
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := len(r.p.all()); n > 100 {
			r.Errorf("100 clients dialled %d times in 30 s", n)
		}
	})
}

// One GOAWAY per so many requests is how some servers end connections: no failure.
func TestHTTP2ServerThatRetiresConnectionsAllTheTime(t *testing.T) {
	p := &h2peer{limit: 10}
	p.serve = func(s *h2stream) {
		if s.id >= 7 {
			if s.id == 7 {
				s.c.goAway(7, http2.ErrCodeNo)
			} else {
				return
			}
		}
		s.answer(s.path)
	}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for range 20 {
			r.burst(10)
		}
	})
}

// C06: lifetime retires an HTTP/2 connection as one of HTTP/1.1: no request fails, the
// next goes elsewhere, the connection closes when its last stream has ended.
func TestHTTP2LifetimeAndIdleTimeout(t *testing.T) {
	h2bubble(t, berth.Policy{Lifetime: 10 * time.Second, IdleTimeout: 5 * time.Second}, &h2peer{limit: 10, serve: slowly(time.Second)}, func(r *h2rig) {
		for range 30 { // a request always runs
			r.burst(3)
		}
		if n := len(r.p.all()); n < 3 || n > 5 {
			r.Errorf("%d connections in 30 s with a lifetime of 10 s", n)
		}
		time.Sleep(6 * time.Second)
		s := r.stats()
		if s.Idle != 0 || s.Closes["idle"] != 1 || s.Closes["lifetime"] < 2 {
			r.Errorf("%+v", s)
		}
		if s.Requests != 90 || s.Reused != 90-uint64(len(r.p.all())) {
			r.Errorf("%d requests, %d on a connection that had carried one", s.Requests, s.Reused)
		}
	})
}

// C54: an idle connection is closed though another one of its endpoint is busy.
func TestHTTP2IdleTimeoutIsEachConnectionsOwn(t *testing.T) {
	p := &h2peer{limit: 1, serve: func(s *h2stream) {
		if s.path == "/long" {
			time.Sleep(time.Minute)
		}
		s.answer(s.path)
	}}
	h2bubble(t, berth.Policy{IdleTimeout: 5 * time.Second}, p, func(r *h2rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.get("/long") })
		synctest.Wait()
		r.get("/short")
		time.Sleep(6 * time.Second)
		if s := r.stats(); s.Idle != 0 || s.Leased != 1 || s.Closes["idle"] != 1 {
			r.Errorf("%+v", s)
		}
		wg.Wait()
		r.wantConns(2)
	})
}

// PROTOCOL_ERROR may be how a server resets what came too late: what may be sent
// twice is, a few times, and nothing else.
func TestHTTP2ProtocolErrorIsTriedAFewTimes(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) { s.text(); s.reset(http2.ErrCodeProtocol) }}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		sent := 0
		for method, times := range map[string]int{"GET": 3, "POST": 1} {
			_, err := r.do(r.Context(), method, "/", strings.NewReader("body"))
			if reset, is := errors.AsType[*berth.StreamError](err); !is || reset.ErrorCode != 1 || berth.NotSent(err) {
				r.Errorf("%s: %v", method, err)
			}
			sent += times
		}
		got := 0
		for _, c := range r.p.all() {
			c.look(func() { got += c.requests })
		}
		if got != sent {
			r.Errorf("%d requests were sent, want %d", got, sent)
		}
	})
}

// A request that brings its connection down each time is sent three times, and the
// connections of others do not suffer from it for ever; one that may not be sent twice
// is sent once.
func TestHTTP2RequestThatKillsItsConnection(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) {
		if s.path == "/kill" {
			s.c.Close()
			return
		}
		s.answer(s.path)
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for method, times := range map[string]int{"GET": 3, "POST": 1} {
			r.get("/before")
			before := len(r.p.all())
			if _, err := r.do(r.Context(), method, "/kill", nil); !errors.Is(err, io.ErrUnexpectedEOF) {
				r.Errorf("%s: %v", method, err)
			}
			if n := len(r.p.all()) - before + 1; n != times {
				r.Errorf("%s: sent on %d connections, want %d", method, n, times)
			}
			time.Sleep(5 * time.Second)
		}
		r.get("/after")
	})
}

// Row 11 over HTTP/2: a body that is not as long as it says fails its request, by
// the same error as over HTTP/1.1, and no other.
func TestHTTP2BodyThatIsNotAsLongAsItSays(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) {
		s.text()
		select {
		case <-s.gone:
		default:
			s.answer(s.path)
		}
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for _, length := range []int64{1, 3, 5, 1000} {
			req := newRequest(r.T, "POST", rigURL, io.NopCloser(strings.NewReader("body")))
			req.ContentLength = length
			_, err := r.tr.RoundTrip(req)
			if _, is := errors.AsType[*berth.RequestError](err); !is || !strings.Contains(err.Error(), fmt.Sprintf("ContentLength=%d with Body length", length)) {
				r.Errorf("length %d: %v", length, err)
			}
		}
		if _, err := r.do(r.Context(), "POST", "/", io.MultiReader(strings.NewReader("body"), failing{})); !errors.Is(err, errFailing) {
			r.Errorf("a body that fails: %v", err)
		}
		r.get("/after")
		r.wantConns(1)
	})
}

// C25: while dials to an HTTP/2 server fail they are made one at a time, however
// many requests wait.
func TestHTTP2DialsThatFailAreMadeOneAtATime(t *testing.T) {
	h2bubble(t, berth.Policy{}, &h2peer{limit: 100}, func(r *h2rig) {
		dialling, most := 0, 0
		r.net.OnDial = func(context.Context, string) error {
			dialling++
			most = max(most, dialling)
			time.Sleep(time.Second)
			dialling--
			return errors.New("no route")
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := r.do(r.Context(), "GET", "/", nil); err == nil {
					r.Error("no error")
				}
			})
		}
		wg.Wait()
		if most != 1 {
			r.Errorf("%d dials at once", most)
		}
		r.net.OnDial = nil
	})
}

// A cancelled request resets its stream and leaves the connection to the others.
func TestHTTP2CancelledRequestCostsOneStream(t *testing.T) {
	p := &h2peer{limit: 2, serve: func(s *h2stream) {
		if s.path == "/hang" {
			s.head(false, ":status", "200")
			s.data(false, "x")
			return
		}
		s.answer(s.path)
	}}
	h2bubble(t, berth.Policy{MaxConns: 1}, p, func(r *h2rig) {
		for range 20 {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			if _, err := r.do(ctx, "GET", "/hang", nil); err != context.DeadlineExceeded {
				r.Errorf("%v", err)
			}
			cancel()
			r.get("/after")
		}
		r.wantConns(1)
		c := r.p.all()[0]
		c.look(func() {
			if len(c.resets) != 20 {
				r.Errorf("%d streams were reset, want 20", len(c.resets))
			}
		})
	})
}

// A body that is closed unread gives its stream back.
func TestHTTP2BodyClosedUnread(t *testing.T) {
	p := &h2peer{limit: 1, serve: func(s *h2stream) {
		s.head(false, ":status", "200")
		s.data(false, "more to come")
	}}
	h2bubble(t, berth.Policy{MaxConns: 1}, p, func(r *h2rig) {
		for range 10 {
			resp, err := r.tr.RoundTrip(newRequest(r.T, "GET", rigURL, nil))
			if err != nil {
				r.Fatal(err)
			}
			resp.Body.Close()
			if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
				r.Errorf("read after close: %v", err)
			}
		}
		r.wantConns(1)
	})
}

// Shutdown serves what runs; Close ends what waits.
func TestHTTP2ShutdownAndClose(t *testing.T) {
	h2bubble(t, berth.Policy{MaxConns: 1}, &h2peer{limit: 1, serve: slowly(time.Second)}, func(r *h2rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.get("/runs") })
		synctest.Wait()
		wg.Go(func() { r.get("/waits") })
		synctest.Wait()
		if err := r.tr.Shutdown(r.Context()); err != nil {
			r.Error(err)
		}
		wg.Wait()
		if _, err := r.do(r.Context(), "GET", "/", nil); !errors.Is(err, berth.ErrClosed) {
			r.Errorf("%v", err)
		}
	})
}

// A connection that may carry few requests is not expected to carry more: a burst
// opens as many as it needs at once, over HTTP/2 too.
func TestHTTP2ConnectionsOfFewRequests(t *testing.T) {
	for name, c := range map[string]struct {
		policy berth.Policy
		conns  int
	}{
		"one":  {berth.Policy{DisableKeepAlives: true}, 20},
		"four": {berth.Policy{MaxRequestsPerConn: 4}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			h2bubble(t, c.policy, &h2peer{limit: 100, serve: slowly(time.Second)}, func(r *h2rig) {
				r.net.OnDial = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
				for range 2 {
					start := time.Now()
					before := len(r.p.all())
					r.burst(20)
					if took := time.Since(start); took > 1200*time.Millisecond {
						r.Errorf("took %v: dials waited for each other", took)
					}
					if n := len(r.p.all()) - before; n != c.conns {
						r.Errorf("%d connections, want %d", n, c.conns)
					}
				}
			})
		})
	}
}

// A request that closes its connection lets the others on it finish.
func TestHTTP2RequestThatCloses(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) {
		if s.path == "/long" {
			time.Sleep(time.Second)
		}
		s.answer(s.path)
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.get("/long") })
		synctest.Wait()
		req := newRequest(r.T, "GET", rigURL+"/closing", nil)
		req.Close = true
		resp, err := r.tr.RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if s := r.stats(); s.Draining != 1 {
			r.Errorf("%+v", s)
		}
		r.get("/elsewhere")
		wg.Wait()
		r.wantConns(2)
		synctest.Wait()
		if s := r.stats(); s.Idle != 1 || s.Draining != 0 || s.Closes["close"] != 1 {
			r.Errorf("%+v", s)
		}
	})
}

// What a server answers before the request body has come is heard, over HTTP/2 too,
// and the body is read no further.
func TestHTTP2EarlyAnswer(t *testing.T) {
	p := &h2peer{limit: 100, serve: func(s *h2stream) {
		s.over()
		s.head(true, ":status", "413")
		s.c.write(func() { s.c.fr.WriteRSTStream(s.id, http2.ErrCodeNo) })
	}}
	h2bubble(t, berth.Policy{}, p, func(r *h2rig) {
		for range 3 {
			body := &trackedBody{Reader: endless{}}
			req := newRequest(r.T, "POST", rigURL, body)
			resp, err := r.tr.RoundTrip(req)
			if err != nil || resp.StatusCode != 413 {
				r.Fatalf("%v, %v", resp, err)
			}
			resp.Body.Close()
			synctest.Wait()
			if body.closes.Load() != 1 {
				r.Errorf("body closed %d times", body.closes.Load())
			}
			time.Sleep(time.Second) // the Read under way returns
			if n := body.after.Load(); n != 0 {
				r.Errorf("body read %d times after its close", n)
			}
		}
		r.wantConns(1)
	})
}

// endless is a body that goes on as slowly as a sensor's.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return copy(p, "measurement\n"), nil
}
