package resilience

import (
	"context"
	"io"
	"sync"
	"time"
)

// timed is the context of a request under a Timeout. It makes no timer and does not
// register with its parent before somebody asks for Done: a request that is answered at
// once, over a transport that does not wait for what need not be waited for, pays for
// neither. From then on it is a context of the standard library with a timer beside it,
// which can be stopped when the response head is there, while the context lives on with
// the body; context.WithTimeout cannot.
//
// A context derived from it says Canceled when it is late, since the standard library's
// own cancelling has no other word; its cause is a lateError, and timed itself says
// DeadlineExceeded.
type timed struct {
	parent   context.Context
	deadline time.Time
	of       *Timeout

	mu      sync.Mutex // guards what follows; nothing is called that may block or call back
	late    bool       // the deadline has passed before the end
	settled bool       // it holds no more
	inner   context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
}

// lateError is the cause of what a timed context ends.
type lateError struct{}

func (*lateError) Error() string        { return context.DeadlineExceeded.Error() }
func (*lateError) Timeout() bool        { return true }
func (*lateError) Temporary() bool      { return true }
func (*lateError) Is(target error) bool { return target == context.DeadlineExceeded }

var errLate = &lateError{}

// Deadline returns the time until the response head, and until the end of its body if the
// timeout covers that.
func (c *timed) Deadline() (time.Time, bool) { return c.deadline, true }

// Done makes the timer.
func (c *timed) Done() <-chan struct{} {
	c.mu.Lock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancelCause(c.parent)
		switch {
		case c.late:
			c.cancel(errLate)
		case !c.settled:
			c.timer = time.AfterFunc(time.Until(c.deadline), c.expire)
		}
	}
	inner := c.inner
	c.mu.Unlock()
	return inner.Done()
}

// expire ends the request.
func (c *timed) expire() {
	c.mu.Lock()
	if c.settled {
		c.mu.Unlock()
		return
	}
	c.late = c.late || c.parent.Err() == nil
	cancel := c.cancel
	c.mu.Unlock()
	cancel(errLate)
}

// Err returns context.DeadlineExceeded when the request is late, else its parent's.
func (c *timed) Err() error {
	if c.expired() {
		return context.DeadlineExceeded
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Err()
	}
	return c.parent.Err()
}

// expired reports whether the deadline has passed before the exchange ended, and before
// the parent did. Once it has, it stays so. It does not wait for the timer, which may be
// late itself.
func (c *timed) expired() bool {
	c.mu.Lock()
	if !c.late && !c.settled && c.parent.Err() == nil {
		c.late = !time.Now().Before(c.deadline)
	}
	late, cancel := c.late, c.cancel
	c.mu.Unlock()
	if late && cancel != nil {
		cancel(errLate)
	}
	return late
}

// Value returns the parent's. The standard library finds its own context by it.
func (c *timed) Value(key any) any {
	if key == any(c.of) {
		return c
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

// settle has the deadline hold no more.
func (c *timed) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// finish lets go of the parent.
func (c *timed) finish() {
	c.settle()
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(nil)
	}
}

// timedBody is the response body under a timeout. Its context does not know it: who runs
// the request keeps that as long as the body is open, and a body that the caller has
// forgotten must be found.
type timedBody struct {
	io.ReadCloser
	c *timed
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		err = b.ended(err)
	}
	return n, err
}

// ended finishes the exchange, and says so if it was late.
func (b *timedBody) ended(err error) error {
	c := b.c
	late := err != io.EOF && c.expired()
	c.finish()
	if late && c.parent.Err() == nil {
		return &TimeoutError{Scope: c.of.scope, After: c.of.After, Elapsed: c.of.After, Err: err}
	}
	return err
}

// Close closes the body.
func (b *timedBody) Close() error {
	err := b.ReadCloser.Close()
	b.c.finish()
	return err
}
