package h1

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
)

// RequestBody is the body of a request with a memory of what was done to it, so
// that a retry knows whether it can be sent as it is, and that it is closed once.
type RequestBody struct {
	rc      io.ReadCloser
	touched atomic.Bool
	closed  atomic.Bool
}

// NewRequestBody wraps rc.
func NewRequestBody(rc io.ReadCloser) *RequestBody { return &RequestBody{rc: rc} }

// errBodyClosed is what reading a body gives after the exchange gave it up.
var errBodyClosed = errors.New("http: request body closed by the transport")

func (b *RequestBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	return b.rc.Read(p)
}

// Close closes the caller's body, the first time. It may run while Read does.
func (b *RequestBody) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	return b.rc.Close()
}

// Untouched reports whether the body was neither read nor closed.
func (b *RequestBody) Untouched() bool { return !b.touched.Load() && !b.closed.Load() }

// memoryReader is one of the standard library's readers of memory.
type memoryReader interface {
	io.Reader
	Len() int
}

// memory returns the reader of memory behind the body, or nil. Reading it never
// blocks. b may be nil.
func (b *RequestBody) memory() memoryReader {
	if b == nil {
		return nil
	}
	switch r := unwrapped(b.rc).(type) {
	case *bytes.Reader:
		return r
	case *bytes.Buffer:
		return r
	case *strings.Reader:
		return r
	}
	return nil
}

// The types behind io.NopCloser, which http.NewRequest puts around readers.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Buffer)))
)

// unwrapped returns the reader inside an io.NopCloser, or r.
func unwrapped(r io.Reader) io.Reader {
	if t := reflect.TypeOf(r); t == nopCloser || t == nopCloserWriterTo {
		if inner, ok := reflect.ValueOf(r).Field(0).Interface().(io.Reader); ok {
			return inner
		}
	}
	return r
}

// probeWait is how long the first byte of a body is awaited that may be none.
const probeWait = 200 * time.Millisecond

// probe finds out whether the body has a first byte, so that a GET with a body of
// unknown length that is empty goes out without one. It waits at most probeWait;
// a body that is slower has one. The reader that it returns gives the whole body.
func (b *RequestBody) probe() (r io.Reader, empty bool) {
	p := &probed{body: b, done: make(chan struct{})}
	go p.first() // ends when the first Read does
	t := time.NewTimer(probeWait)
	defer t.Stop()
	select {
	case <-p.done:
		return p, p.n == 0 && p.err == io.EOF
	case <-t.C:
		return p, false
	}
}

// probed is a body whose first byte is read on another goroutine.
type probed struct {
	body *RequestBody
	done chan struct{}
	one  [1]byte
	n    int // bytes in one not yet taken
	err  error
}

func (p *probed) first() {
	p.n, p.err = p.body.Read(p.one[:])
	close(p.done)
}

func (p *probed) Read(b []byte) (int, error) {
	<-p.done
	if p.n > 0 && len(b) > 0 {
		b[0] = p.one[0]
		p.n = 0
		return 1, p.err
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.body.Read(b)
}
