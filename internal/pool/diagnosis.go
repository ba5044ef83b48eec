package pool

import "time"

// diagnosis is what a pool knows that has had more requests than connections, or lost a
// body: what it takes to tell a limit that is too small from connections that leak.
type diagnosis struct {
	captureUntil int64 // every lease's call site is asked for until then
	starvedAt    int64 // a request has waited in vain, or for WarnAfter, at last; 0 when none has

	suspects             int // leases whose watch says so
	suspected, reclaimed uint64

	now, before window
}

// window counts for demandWindow.
type window struct {
	begun           int64
	arrivals, holds uint64
	held            int64 // sum of the holds
}

const (
	// demandWindow is half of the time that a demand is told of, at least.
	demandWindow = int64(30 * time.Second)

	// captureAfterStarving and captureAfterLeak are how long every lease's call site is
	// asked for then: holders are to be named without anything being switched on.
	captureAfterStarving = time.Minute
	captureAfterLeak     = 10 * time.Minute
)

// Demand is what requests asked of a pool that had none left to give, for a while.
type Demand struct {
	Over     time.Duration // so long; 0 when nothing was counted
	Arrivals uint64        // requests that came
	Holds    uint64        // leases that ended
	Held     time.Duration // their mean
}

// Rate is requests a second.
func (d Demand) Rate() float64 {
	if d.Over <= 0 {
		return 0
	}
	return float64(d.Arrivals) / d.Over.Seconds()
}

// Conns is how many connections that keeps in use, by Little's law: the rate of arrivals
// times the mean of the holds. With less than one lease that has ended it is 0.
func (d Demand) Conns() float64 { return d.Rate() * d.Held.Seconds() }

func (c *core) diagnose() *diagnosis {
	if c.diag == nil {
		c.diag = new(diagnosis)
	}
	return c.diag
}

// at begins a new window when the current one is over.
func (d *diagnosis) at(now int64) *window {
	switch {
	case d.now.begun == 0:
		d.now.begun = now
	case now-d.now.begun >= 2*demandWindow: // a pause in which nothing happened
		d.before, d.now = window{}, window{begun: now}
	case now-d.now.begun >= demandWindow:
		d.before, d.now = d.now, window{begun: now}
	}
	return &d.now
}

func (d *diagnosis) arrived(now int64) { d.at(now).arrivals++ }

func (d *diagnosis) held(hold, now int64) {
	w := d.at(now)
	w.holds++
	w.held += hold
}

func (d *diagnosis) demand(now int64) Demand {
	w := *d.at(now)
	if b := d.before; b.begun != 0 {
		w.begun = b.begun
		w.arrivals += b.arrivals
		w.holds += b.holds
		w.held += b.held
	}
	out := Demand{Over: durationBetween(w.begun, now), Arrivals: w.arrivals, Holds: w.holds}
	if w.holds > 0 {
		out.Held = time.Duration(w.held / int64(w.holds))
	}
	return out
}

// starved notes that a request got no connection in time, if others hold them: one that
// waits for its dial learns nothing by their call sites.
func (c *core) starved(now int64) {
	if c.total < c.cfg.MaxConns && c.admission == nil {
		return
	}
	d := c.diagnose()
	d.starvedAt = now
	d.captureUntil = max(d.captureUntil, after(now, captureAfterStarving))
}

// The sample: samplesPerSecond leases a second once sampleBurst are spent. What it costs is
// bounded whatever the rate, and a pool with little to do has every lease in it.
const (
	samplesPerSecond = 20
	sampleBurst      = 32
	sampleEvery      = int64(time.Second) / samplesPerSecond
)

// sample says whether the call site of the lease that begins is to be asked for.
func (c *core) sample(now int64) bool {
	if to := max(c.sampledTo, now-sampleBurst*sampleEvery); to <= now {
		c.sampledTo = to + sampleEvery
		return true
	}
	return c.diag != nil && now < c.diag.captureUntil
}
