package clients

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/resilience"
)

// pipeline is what a client's requests go through, by one configuration. It never changes,
// and ends when it has been replaced and its last request is over.
type pipeline struct {
	settings  Settings
	base      *url.URL // nil without one
	logger    *slog.Logger
	rt        http.RoundTripper
	transport http.RoundTripper  // at the end of rt: the transport, or a group of it
	strategy  resilience.Handler // nil without one; its state is kept when the rest changes
	trace     *resilience.Trace

	// closers are the handlers' own; nil if there are none, and then requests are not
	// counted.
	closers []io.Closer
	end     *sync.Once
	refs    atomic.Int64 // requests that run, and one for being in force
}

// build makes the pipeline of a client, or returns nil if that in force is the same.
func (r *Registry) build(name string, s Settings, base *url.URL, cfg *Config, before *pipeline) (*pipeline, error) {
	if before != nil && before.logger == cfg.Logger && before.trace == cfg.Trace && same(&before.settings, &s) {
		return nil, nil
	}
	p := &pipeline{settings: s, base: base, logger: cfg.Logger, trace: cfg.Trace}
	if s.Resilience != nil {
		if before != nil && before.strategy != nil && before.trace == cfg.Trace && same(before.settings.Resilience, s.Resilience) {
			p.strategy = before.strategy
		} else {
			own := *s.Resilience
			if own.Trace == nil {
				own.Trace = cfg.Trace
			}
			var err error
			if p.strategy, err = own.Handler(); err != nil {
				return nil, prefixed("Resilience", err)
			}
		}
	}
	var timeout resilience.Handler
	if s.Timeout > 0 { // before any handler is asked: what they make would have to be ended
		var err error
		if timeout, err = (resilience.Timeout{After: s.Timeout, Body: true}).Handler(); err != nil {
			return nil, &berth.ConfigError{Field: "Timeout", Reason: err.(*berth.ConfigError).Reason}
		}
	}
	p.transport = r.tr
	if s.Group != "" {
		p.transport = r.tr.Group(s.Group)
	}
	p.rt = p.transport
	silent := false
	add := func(h Handler) {
		outer := h(p.rt)
		switch c, ok := outer.(io.Closer); {
		case outer == nil:
			silent = true
			return
		case ok && !(reflect.ValueOf(outer).Comparable() && outer == p.rt): // it may return what it was given, the transport even
			p.closers = append(p.closers, c)
		}
		p.rt = outer
	}
	log := Log{Logger: cfg.Logger, Client: name, ShowHeaders: s.LogHeaders}
	if s.Log {
		log.Wire = true
		add(log.Handler())
	}
	for i := len(s.AttemptHandlers) - 1; i >= 0; i-- {
		add(s.AttemptHandlers[i])
	}
	if p.strategy != nil {
		add(p.strategy)
	}
	for i := len(s.Handlers) - 1; i >= 0; i-- {
		add(s.Handlers[i])
	}
	if s.IdempotencyKeys {
		add(IdempotencyKeys())
	}
	if s.Propagate {
		add(Propagate())
	}
	if len(s.Header) > 0 {
		add(defaultHeader(s.Header, base))
	}
	if timeout != nil {
		add(timeout)
	}
	if s.Log {
		log.Wire = false
		add(log.Handler())
	}
	if silent {
		closeAll(p.closers)
		return nil, &berth.ConfigError{Field: "Handlers", Reason: "one of them returns no RoundTripper"}
	}
	if p.closers != nil {
		p.refs.Store(1)
		p.end = new(sync.Once)
		// A response body that is forgotten never ends its request.
		runtime.AddCleanup(p, func(l lateEnd) { l.end.Do(func() { closeAll(l.closers) }) }, lateEnd{p.end, p.closers})
	}
	return p, nil
}

// lateEnd is what the collector closes when nothing refers to a pipeline any more.
type lateEnd struct {
	end     *sync.Once
	closers []io.Closer
}

func closeAll(closers []io.Closer) {
	for i := len(closers) - 1; i >= 0; i-- { // the outermost first
		closers[i].Close()
	}
}

// closeIdle reaches rt's CloseIdleConnections, if it has one.
func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// hold counts a request. It reports false when the pipeline has ended.
func (p *pipeline) hold() bool {
	for {
		n := p.refs.Load()
		if n == 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends what hold began, or being in force.
func (p *pipeline) release() {
	if p.closers != nil && p.refs.Add(-1) == 0 {
		p.end.Do(func() { closeAll(p.closers) })
	}
}

// roundTripHeld sends a request that has been counted.
func (p *pipeline) roundTripHeld(req *http.Request) (*http.Response, error) {
	kept := false
	defer func() { // a handler may panic
		if !kept {
			p.release()
		}
	}()
	resp, err := p.rt.RoundTrip(req)
	if err != nil || resp.Body == nil || resp.Body == http.NoBody {
		return resp, err
	}
	kept = true
	b := &heldBody{ReadCloser: resp.Body, p: p}
	if w, ok := resp.Body.(io.Writer); ok {
		resp.Body = struct {
			*heldBody
			io.Writer
		}{b, w}
	} else {
		resp.Body = b
	}
	return resp, nil
}

// heldBody is a response body that counts as a request of its pipeline until it ends.
type heldBody struct {
	io.ReadCloser
	p    *pipeline
	once sync.Once
}

func (b *heldBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	if err != nil {
		b.once.Do(b.p.release)
	}
	return n, err
}

func (b *heldBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.p.release)
	return err
}

// ended returns the pipeline of a client whose registry is closed.
func ended(p *pipeline) *pipeline {
	return &pipeline{settings: p.settings, base: p.base, rt: closed{}, transport: p.transport}
}

// closed refuses every request.
type closed struct{}

func (closed) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return nil, &berth.ClosedError{}
}
