package berth

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/pool"
)

// Reason is what keeps requests from getting a connection.
type Reason string

const (
	ReasonDialing     Reason = "dialing"         // nothing: the connection is being opened
	ReasonEndpoint    Reason = "endpoint-limit"  // Policy.MaxConns
	ReasonHost        Reason = "host-limit"      // Policy.MaxConnsPerHost, over the host's groups
	ReasonTransport   Reason = "transport-limit" // Config.MaxConns
	ReasonDials       Reason = "dial-limit"      // Policy.MaxDials
	ReasonQueue       Reason = "queue"           // Policy.MaxWaiters
	ReasonBackoff     Reason = "back-off"        // dials failed, and the next is not due yet
	ReasonPaused      Reason = "paused"          // Endpoint.Pause
	ReasonPorts       Reason = "ports"           // of this host, or of a budget beyond it
	ReasonDescriptors Reason = "descriptors"
	ReasonMemory      Reason = "memory"
)

// Verdict tells a limit that is too small from connections that do not come back.
type Verdict string

const (
	// VerdictTooSmall: all connections are at work, and more requests come than they can
	// carry.
	VerdictTooSmall Verdict = "too small"

	// VerdictLeaked: connections are held by response bodies that nobody reads.
	VerdictLeaked Verdict = "leaked"
)

// Demand is what requests have asked of an endpoint since it had no connection left for
// one, over the last 30 s at least: by Little's law, the rate at which they come times the
// time that each holds its connection is how many are in use.
type Demand struct {
	Over  time.Duration `json:"over"`  // the time that this was counted for; 0 when it was not
	Rate  float64       `json:"rate"`  // requests a second
	Hold  time.Duration `json:"hold"`  // mean; 0 when no request has ended
	Conns float64       `json:"conns"` // their product
}

// Starvation is why requests to an endpoint get no connection: which limit binds, who
// holds the connections, whether they leak, and what to do.
type Starvation struct {
	Endpoint string      `json:"endpoint"`
	Group    string      `json:"group,omitempty"`
	Reason   Reason      `json:"reason"`
	Limit    string      `json:"limit"`            // for people: "endpoint max 20"
	SetBy    string      `json:"set_by,omitempty"` // who set the endpoint's limit, as in EndpointPolicy.From
	Ahead    int         `json:"ahead"`            // requests before this one in the queue
	Stats    Stats       `json:"stats"`            // of the endpoint at that moment
	Oldest   []LeaseInfo `json:"oldest"`           // the three held longest
	Unread   int         `json:"unread"`           // leases whose body looks forgotten
	Demand   Demand      `json:"demand"`
	Verdict  Verdict     `json:"verdict,omitempty"` // "" when a limit on connections does not bind
	DialErr  error       `json:"-"`                 // of the last dial, if it failed
}

// AcquireTimeoutError: a request got no connection in time. It unwraps to the cause of the
// context's end, or to context.DeadlineExceeded when Policy.AcquireTimeout ended the wait,
// and to the last dial's error if that failed. Nothing was sent. Code BERTH1001.
type AcquireTimeoutError struct {
	notSent
	Starvation
	Waited time.Duration
	cause  error
}

// Error tells the whole story, over several lines.
func (e *AcquireTimeoutError) Error() string {
	return fmt.Sprintf("berth: no connection to %s after %v %s [BERTH1001]", e.Endpoint, round(e.Waited), e.story())
}

// Unwrap returns the cause of the context's end, or context.DeadlineExceeded, and the
// error of the last dial if it failed.
func (e *AcquireTimeoutError) Unwrap() []error {
	if e.DialErr == nil {
		return []error{e.cause}
	}
	return []error{e.cause, e.DialErr}
}

// Is reports true for context.DeadlineExceeded: a deadline ended the wait.
func (e *AcquireTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout reports true.
func (e *AcquireTimeoutError) Timeout() bool { return true }

// Temporary reports true; net.Error asks for it.
func (e *AcquireTimeoutError) Temporary() bool { return true }

// Code returns BERTH1001.
func (e *AcquireTimeoutError) Code() string { return "BERTH1001" }

// QueueFullError: as many requests wait for the endpoint as Policy.MaxWaiters allows.
// Nothing was sent. Code BERTH1002.
type QueueFullError struct {
	notSent
	Starvation
	Waiting  int // requests in the queue
	MaxConns int // the endpoint's limit; 0 is none
}

// Error tells the whole story, over several lines.
func (e *QueueFullError) Error() string {
	return fmt.Sprintf("berth: queue of %s is full: %d requests wait %s [BERTH1002]", e.Endpoint, e.Waiting, e.story())
}

// Code returns BERTH1002.
func (e *QueueFullError) Code() string { return "BERTH1002" }

// story is what both errors tell alike.
func (s *Starvation) story() string {
	var b strings.Builder
	st := &s.Stats
	fmt.Fprintf(&b, "(limit: %s", s.Limit)
	if s.SetBy != "" {
		fmt.Fprintf(&b, ", set by %s", s.SetBy)
	}
	b.WriteString(")\n")
	fmt.Fprintf(&b, "  %d leased, %d idle, %d dialing, %d draining; %d waiting", st.Leased, st.Idle, st.Dialing, st.Draining, st.Waiting)
	if st.Waiting > 0 {
		fmt.Fprintf(&b, ", oldest %v; %d ahead of this one", round(st.OldestWait), s.Ahead)
	}
	for i, l := range s.Oldest {
		name := "oldest lease"
		if i > 0 {
			name = "next lease"
		}
		fmt.Fprintf(&b, "\n  %s %v: %s", name, round(l.Held), l.text())
	}
	if s.Unread > 0 && s.Unread < st.Leased {
		fmt.Fprintf(&b, "\n  %d of %d leases have a body that nobody reads", s.Unread, st.Leased)
	}
	if n := st.Hold.Count(); n > 0 {
		fmt.Fprintf(&b, "\n  %d leases have ended: half within %v, 99%% within %v", n, round(st.Hold.Quantile(0.5)), round(st.Hold.Quantile(0.99)))
	}
	if d := s.Demand; d.Conns > 0 {
		fmt.Fprintf(&b, "\n  demand %.3g/s x %v = %.1f connections, over the last %v", d.Rate, round(d.Hold), d.Conns, round(d.Over))
	}
	if s.DialErr != nil {
		fmt.Fprintf(&b, "\n  last dial: %v", s.DialErr)
	}
	b.WriteString("\n  -> ")
	if s.Verdict != "" {
		fmt.Fprintf(&b, "%s: ", s.Verdict)
	}
	b.WriteString(s.Advice())
	return b.String()
}

// text is a lease without its age.
func (l *LeaseInfo) text() string {
	text := l.Method + " " + l.Path + ", " + l.Phase
	if l.Unread > 0 {
		text += " for " + round(l.Unread).String()
	} else if l.SinceByte >= 0 {
		text += ", last byte " + round(l.SinceByte).String() + " ago"
	}
	if l.Site != "" {
		text += ", acquired at " + l.Site
	}
	if l.Suspect {
		text += "  <- likely leak"
	}
	return text
}

// loaded is the share of its connections that an endpoint does well with.
const loaded = 0.7

// Advice says what to do.
func (s *Starvation) Advice() string {
	switch {
	case s.Verdict == VerdictLeaked:
		for _, l := range s.Oldest {
			if l.Unread > 0 && l.Site != "" {
				return fmt.Sprintf("read to its end, or close, the body of %s %s, acquired at %s", l.Method, l.Path, l.Site)
			}
		}
		for _, l := range s.Oldest {
			if l.Unread > 0 {
				return fmt.Sprintf("read to its end, or close, the body of %s %s; requests from now on tell their call site", l.Method, l.Path)
			}
		}
		return "read response bodies to their end, or close them; requests from now on tell their call site"
	case s.Reason == ReasonEndpoint:
		wanted := s.Stats.Leased + s.Stats.Waiting
		if n := int(math.Ceil(s.Demand.Conns / loaded)); n > s.Stats.Leased && n < wanted {
			return fmt.Sprintf("raise MaxConns to %d, which the demand loads to 70%%; all that want one now would take %d; or send fewer requests at once", n, wanted)
		}
		return fmt.Sprintf("raise MaxConns to %d, so many requests want a connection now, or send fewer at once", wanted)
	}
	switch s.Reason {
	case ReasonTransport, ReasonHost:
		return "other endpoints or groups hold all connections: raise that limit, or send fewer requests at once"
	case ReasonPaused:
		return "call Resume"
	case ReasonPorts:
		return "fewer new connections are to be had: reuse them, read bodies to their end, add LocalAddrs, or set Close to auto"
	case ReasonDescriptors:
		return "raise the limit on open files (ulimit -n), close what is not needed, or lower MaxConns"
	case ReasonMemory:
		return "the kernel has no memory left for sockets: lower MaxConns, or raise net.ipv4.tcp_mem"
	case ReasonDials:
		return "connections are opened as fast as MaxDials lets them: raise it, or spread the burst"
	case ReasonBackoff:
		return "the endpoint does not accept connections: check its address and health"
	case ReasonDialing:
		if s.Stats.Leased+s.Stats.Idle+s.Stats.Draining == 0 {
			return "the endpoint does not accept connections: check its address and health"
		}
	case ReasonQueue:
		return "send fewer requests at once, or raise MaxConns or MaxWaiters"
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

// acquireError makes the caller's error of a wait that brought no connection.
func (ep *endpoint) acquireError(err error) error {
	var (
		starved *pool.StarvedError
		failed  *pool.DialError
	)
	switch {
	case errors.As(err, &starved):
		e := &AcquireTimeoutError{Starvation: ep.starvation(starved.Snapshot), Waited: starved.Waited, cause: starved.Err}
		if e.cause == pool.ErrTimeout {
			e.cause = context.DeadlineExceeded
		}
		return e
	case errors.As(err, &failed):
		return ep.dialError(failed)
	case err == pool.ErrQueueFull:
		e := &QueueFullError{Starvation: ep.starvation(ep.pool.Snapshot()), MaxConns: ep.now.Load().policy.MaxConns}
		e.Waiting, e.Ahead = e.Stats.Waiting, e.Stats.Waiting
		if e.Reason == ReasonDialing {
			e.Reason, e.Limit = ReasonQueue, fmt.Sprintf("queue max %d", max(ep.now.Load().pool.MaxWaiters, 0))
		}
		return e
	case err == pool.ErrWouldQueue:
		return &WouldQueueError{Endpoint: ep.name}
	case err == pool.ErrClosed:
		return &ClosedError{}
	case err == pool.ErrCanceled:
		return ErrRequestCanceledWaiting
	}
	return err
}

// starvation says what a snapshot of the pool means.
func (ep *endpoint) starvation(s *pool.Snapshot) Starvation {
	f := ep.now.Load()
	out := Starvation{Endpoint: ep.name, Group: ep.key.group, Ahead: s.Ahead, Stats: newStats(s.Stats), DialErr: s.DialErr,
		Demand: Demand{Over: s.Demand.Over, Rate: s.Demand.Rate(), Hold: s.Demand.Held, Conns: s.Demand.Conns()}}
	out.Reason, out.Limit = ep.binding(s)
	if out.Reason == ReasonEndpoint {
		e := ep.t.edition.Load()
		if by := e.explain(ep.key, ep.t.ownSettings(ep.key)).From["max_conns"]; by != "policy" {
			out.SetBy = by
		}
	}
	if out.DialErr == nil {
		out.DialErr = s.Exhausted
	}
	if v, waits := ep.t.portless.Load(ep); waits {
		out.DialErr = *v.(*portWait).why.Load()
	}
	if r := dial.Exhausted(out.DialErr); r != dial.None {
		out.DialErr = ep.exhaustedError(r, out.DialErr)
	}
	for _, l := range s.Oldest {
		out.Oldest = append(out.Oldest, newLeaseInfo(l))
	}
	switch out.Reason {
	case ReasonEndpoint, ReasonHost, ReasonTransport, ReasonQueue:
		out.Unread = unread(s, or(f.policy.LeakAfter, defaultLeakAfter, 0))
		switch {
		case out.Unread > 0:
			out.Verdict = VerdictLeaked
		case out.Reason != ReasonQueue:
			out.Verdict = VerdictTooSmall
		}
	}
	return out
}

// unread returns how many leases look forgotten: their bodies are unread for leakAfter; or
// long before that, when at least half of all leases, or every one where none has ended yet,
// have bodies unread for ten times as long as leases last, and for a second.
func unread(s *pool.Snapshot, leakAfter time.Duration) (n int) {
	early := 0
	soon := max(10*s.Demand.Held, time.Second)
	for _, d := range s.Unread {
		if leakAfter > 0 && d >= leakAfter {
			n++
		}
		if d >= soon {
			early++
		}
	}
	if n == 0 && leakAfter > 0 && (s.Demand.Holds > 0 && 2*early >= s.InFlight || early == s.InFlight) {
		n = early
	}
	return n
}

// binding says which limit binds.
func (ep *endpoint) binding(s *pool.Snapshot) (Reason, string) {
	if text := ep.portText(); text != "" && s.Binding == pool.BindingDial {
		return ReasonPorts, text
	}
	switch s.Binding {
	case pool.BindingPaused:
		return ReasonPaused, "the endpoint is paused"
	case pool.BindingAdmission:
		text := ep.admissionText()
		if strings.HasPrefix(text, hostLimitName) {
			return ReasonHost, text
		}
		return ReasonTransport, text
	case pool.BindingConns:
		return ReasonEndpoint, fmt.Sprintf("endpoint max %d", s.Config.MaxConns)
	case pool.BindingDials:
		return ReasonDials, fmt.Sprintf("dials in flight max %d", s.Config.MaxDials)
	case pool.BindingBackoff:
		return ReasonBackoff, "back-off after failed dials"
	case pool.BindingExhausted:
		r := dial.Exhausted(s.Exhausted)
		return exhaustedReason(r), "this host is out of " + r.String()
	}
	return ReasonDialing, "none: its connection is being dialled"
}

func exhaustedReason(r dial.Resource) Reason {
	switch r {
	case dial.Descriptors:
		return ReasonDescriptors
	case dial.Memory:
		return ReasonMemory
	}
	return ReasonPorts
}
