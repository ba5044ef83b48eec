package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

type waiterState uint8

const (
	waiterNew waiterState = iota
	waiterQueued
	waiterGranted
	waiterFailed
)

// Waiter is a request in the queue. Its fields belong to the pool's lock; ready
// carries one token after the state became granted or failed.
type Waiter struct {
	prev, next *Waiter
	state      waiterState
	lease      *Lease
	err        error
	since      int64
	ctx        context.Context // for the values that a dial inherits
	dial       *Slot           // the dial started for this waiter, while in flight
	hasty      bool            // fails rather than queue; see hasty.go
	method     string
	path       string

	ready chan struct{}
	timer *time.Timer
}

// Shared holds what the pools of one transport share, so that nothing made in
// one synctest bubble is used in another.
type Shared struct {
	waiters sync.Pool
	leases  sync.Pool

	// Hungry says that a dial waits for a place under a limit over several pools: they
	// tell [Admission] then when a connection turns idle.
	Hungry atomic.Bool

	// SiteDone is told that a lease with a call site has ended; nil is not. It is called
	// without any lock held, and set before the first pool is made.
	SiteDone func(*Site)
}

func (sh *Shared) getWaiter() *Waiter {
	if w, ok := sh.waiters.Get().(*Waiter); ok {
		return w
	}
	return &Waiter{ready: make(chan struct{}, 1)}
}

func (sh *Shared) putWaiter(w *Waiter) {
	if w.timer != nil {
		w.timer.Stop() // before the next request can have it
	}
	*w = Waiter{ready: w.ready, timer: w.timer}
	sh.waiters.Put(w)
}

func (sh *Shared) getLease() *Lease {
	if l, ok := sh.leases.Get().(*Lease); ok {
		return l
	}
	return new(Lease)
}

// waiterList is an intrusive list, oldest first.
type waiterList struct {
	front, back *Waiter
	len         int
	hasty       int // those of them that are
}

func (wl *waiterList) pushBack(w *Waiter) {
	w.prev, w.next = wl.back, nil
	if wl.back != nil {
		wl.back.next = w
	} else {
		wl.front = w
	}
	wl.back = w
	wl.count(w, 1)
}

func (wl *waiterList) pushFront(w *Waiter) {
	w.prev, w.next = nil, wl.front
	if wl.front != nil {
		wl.front.prev = w
	} else {
		wl.back = w
	}
	wl.front = w
	wl.count(w, 1)
}

func (wl *waiterList) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		wl.front = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		wl.back = w.prev
	}
	w.prev, w.next = nil, nil
	wl.count(w, -1)
}

func (wl *waiterList) count(w *Waiter, n int) {
	wl.len += n
	if w.hasty {
		wl.hasty += n
	}
}
