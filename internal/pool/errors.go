package pool

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrClosed: the pool accepts no request any more.
	ErrClosed = errors.New("pool: closed")
	// ErrForgotten: the pool was empty for long and has been given up; its
	// owner makes a new one.
	ErrForgotten = errors.New("pool: forgotten")
	// ErrQueueFull: MaxWaiters requests wait already.
	ErrQueueFull = errors.New("pool: queue is full")
	// ErrWouldQueue: the request's context says that it does not queue, and it would have
	// to.
	ErrWouldQueue = errors.New("pool: would queue")
	// ErrTimeout: the acquire budget is used up.
	ErrTimeout = errors.New("pool: acquire timeout")
	// ErrCanceled: the request's Cancel channel was closed.
	ErrCanceled = errors.New("pool: canceled")
)

// DialError: the dial that was made for this request failed, or the endpoint is
// in back-off and no dial was made.
type DialError struct {
	Err      error         // what the dial said
	Failures int           // failures in a row so far
	Backoff  time.Duration // until the next attempt; 0 when this was an attempt
}

func (e *DialError) Error() string {
	if e.Backoff > 0 {
		return fmt.Sprintf("pool: dial back-off after %d failures: %v", e.Failures, e.Err)
	}
	return fmt.Sprintf("pool: dial: %v", e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

// StarvedError: a request got no connection within its budget. Err is ErrTimeout,
// or the cause of its context.
type StarvedError struct {
	Err      error
	Waited   time.Duration
	Snapshot *Snapshot // as it was at that moment
}

func (e *StarvedError) Error() string {
	return fmt.Sprintf("pool: starved for %v: %v", e.Waited, e.Err)
}

func (e *StarvedError) Unwrap() error { return e.Err }
