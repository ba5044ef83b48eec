package pool

import (
	"context"
	"testing"
	"time"
)

type benchConn struct{}

func (benchConn) Reserve(time.Duration) Verdict { return Ready }
func (benchConn) Probe() bool                   { return true }
func (benchConn) Close(Reason) bool             { return false }

type benchOwner struct{}

func (benchOwner) Dial(context.Context) (Conn, int, error) { return benchConn{}, 1, nil }
func (benchOwner) Exhausted(error) bool                    { return false }
func (benchOwner) Starved(*Snapshot)                       {}
func (benchOwner) Empty()                                  {}

func benchPool(conns int) *Pool {
	base := time.Now()
	cfg := Config{MaxConns: conns, MaxIdle: Unlimited, MaxWaiters: Unlimited, MaxDials: 100, MaxRequests: Unlimited, Expect: 1,
		IdleTimeout: time.Minute, Lifetime: 10 * time.Minute, Sweep: 5 * time.Second, OrphanGrace: 5 * time.Second, WarnAfter: Never, Forget: time.Minute}
	return New(benchOwner{}, nil, func() int64 { return int64(time.Since(base)) + 1 }, cfg, new(Shared))
}

// One request at a time: the fast path of acquire and release.
func BenchmarkAcquireRelease(b *testing.B) {
	p := benchPool(64)
	defer p.Close()
	ctx, now := context.Background(), p.clock()
	r := Request{Method: "GET", Path: "/", Budget: Never}
	b.ReportAllocs()
	for b.Loop() {
		l, err := p.Acquire(ctx, now, r)
		if err != nil {
			b.Fatal(err)
		}
		l.Release(now, Fate{Keep: true, MaxLeft: -1})
	}
}

// 64 goroutines share 64 connections: the lock is fought for, nobody waits long.
func BenchmarkAcquireRelease64(b *testing.B) {
	p := benchPool(64)
	defer p.Close()
	ctx, now := context.Background(), p.clock()
	r := Request{Method: "GET", Path: "/", Budget: Never}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := p.Acquire(ctx, now, r)
			if err != nil {
				b.Error(err)
				return
			}
			l.Release(now, Fate{Keep: true, MaxLeft: -1})
		}
	})
}
