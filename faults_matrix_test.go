package berth_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/berth-go/berth/internal/origin"
)

// The matrix: what a peer may do wrong, and when.
var (
	faultNames = []string{"resets", "half-closes", "stalls", "closes early", "answers early", "answers twice", "sends junk", "dribbles"}
	phaseNames = []string{"dial", "TLS", "head out", "body out", "head in", "body in", "idle"}
)

// cell is one fault in one phase.
type cell struct {
	fault, phase string

	// notThere says why there is no such cell; nothing else is set then.
	notThere string

	// do is what the peer does on its first connection; addr is for a peer that
	// does not even get that far.
	do   func(*peerConn)
	addr func(*peer) string

	want  outcome // what the caller gets
	other bool    // the caller gets it over another connection
	kept  verdict // whether the connection is used again
	says  string  // of the table in docs/faults.md
}

// outcome is what a caller gets.
type outcome string

const (
	ownAnswer   outcome = "its answer"
	earlyAnswer outcome = "the early answer"
	brokenBody  outcome = "its answer with an error at the break"
	lateBody    outcome = "its answer, then its own deadline"
	deadline    outcome = "its own deadline"
	dialError   outcome = "*DialError"
	tlsError    outcome = "tls.RecordHeaderError"
	protocol    outcome = "*ProtocolError"
	connError   outcome = "*ConnError"
	headTimeout outcome = "*ResponseHeaderTimeoutError"
	netError    outcome = "the network's error"
)

// verdict is what becomes of the connection.
type verdict string

const (
	never verdict = "not used again"
	again verdict = "used again"
	maybe verdict = "used again if all was sent in time"
)

// begun is what each phase has behind it when the fault comes.
func headOut(c *peerConn) bool { // a part of the request head has come
	c.tcp.SetReadBuffer(4 << 10) // the rest has to wait
	if !c.handshake() {
		return false
	}
	_, err := io.CopyN(io.Discard, c.r, 16<<10)
	return err == nil
}

func bodyOut(c *peerConn) bool { // the request head and a part of the body have come
	c.tcp.SetReadBuffer(4 << 10)
	if !c.handshake() {
		return false
	}
	req, err := http.ReadRequest(c.r)
	if err != nil {
		return false
	}
	c.note(req)
	_, err = io.CopyN(io.Discard, req.Body, 16<<10)
	return err == nil
}

const halfHead = "HTTP/1.1 200 OK\r\nContent-Le"

func headIn(c *peerConn) bool {
	_, ok := c.request()
	c.write(halfHead)
	return ok
}

func bodyIn(c *peerConn) bool {
	_, ok := c.request()
	c.write("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 10000))
	return ok
}

func idle(c *peerConn) bool {
	id, ok := c.request()
	c.write(answerTo(id))
	return ok
}

// after makes a peer that does wrong once the phase has begun.
func after(begun func(*peerConn) bool, fault func(*peerConn)) func(*peerConn) {
	return func(c *peerConn) {
		if begun(c) {
			fault(c)
		}
	}
}

func accepted(*peerConn) bool { return true }

// early is an answer that did not wait for its request.
const early = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nearly"

func says(s string) func(*peerConn) {
	return func(c *peerConn) { c.write(s); c.goOn() }
}

func matrix() []cell {
	closes := []struct {
		name string
		do   func(*peerConn)
	}{{"resets", (*peerConn).reset}, {"half-closes", (*peerConn).halfClose}, {"closes early", (*peerConn).closeEarly}}

	cells := []cell{
		{fault: "resets", phase: "dial", addr: refused, want: dialError, kept: never, says: "nothing listens"},
		{fault: "half-closes", phase: "dial", do: after(accepted, (*peerConn).halfClose), want: netError, kept: never, says: "a server that accepts and has nothing more to say"},
		{fault: "stalls", phase: "dial", addr: fullBacklog, want: dialError, kept: never, says: "DialTimeout ends it"},
		{fault: "closes early", phase: "dial", do: after(accepted, (*peerConn).closeEarly), want: netError, kept: never, says: "a server that accepts and hangs up"},
		{fault: "answers early", phase: "dial", do: after(accepted, says(early)), want: earlyAnswer, kept: never, says: "an overloaded server's 503; what follows it could be anybody's"},
		{fault: "answers twice", phase: "dial", do: after(accepted, says(early+early)), want: earlyAnswer, kept: never},
		{fault: "sends junk", phase: "dial", do: after(accepted, says("220 mail ready\r\n\r\n")), want: protocol, kept: never, says: "a server of another protocol"},
		{fault: "dribbles", phase: "dial", notThere: "the handshake of TCP has no bytes that could come one at a time"},

		{fault: "stalls", phase: "TLS", do: (*peerConn).stall, want: dialError, kept: never, says: "TLSTimeout ends it"},
		{fault: "answers early", phase: "TLS", do: plainly(early), want: tlsError, kept: never, says: "a server without TLS: http.Client says so"},
		{fault: "answers twice", phase: "TLS", do: plainly(early + early), want: tlsError, kept: never},
		{fault: "sends junk", phase: "TLS", do: plainly("\x16\x03\x01\x00\x04junk"), want: dialError, kept: never},
		{fault: "dribbles", phase: "TLS", do: dribbledTLS, want: ownAnswer, kept: again},

		{fault: "stalls", phase: "head in", do: after(headIn, (*peerConn).stall), want: headTimeout, kept: never, says: "ResponseHeaderTimeout ends it"},
		{fault: "answers early", phase: "head in", notThere: "the request has gone out: an answer is its answer"},
		{fault: "answers twice", phase: "head in", do: func(c *peerConn) { id, _ := c.request(); c.write(answerTo(id) + early); c.goOn() }, want: ownAnswer, kept: never, says: "the second is nobody's"},
		{fault: "sends junk", phase: "head in", do: func(c *peerConn) { id, _ := c.request(); c.write("\x00junk\r\n" + answerTo(id)); c.goOn() }, want: protocol, kept: never},
		{fault: "dribbles", phase: "head in", do: func(c *peerConn) { id, _ := c.request(); c.dribble(answerTo(id)); c.serve() }, want: ownAnswer, kept: again},

		{fault: "stalls", phase: "body in", do: after(bodyIn, (*peerConn).stall), want: lateBody, kept: never, says: "the request's context ends it"},
		{fault: "answers early", phase: "body in", notThere: "the request has gone out: an answer is its answer"},
		{fault: "answers twice", phase: "body in", do: func(c *peerConn) { halves(c, early) }, want: ownAnswer, kept: never, says: "the second is nobody's"},
		{fault: "sends junk", phase: "body in", do: func(c *peerConn) { halves(c, "junk") }, want: ownAnswer, kept: never},
		{fault: "dribbles", phase: "body in", do: func(c *peerConn) {
			id, _ := c.request()
			c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			c.dribble(fmt.Sprintf("%x;x=y\r\n%s\r\n0\r\nTrailer: value\r\n\r\n", len(id), id))
			c.serve()
		}, want: ownAnswer, kept: again},

		{fault: "stalls", phase: "idle", do: after(idle, (*peerConn).stall), want: headTimeout, kept: never, says: "nothing shows until the next request goes unanswered"},
		{fault: "answers early", phase: "idle", do: after(idle, says(early)), want: ownAnswer, other: true, kept: never, says: "an answer to a request that was not sent yet is nobody's"},
		{fault: "answers twice", phase: "idle", do: after(idle, says(early+early)), want: ownAnswer, other: true, kept: never},
		{fault: "sends junk", phase: "idle", do: after(idle, says("junk")), want: ownAnswer, other: true, kept: never},
		{fault: "dribbles", phase: "idle", do: after(idle, says("H")), want: ownAnswer, other: true, kept: never, says: "one byte is enough"},
	}
	for _, c := range closes {
		cells = append(cells,
			cell{fault: c.name, phase: "TLS", do: c.do, want: dialError, kept: never},
			cell{fault: c.name, phase: "head in", do: after(headIn, c.do), want: connError, kept: never},
			cell{fault: c.name, phase: "body in", do: after(bodyIn, c.do), want: brokenBody, kept: never},
			cell{fault: c.name, phase: "idle", do: after(idle, c.do), want: ownAnswer, other: true, kept: never, says: "seen before a byte is sent, so POST is safe"})
	}
	// While the request goes out it does not matter which part of it does.
	for phase, begun := range map[string]func(*peerConn) bool{"head out": headOut, "body out": bodyOut} {
		for _, c := range closes {
			cells = append(cells, cell{fault: c.name, phase: phase, do: after(begun, c.do), want: netError, kept: never, says: "a part was sent: it is not sent again"})
		}
		cells = append(cells,
			cell{fault: "stalls", phase: phase, do: after(begun, (*peerConn).stall), want: deadline, kept: never, says: "the request's context ends it"},
			cell{fault: "answers early", phase: phase, do: after(begun, says(early)), want: earlyAnswer, kept: maybe, says: "the answer does not wait for the rest of the request"},
			cell{fault: "answers twice", phase: phase, do: after(begun, says(early+early)), want: earlyAnswer, kept: never},
			cell{fault: "sends junk", phase: phase, do: after(begun, says("\x00junk\r\n\r\n")), want: protocol, kept: never},
			cell{fault: "dribbles", phase: phase, do: sipping, want: ownAnswer, kept: again, says: "a server that reads by the byte"})
	}
	return cells
}

// plainly answers a TLS client without TLS.
func plainly(s string) func(*peerConn) {
	return func(c *peerConn) { io.WriteString(c.tcp, s); io.Copy(io.Discard, c.tcp) }
}

// dribbledTLS does its handshake a byte at a time.
func dribbledTLS(c *peerConn) {
	cert, _ := origin.Cert()
	c.app = tls.Server(dribbling{c.tcp}, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	c.serve()
}

// halves sends a body in two pieces, and more right behind it.
func halves(c *peerConn, more string) {
	id, _ := c.request()
	c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(id)) + id[:1])
	c.write(id[1:] + more)
	c.goOn()
}

// sipping reads a thousand bytes one at a time.
func sipping(c *peerConn) {
	if !c.handshake() {
		return
	}
	c.r.Discard(0)
	slow := &sip{c: c}
	c.r.Reset(slow)
	c.serve()
}

type sip struct {
	c *peerConn
	n int
}

func (s *sip) Read(p []byte) (int, error) {
	if s.n++; s.n < 1000 && len(p) > 1 {
		p = p[:1]
	}
	return s.c.app.Read(p)
}
