package h1

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/pool"
)

// patience is how long an exchange goes on before the watch over its context is
// armed, on connections that hear of it by a deadline. Most exchanges are over by
// then: arming costs five allocations, the deadline none. A context that is
// cancelled within that time is heard at the end of it; a context's own deadline is
// kept to.
const patience = 5 * time.Millisecond

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// legacyCancel watches the deprecated Request.Cancel.
type legacyCancel struct {
	state atomic.Int32 // 0 watching, 1 fired, 2 over
	done  chan struct{}
}

// ErrRequestCanceled: the request's deprecated Cancel channel was closed.
var ErrRequestCanceled = errors.New("net/http: request canceled")

// LegacyCancel returns the request's deprecated Cancel channel. It is honoured
// because http.Client sets it for a RoundTripper that it does not know.
func LegacyCancel(req *http.Request) <-chan struct{} {
	//lint:ignore SA1019 see above
	return req.Cancel
}

// watch begins the watch over the request's context and Cancel channel. patient
// says that nothing but this goroutine will work for the exchange, so that the
// watch can be armed when a read or a write takes longer than patience.
func (c *Conn) watch(patient bool) {
	if patient && c.raw.direct {
		end := time.Now().Add(patience)
		if d, ok := c.x.ctx.Deadline(); ok && d.Before(end) {
			end = d
		}
		c.raw.patient = true
		c.stale = true
		c.nc.SetDeadline(end)
		return
	}
	c.clearPatience()
	c.arm()
}

// patient reports whether an exchange without a sender may leave its watch unarmed
// for a while: not when the head is due sooner, and not when a hook may be given the
// connection, whose deadlines are the hook's to set then.
func (c *Conn) patient(x *Exchange) bool {
	return x.Trace == nil && (x.Options.HeaderTimeout <= 0 || x.Options.HeaderTimeout > patience)
}

// lapse ends the patience: the watch is armed, and the deadline gives way to the
// exchange's own. It reports false when there was none, or when the deadline was not
// its end but an interruption.
func (c *Conn) lapse() bool {
	if !c.raw.patient {
		return false
	}
	c.raw.patient = false
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return false
	}
	c.stale = false
	c.nc.SetDeadline(time.Time{})
	if !c.x.until.IsZero() {
		c.deadline = true
		c.nc.SetReadDeadline(c.x.until)
	}
	c.mu.Unlock()
	c.arm()
	return true
}

// canceled looks for the end of the context, and interrupts the exchange then.
func (c *Conn) canceled() bool {
	if c.x.ctx.Err() != nil {
		c.interrupt(context.Cause(c.x.ctx))
		return true
	}
	select {
	case <-c.x.cancel:
		c.interrupt(ErrRequestCanceled)
		return true
	default:
		return false
	}
}

// clearPatience takes away the deadline that an exchange may have left behind: it
// is not worth its price to do so before somebody may run into it.
func (c *Conn) clearPatience() {
	c.notPatient()
	if c.stale {
		c.stale = false
		c.nc.SetDeadline(time.Time{})
	}
}

// notPatient ends the patience. It writes only if there is any: a sender may be at
// work that looks whether there is.
func (c *Conn) notPatient() {
	if c.raw.patient {
		c.raw.patient = false
	}
}

// arm arms the interruption by the request's context and Cancel channel.
func (c *Conn) arm() {
	if ctx := c.x.ctx; ctx.Done() != nil {
		c.x.stop = context.AfterFunc(ctx, func() { c.interrupt(context.Cause(ctx)) })
	}
	if cancel := c.x.cancel; cancel != nil {
		l := &legacyCancel{done: make(chan struct{})}
		c.x.legacy = l
		go func() { // ends with the exchange: unwatch closes done
			select {
			case <-cancel:
				if l.state.CompareAndSwap(0, 1) {
					c.interrupt(ErrRequestCanceled)
				}
			case <-l.done:
			}
		}()
	}
}

// unwatch ends the watch. It reports false when the interruption has begun: the
// connection must not be used again then, since a deadline may be set any moment.
func (c *Conn) unwatch() bool {
	c.notPatient()
	ok := true
	if c.x.stop != nil {
		ok = c.x.stop()
	}
	if l := c.x.legacy; l != nil {
		if !l.state.CompareAndSwap(0, 2) {
			ok = false
		}
		close(l.done)
	}
	return ok
}

// interrupt ends every read and write of the exchange with cause.
func (c *Conn) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interruptLocked(cause)
}

// interruptExchange interrupts the exchange with that number, unless it is over.
func (c *Conn) interruptExchange(seq uint64, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seq == seq {
		c.interruptLocked(cause)
	}
}

func (c *Conn) interruptLocked(cause error) {
	if c.cause == nil {
		c.cause = cause
	}
	c.deadline = true
	c.nc.SetDeadline(past)
}

// setReadDeadline sets a deadline, unless the exchange is interrupted.
func (c *Conn) setReadDeadline(t time.Time) {
	c.lapse()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.deadline = !t.IsZero()
		c.nc.SetReadDeadline(t)
	}
}

// sentAll notes that the whole request has left: the response head is due from now
// on. Its deadline is set at once, or when the patience ends.
func (c *Conn) sentAll() {
	c.owner.SetPhase(pool.PhaseAwaiting)
	if d := c.x.opts.HeaderTimeout; d > 0 && c.x.until.IsZero() {
		c.x.until = time.Now().Add(d)
		if !c.raw.patient {
			c.setReadDeadline(c.x.until)
		}
	}
}

// interrupted returns why the exchange was interrupted, or nil.
func (c *Conn) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}
