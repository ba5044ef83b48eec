package pool

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// The model plays the outside world of one core: it interprets bytes as events,
// answers the actions that core emits in any order, and keeps books of its own
// that know nothing of lists, heaps and counters. After every event the two must
// agree. The same interpreter serves TestModel and FuzzModel. The events are in
// model_events_test.go, the books and their checks in model_check_test.go.

var (
	modelSeed  = flag.Uint64("model.seed", 1, "first seed of TestModel")
	modelSteps = flag.Int("model.steps", 1_000_000, "events of TestModel")
)

const (
	modelConfigured = 14                  // bytes that choose the configuration
	modelHeader     = modelConfigured + 3 // and those that choose load and weather
	modelEvent      = 3                   // bytes of an event: what, and two arguments
	modelLength     = 1500                // events of a sequence
)

// modelWaiter is a request in the model's books.
type modelWaiter struct {
	hasty bool // does not queue
	w     *Waiter
	end   string // how its wait ended; empty while it lasts
	dial  *modelSlot
	since int64
}

// modelGrant is a lease that core has given and whose request has not yet been
// told by the connection that it may begin. w is nil when it never queued.
type modelGrant struct {
	l *Lease
	w *modelWaiter
}

type modelStage uint8

const (
	stageAdmit   modelStage = iota // asks for admission
	stageDial                      // is being dialled
	stageOpen                      // lives
	stageClosing                   // is being closed
)

// modelSlot is a connection in the model's books.
type modelSlot struct {
	id        int
	s         *Slot
	stage     modelStage
	initiator *modelWaiter
	replaces  *modelSlot // the connection that it is dialled to succeed
	trial     bool
	doubtful  bool
	cancelled bool
	orphaned  int64 // when the dial is to be given up; never while a request waits
	relied    int64 // until when an orphan is relied upon; never while a request waits

	born, idleSince, hintUntil int64
	inFlight, capacity         int
	requests                   int
	maxLeft                    int // -1: not told
	probing                    bool
	over                       bool // takes no further request
	unsettled                  bool // its capacity is not known yet
	useful                     bool // an exchange ended well on it
	told, gone                 bool // before its dial returned
	dud                        bool // gone, and turned away whoever came
	succeeded                  bool // its successor is there
	modest, stalled            bool // its dial asks nothing of others; waits for what they have to give up
	stale, old                 bool // a reconnect came after its dial had begun, after it was
	draining                   bool
	blurred                    bool // it was decided about under other settings, or before it was unused
	reason                     Reason
}

// model is the world outside core, and the books.
type model struct {
	c   *core
	now int64
	cfg Config

	settings [modelConfigured]byte // what cfg was made of
	load     int                   // no request comes while so many wait
	weather  int                   // of 16 dials, so many fail

	slots []*modelSlot
	queue []*modelWaiter // first in, first out
	grant []modelGrant   // given, not yet taken
	held  []*Lease

	gated, paused     bool
	stolen, warmed    bool // connections were given up for others, opened in advance
	freed, ends       int  // slots that admission was told of, that it had admitted and came to their end
	soft, hard, evict bool
	starved           int
	fails, duds       int
	notBefore         int64
	exhausted         bool
	exhaustedUntil    int64
	emptySince        int64 // never while there is a connection or a request
	emptied           int

	// Totals that core's counters must match.
	granted, returned                          int
	dialsOK, failed, cancelled, exhaustedCount int
	refusedCount, wouldQueue                   int
	started, closes, peerFirst, weFirst        int
	reasons                                    [NumReasons]int
	all                                        []*modelWaiter
	ended                                      int

	// What the event under way allows.
	failing   *modelWaiter // may fail: its dial did
	declining *modelWaiter // must fail: its dial was declined
	ticking   bool

	log func(string, ...any) // nil: quiet
}

// modelFailure is what the checks panic with.
type modelFailure string

func (m *model) fail(format string, args ...any) {
	panic(modelFailure(fmt.Sprintf(format, args...)))
}

func (m *model) logf(format string, args ...any) {
	if m.log != nil {
		m.log(format, args...)
	}
}

func choose[T any](b byte, from ...T) T { return from[int(b)%len(from)] }

// modelConfig makes a configuration of small numbers: limits that are reached
// are the ones that matter.
func modelConfig(b []byte) Config {
	c := Config{
		MaxConns:    choose(b[0], 1, 2, 3, 4, 6, Unlimited),
		MaxIdle:     choose(b[1], Unlimited, 0, 1, 2, 3, Unlimited),
		MaxWaiters:  choose(b[2], Unlimited, 0, 1, 4, 8, Unlimited),
		MaxDials:    choose(b[3], Unlimited, 1, 2, 3),
		MaxRequests: choose(b[4], Unlimited, 1, 2, 5, Unlimited),
		Expect:      choose(b[5], 1, 1, 2, 5),
		IdleTimeout: choose(b[6], 10*time.Second, 0, time.Second, time.Minute, Never),
		Lifetime:    choose(b[7], time.Minute, 20*time.Second, Never, 2*time.Second, 20*time.Second, time.Minute, 0, 1),
		Sweep:       choose(b[8], 5*time.Second, 1, time.Second, Never),
		OrphanGrace: choose(b[9], 5*time.Second, Never, time.Second, 5*time.Second, 0),
		WarnAfter:   choose(b[10], 10*time.Second, 0, Never),
		Forget:      choose(b[11], time.Minute, 0, 5*time.Second, Never),
		Order:       choose(b[12], LIFO, LIFO, FIFO, Spread),
		MinIdle:     choose(b[13], 0, 0, 0, 0, 1, 2),
		MarkLast:    b[13]&1 == 1,
	}
	if c.Lifetime < time.Second {
		c.MinIdle = 0 // connections would be opened without end
	}
	return c
}

func newModel(header []byte) *model {
	m := &model{c: new(core), now: 1, emptySince: 1}
	m.settings = [modelConfigured]byte(header)
	m.cfg = modelConfig(m.settings[:])
	m.load = choose(header[modelConfigured], 3, 1, 2, 6, 25)
	m.weather = choose(header[modelConfigured+1], 0, 1, 4, 12)
	m.gated = header[modelConfigured+2]&1 == 1
	var a Admission
	if m.gated {
		a = gate(nil)
	}
	m.c.init(nil, new(m.cfg), new(Shared), a, m.now)
	return m
}

// nth returns the element that b points at, and whether there is any.
func nth[T any](b byte, from []T) (v T, ok bool) {
	if len(from) == 0 {
		return v, false
	}
	return from[int(b)%len(from)], true
}

func (m *model) inStage(stages ...modelStage) (found []*modelSlot) {
	for _, s := range m.slots {
		if slices.Contains(stages, s.stage) {
			found = append(found, s)
		}
	}
	return found
}

func (m *model) probes() (found []*modelSlot) {
	for _, s := range m.slots {
		if s.probing {
			found = append(found, s)
		}
	}
	return found
}

func (m *model) slot(s *Slot) *modelSlot {
	for _, ms := range m.slots {
		if ms.s == s {
			return ms
		}
	}
	m.fail("an action on a slot that the model does not know")
	return nil
}

// step makes one event: the one that data asks for, or the next that is possible.
func (m *model) step(data []byte) {
	for i := range 8 {
		if modelOps[(int(data[0])+i*29)&127](m, data[1], data[2]) {
			break
		}
	}
	m.check()
}

// runModel interprets data; it returns what went wrong and how many events it made.
func runModel(data []byte, log func(string, ...any)) (problem string, steps int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case modelFailure:
			problem = string(v)
		default:
			problem = fmt.Sprint("panic: ", v)
		}
	}()
	if len(data) < modelHeader {
		return "", 0
	}
	m := newModel(data)
	m.log = log
	m.logf("config: %+v", m.cfg)
	for data = data[modelHeader:]; len(data) >= modelEvent; data = data[modelEvent:] {
		m.step(data)
		steps++
		if m.soft && len(m.slots)+len(m.queue) == 0 {
			break // nothing more can happen
		}
	}
	m.drain()
	return "", steps
}

func TestModel(t *testing.T) {
	steps := 0
	for seed := *modelSeed; steps < *modelSteps; seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		data := make([]byte, modelHeader+modelEvent*modelLength)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		for i := range modelHeader { // one tight limit hides the others: most are generous
			if i > 0 && i < modelConfigured && r.IntN(3) > 0 {
				data[i] = 0
			}
		}
		problem, n := runModel(data, nil)
		if problem != "" {
			t.Fatalf("seed %d (-model.seed=%d): %s", seed, seed, explainModel(data, problem))
		}
		steps += n
	}
	t.Logf("%d events", steps)
}

// explainModel shortens a failing sequence and tells its last events.
func explainModel(data []byte, problem string) string {
	data, problem = shrinkModel(data, problem)
	var lines []string
	runModel(data, func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
	head := ""
	if len(lines) > 60 {
		head = lines[0] + "\n...\n"
		lines = lines[len(lines)-60:]
	}
	return fmt.Sprintf("%s\nshortened to %d events; the last of them:\n%s%s\nas bytes: %q", problem,
		(len(data)-modelHeader)/modelEvent, head, strings.Join(lines, "\n"), data)
}

// shrinkModel removes events for as long as some failure remains.
func shrinkModel(data []byte, problem string) ([]byte, string) {
	for size := (len(data) - modelHeader) / modelEvent / 2; size > 0; size /= 2 {
		for from := modelHeader; from+size*modelEvent <= len(data); {
			shorter := slices.Concat(data[:from], data[from+size*modelEvent:])
			if p, _ := runModel(shorter, nil); p != "" {
				data, problem = shorter, p
			} else {
				from += size * modelEvent
			}
		}
	}
	for i := range modelHeader {
		if old := data[i]; old != 0 {
			data[i] = 0
			if p, _ := runModel(data, nil); p == "" {
				data[i] = old
			} else {
				problem = p
			}
		}
	}
	return data, problem
}

func FuzzModel(f *testing.F) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, modelHeader+modelEvent*200)
		for i := modelHeader * int(seed&1); i < len(data); i++ {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), modelHeader+modelEvent*3000)]
		if problem, _ := runModel(data, nil); problem != "" {
			t.Fatal(explainModel(slices.Clone(data), problem))
		}
	})
}
