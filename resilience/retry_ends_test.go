package resilience

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
)

func TestRetryAfterWinsOverTheBackoff(t *testing.T) {
	for _, tc := range []struct {
		name   string
		retry  Retry
		status int
		after  string
		want   time.Duration
	}{
		{"longer", Retry{}, 503, "60", time.Minute},
		{"shorter", Retry{}, 429, "1", time.Second},
		{"longer than MaxDelay", Retry{MaxDelay: time.Second}, 503, "60", time.Minute},
		{"on any transient status", Retry{}, 500, "3", 3 * time.Second},
		{"a date", Retry{}, 503, "Sat, 01 Jan 2000 00:00:30 GMT", 30 * time.Second}, // a bubble begins in 2000
		{"a past date", Retry{}, 503, "Fri, 31 Dec 1999 00:00:00 GMT", 0},
		{"at once", Retry{}, 503, "0", 0},
		{"garbage", Retry{}, 503, "soon", 2 * time.Second},
		{"negative", Retry{}, 503, "-5", 2 * time.Second},
		{"ignored", Retry{IgnoreRetryAfter: true}, 503, "60", 2 * time.Second},
		{"without a backoff", Retry{Delay: -1}, 503, "60", time.Minute},
		{"absurd", Retry{}, 503, "99999999999999999999", 24 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rtScript{outcomes: []rtOutcome{{status: tc.status, after: tc.after}, {status: 200}}}
				tc.retry.NoJitter = true
				if _, err := rtWrap(t, tc.retry, s).RoundTrip(rtRequest(t, t.Context(), "GET", nil)); err != nil {
					t.Fatal(err)
				}
				if got := s.gaps(); !slices.Equal(got, []time.Duration{tc.want}) {
					t.Errorf("waited %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// A wait that would outlast the deadline is not begun: the response in hand is returned
// while there is time to read it, and an error comes at once.
func TestWaitThatOutlastsTheDeadlineIsNotBegun(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome rtOutcome
		timeout time.Duration
		want    int // attempts
	}{
		{"fits", rtOutcome{err: io.EOF}, 2*time.Second + 1, 2},
		{"just not", rtOutcome{err: io.EOF}, 2 * time.Second, 1},
		{"Retry-After", rtOutcome{status: 503, after: "3"}, 3 * time.Second, 1},
		{"Retry-After that fits", rtOutcome{status: 503, after: "1"}, 2 * time.Second, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				s := &rtScript{outcomes: []rtOutcome{tc.outcome, {status: 200}}}
				record := &rtRecord{}
				start := time.Now()
				resp, err := rtWrap(t, Retry{NoJitter: true, Trace: record.trace()}, s).RoundTrip(rtRequest(t, ctx, "GET", nil))
				if len(s.seen) != tc.want {
					t.Fatalf("%d attempts, want %d", len(s.seen), tc.want)
				}
				if tc.want == 2 {
					return
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("it took %v", d)
				}
				if !slices.Contains(record.events, "reject retry deadline") {
					t.Errorf("the trace was told %q", record.events)
				}
				if tc.outcome.err == nil {
					if err != nil || resp.StatusCode != 503 || s.open(t) != 1 {
						t.Errorf("%v, %v", resp, err)
					}
					return
				}
				if e := rtAttempts(t, err); e.Stopped != "deadline" || !strings.Contains(e.Error(), "was due in 2s, and the deadline is in 2s") {
					t.Errorf("stopped by %q: %v", e.Stopped, e)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("the deadline has not passed, and the error says so")
				}
			})
		})
	}
}

// The caller may give up at any point.
func TestCallerGivesUp(t *testing.T) {
	mine := errors.New("mine")
	for _, tc := range []struct {
		name     string
		outcomes []rtOutcome
		after    time.Duration // the caller gives up
		attempts int
		stopped  string // "" is an error that is no *AttemptsError
		waited   time.Duration
	}{
		{"before", []rtOutcome{{status: 503, takes: time.Second}}, 0, 1, "", 0},
		{"in the first attempt", []rtOutcome{{status: 503, takes: 2 * time.Second}}, time.Second, 1, "", 0},
		{"in the wait, after a response", []rtOutcome{{status: 503}}, time.Second, 1, "canceled", time.Second},
		{"in the wait, after an error", []rtOutcome{{err: io.EOF}}, time.Second, 1, "canceled", time.Second},
		{"in the second attempt", []rtOutcome{{status: 503}, {status: 503, takes: 2 * time.Second}}, 3 * time.Second, 2, "canceled", 2 * time.Second},
		{"in the second wait", []rtOutcome{{err: io.EOF}, {status: 503}}, 5 * time.Second, 2, "canceled", 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				if tc.after == 0 {
					cancel(mine)
				} else {
					time.AfterFunc(tc.after, func() { cancel(mine) })
				}
				s := &rtScript{outcomes: tc.outcomes}
				bodies := &rtBodies{}
				req := rtRequest(t, ctx, "PUT", nil)
				req.Body, _ = bodies.get()
				req.GetBody = bodies.get
				start := time.Now()
				resp, err := rtWrap(t, Retry{NoJitter: true}, s).RoundTrip(req)
				if resp != nil || !errors.Is(err, mine) {
					t.Fatalf("%v, %v; want the cause", resp, err)
				}
				if d := time.Since(start); d != tc.after {
					t.Errorf("it took %v, want %v", d, tc.after)
				}
				if len(s.seen) != tc.attempts || s.open(t) != 0 {
					t.Errorf("%d attempts, want %d; %d responses open", len(s.seen), tc.attempts, s.open(t))
				}
				bodies.wantClosed(t, tc.attempts)
				if tc.stopped == "" {
					if err != mine {
						t.Errorf("error %v, want the cause itself", err)
					}
					return
				}
				e := rtAttempts(t, err)
				if e.Stopped != tc.stopped || e.Waited != tc.waited || e.Elapsed != tc.after {
					t.Errorf("stopped by %q, waited %v of %v", e.Stopped, e.Waited, e.Elapsed)
				}
				discarded := tc.outcomes[tc.attempts-1].status != 0 && tc.attempts == len(tc.outcomes) && tc.outcomes[tc.attempts-1].takes == 0
				if got := strings.Contains(e.Error(), "after its response was discarded: mine"); got != discarded {
					t.Errorf("a response was discarded: %v\n%v", discarded, e)
				}
			})
		})
	}
}

// http.Client closes Request.Cancel, and nothing else, for a RoundTripper it does not know.
func TestLegacyCancelEndsTheWait(t *testing.T) {
	for _, delay := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			cancel := make(chan struct{})
			s := &rtScript{outcomes: []rtOutcome{{status: 503}}}
			req := rtRequest(t, t.Context(), "GET", nil)
			//lint:ignore SA1019 what is tested
			req.Cancel = cancel
			if delay < 0 {
				close(cancel)
			} else {
				time.AfterFunc(time.Second, func() { close(cancel) })
			}
			_, err := rtWrap(t, Retry{Delay: delay, NoJitter: true}, s).RoundTrip(req)
			if e := rtAttempts(t, err); e.Stopped != "canceled" || !errors.Is(err, berth.ErrRequestCanceled) || len(s.seen) != 1 {
				t.Errorf("%d attempts: %v", len(s.seen), err)
			}
		})
	}
}

// http.Client's own timeout bounds all attempts, and is told as one.
func TestClientTimeoutBoundsAllAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &rtScript{outcomes: []rtOutcome{{status: 503}, {status: 503, takes: time.Hour}}}
		c := &http.Client{Transport: rtWrap(t, Retry{NoJitter: true}, s), Timeout: 5 * time.Second}
		start := time.Now()
		_, err := c.Get("http://origin.test/")
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		// The client keeps the text alone.
		if !strings.Contains(err.Error(), ": 2 attempts in 5s\n") || !strings.Contains(err.Error(), "the deadline has passed") {
			t.Errorf("the story is lost: %v", err)
		}
	})
}
