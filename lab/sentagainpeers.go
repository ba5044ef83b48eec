package lab

import (
	"strconv"
	"strings"
	"time"

	"github.com/berth-go/berth/internal/origin"
)

// The servers of sent-again, each a way to break off.

func answerTo(id string) string { return "this answers request " + id }

// answerWith is the whole of an answer, with further fields.
func answerWith(id, fields string) string {
	text := answerTo(id)
	return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n" + fields + "\r\n" + text
}

// take reads the next request and notes it.
func take(c *origin.Conn, t *tally) (id, key string, ok bool) {
	r, err := c.ReadRequest()
	if err != nil {
		return "", "", false
	}
	id = strings.TrimPrefix(r.URL.Path, "/")
	t.receive(id)
	return id, r.Header.Get("Idempotency-Key"), true
}

// behind sends a second response that nobody has asked for, in the same write.
func behind(c *origin.Conn, t *tally) {
	for {
		id, key, ok := take(c, t)
		if !ok {
			return
		}
		t.execute(id, key)
		if c.Write(answerWith(id, "")+answerWith("of somebody else", "")) != nil {
			return
		}
	}
}

func neverAnswers(c *origin.Conn, t *tally) {
	if id, key, ok := take(c, t); ok {
		t.execute(id, key)
		c.Sleep(10 * time.Second)
	}
}

// closesOnSecond answers one request of a connection, acts upon a second, and closes.
func closesOnSecond(c *origin.Conn, t *tally) {
	for i := range 2 {
		id, key, ok := take(c, t)
		if !ok {
			return
		}
		t.execute(id, key)
		if i == 0 && c.Write(answerWith(id, "")) != nil {
			return
		}
	}
}

// announces says that it closes after a second, and closes as a request arrives shortly
// before that.
func announces(c *origin.Conn, t *tally) {
	idleUntil(c, t, announcedIdle, "Keep-Alive: timeout=1\r\n", c.Close)
}

// forgets is a server behind something that forgets idle connections, and answers with a
// reset what it does not know.
func forgets(c *origin.Conn, t *tally) { idleUntil(c, t, boxIdle, "", c.Reset) }

// idleUntil answers, unless the connection was idle for so long: then it is ended as the
// request arrives.
func idleUntil(c *origin.Conn, t *tally, d time.Duration, fields string, end func() error) {
	var last time.Time
	for {
		id, key, ok := take(c, t)
		if !ok {
			return
		}
		if !last.IsZero() && time.Since(last) >= d {
			end()
			return
		}
		t.execute(id, key)
		if c.Write(answerWith(id, fields)) != nil {
			return
		}
		last = time.Now()
	}
}

// closesWhenIdle answers one request of a connection and closes it.
func closesWhenIdle(c *origin.Conn, t *tally) {
	if id, key, ok := take(c, t); ok {
		t.execute(id, key)
		c.Write(answerWith(id, ""))
	}
}

func resetsWhenDone(c *origin.Conn, t *tally) {
	if id, key, ok := take(c, t); ok {
		t.execute(id, key)
		c.Reset()
	}
}

// resetsEverySecond acts upon one request of each connection, and on every second resets
// in place of the answer.
func resetsEverySecond(c *origin.Conn, t *tally) {
	id, key, ok := take(c, t)
	if !ok {
		return
	}
	t.execute(id, key)
	if c.N()%2 == 1 {
		c.Reset()
		return
	}
	c.Write(answerWith(id, "Connection: close\r\n"))
}

// answersHalf ends in the middle of the body.
func answersHalf(c *origin.Conn, t *tally) {
	if id, key, ok := take(c, t); ok {
		t.execute(id, key)
		whole := answerWith(id, "")
		c.Write(whole[:len(whole)-len(answerTo(id))/2])
	}
}
