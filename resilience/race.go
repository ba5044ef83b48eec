package resilience

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/berth-go/berth"
)

// race is one request of a Hedge and its attempts. The first runs on the goroutine of
// RoundTrip, one that a timer starts on the timer's; what takes the place of a failed one
// runs where that ran. Whoever brings the outcome ends the race: it stops the timer and
// cancels the others, which end by themselves.
type race struct {
	*hedger
	req   *http.Request
	start time.Time
	delay time.Duration
	times *quantile // nil without
	first runner

	// mu guards the rest. While it is held nothing is closed, cancelled or sent, and neither
	// budget, Trace nor GetBody is called. An attempt's context and request are made under
	// it: as long as the race is not over, the caller's request does not change.
	mu      sync.Mutex
	one     [1]*runner
	running []*runner
	begun   int // attempts
	hedges  int // of them beside the first, less those that were dropped
	timer   *time.Timer
	met     []Attempt // what failed
	kept    outcome   // the last failed response, until something better comes
	stopped string    // why no other attempt was made
	over    bool
	result  outcome       // when it is over
	ready   bool          // it is over, and Trace was told how
	woken   chan struct{} // closed when it is ready; nil as long as nobody waits for that
}

// runner is an attempt that runs.
type runner struct {
	n      int
	hedge  bool // it began beside another, and does not queue
	start  time.Duration
	req    *http.Request
	cancel context.CancelCauseFunc
}

// outcome is what an attempt has met.
type outcome struct {
	*runner
	resp *http.Response
	err  error
	met  *Attempt // if it is no success, or Trace wants to know
}

// errOutrun is the cause of the end of an attempt's context when another was faster.
var errOutrun = fmt.Errorf("another attempt has answered: %w", context.Canceled)

// run runs the race and returns its outcome.
func (r *race) run() (*http.Response, error) {
	over := false
	defer func() {
		if !over { // the RoundTripper below panics
			r.abandon(errOutrun)
		}
	}()
	a := &r.first
	a.n = 1
	ctx, cancel := context.WithCancelCause(r.req.Context())
	a.cancel = cancel
	a.req = r.req.WithContext(ctx)
	r.one[0], r.running, r.begun = a, r.one[:], 1
	if r.delay > 0 {
		r.mu.Lock()
		r.timer = time.AfterFunc(r.delay, r.due)
		r.mu.Unlock()
	} else {
		for range r.MaxHedges {
			if h := r.another(nil); h != nil {
				go r.pursue(h) // ends with its attempt, which the race's end cancels
			}
		}
	}
	r.pursue(a)
	r.wait()
	over = true
	return r.answer()
}

// due begins another attempt, on the timer's goroutine.
func (r *race) due() {
	if a := r.another(nil); a != nil {
		r.pursue(a)
	}
}

// pursue runs an attempt, and those that take its place when it fails.
func (r *race) pursue(a *runner) {
	for a != nil {
		resp, err := r.send(a.req)
		a = r.ended(a, resp, err)
	}
}

// another begins an attempt, unless there were enough or the race is over: nil. It is to
// take the place of failed, which counts as running until then; that may be nil.
func (r *race) another(failed *runner) *runner {
	r.mu.Lock()
	if r.over || r.hedges == r.MaxHedges || r.req.Context().Err() != nil {
		r.mu.Unlock()
		return nil
	}
	r.hedges++
	r.mu.Unlock()

	if !r.budget.take() {
		r.notBegun("budget")
		return nil
	}
	body := r.req.Body
	if r.req.GetBody != nil && body != nil && body != http.NoBody {
		var err error
		if body, err = r.req.GetBody(); err != nil {
			r.budget.give()
			r.notBegun("body")
			return nil
		}
	}

	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		r.budget.give()
		if body != nil {
			body.Close()
		}
		return nil
	}
	r.begun++
	a := &runner{n: r.begun, start: time.Since(r.start), hedge: len(r.running) > 1 || r.running[0] != failed}
	ctx := r.req.Context()
	if a.hedge {
		ctx = berth.WithoutQueue(ctx)
	}
	ctx, a.cancel = context.WithCancelCause(withAttempt(ctx, a.n))
	// A copy of its own: it may still be read when RoundTrip has returned.
	a.req = r.req.Clone(ctx)
	a.req.Body = body
	r.running = append(r.running, a)
	if r.timer != nil && r.begun <= r.MaxHedges {
		r.timer.Reset(r.delay)
	}
	r.mu.Unlock()
	return a
}

// notBegun takes back that there would be another attempt.
func (r *race) notBegun(why string) {
	r.mu.Lock()
	r.hedges--
	r.stopped = why
	r.mu.Unlock()
	if r.Trace != nil {
		r.Trace.reject(RejectInfo{Endpoint: endpointOf(r.req), Strategy: "hedge", Why: why})
	}
}

// verdict is what an attempt's end means.
type verdict int

const (
	wins    verdict = iota // it is the outcome of the request
	fails                  // another may do better
	stays                  // another would do no better, but one that runs may
	dropped                // it was a hedge too many
)

func (r *race) judge(a *runner, resp *http.Response, err error) verdict {
	ctx := r.req.Context()
	if err == nil {
		if Transient(ctx, resp, nil) {
			return fails
		}
		return wins
	}
	var (
		queue *berth.WouldQueueError
		limit *LimitError
		open  *CircuitOpenError
	)
	refused := errors.As(err, &queue) || errors.As(err, &limit)
	switch {
	case refused && a.hedge:
		return dropped
	case ctx.Err() != nil:
		return wins
	case refused || starved(err):
		return stays
	case errors.As(err, &open) || Transient(ctx, nil, err):
		return fails
	}
	return wins
}

// ended is told what an attempt has met, and returns the one that takes its place, or nil.
func (r *race) ended(a *runner, resp *http.Response, err error) *runner {
	o := outcome{runner: a, resp: resp, err: err}
	v := r.judge(a, resp, err)
	var took time.Duration
	if v != wins || r.times != nil || r.Trace != nil {
		took = time.Since(r.start) - a.start
		if v != wins || r.Trace != nil {
			met := newAttempt(a.n, a.start, took, resp, err, time.Now())
			met.Hedge = a.hedge
			o.met = &met
		}
	}
	var next *runner
	switch v {
	case dropped:
		r.drop(err)
		if r.alone(a) {
			next = r.another(a)
		}
	case fails:
		next = r.another(a)
	}

	r.mu.Lock()
	r.running = slices.DeleteFunc(r.running, func(b *runner) bool { return b == a })
	outrun := r.over
	var losers []*runner
	var before outcome // what was kept until now
	switch {
	case outrun:
	case v == wins:
		losers, before = slices.Clone(r.running), r.kept
		r.kept = outcome{}
		r.settleLocked(o)
	default:
		if v != dropped {
			r.met = append(r.met, *o.met)
		}
		if resp != nil && next == nil {
			before, r.kept = r.kept, o
		}
		if len(r.running) == 0 {
			r.settleLocked(r.lostLocked(o))
		}
	}
	kept, result := r.kept.runner == a, r.result
	settled := r.over && !outrun
	r.mu.Unlock()

	for _, b := range losers {
		b.cancel(errOutrun)
	}
	r.discard(before, nil)
	if settled && result.runner != a {
		r.tell(result, true)
	}
	final := settled && result.runner == a
	switch {
	case outrun:
		a.cancel(errOutrun) // first: its connection is not worth a wait for the rest of the body
		r.discard(o, nil)
	case final && resp != nil: // it is the caller's
		r.tell(o, true)
	case kept: // and told of later
	case v == dropped:
		a.cancel(nil)
	case final:
		a.cancel(nil)
		r.tell(o, true)
	default:
		r.discard(o, nil)
	}
	if r.times != nil && a.n == 1 && (outrun || v == wins && err == nil) {
		// One that was outrun would have taken longer: without it, the slow would not count.
		r.times.add(took)
	}
	if settled {
		r.wake()
	}
	return next
}

// drop takes a hedge back that was refused for want of room.
func (r *race) drop(err error) {
	r.budget.give()
	r.mu.Lock()
	r.hedges--
	r.mu.Unlock()
	var queue *berth.WouldQueueError
	if r.Trace != nil && errors.As(err, &queue) {
		r.Trace.reject(RejectInfo{Endpoint: endpointOf(r.req), Strategy: "hedge", Why: "queue"})
	}
}

// alone says that no other attempt runs.
func (r *race) alone(a *runner) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.running) == 1 && r.running[0] == a
}

// settleLocked ends the race.
func (r *race) settleLocked(o outcome) {
	r.over, r.result = true, o
	if r.timer != nil {
		r.timer.Stop()
	}
}

// wake lets RoundTrip return.
func (r *race) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
	if r.woken != nil {
		close(r.woken)
	}
}

// lostLocked is the outcome when all have failed, the last with o.
func (r *race) lostLocked(o outcome) outcome {
	if r.kept.resp != nil {
		o, r.kept = r.kept, outcome{}
		return o
	}
	last := r.met[len(r.met)-1]
	if len(r.met) == 1 && last.Err != nil {
		return outcome{runner: o.runner, err: last.Err, met: o.met}
	}
	e := &AttemptsError{
		Method: methodOf(r.req), Endpoint: endpointOf(r.req), Path: pathOf(r.req), Strategy: "hedge",
		Attempts: r.met, Elapsed: time.Since(r.start), Stopped: r.stopped,
	}
	switch {
	case e.Stopped != "":
	case r.hedges < r.MaxHedges:
		e.Stopped = "permanent"
	default:
		e.Stopped = "retries"
	}
	if r.budget != nil {
		e.ratio = r.budget.ratio
	}
	return outcome{runner: o.runner, err: e, met: o.met}
}

// wait waits until the race is over, or the request's context has ended.
func (r *race) wait() {
	r.mu.Lock()
	if r.ready {
		r.mu.Unlock()
		return
	}
	r.woken = make(chan struct{})
	r.mu.Unlock()
	ctx := r.req.Context()
	select {
	case <-r.woken:
	case <-ctx.Done():
		r.abandon(context.Cause(ctx))
	}
}

// abandon ends the race with that error, unless it is over.
func (r *race) abandon(err error) {
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	losers, kept := slices.Clone(r.running), r.kept
	r.kept = outcome{}
	r.settleLocked(outcome{err: err})
	r.mu.Unlock()
	for _, b := range losers {
		b.cancel(err)
	}
	r.discard(kept, err)
	r.wake()
}

// answer is what RoundTrip returns when the race is over.
func (r *race) answer() (*http.Response, error) {
	o := r.result
	if o.err != nil {
		return nil, o.err
	}
	resp := o.resp
	resp.Request = r.req
	hold(resp, o.cancel)
	return resp, nil
}

// discard ends what is not the request's outcome, and tells of it; the zero outcome has
// nothing to end.
func (r *race) discard(o outcome, why error) {
	if o.runner == nil {
		return
	}
	discard(o.resp)
	o.cancel(why)
	r.tell(o, false)
}

// tell tells of an attempt that has ended.
func (r *race) tell(o outcome, final bool) {
	if r.Trace != nil {
		r.Trace.attempt(AttemptInfo{Endpoint: endpointOf(r.req), Strategy: "hedge", Attempt: *o.met, Final: final})
	}
}
