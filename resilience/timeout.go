package resilience

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/berth-go/berth"
)

// Timeout bounds the time until the response head, and with Body that of the whole
// exchange. Around a Retry it bounds all attempts with the waits between them, within one
// each attempt. A request that http.Client redirects keeps the time of the first, unless
// it is an attempt's.
//
// What is late fails with a *TimeoutError around what the request met when it was ended;
// so a starved one still tells who holds the connections.
type Timeout struct {
	// After is the time. In a [Config] it is by default 30 s for Total and 10 s for
	// Attempt; alone it must be set. From 10 ms to 24 h, as in .NET; negative: none.
	After time.Duration `json:"after"`

	// Body has the time go on until the response body is read or closed, as http.Client's
	// Timeout does. By default it ends with the head: a long download is nobody's fault.
	Body bool `json:"body"`

	// Trace is told when it has ended a request.
	Trace *Trace `json:"-"`

	scope string // "total" or "attempt" in a Config; "" alone
}

// The bounds that .NET's options have.
const (
	minTimeout = 10 * time.Millisecond
	maxTimeout = 24 * time.Hour
)

func (t *Timeout) field(name string) string {
	if t.scope != "" {
		return map[string]string{"total": "Total", "attempt": "Attempt"}[t.scope] + "." + name
	}
	return "Timeout." + name
}

func (t *Timeout) validate() error {
	switch {
	case t.After == 0:
		return &berth.ConfigError{Field: t.field("After"), Reason: "is not set; negative is none"}
	case t.After > 0 && t.After < minTimeout, t.After > maxTimeout:
		return &berth.ConfigError{Field: t.field("After"), Reason: fmt.Sprintf("%v is not between 10ms and 24h", t.After)}
	}
	return nil
}

// Handler returns the function that wraps a RoundTripper. The error is a
// *berth.ConfigError.
func (t Timeout) Handler() (Handler, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	if t.After < 0 {
		return func(next http.RoundTripper) http.RoundTripper { return next }, nil
	}
	own := &t // one for all that the handler wraps
	return func(next http.RoundTripper) http.RoundTripper {
		return &timeout{forward: forward{next}, Timeout: own}
	}, nil
}

type timeout struct {
	forward
	*Timeout
}

func (t *timeout) RoundTrip(req *http.Request) (*http.Response, error) {
	parent := req.Context()
	now := time.Now()
	deadline := now.Add(t.After)
	if before := t.redirectedFrom(req); before != nil {
		deadline = before.deadline
	}
	if d, ok := parent.Deadline(); ok && d.Before(deadline) {
		return t.next.RoundTrip(req) // the caller is in more of a hurry
	}
	c := &timed{parent: parent, deadline: deadline, of: t.Timeout}
	resp, err := t.next.RoundTrip(req.WithContext(c))
	if err != nil {
		return nil, t.ended(c, req, now, err)
	}
	if !t.Body {
		c.settle()
	}
	if resp.Body == nil || resp.Body == http.NoBody {
		c.finish()
		return resp, nil
	}
	body := &timedBody{resp.Body, c}
	if w, is := resp.Body.(io.Writer); is { // another protocol's from now on (RFC 9110 §15.2.2)
		c.settle()
		resp.Body = struct {
			*timedBody
			io.Writer
		}{body, w}
	} else {
		resp.Body = body
	}
	return resp, nil
}

// redirectedFrom returns the time of the request that http.Client redirected to this one;
// nil when there is none.
func (t *timeout) redirectedFrom(req *http.Request) *timed {
	if req.Response == nil || req.Response.Request == nil || t.scope == "attempt" {
		return nil
	}
	c, _ := req.Response.Request.Context().Value(t.Timeout).(*timed)
	return c
}

// ended makes the error of an exchange that failed.
func (t *timeout) ended(c *timed, req *http.Request, start time.Time, err error) error {
	expired := c.expired()
	c.finish()
	if !expired || c.parent.Err() != nil {
		return err
	}
	why := t.scope
	if why == "" {
		why = "total"
	}
	name := endpointOf(req)
	t.Trace.reject(RejectInfo{Endpoint: name, Strategy: "timeout", Why: why})
	return &TimeoutError{Endpoint: name, Scope: t.scope, After: t.After, Elapsed: time.Since(start), Err: err}
}

// TimeoutError: a request took longer than a [Timeout] allows. It is
// context.DeadlineExceeded by errors.Is, and unwraps to what the request met when it was
// ended. Code BERTH1019.
type TimeoutError struct {
	Endpoint string
	Scope    string        // "total" or "attempt" within a Config; "" alone
	After    time.Duration // that was allowed
	Elapsed  time.Duration // that this request took of it; less than After once redirected
	Err      error
}

func (e *TimeoutError) Error() string {
	what := "timeout"
	if e.Scope != "" {
		what = e.Scope + " timeout"
	}
	return fmt.Sprintf("berth: %s: %s of %v [BERTH1019]%s", e.Endpoint, what, e.After, e.met())
}

// met tells what the request was at when it was ended, if that says more than that it was.
func (e *TimeoutError) met() string {
	if _, bare := e.Err.(*lateError); bare || e.Err == nil || e.Err == context.DeadlineExceeded || e.Err == context.Canceled {
		return ""
	}
	return ": " + e.Err.Error()
}

// Unwrap returns what the request met.
func (e *TimeoutError) Unwrap() error { return e.Err }

// Is reports true for context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout reports true.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary reports true; net.Error asks for it.
func (e *TimeoutError) Temporary() bool { return true }

// Code returns BERTH1019.
func (e *TimeoutError) Code() string { return "BERTH1019" }
