package resilience

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/berth-go/berth"
)

// Why there was no other attempt: AttemptsError.Stopped, and RejectInfo.Why for those
// that are refusals.
const (
	stoppedRetries   = "retries"
	stoppedBudget    = "budget"
	stoppedDeadline  = "deadline"
	stoppedBody      = "body"
	stoppedMethod    = "method"
	stoppedCanceled  = "canceled"
	stoppedPermanent = "permanent"
)

// AttemptsError: a request that a strategy has sent more than once, or would have, got no
// response. It tells of each attempt and of why there was no other, and unwraps to what
// each of them met, the last first, and to the cause of the context's end if that ended
// it. Responses that were discarded for another attempt are gone. Code BERTH1020.
type AttemptsError struct {
	Method   string
	Endpoint string // scheme, host and port
	Path     string // without the query
	Strategy string // "retry" or "hedge"
	Attempts []Attempt
	Elapsed  time.Duration // in all
	Waited   time.Duration // of it, between attempts

	// Stopped is why there was no other attempt: "retries" (none left), "budget",
	// "deadline" (it left no time for the wait, or has passed), "body" (it cannot be sent
	// again), "method" (the server may not receive the request twice), "canceled" (the
	// request's context was) or "permanent" (another would meet the same error).
	Stopped string

	cause error         // of a context's end, or what GetBody said
	wait  time.Duration // that was too long for the deadline; 0 when it has passed
	left  time.Duration // until the deadline, then
	ratio float64       // of the budget
}

// How much of what it has met an error tells.
const (
	toldAttempts = 12
	toldLine     = 300 // bytes
)

// Error tells the whole story, over several lines.
func (e *AttemptsError) Error() string {
	var b strings.Builder
	n := len(e.Attempts)
	fmt.Fprintf(&b, "berth: %s: %s %s%s: %s in %v", e.Strategy, e.Method, e.Endpoint, e.Path, count(n, "attempt"), brief(e.Elapsed))
	for i := range e.Attempts {
		if skipped := n - toldAttempts; skipped > 0 && i >= toldAttempts/2 && i < toldAttempts/2+skipped {
			if i == toldAttempts/2 {
				fmt.Fprintf(&b, "\n  %d more", skipped)
			}
			continue
		}
		fmt.Fprintf(&b, "\n  %s", e.Attempts[i].text())
	}
	if e.Stopped == stoppedCanceled && e.cause != nil {
		at := ""
		if last := e.last(); last != nil && last.Status != 0 {
			at = ", after its response was discarded"
		}
		fmt.Fprintf(&b, "\n  then canceled%s: %s", at, firstLine(e.cause))
	}
	if spent := e.spent(); spent != "" {
		fmt.Fprintf(&b, "\n  %s", spent)
	}
	if starved, pool := e.starved(); starved > 1 {
		who := fmt.Sprintf("%d of %d attempts", starved, n)
		if e.NotSent() {
			who = "the server was never asked: " + who
		}
		fmt.Fprintf(&b, "\n  %s got no connection, and each joined the queue again and made it longer\n  -> %s", who, pool.Advice())
	}
	if last := e.last(); last != nil && last.Err != nil {
		if text := textOf(last.Err); strings.Contains(text, "\n") {
			fmt.Fprintf(&b, "\n  the last in full: %s", strings.ReplaceAll(text, "\n", "\n  "))
		}
	}
	fmt.Fprintf(&b, "\n  -> %s [BERTH1020]", e.advice())
	return b.String()
}

// Unwrap returns what the attempts met, the last first, and what ended the request.
func (e *AttemptsError) Unwrap() []error {
	var errs []error
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	for i := len(e.Attempts) - 1; i >= 0; i-- {
		if err := e.Attempts[i].Err; err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Code returns BERTH1020.
func (e *AttemptsError) Code() string { return "BERTH1020" }

// NotSent reports whether nothing of any attempt left.
func (e *AttemptsError) NotSent() bool {
	for i := range e.Attempts {
		if e.Attempts[i].Sent {
			return false
		}
	}
	return true
}

// Timeout reports whether what ended the request was a timeout: its context's end, or the
// last attempt's error.
func (e *AttemptsError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.final(), &t) && t.Timeout()
}

// Temporary is as Timeout; net.Error asks for it.
func (e *AttemptsError) Temporary() bool {
	var t interface{ Temporary() bool }
	return errors.As(e.final(), &t) && t.Temporary()
}

// final returns the error that ended the request.
func (e *AttemptsError) final() error {
	if e.cause != nil {
		return e.cause
	}
	if last := e.last(); last != nil {
		return last.Err
	}
	return nil
}

func (e *AttemptsError) last() *Attempt {
	if len(e.Attempts) == 0 {
		return nil
	}
	return &e.Attempts[len(e.Attempts)-1]
}

// spent says where the time went. Attempts of a hedge run at the same time, so that their
// sum may be more than the whole.
func (e *AttemptsError) spent() string {
	var conn, server time.Duration
	for i := range e.Attempts {
		a := &e.Attempts[i]
		conn += a.Waited
		if a.Sent {
			server += a.Duration - a.Waited
		}
	}
	var parts []string
	for _, p := range []struct {
		d  time.Duration
		on string
	}{{conn, "for a connection"}, {server, "for the server"}, {e.Waited, "between attempts"}} {
		if brief(p.d) > 0 {
			parts = append(parts, brief(p.d).String()+" "+p.on)
		}
	}
	if parts == nil {
		return ""
	}
	return "waited " + strings.Join(parts, ", ")
}

// starved returns how many attempts got no connection for want of a free one, and what
// the pool said to the one that saw the longest queue: those that give up together see
// each other leave.
func (e *AttemptsError) starved() (n int, pool *berth.Starvation) {
	for i := range e.Attempts {
		if s := starvation(e.Attempts[i].Err); s != nil {
			if n++; pool == nil || s.Stats.Waiting >= pool.Stats.Waiting {
				pool = s
			}
		}
	}
	return n, pool
}

func starvation(err error) *berth.Starvation {
	if e, is := errors.AsType[*berth.AcquireTimeoutError](err); is {
		return &e.Starvation
	}
	if e, is := errors.AsType[*berth.QueueFullError](err); is {
		return &e.Starvation
	}
	return nil
}

// advice says what to do.
func (e *AttemptsError) advice() string {
	switch e.Stopped {
	case stoppedBudget:
		return fmt.Sprintf("the %s budget is used up, %.3g%% of the requests: the server fails many of them, and more attempts would keep it down", e.Strategy, 100*e.ratio)
	case stoppedDeadline:
		if e.wait > 0 {
			return fmt.Sprintf("the next attempt was due in %v, and the deadline is in %v: give the request more time, or wait less", brief(e.wait), brief(max(e.left, 0)))
		}
		return "the deadline has passed: give the request more time, or an attempt less"
	case stoppedBody:
		switch last := e.last(); {
		case e.cause != nil:
			return "the body cannot be sent again, GetBody says: " + firstLine(e.cause)
		case last != nil && !last.Sent:
			return "nothing was sent, but the body is closed, as a RoundTripper has to, and cannot be had again: set Request.GetBody"
		}
		return "the body cannot be sent again: set Request.GetBody"
	case stoppedMethod:
		return fmt.Sprintf("the server may have received the %s and is not to twice: send an Idempotency-Key, or set Unsafe", e.Method)
	case stoppedCanceled:
		return "the caller gave up: nothing to do, or give it more time"
	case stoppedPermanent:
		return "another attempt would meet the same error"
	}
	if n, _ := e.starved(); n > 1 {
		return "more attempts make the queue longer: see to the connections first"
	}
	if e.NotSent() {
		return "nothing was ever sent: check the endpoint's address and health, and the way to it"
	}
	return "the server failed every attempt: check its health; if it only needs longer to come back, raise Delay"
}

// firstLine is an error's text up to the first end of a line.
func firstLine(err error) string {
	line, _, _ := strings.Cut(textOf(err), "\n")
	return clip(line)
}

// textOf is an error's text without the query and the user of a URL. Berth's errors have
// none, those of another RoundTripper may.
func textOf(err error) string {
	if u, is := errors.AsType[*url.Error](err); is {
		at := "URL"
		if p, err := url.Parse(u.URL); err == nil {
			at = endpointName(p) + p.EscapedPath()
		}
		return u.Op + " " + at + ": " + textOf(u.Err)
	}
	return err.Error()
}

func clip(s string) string {
	if len(s) <= toldLine {
		return s
	}
	return strings.ToValidUTF8(s[:toldLine], "") + "…"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprint(n, " ", what, "s")
}

// brief rounds what people read.
func brief(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
