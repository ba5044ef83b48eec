package pool

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quotaOwner dials connections that count how many are open.
type quotaOwner struct {
	benchOwner
	open, most *atomic.Int64
}

func (o quotaOwner) Dial(context.Context, *Slot) (Conn, int, error) {
	n := o.open.Add(1)
	for m := o.most.Load(); n > m && !o.most.CompareAndSwap(m, n); m = o.most.Load() {
	}
	return quotaConn{open: o.open}, 1, nil
}

type quotaConn struct {
	benchConn
	open *atomic.Int64
}

func (c quotaConn) Close(Reason) bool {
	c.open.Add(-1)
	return false
}

// Pools that come, go and close while all of them are used: the limit holds, everybody is
// served, and in the end nothing is counted.
func TestQuotaHoldsUnderLoad(t *testing.T) {
	const limit = 4
	base := time.Now()
	clock := func() int64 { return int64(time.Since(base)) + 1 }
	shared := new(Shared)
	q := NewQuota(clock, shared)
	l := &Limit{}
	q.SetMax(l, limit)
	var open, most atomic.Int64
	cfg := generous()
	cfg.MinIdle = 1
	var pools []*Pool
	var members []*Member
	for range 6 {
		p := New(quotaOwner{open: &open, most: &most}, nil, clock, &cfg, shared)
		pools = append(pools, p)
		members = append(members, q.Join(p, l))
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 2000 {
				p := pools[r.IntN(len(pools))]
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(20) == 0 {
					cancel()
				}
				lease, err := p.Acquire(ctx, clock(), Request{Budget: Never})
				if err == nil {
					lease.Release(clock(), Fate{Keep: r.IntN(10) > 0, Reason: ReasonError, MaxLeft: -1})
				} else if ctx.Err() == nil {
					t.Error(err)
				}
				cancel()
				if r.IntN(200) == 0 {
					p.CloseIdle()
				}
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > limit {
		t.Errorf("%d connections at once, the limit is %d", n, limit)
	}
	for i, m := range members { // the first half leaves, and has no limit any more
		if i%2 == 0 {
			q.Leave(m)
		}
	}
	for _, p := range pools {
		p.Close()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.used != 0 || len(q.waiting) != 0 || open.Load() != 0 {
		t.Errorf("in the end %d are counted, %d wait, %d are open", l.used, len(q.waiting), open.Load())
	}
}

// A pool joins with what it has; a limit that is passed by that has idle connections
// closed.
func TestQuotaCountsWhatJoins(t *testing.T) {
	base := time.Now()
	clock := func() int64 { return int64(time.Since(base)) + 1 }
	shared := new(Shared)
	q := NewQuota(clock, shared)
	l := &Limit{}
	q.SetMax(l, 3)
	var open, most atomic.Int64
	cfg := generous()
	p := New(quotaOwner{open: &open, most: &most}, nil, clock, &cfg, shared)
	defer p.Close()
	if err := p.Warm(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	m := q.Join(p, l)
	if n := open.Load(); n != 3 {
		t.Errorf("%d connections after joining a limit of 3", n)
	}
	q.SetMax(l, 1)
	if n := open.Load(); n != 1 {
		t.Errorf("%d connections with a limit of 1", n)
	}
	q.Leave(m)
	if err := p.Warm(t.Context(), 8); err != nil || open.Load() != 8 {
		t.Errorf("%d connections without a limit: %v", open.Load(), err)
	}
}
