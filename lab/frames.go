package lab

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/berth-go/berth/internal/origin"
)

// The least of an HTTP/2 server that can refuse and reset streams (RFC 9113 §4.1): it
// reads no field, so a request says in its body which one it is.

// The frames and error codes that it uses, RFC 9113 §6 and §7.
const (
	frameData, frameHeaders, frameReset = 0x0, 0x1, 0x3
	frameSettings, framePing            = 0x4, 0x6
	flagEnd, flagAck, flagEndHeaders    = 0x1, 0x1, 0x4
	internalError, refusedStream        = 0x2, 0x7
	prefaceLength                       = 24
	status200                           = 0x88 // RFC 7541 §6.1: entry 8 of the static table
)

// frameConn is a connection; what is written by several goroutines goes out frame by frame.
type frameConn struct {
	c  *origin.Conn
	mu sync.Mutex // of writes, which it is there for
}

func (f *frameConn) write(kind, flags byte, stream uint32, payload []byte) error {
	b := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(b, uint32(len(payload))<<8|uint32(kind))
	b[4] = flags
	binary.BigEndian.PutUint32(b[5:], stream)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.c.Write(string(append(b, payload...)))
}

func (f *frameConn) reset(stream uint32, code byte) error {
	return f.write(frameReset, 0, stream, []byte{0, 0, 0, code})
}

func (f *frameConn) answer(stream uint32, text string) error {
	if err := f.write(frameHeaders, flagEndHeaders, stream, []byte{status200}); err != nil {
		return err
	}
	return f.write(frameData, flagEnd, stream, []byte(text))
}

// frames is the script of a connection whose requests handle is called with, each when
// its body is there. handle must not block.
func frames(handle func(f *frameConn, t *tally, stream uint32, id string)) peer {
	return func(c *origin.Conn, t *tally) {
		f := &frameConn{c: c}
		if _, err := io.ReadFull(c, make([]byte, prefaceLength)); err != nil || f.write(frameSettings, 0, 0, nil) != nil {
			return
		}
		bodies := map[uint32]string{}
		for {
			head := make([]byte, 9)
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
			if _, err := io.ReadFull(c, payload); err != nil {
				return
			}
			kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])&(1<<31-1)
			var err error
			switch {
			case kind == frameSettings && flags&flagAck == 0, kind == framePing && flags&flagAck == 0:
				if kind == frameSettings {
					payload = nil
				}
				err = f.write(kind, flagAck, 0, payload)
			case kind == frameData:
				bodies[stream] += string(payload)
			}
			if err != nil {
				return
			}
			if (kind == frameData || kind == frameHeaders) && flags&flagEnd != 0 {
				id := bodies[stream]
				delete(bodies, stream)
				handle(f, t, stream, id)
			}
		}
	}
}

// refuses refuses each request twice, and acts upon it then.
func refuses(f *frameConn, t *tally, stream uint32, id string) {
	if t.receive(id) < 3 {
		f.reset(stream, refusedStream)
		return
	}
	t.execute(id, "")
	f.answer(stream, answerTo(id))
}

// resetsOne resets the first of n streams when all have come, and answers the others a
// while later. What came before them it answers.
func resetsOne(n int) func(f *frameConn, t *tally, stream uint32, id string) {
	return func(f *frameConn, t *tally, stream uint32, id string) {
		t.receive(id)
		t.execute(id, "")
		t.mu.Lock()
		t.streams = append(t.streams, streamOf{stream, id})
		all := t.streams
		t.mu.Unlock()
		switch len(all) {
		case 1:
			f.answer(stream, answerTo(id))
		case n + 1:
			f.reset(all[1].stream, internalError)
			f.c.Sleep(300 * time.Millisecond)
			for _, s := range all[2:] {
				f.answer(s.stream, answerTo(s.id))
			}
		}
	}
}

type streamOf struct {
	stream uint32
	id     string
}
