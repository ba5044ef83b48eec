// Deadlines with the meaning that net.Conn gives them. A stream has one for its
// reader and one for its writer, guarded by the stream's lock.

package memnet

import (
	"sync"
	"time"
)

// deadline is a time that may be moved, before and after it has passed. The zero
// value never passes.
type deadline struct {
	at    time.Time // zero: never
	fired bool      // the timer for at went off
	timer *time.Timer
}

// set replaces the deadline. wake is broadcast when it passes, at once if it has
// passed; wake.L guards the deadline and is held by the caller. A timer that was
// replaced too late to be stopped is told by not being the deadline's any more.
func (d *deadline) set(t time.Time, wake *sync.Cond) {
	d.stop()
	d.at, d.fired = t, false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.fired = true
		wake.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		wake.L.Lock()
		defer wake.L.Unlock()
		if d.timer == timer {
			d.fired = true
			wake.Broadcast()
		}
	})
	d.timer = timer
}

// passed asks the clock too, so that the answer does not depend on which
// goroutine runs first at the instant of the deadline; and not the clock alone,
// because a wall clock that is set back would leave the woken waiter waiting.
func (d *deadline) passed() bool {
	return d.fired || !d.at.IsZero() && !time.Now().Before(d.at)
}

// stop ends the timer; the deadline stays as it is.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
