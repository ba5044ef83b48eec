package lab

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

// sentAgainExperiment has peers that break off, answer too little, too much or too late,
// and counts how often each request reaches them, and how often it is acted upon.
func sentAgainExperiment() Experiment {
	return Experiment{
		Name:    "sent-again",
		Source:  "golang/go#22158 and RFC 9110 §9.2.2: what may be sent again when a connection fails, and what is done twice then",
		Summary: "servers that break off, answer late, short or too much: requests received and done twice, over berth, net/http and a wrapper that retries every error",
		run:     runSentAgain,
	}
}

const (
	againLate     = 50 * time.Millisecond  // is what a response head is given; the server takes ten seconds
	againTries    = 4                      // of the wrapper that retries
	againIdle     = 100 * time.Millisecond // until the close of a server has certainly arrived
	announcedIdle = 800 * time.Millisecond // when a server is done that announces a second
	announcedGap  = 900 * time.Millisecond
	boxIdle       = 150 * time.Millisecond // when a middlebox forgets
	boxGap        = 220 * time.Millisecond
)

// tally is what a server saw of each request, by its path.
type tally struct {
	mu                 sync.Mutex // nothing is read or written under it
	received, executed map[string]int
	known              map[string]bool // idempotency keys
	streams            []streamOf      // in the order in which they came
}

// receive notes that a request came, and execute that it was acted upon, unless its
// idempotency key says that it was before.
func (t *tally) receive(id string) (times int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received[id]++
	return t.received[id]
}

func (t *tally) execute(id, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key != "" && t.known[key] {
		return
	}
	t.known[key] = true
	t.executed[id]++
}

func (t *tally) counts() (received, twice int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.received {
		received += n
	}
	for _, n := range t.executed {
		if n > 1 {
			twice++
		}
	}
	return received, twice
}

// peer is the script of a connection.
type peer func(*origin.Conn, *tally)

// asking is what a client does: n requests, one after the other unless at once.
type asking struct {
	method   string
	n        int
	gap      time.Duration // between them
	key      bool          // an idempotency key on each
	careless bool          // takes what could be read for the whole
	atOnce   bool          // after a first one
}

// attempt is one way to ask one kind of peer.
type attempt struct {
	name   string
	client func() (http.RoundTripper, func(), error)
	peer   peer
	ask    asking
	want   map[string]any
}

func runSentAgain(ctx context.Context, s *session) error {
	n := 10
	if s.scale == Quick {
		n = 6
	}
	s.result.Note = "“received” counts what reached the server, “executed twice” the requests that it acted upon more than once. " +
		"Requests are POST where nothing else is said, one after the other; a wrapper that retries makes four attempts"
	all := attempts(n)
	rows := make([]Variant, len(all))
	errs := make([]error, len(all))
	s.progress("%d variants side by side", len(all))
	var wg sync.WaitGroup
	for i, a := range all { // they mostly wait, and counts decide
		wg.Go(func() { rows[i], errs[i] = a.run(ctx, byte(i+1)) })
	}
	wg.Wait()
	for i, row := range rows {
		if errs[i] != nil {
			return errs[i]
		}
		s.add(row)
	}
	return nil
}

// attempts are all variants. Those with a pause take as many requests in every scale.
func attempts(n int) []attempt {
	post := asking{method: http.MethodPost, n: n}
	get := asking{method: http.MethodGet, n: n}
	gap := func(a asking, d time.Duration, n int) asking { a.gap, a.n = d, n; return a }
	keyed, careless, atOnce := post, post, post
	keyed.key, careless.careless, atOnce.atOnce = true, true, true
	ours := func(p berth.Policy) func() (http.RoundTripper, func(), error) {
		return func() (http.RoundTripper, func(), error) { return newOurs(berth.Config{Policy: p}) }
	}
	theirs := func(idle, head time.Duration) func() (http.RoundTripper, func(), error) {
		return func() (http.RoundTripper, func(), error) {
			t := &http.Transport{IdleConnTimeout: idle, ResponseHeaderTimeout: head}
			return t, t.CloseIdleConnections, nil
		}
	}
	retried := func(make func() (http.RoundTripper, func(), error)) func() (http.RoundTripper, func(), error) {
		return func() (http.RoundTripper, func(), error) {
			rt, end, err := make()
			return &retrying{rt, func(error) bool { return true }}, end, err
		}
	}
	plain, late := theirs(90*time.Second, 0), theirs(90*time.Second, againLate)
	naive := func() (http.RoundTripper, func(), error) {
		k := &keepsOne{}
		return k, k.drop, nil
	}
	return []attempt{
		{"berth, bytes behind a response", ours(berth.Policy{}), behind, gap(get, 20*time.Millisecond, n), want(n, 0, "wrong", 0)},
		{"a client that reads on, bytes behind a response", naive, behind, gap(get, 20*time.Millisecond, n), want(n, 0, "wrong", n-1)},

		{"berth, late answer", ours(berth.Policy{ResponseHeaderTimeout: againLate}), neverAnswers, post,
			want(n, n, "received", n, "executed_twice", 0, "error", "contains timeout awaiting response headers")},
		{"net/http, late answer", late, neverAnswers, post, want(n, n, "received", n, "executed_twice", 0)},
		{"net/http, every error retried, late answer", retried(late), neverAnswers, post,
			want(n, n, "received", n*againTries, "executed_twice", n)},

		{"berth, closed as it arrives", ours(berth.Policy{}), closesOnSecond, post, want(n, n/2, "executed_twice", 0, "error", "contains BERTH1009")},
		{"berth, GET (may be done twice), closed as it arrives", ours(berth.Policy{}), closesOnSecond, get, want(n, 0, "received", n+n-1)},
		{"berth, Idempotency-Key, closed as it arrives", ours(berth.Policy{}), closesOnSecond, keyed,
			want(n, 0, "received", n+n-1, "executed_twice", 0)},
		{"net/http, closed as it arrives", plain, closesOnSecond, post, want(n, n/2, "executed_twice", 0)},
		{"net/http, every error retried, closed as it arrives", retried(plain), closesOnSecond, post, want(n, 0, "executed_twice", n-1)},

		{"berth, idle timeout announced", ours(berth.Policy{}), announces, gap(post, announcedGap, 4), want(4, 0, "executed_twice", 0)},
		{"net/http, idle timeout announced", plain, announces, gap(post, announcedGap, 4), want(4, 2)},
		{"net/http, IdleConnTimeout below the server's", theirs(announcedIdle/2, 0), announces, gap(post, announcedGap, 4), want(4, 0)},

		{"berth, closed while idle", ours(berth.Policy{}), closesWhenIdle, gap(post, againIdle, n), want(n, 0, "executed_twice", 0)},
		{"net/http, closed while idle", plain, closesWhenIdle, gap(post, againIdle, n), want(n, 0)},
		{"a pool that does not look, closed while idle", naive, closesWhenIdle, gap(post, againIdle, n), want(n, n/2)},

		{"berth, IdleTimeout below the middlebox's", ours(berth.Policy{IdleTimeout: boxIdle / 3}), forgets, gap(post, boxGap, 6), want(6, 0)},
		{"berth, IdleTimeout above the middlebox's", ours(berth.Policy{}), forgets, gap(post, boxGap, 6), want(6, 3, "executed_twice", 0)},
		{"net/http, IdleConnTimeout above the middlebox's", plain, forgets, gap(post, boxGap, 6), want(6, 3, "executed_twice", 0)},
		{"net/http, IdleConnTimeout below the middlebox's", theirs(boxIdle/3, 0), forgets, gap(post, boxGap, 6), want(6, 0)},

		{"berth, reset after it was done", ours(berth.Policy{}), resetsWhenDone, post, want(n, n, "received", n, "executed_twice", 0)},
		{"net/http, reset after it was done", plain, resetsWhenDone, post, want(n, n, "received", n, "executed_twice", 0)},
		{"net/http, every error retried, reset after it was done", retried(plain), resetsWhenDone, post,
			want(n, n, "received", n*againTries, "executed_twice", n)},

		{"berth, NotSent decides, refused or reset", refusedFirst(func(d dialFunc) (http.RoundTripper, func(), error) {
			rt, end, err := newOurs(berth.Config{DialContext: d})
			return &retrying{rt, berth.NotSent}, end, err
		}), resetsEverySecond, post, want(n, n/2, "received", n, "executed_twice", 0)},
		{"net/http, every error retried, refused or reset", refusedFirst(func(d dialFunc) (http.RoundTripper, func(), error) {
			t := &http.Transport{DialContext: d}
			return &retrying{t, func(error) bool { return true }}, t.CloseIdleConnections, nil
		}), resetsEverySecond, post, want(n, 0, "executed_twice", "> 0")},

		{"berth, short body", ours(berth.Policy{}), answersHalf, get, want(n, n, "wrong", 0, "error", "contains unexpected EOF")},
		{"net/http, short body", plain, answersHalf, get, want(n, n, "wrong", 0)},
		{"net/http, the read's error ignored, short body", plain, answersHalf, careless, want(n, 0, "wrong", n)},

		{"berth, streams refused", oursH2, frames(refuses), atOnce, want(n+1, 0, "received", 3*(n+1), "executed_twice", 0, "connections", 1)},
		{"net/http, streams refused", theirsH2, frames(refuses), atOnce, want(n+1, 0, "received", 3*(n+1), "executed_twice", 0)},
		{"berth, one stream reset", oursH2, frames(resetsOne(n)), atOnce, want(n+1, 1, "connections", 1)},
		{"net/http, one stream reset", theirsH2, frames(resetsOne(n)), atOnce, want(n+1, 1, "connections", 1)},
		{"net/http, connection closed on every reset", closesOnReset, frames(resetsOne(n)), atOnce, want(n+1, n)},
	}
}

// want makes what is expected.
func want(requests, failed int, more ...any) map[string]any {
	m := map[string]any{"requests": requests, "failed": failed}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func newOurs(cfg berth.Config) (http.RoundTripper, func(), error) {
	cfg.Proxy = berth.NoProxy
	tr, err := berth.New(cfg)
	return tr, func() { tr.Close() }, err
}

func (a attempt) run(ctx context.Context, variant byte) (Variant, error) {
	ln, err := listen(41, variant)
	if err != nil {
		return Variant{}, err
	}
	seen := &tally{received: map[string]int{}, executed: map[string]int{}, known: map[string]bool{}}
	srv := &server{origin.New(ln).Handle(func(c *origin.Conn) { a.peer(c, seen) }), addrOf(ln)}
	defer srv.Close()
	rt, end, err := a.client()
	if err != nil {
		return Variant{}, err
	}
	defer end()
	row := Variant{Name: a.name, Expected: a.want}
	failed, wrong, said := a.ask.of(ctx, rt, srv.url())
	requests := a.ask.n
	if a.ask.atOnce {
		requests++
	}
	for range 50 { // what was sent last may not have been read yet
		received, twice := seen.counts()
		row.Measured = map[string]any{"requests": requests, "failed": failed, "wrong": wrong, "received": received,
			"executed_twice": twice, "connections": srv.Stats().Accepted}
		if said != "" {
			row.Measured["error"] = anonymous(said, srv)
		}
		if row.meets() || pause(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	row.OK = row.meets()
	if ctx.Err() != nil {
		return row, errInterrupted
	}
	return row, nil
}

// anonymous leaves the addresses of this run out of an error's text.
func anonymous(text string, srv *server) string {
	return clientAddress.ReplaceAllString(strings.ReplaceAll(text, srv.addr.String(), "server"), "client->")
}

var clientAddress = regexp.MustCompile(`[0-9.]+:\d+->`)

// of sends the requests and returns how many failed, how many got another's answer or half
// of their own, and the first error.
func (a asking) of(ctx context.Context, rt http.RoundTripper, url string) (failed, wrong int, said string) {
	var mu sync.Mutex
	one := func(i int) {
		body, err := a.send(ctx, rt, url, strconv.Itoa(i))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed++
			if said == "" {
				said = err.Error()
			}
		} else if body != answerTo(strconv.Itoa(i)) {
			wrong++
		}
	}
	if a.atOnce {
		one(a.n)
		var wg sync.WaitGroup
		for i := range a.n {
			wg.Go(func() { one(i) })
		}
		wg.Wait()
		return failed, wrong, said
	}
	for i := range a.n {
		if i > 0 && a.gap > 0 && pause(ctx, a.gap) != nil {
			break
		}
		one(i)
	}
	return failed, wrong, said
}

// send sends the request of that name, which is its body too where it has one.
func (a asking) send(ctx context.Context, rt http.RoundTripper, url, id string) (string, error) {
	var body io.Reader
	if a.method == http.MethodPost {
		body = strings.NewReader(id)
	}
	req, err := http.NewRequestWithContext(ctx, a.method, url+id, body)
	if err != nil {
		return "", err
	}
	if a.key {
		req.Header.Set("Idempotency-Key", id)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if a.careless {
		err = nil
	}
	return string(b), err
}
