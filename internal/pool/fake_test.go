package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The fakes that the tests share: a connection that answers as it is told, an
// owner whose dials take as long as it is told, and a rig that holds a pool with
// both and a clock that begins at zero.

// fakeConn is a connection without a network. Its fields are set before it is
// handed to the pool, or through atomics.
type fakeConn struct {
	id      int
	owner   *fakeOwner
	slow    time.Duration // how long Close and Probe take
	dead    atomic.Bool   // the peer has closed it
	full    atomic.Int32  // so many times Reserve says Full
	opened  time.Duration
	mu      sync.Mutex
	idles   []time.Duration // what Reserve was told
	probes  []time.Duration // when it was probed
	closed  time.Duration   // when; negative while it is open
	reason  Reason
	reserve func() Verdict // instead of the above
	place   string
}

func (c *fakeConn) Reserve(idle time.Duration) Verdict {
	c.mu.Lock()
	c.idles = append(c.idles, idle)
	c.mu.Unlock()
	switch {
	case c.reserve != nil:
		return c.reserve()
	case c.dead.Load():
		return Dead
	case c.full.Load() > 0:
		c.full.Add(-1)
		return Full
	}
	return Ready
}

func (c *fakeConn) Place() string { return c.place }

func (c *fakeConn) Probe() bool {
	c.mu.Lock()
	c.probes = append(c.probes, c.owner.since())
	c.mu.Unlock()
	time.Sleep(c.slow)
	return !c.dead.Load()
}

func (c *fakeConn) Close(r Reason) bool {
	time.Sleep(c.slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed >= 0 {
		panic(fmt.Sprintf("connection %d is closed twice", c.id))
	}
	c.closed, c.reason = c.owner.since(), r
	c.owner.open.Add(-1)
	return c.dead.Load()
}

// end returns when the connection was closed and why; negative while it is open.
func (c *fakeConn) end() (time.Duration, Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed, c.reason
}

// probed returns when the pool has probed the connection.
func (c *fakeConn) probed() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.probes)
}

// reserved returns what Reserve was told, call by call.
func (c *fakeConn) reserved() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.idles)
}

// dialPlan is what becomes of a dial.
type dialPlan struct {
	takes    time.Duration
	err      error
	hang     bool // until it is cancelled
	capacity int  // 0 means 1
	deaf     bool // it goes on for all its time although it was cancelled
	prepare  func(*fakeConn)
}

var (
	errDial      = errors.New("connection refused")
	errExhausted = errors.New("no port left")
	errRefused   = errors.New("not wanted")
)

// fakeOwner dials as planned: the n-th dial by plans[n], those after the last by
// usual.
type fakeOwner struct {
	base  time.Time
	usual dialPlan

	mu       sync.Mutex
	plans    []dialPlan
	begun    []time.Duration // dials
	ended    []time.Duration // dials that were cancelled
	contexts []context.Context
	conns    []*fakeConn
	starved  []*Snapshot
	emptied  []time.Duration
	maxOpen  int64
	open     atomic.Int64
	onEmpty  func()
}

func (o *fakeOwner) since() time.Duration { return time.Since(o.base) }

func (o *fakeOwner) Dial(ctx context.Context, _ *Slot) (Conn, int, error) {
	o.mu.Lock()
	n := len(o.begun)
	plan := o.usual
	if n < len(o.plans) {
		plan = o.plans[n]
	}
	o.begun = append(o.begun, o.since())
	o.contexts = append(o.contexts, ctx)
	o.mu.Unlock()
	switch {
	case plan.hang:
		<-ctx.Done()
	case plan.deaf:
		time.Sleep(plan.takes)
	case plan.takes > 0:
		t := time.NewTimer(plan.takes)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if ctx.Err() != nil && !plan.deaf {
		o.ended = append(o.ended, o.since())
		return nil, 0, ctx.Err()
	}
	if plan.err != nil {
		return nil, 0, plan.err
	}
	c := &fakeConn{id: len(o.conns), owner: o, opened: o.since(), closed: -1}
	if plan.prepare != nil {
		plan.prepare(c)
	}
	o.conns = append(o.conns, c)
	o.maxOpen = max(o.maxOpen, o.open.Add(1))
	return c, cmp.Or(plan.capacity, 1), nil
}

func (o *fakeOwner) Exhausted(err error) bool { return errors.Is(err, errExhausted) }
func (o *fakeOwner) Refused(err error) bool   { return errors.Is(err, errRefused) }

func (o *fakeOwner) Starved(s *Snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.starved = append(o.starved, s)
}

func (o *fakeOwner) Empty() {
	o.mu.Lock()
	o.emptied = append(o.emptied, o.since())
	f := o.onEmpty
	o.mu.Unlock()
	if f != nil {
		f()
	}
}

// rig is a pool with its fakes.
type rig struct {
	*testing.T
	*fakeOwner
	pool *Pool
}

// generous is a configuration in which nothing binds.
func generous() Config {
	return Config{MaxConns: Unlimited, MaxIdle: Unlimited, MaxWaiters: Unlimited, MaxDials: Unlimited, MaxRequests: Unlimited, Expect: 1,
		IdleTimeout: Never, Lifetime: Never, Sweep: Never, OrphanGrace: Never, WarnAfter: Never, Forget: Never}
}

func newRig(t *testing.T, change func(*Config), plans ...dialPlan) *rig {
	t.Helper()
	return newAdmittedRig(t, nil, change, plans...)
}

func newAdmittedRig(t *testing.T, a Admission, change func(*Config), plans ...dialPlan) *rig {
	t.Helper()
	cfg := generous()
	if change != nil {
		change(&cfg)
	}
	o := &fakeOwner{base: time.Now(), plans: plans}
	r := &rig{T: t, fakeOwner: o}
	r.pool = New(o, a, func() int64 { return int64(time.Since(o.base)) + 1 }, &cfg, new(Shared))
	return r
}

// bubble runs f in a bubble, with a pool that is closed in the end.
func bubble(t *testing.T, change func(*Config), plans []dialPlan, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change, plans...)
		f(r)
		r.finish()
	})
}

// finish closes the pool; nothing may be left. Leases must have ended.
func (r *rig) finish() {
	r.Helper()
	r.pool.Close()
	s := r.pool.Stats()
	if n := r.open.Load(); n != 0 || s.Dialing+s.Leased+s.Idle+s.Draining+s.Waiting+s.InFlight != 0 {
		r.Errorf("after Close %d connections are open: %+v", n, s)
	}
	r.checkSums(s)
}

// checkSums holds the counts of a pool at rest against each other.
func (r *rig) checkSums(s Stats) {
	r.Helper()
	var closed uint64
	for _, n := range s.Closed {
		closed += n
	}
	if s.DialsOK != closed || closed != s.WeFirst+s.PeerFirst {
		r.Errorf("%d dials, %d closes, %d by us first and %d by the peer", s.DialsOK, closed, s.WeFirst, s.PeerFirst)
	}
}

// sleep lets time pass and everything come to rest.
func (r *rig) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) until(d time.Duration) { r.sleep(d - r.since()) }

// at fails the test unless d has passed since its beginning.
func (r *rig) at(d time.Duration) {
	r.Helper()
	if now := r.since(); now != d {
		r.Errorf("%v have passed, expected %v", now, d)
	}
}

func (r *rig) config(change func(*Config)) {
	r.pool.mu.Lock()
	cfg := *r.pool.core.cfg
	r.pool.mu.Unlock()
	change(&cfg)
	r.pool.SetConfig(&cfg)
}

var get = Request{Method: "GET", Path: "/", Budget: Never}

// call is a request under way.
type call struct {
	r      *rig
	cancel context.CancelCauseFunc
	done   chan struct{}
	lease  *Lease
	err    error
	at     time.Duration // when it was answered
}

var errGone = errors.New("the caller has gone")

// begin makes a request on a goroutine of its own, and lets it come to rest.
func (r *rig) begin() *call { return r.beginAs(context.Background(), get) }

func (r *rig) beginAs(ctx context.Context, req Request) *call {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &call{r: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.lease, c.err = r.pool.Acquire(ctx, r.pool.clock(), req)
		c.at = r.since()
	}()
	synctest.Wait()
	return c
}

func (c *call) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// waiting fails the test if the request has been answered.
func (c *call) waiting() {
	c.r.Helper()
	if c.over() {
		c.r.Fatalf("the request does not wait: %v, %v", c.lease, c.err)
	}
}

// gets fails the test unless the request has been given connection id.
func (c *call) gets(id int) *Lease {
	c.r.Helper()
	switch {
	case !c.over():
		c.r.Fatalf("at %v the request still waits for connection %d", c.r.since(), id)
	case c.err != nil:
		c.r.Fatalf("the request failed: %v, expected connection %d", c.err, id)
	case c.conn().id != id:
		c.r.Fatalf("the request got connection %d, expected %d", c.conn().id, id)
	}
	return c.lease
}

// getsAt says when as well.
func (c *call) getsAt(id int, at time.Duration) *Lease {
	c.r.Helper()
	l := c.gets(id)
	if c.at != at {
		c.r.Errorf("the request got connection %d at %v, expected %v", id, c.at, at)
	}
	return l
}

// fails returns the error of a request that must have failed at that time.
func (c *call) failsAt(at time.Duration) error {
	c.r.Helper()
	switch {
	case !c.over():
		c.r.Fatalf("at %v the request still waits, expected an error", c.r.since())
	case c.err == nil:
		c.r.Fatalf("the request got connection %d, expected an error", c.conn().id)
	case c.at != at:
		c.r.Errorf("the request failed at %v, expected %v", c.at, at)
	}
	return c.err
}

func (c *call) conn() *fakeConn { return c.lease.Conn().(*fakeConn) }

// get makes a request that must be answered.
func (r *rig) get() *Lease {
	r.Helper()
	l, err := r.pool.Acquire(context.Background(), r.pool.clock(), get)
	if err != nil {
		r.Fatalf("the request failed: %v", err)
	}
	return l
}

// getConn makes a request that must be answered by connection id.
func (r *rig) getConn(id int) *Lease {
	r.Helper()
	l := r.get()
	if got := l.Conn().(*fakeConn).id; got != id {
		r.Fatalf("the request got connection %d, expected %d", got, id)
	}
	return l
}

// open makes n connections at once and returns their leases.
func (r *rig) leases(n int) []*Lease {
	r.Helper()
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = r.begin()
	}
	ls := make([]*Lease, n)
	for i, c := range calls {
		<-c.done
		if c.err != nil {
			r.Fatalf("the request failed: %v", c.err)
		}
		ls[i] = c.lease
	}
	return ls
}

// put ends a request well, and lets what follows come to rest.
func (r *rig) put(ls ...*Lease) {
	for _, l := range ls {
		l.Release(r.pool.clock(), Fate{Keep: true, MaxLeft: -1})
	}
	synctest.Wait()
}

// fate ends a request as told.
func (r *rig) fate(l *Lease, f Fate) {
	l.Release(r.pool.clock(), f)
	synctest.Wait()
}

// drop ends a request whose connection is of no use any more.
func (r *rig) drop(ls ...*Lease) {
	for _, l := range ls {
		r.fate(l, Fate{Reason: ReasonError, MaxLeft: -1})
	}
}

// dials fails the test unless dials began at exactly these times.
func (r *rig) dials(want ...time.Duration) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(want, r.begun) {
		r.Errorf("dials began at %v, expected %v", r.begun, want)
	}
}

// closedAt fails the test unless connection id was closed then and for that.
func (r *rig) closedAt(id int, at time.Duration, why Reason) {
	r.Helper()
	if got, reason := r.conn(id).end(); got != at || reason != why {
		r.Errorf("connection %d was closed at %v (%v), expected %v (%v)", id, got, reason, at, why)
	}
}

// alive fails the test if one of the connections was closed.
func (r *rig) alive(ids ...int) {
	r.Helper()
	for _, id := range ids {
		if at, why := r.conn(id).end(); at >= 0 {
			r.Errorf("connection %d was closed at %v (%v)", id, at, why)
		}
	}
}

// conn returns the connection that was opened as the id-th.
func (o *fakeOwner) conn(id int) *fakeConn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conns[id]
}

// count returns how many connections have been opened, and how many at once.
func (o *fakeOwner) count() (all, atOnce int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns), int(o.maxOpen)
}

// toldEmpty returns when the owner was told that the pool is empty.
func (o *fakeOwner) toldEmpty() []time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.emptied)
}

// toldStarved returns what the owner was told of requests that starve.
func (o *fakeOwner) toldStarved() []*Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.starved)
}

// starvedError returns what the error says about the pool.
func (r *rig) starvedError(err error) *Snapshot {
	r.Helper()
	var s *StarvedError
	if !errors.As(err, &s) {
		r.Fatalf("the error is %v, expected a StarvedError", err)
	}
	return s.Snapshot
}

// TestMain fails the package when a goroutine of a pool is left in the end.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leftGoroutines(5 * time.Second); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftGoroutines returns the stacks that run in this package, besides the
// caller's, once they had the time to end.
func leftGoroutines(patience time.Duration) string {
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "/internal/pool.") && !strings.Contains(g, "leftGoroutines") && !strings.Contains(g, ".TestMain(") {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}
