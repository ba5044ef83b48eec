// Streams: one direction of a connection, a bounded buffer between one writing
// and one reading end. conn.go has two of them; neither knows of the other, so
// that a full one never holds up the one that goes back.

package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is one direction. Its two errors are its state:
//
//	                 readErr                writeErr
//	open             nil                    nil
//	finish           EOF                    EPIPE
//	closeWriter      EOF │ ECONNRESET       ErrClosed
//	closeReader      ErrClosed              EPIPE │ ECONNRESET
//
// readErr counts once the buffer is empty, writeErr at once. ErrClosed, the word
// to an end about its own Close, replaces any other; ECONNRESET replaces EOF,
// which the reader has not necessarily seen.
type stream struct {
	// mu is held for copying and bookkeeping only; waiting is done on the
	// conditions.
	mu       sync.Mutex
	readable sync.Cond // bytes, an end, or a deadline for the reader
	writable sync.Cond // room, an end, a deadline, or the turn for a writer

	buf           ring
	writing       bool // a Write is under way and waits for room
	readErr       error
	writeErr      error
	readDeadline  deadline
	writeDeadline deadline
}

func newStream(size int) *stream {
	s := &stream{buf: ring{limit: size}}
	s.readable.L = &s.mu
	s.writable.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readErr == net.ErrClosed:
			return 0, s.readErr
		case len(p) == 0:
			return 0, nil
		case s.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case s.buf.len() > 0:
			n := s.buf.take(p)
			s.writable.Broadcast()
			return n, nil
		case s.readErr != nil:
			return 0, s.readErr
		}
		s.readable.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.writeStateLocked(); err != nil {
			return 0, err
		}
		if !s.writing {
			break
		}
		s.writable.Wait()
	}
	s.writing = true
	defer func() {
		s.writing = false
		s.writable.Broadcast()
	}()
	for {
		if k := s.buf.put(p[n:]); k > 0 {
			n += k
			s.readable.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		s.writable.Wait()
		if err := s.writeStateLocked(); err != nil {
			return n, err
		}
	}
}

// writeStateLocked returns why a Write cannot go on, in the order in which net
// finds out: our own Close, the deadline, the peer.
func (s *stream) writeStateLocked() error {
	switch {
	case s.writeErr == net.ErrClosed:
		return s.writeErr
	case s.writeDeadline.passed():
		return os.ErrDeadlineExceeded
	}
	return s.writeErr
}

func (s *stream) pending() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.buf.len(); n > 0 {
		return n, nil
	}
	return 0, s.readErr
}

// finish is the writer's half close.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(io.EOF, syscall.EPIPE)
}

// closeWriter is the writer's Close or Reset.
func (s *stream) closeWriter(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline.stop()
	if reset {
		s.buf.drop()
		s.endLocked(syscall.ECONNRESET, net.ErrClosed)
	} else {
		s.endLocked(io.EOF, net.ErrClosed)
	}
}

// closeReader is the reader's Close or Reset.
func (s *stream) closeReader(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDeadline.stop()
	s.buf.drop()
	if reset {
		s.endLocked(net.ErrClosed, syscall.ECONNRESET)
	} else {
		s.endLocked(net.ErrClosed, syscall.EPIPE)
	}
}

// endLocked sets both errors by the precedence above and wakes everyone.
func (s *stream) endLocked(readErr, writeErr error) {
	if weight(readErr) > weight(s.readErr) {
		s.readErr = readErr
	}
	if weight(writeErr) > weight(s.writeErr) {
		s.writeErr = writeErr
	}
	s.readable.Broadcast()
	s.writable.Broadcast()
}

func weight(err error) int {
	switch err {
	case nil:
		return 0
	case io.EOF, syscall.EPIPE:
		return 1
	case syscall.ECONNRESET:
		return 2
	}
	return 3
}

// setReadDeadline reports false when the reader is closed: a Close that came
// between the caller's look and here must not leave a timer behind.
func (s *stream) setReadDeadline(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == net.ErrClosed {
		return false
	}
	s.readDeadline.set(t, &s.readable)
	return true
}

func (s *stream) setWriteDeadline(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeErr == net.ErrClosed {
		return false
	}
	s.writeDeadline.set(t, &s.writable)
	return true
}
