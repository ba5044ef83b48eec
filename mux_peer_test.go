package berth_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/memnet"
)

// h2peer is an HTTP/2 server that does what a test says, frame by frame, and counts
// what its clients do. It speaks by prior knowledge; over TLS ALPN has chosen it.
type h2peer struct {
	// greet begins a connection. Default: sends limit as SETTINGS_MAX_CONCURRENT_STREAMS.
	greet func(*h2conn)

	// serve answers a request, on a goroutine of its own. Default: answers 200 with
	// the path for a body.
	serve func(*h2stream)

	limit    uint32 // streams at once; 0 says nothing
	deafPing bool   // answers no PING

	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []*h2conn
}

type h2conn struct {
	net.Conn
	p   *h2peer
	nth int // 0 is the first connection
	fr  *http2.Framer
	dec *hpack.Decoder

	wmu sync.Mutex // guards writing

	mu       sync.Mutex
	streams  map[uint32]*h2stream
	last     uint32 // the highest stream seen
	requests int
	peak     int // streams at once
	pings    int
	resets   []http2.ErrCode // that the client sent
}

type h2stream struct {
	c      *h2conn
	id     uint32
	method string
	path   string
	header map[string]string
	gone   chan struct{} // the client has reset it

	mu   sync.Mutex
	body bytes.Buffer
	end  chan struct{} // its body has come
}

func (p *h2peer) start(ln net.Listener) {
	p.ln = ln
	p.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := &h2conn{Conn: nc, p: p, streams: map[uint32]*h2stream{}}
			p.mu.Lock()
			c.nth = len(p.conns)
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			p.wg.Go(c.run)
		}
	})
}

func (p *h2peer) stop() {
	p.ln.Close()
	for _, c := range p.all() {
		c.Close()
	}
	p.wg.Wait()
}

func (p *h2peer) all() []*h2conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*h2conn(nil), p.conns...)
}

// peak is the most streams that any connection had at once.
func (p *h2peer) peak() (most int) {
	for _, c := range p.all() {
		c.mu.Lock()
		most = max(most, c.peak)
		c.mu.Unlock()
	}
	return most
}

// look runs f when all is quiet and nothing changes the counts.
func (c *h2conn) look(f func()) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *h2conn) run() {
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	c.fr = http2.NewFramer(c, c)
	c.fr.AllowIllegalWrites = true
	c.dec = hpack.NewDecoder(4096, nil)
	if c.p.greet != nil {
		c.p.greet(c)
	} else {
		c.settings(c.p.limit)
	}
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.end()
			return
		}
		c.frame(f)
	}
}

func (c *h2conn) frame(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.write(func() { c.fr.WriteSettingsAck() })
		}
	case *http2.PingFrame:
		c.mu.Lock()
		c.pings++
		c.mu.Unlock()
		if !f.IsAck() && !c.p.deafPing {
			c.write(func() { c.fr.WritePing(true, f.Data) })
		}
	case *http2.HeadersFrame:
		c.headers(f)
	case *http2.DataFrame:
		c.mu.Lock()
		s := c.streams[f.StreamID]
		c.mu.Unlock()
		if s == nil {
			return
		}
		s.mu.Lock()
		s.body.Write(f.Data())
		s.mu.Unlock()
		if n := uint32(len(f.Data())); n > 0 {
			c.write(func() { c.fr.WriteWindowUpdate(0, n); c.fr.WriteWindowUpdate(s.id, n) })
		}
		if f.StreamEnded() {
			close(s.end)
		}
	case *http2.RSTStreamFrame:
		c.mu.Lock()
		c.resets = append(c.resets, f.ErrCode)
		if s := c.streams[f.StreamID]; s != nil {
			close(s.gone)
			delete(c.streams, f.StreamID)
		}
		c.mu.Unlock()
	}
}

func (c *h2conn) headers(f *http2.HeadersFrame) {
	fields, err := c.dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil {
		return
	}
	s := &h2stream{c: c, id: f.StreamID, header: map[string]string{}, gone: make(chan struct{}), end: make(chan struct{})}
	for _, h := range fields {
		switch h.Name {
		case ":method":
			s.method = h.Value
		case ":path":
			s.path = h.Value
		default:
			s.header[h.Name] = h.Value
		}
	}
	if s.method == "" { // trailers
		c.mu.Lock()
		if old := c.streams[f.StreamID]; old != nil {
			close(old.end)
		}
		c.mu.Unlock()
		return
	}
	if f.StreamEnded() {
		close(s.end)
	}
	c.mu.Lock()
	c.streams[s.id] = s
	c.last = max(c.last, s.id)
	c.requests++
	c.peak = max(c.peak, len(c.streams))
	c.mu.Unlock()
	c.p.wg.Go(func() {
		if c.p.serve != nil {
			c.p.serve(s)
			return
		}
		s.answer(s.path)
	})
}

// end tells streams that nobody waits for them.
func (c *h2conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, s := range c.streams {
		close(s.gone)
		delete(c.streams, id)
	}
}

func (c *h2conn) write(f func()) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	f()
}

func (c *h2conn) settings(streams uint32) {
	c.write(func() {
		if streams == 0 {
			c.fr.WriteSettings()
			return
		}
		c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams})
	})
}

func (c *h2conn) goAway(last uint32, code http2.ErrCode) {
	c.write(func() { c.fr.WriteGoAway(last, code, nil) })
}

func (c *h2conn) block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// head sends a response head; fields are names and values.
func (s *h2stream) head(end bool, fields ...string) {
	s.c.write(func() {
		s.c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: s.c.block(fields...), EndHeaders: true, EndStream: end})
	})
}

// data sends a part of the body. No flow control: tests' bodies are short.
func (s *h2stream) data(end bool, b string) {
	if end {
		s.over()
	}
	s.c.write(func() { s.c.fr.WriteData(s.id, end, []byte(b)) })
}

// over counts the stream as ended: before its last frame leaves, since the client
// may open another one when it has it.
func (s *h2stream) over() {
	s.c.mu.Lock()
	delete(s.c.streams, s.id)
	s.c.mu.Unlock()
}

func (s *h2stream) answer(body string) {
	if body == "" {
		s.over()
		s.head(true, ":status", "200")
		return
	}
	s.head(false, ":status", "200", "content-length", fmt.Sprint(len(body)))
	s.data(true, body)
}

func (s *h2stream) reset(code http2.ErrCode) {
	s.over()
	s.c.write(func() { s.c.fr.WriteRSTStream(s.id, code) })
}

// text is the request body, once it has come, or what has when the client gave up.
func (s *h2stream) text() string {
	select {
	case <-s.end:
	case <-s.gone:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.body.String()
}

// h2rig is a transport and an h2peer in a bubble, by prior knowledge.
type h2rig struct {
	*testing.T
	net *memnet.Network
	p   *h2peer
	tr  *berth.Transport
}

func h2bubble(t *testing.T, policy berth.Policy, p *h2peer, f func(*h2rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &h2rig{T: t, net: &memnet.Network{}, p: p}
		ln, err := r.net.Listen("origin.test:80")
		if err != nil {
			t.Fatal(err)
		}
		p.conns = nil
		p.start(ln)
		if r.tr, err = berth.New(berth.Config{Policy: policy, DialContext: r.net.DialContext, Protocols: priorKnowledge()}); err != nil {
			t.Fatal(err)
		}
		f(r)
		r.tr.Close()
		p.stop()
		synctest.Wait()
		if s := r.stats(); s.Dialing+s.Leased+s.Idle+s.Draining+s.Waiting != 0 {
			t.Errorf("after the end the pool holds %+v", s)
		}
	})
}

func priorKnowledge() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func (r *h2rig) stats() berth.Stats {
	r.Helper()
	ep, err := r.tr.Endpoint(rigURL)
	if err != nil {
		r.Fatal(err)
	}
	return ep.Stats()
}

func (r *h2rig) do(ctx context.Context, method, path string, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, rigURL+path, body)
	if err != nil {
		r.Error(err)
		return "", err
	}
	resp, err := r.tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// get sends a GET, and fails the test unless the answer is the path.
func (r *h2rig) get(path string) {
	r.Helper()
	if got, err := r.do(r.Context(), "GET", path, nil); err != nil || got != path {
		r.Errorf("GET %s: %q, %v", path, got, err)
	}
}

// burst sends n requests at once and waits for them.
func (r *h2rig) burst(n int) {
	r.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { r.get(fmt.Sprintf("/%d", i)) })
	}
	wg.Wait()
}

func (r *h2rig) wantConns(n int) {
	r.Helper()
	if got := len(r.p.all()); got != n {
		r.Errorf("%d connections were opened, want %d", got, n)
	}
}
