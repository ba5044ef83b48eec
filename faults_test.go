package berth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// The timeouts of the matrix: short where one is to end the request, long where it
// must not, however busy the machine is.
func (c *cell) timeouts() (p berth.Policy, deadline time.Duration) {
	const short, long = 800 * time.Millisecond, 15 * time.Second
	p = berth.Policy{DialTimeout: long, TLSTimeout: long, ResponseHeaderTimeout: long,
		MaxConns: 1} // a slot that is not given back is missed
	if c.fault != "stalls" {
		return p, long
	}
	switch c.want {
	case dialError:
		p.DialTimeout, p.TLSTimeout = short, short
	case headTimeout:
		p.ResponseHeaderTimeout = short
	default:
		return p, 3 * short // the request has to get as far as the fault first
	}
	return p, long
}

// faultGrace is what a request may take beyond its deadline on a busy machine.
const faultGrace = 4 * time.Second

// variant is one way to run a cell.
type variant struct {
	name   string
	secure bool
	stream bool // the body is no memory
	dialed bool // by a function of the caller's: the engine does without ADR 7 and 8
}

func (c *cell) variants() (all []variant) {
	schemes := []variant{{name: "http"}, {name: "https", secure: true}}
	switch {
	case c.phase == "TLS":
		schemes = schemes[1:]
	case c.phase == "dial":
		schemes = schemes[:1]
	case c.phase == "body out":
		schemes = append(schemes, variant{name: "http stream", stream: true}, variant{name: "https stream", secure: true, stream: true})
	}
	for _, v := range schemes {
		if c.phase != "dial" || c.addr != nil {
			all = append(all, v)
		}
		if c.addr == nil {
			v.name, v.dialed = v.name+", dialed", true
			all = append(all, v)
		}
	}
	return all
}

// bulk is more than the buffers between the two take: a dial function can make them
// small.
func (c *cell) bulk(v variant) int {
	if v.dialed || c.want == ownAnswer { // which is to be read in time
		return 256 << 10
	}
	return 6 << 20
}

// Every fault in every phase ends as the matrix says: no request hangs, none is
// sent twice that must not be, no answer goes to another's request, no connection
// is used again that should not be, and nothing is left.
func TestFaults(t *testing.T) {
	// They wait most of the time: more of them at once than there are processors.
	var wg sync.WaitGroup
	free := make(chan struct{}, 12)
	for _, c := range matrix() {
		if c.notThere != "" {
			continue
		}
		for _, v := range c.variants() {
			wg.Go(func() {
				free <- struct{}{}
				t.Run(c.fault+"/"+c.phase+"/"+v.name, func(t *testing.T) { c.run(t, v) })
				<-free
			})
		}
	}
	wg.Wait()
	waitFor(t, func() bool { return strings.Join(ourGoroutines(), "") == "" })
}

// ourGoroutines returns the stacks of the goroutines that the transport keeps.
func ourGoroutines() (ours []string) {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		for _, pkg := range []string{"berth/internal/h1.", "berth/internal/pool.", "berth/internal/dial."} {
			if strings.Contains(g, pkg) {
				ours = append(ours, g)
				break
			}
		}
	}
	return ours
}

func (c *cell) run(t *testing.T, v variant) {
	p := newPeer(t, v.secure, c.do)
	t.Cleanup(p.close)
	_, roots := origin.Cert()
	policy, deadline := c.timeouts()
	cfg := berth.Config{
		TLS:    &tls.Config{RootCAs: roots},
		Policy: policy,
	}
	if v.dialed {
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			nc.(*net.TCPConn).SetWriteBuffer(4 << 10)
			if c.phase == "dial" && c.want != netError {
				<-p.said // what the peer says at once is there
			}
			return nc, nil
		}
	}
	tr, err := berth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	url := p.url()
	if c.addr != nil {
		url = "http://" + c.addr(p)
	}
	if c.phase == "idle" {
		if got := send(t, tr, url, "first", nil, 0, 0, deadline); got.outcome != ownAnswer {
			t.Fatalf("the first request: %v", got)
		}
		// Within a moment of its last use a connection is trusted.
		<-time.After(5 * time.Millisecond)
	}

	var body io.Reader
	head := 0
	switch c.phase {
	case "head out":
		head = c.bulk(v)
	case "body out":
		body = bytes.NewReader(make([]byte, c.bulk(v)))
		if v.stream {
			body = struct{ io.Reader }{body}
		}
	case "idle":
		body = strings.NewReader("small")
	}
	got := send(t, tr, url, "cell", body, int64(c.bulk(v)), head, deadline)
	if got.outcome != c.want {
		t.Errorf("the caller gets %v, want %s", got, c.want)
	}
	if n := p.count("cell"); n > 1 {
		t.Errorf("the request came %d times", n)
	}
	ep, err := tr.Endpoint(url)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		s := ep.Stats()
		return s.Leased+s.Dialing+s.Draining+s.Waiting == 0
	})
	if c.addr != nil {
		return
	}
	conns := p.connections()
	if (conns > 1) != c.other {
		t.Errorf("%d connections, another is needed: %v", conns, c.other)
	}
	// Whatever happened, the next request gets its own answer.
	if got := send(t, tr, url, "next", nil, 0, 0, 15*time.Second); got.outcome != ownAnswer {
		t.Errorf("the next request: %v", got)
	}
	switch used := p.connections() == 1; {
	case c.kept == again && !used:
		t.Error("the connection is not used again")
	case c.kept == never && used:
		t.Error("the connection is used again")
	}
}

// result is what one request came to.
type result struct {
	outcome outcome
	err     error
	body    string
}

func (r result) String() string { return fmt.Sprintf("%s (%v, %.20q)", r.outcome, r.err, r.body) }

// send sends a request that is known by its id, with a body of that length and a
// head of about that many bytes more, and names what comes of it.
func send(t *testing.T, tr *berth.Transport, url, id string, body io.Reader, length int64, head int, deadline time.Duration) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := body.(*bytes.Reader); ok {
		req.ContentLength = m.Size()
	} else if _, ok := body.(*strings.Reader); !ok && body != nil {
		req.ContentLength = length
	}
	req.Header.Set("Id", id)
	if head > 0 {
		req.Header.Set("Large", strings.Repeat("x", head))
	}
	done := make(chan result, 1)
	go func() { done <- name(tr, req, id) }()
	select {
	case r := <-done:
		return r
	case <-time.After(deadline + faultGrace):
		t.Fatal("the request hangs past its deadline")
		return result{}
	}
}

func name(tr *berth.Transport, req *http.Request, id string) result {
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return result{outcome: nameError(err), err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	r := result{err: err, body: string(b)}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.outcome = lateBody
	case err != nil:
		r.outcome = brokenBody
	case string(b) == id:
		r.outcome = ownAnswer
	case string(b) == "early":
		r.outcome = earlyAnswer
	default:
		r.outcome = "another's answer"
	}
	return r
}

func nameError(err error) outcome {
	var (
		dial   *berth.DialError
		proto  *berth.ProtocolError
		conn   *berth.ConnError
		header *berth.ResponseHeaderTimeoutError
		record tls.RecordHeaderError
		op     *net.OpError
	)
	switch {
	case errors.As(err, &record):
		return tlsError
	case errors.As(err, &dial):
		return dialError
	case errors.As(err, &proto):
		return protocol
	case errors.As(err, &header):
		return headTimeout
	case errors.As(err, &conn):
		return connError
	case errors.Is(err, context.DeadlineExceeded):
		return deadline
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "a bare timeout"
	case errors.As(err, &op), errors.Is(err, io.EOF):
		return netError
	}
	return outcome(fmt.Sprintf("%T", err))
}

// refused returns an address at which nothing listens.
func refused(p *peer) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Every cell of the matrix is there, or it is said why not; docs/faults.md has the
// same table.
func TestFaultMatrixIsWhole(t *testing.T) {
	cells := map[string]cell{}
	for _, c := range matrix() {
		key := c.fault + "/" + c.phase
		if _, twice := cells[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		cells[key] = c
	}
	var table strings.Builder
	table.WriteString("| the peer | while | the caller gets | the connection is | |\n|---|---|---|---|---|\n")
	for _, phase := range phaseNames {
		for _, fault := range faultNames {
			c, ok := cells[fault+"/"+phase]
			if !ok {
				t.Errorf("%s during %s is missing", fault, phase)
				continue
			}
			if c.notThere != "" {
				fmt.Fprintf(&table, "| %s | %s | – | – | %s |\n", fault, phase, c.notThere)
				continue
			}
			want := string(c.want)
			if c.other {
				want += ", over another connection"
			}
			fmt.Fprintln(&table, strings.TrimRight(fmt.Sprintf("| %s | %s | %s | %s | %s", fault, phase, want, c.kept, c.says), " ")+" |")
		}
	}
	if len(cells) != len(faultNames)*len(phaseNames) {
		t.Errorf("%d cells, want %d", len(cells), len(faultNames)*len(phaseNames))
	}
	doc, err := os.ReadFile("docs/faults.md")
	if err != nil || !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/faults.md has another table (%v); it is\n%s", err, table.String())
	}
}
