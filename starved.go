package berth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/pool"
)

// AcquireTimeoutError: a request got no connection in time. It says which limit
// kept it waiting, who holds the connections, and what to do. It unwraps to the
// cause of the context's end, or to context.DeadlineExceeded when
// Policy.AcquireTimeout ended the wait. Nothing was sent. Code BERTH1001.
type AcquireTimeoutError struct {
	notSent
	Endpoint string
	Waited   time.Duration
	Limit    string // which limit bound: "endpoint max 20", "dials in flight max 100", …
	Ahead    int    // requests before this one in the queue
	Stats    Stats  // of the endpoint at that moment
	Oldest   []LeaseInfo
	DialErr  error // of the last dial, if it failed
	cause    error
}

// LeaseInfo describes a lease.
type LeaseInfo struct {
	Method    string        `json:"method"`
	Path      string        `json:"path"`  // without the query
	Phase     string        `json:"phase"` // "sending request", "awaiting response", "reading body", "draining body"
	Held      time.Duration `json:"held"`
	SinceByte time.Duration `json:"since_byte"` // since the body last brought something; negative when it has not
}

// leakAfter is the age at which a lease that waits for its reader looks forgotten.
const leakAfter = 30 * time.Second

// Error tells the whole story, over several lines.
func (e *AcquireTimeoutError) Error() string {
	var b strings.Builder
	s := e.Stats
	fmt.Fprintf(&b, "berth: no connection to %s after %v (limit: %s)\n", e.Endpoint, round(e.Waited), e.Limit)
	fmt.Fprintf(&b, "  %d leased, %d idle, %d dialing, %d draining; %d waiting, oldest %v; %d ahead of this one",
		s.Leased, s.Idle, s.Dialing, s.Draining, s.Waiting, round(s.OldestWait), e.Ahead)
	for i, l := range e.Oldest {
		name := "oldest lease"
		if i > 0 {
			name = "next lease"
		}
		fmt.Fprintf(&b, "\n  %s %v: %s %s, %s", name, round(l.Held), l.Method, l.Path, l.Phase)
		if l.SinceByte >= 0 {
			fmt.Fprintf(&b, ", last byte %v ago", round(l.SinceByte))
		}
		if l.forgotten() {
			b.WriteString("  <- likely leak")
		}
	}
	if e.DialErr != nil {
		fmt.Fprintf(&b, "\n  last dial: %v", e.DialErr)
	}
	fmt.Fprintf(&b, "\n  -> %s [BERTH1001]", e.advice())
	return b.String()
}

// forgotten reports whether the lease looks as if nobody would end it: its body is
// there to be read, and nobody reads it.
func (l LeaseInfo) forgotten() bool {
	return l.Phase == pool.PhaseBody.String() && l.Held > leakAfter && (l.SinceByte < 0 || l.SinceByte > leakAfter)
}

func (e *AcquireTimeoutError) advice() string {
	for _, l := range e.Oldest {
		if l.forgotten() {
			return fmt.Sprintf("read to its end, or close, the body of %s %s", l.Method, l.Path)
		}
	}
	switch {
	case e.Stats.Leased+e.Stats.Idle+e.Stats.Draining == 0 && strings.HasPrefix(e.Limit, "none"), strings.HasPrefix(e.Limit, "back-off"):
		return "the endpoint does not accept connections: check its address and health"
	case strings.HasPrefix(e.Limit, "transport max"), strings.HasPrefix(e.Limit, "host max"):
		return "other endpoints or groups hold all connections: raise that limit, or send fewer requests at once"
	case strings.Contains(e.Limit, "paused"):
		return "call Resume"
	case strings.Contains(e.Limit, "ports"):
		return "fewer new connections are to be had: reuse them, read bodies to their end, add LocalAddrs, or set Close to auto"
	case strings.HasPrefix(e.Limit, "endpoint max"):
		return "requests hold all connections: make them shorter, send fewer at once, or raise MaxConns"
	}
	return "give the request more time, or send fewer at once"
}

func round(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond / 10)
}

// Unwrap returns the cause of the context's end, or context.DeadlineExceeded.
func (e *AcquireTimeoutError) Unwrap() error { return e.cause }

// As finds the *PortsExhaustedError that held up the dial, if one did.
func (e *AcquireTimeoutError) As(target any) bool {
	p, ok := target.(**PortsExhaustedError)
	if ok {
		*p, ok = e.DialErr.(*PortsExhaustedError)
	}
	return ok
}

// Is reports true for context.DeadlineExceeded: a deadline ended the wait.
func (e *AcquireTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout reports true.
func (e *AcquireTimeoutError) Timeout() bool { return true }

// Temporary reports true; net.Error asks for it.
func (e *AcquireTimeoutError) Temporary() bool { return true }

// Code returns BERTH1001.
func (e *AcquireTimeoutError) Code() string { return "BERTH1001" }

// acquireError makes the caller's error of a wait that brought no connection.
func (ep *endpoint) acquireError(req *http.Request, err error) error {
	var (
		starved *pool.StarvedError
		failed  *pool.DialError
	)
	switch {
	case errors.As(err, &starved):
		s := starved.Snapshot
		e := &AcquireTimeoutError{Endpoint: ep.name, Waited: starved.Waited, Limit: ep.bindingText(s), Ahead: s.Ahead,
			Stats: newStats(s.Stats), DialErr: s.DialErr, cause: starved.Err}
		if e.DialErr == nil {
			e.DialErr = s.Exhausted
		}
		if v, waits := ep.t.portless.Load(ep); waits {
			e.DialErr = *v.(*portWait).why.Load()
		}
		if r := dial.Exhausted(e.DialErr); r != dial.None {
			e.DialErr = ep.exhaustedError(r, e.DialErr)
		}
		if e.cause == pool.ErrTimeout {
			e.cause = context.DeadlineExceeded
		}
		for _, l := range s.Oldest {
			method := l.Method
			if method == "" {
				method = http.MethodGet
			}
			e.Oldest = append(e.Oldest, LeaseInfo{Method: method, Path: l.Path, Phase: l.Phase.String(), Held: l.Held, SinceByte: l.SinceByte})
		}
		return e
	case errors.As(err, &failed):
		return ep.dialError(failed)
	case err == pool.ErrQueueFull:
		return &QueueFullError{Endpoint: ep.name, Waiting: ep.pool.Stats().Waiting, MaxConns: ep.now.Load().policy.MaxConns}
	case err == pool.ErrClosed:
		return &ClosedError{}
	case err == pool.ErrCanceled:
		return ErrRequestCanceledWaiting
	}
	return err
}

// bindingText says which limit binds.
func (ep *endpoint) bindingText(s *pool.Snapshot) string {
	if text := ep.portText(); text != "" && s.Binding == pool.BindingDial {
		return text
	}
	switch s.Binding {
	case pool.BindingPaused:
		return "the endpoint is paused"
	case pool.BindingAdmission:
		return ep.admissionText()
	case pool.BindingConns:
		return fmt.Sprintf("endpoint max %d", s.Config.MaxConns)
	case pool.BindingDials:
		return fmt.Sprintf("dials in flight max %d", s.Config.MaxDials)
	case pool.BindingBackoff:
		return "back-off after failed dials"
	case pool.BindingExhausted:
		return "this host is out of " + dial.Exhausted(s.Exhausted).String()
	}
	return "none: its connection is being dialled"
}
