package dial

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

var far = netip.MustParseAddrPort("192.0.2.1:443")

// count is a ledger with a clock of the test's.
type count struct {
	*testing.T
	l   *Ledger
	now int64
}

func newCount(t *testing.T) *count {
	c := &count{T: t, now: 1}
	c.l = NewLedger(func() int64 { return c.now })
	return c
}

func (c *count) after(d time.Duration) { c.now += int64(d) }

// take opens a connection, or says how long to wait.
func (c *count) take(host, own, process Budget) (*Dest, time.Duration) {
	c.Helper()
	d, err := c.l.take(far, host, own, process)
	if err != nil {
		busy, is := errors.AsType[*BusyError](err)
		if !is || busy.Wait <= 0 {
			c.Fatalf("%v", err)
		}
		return nil, busy.Wait
	}
	return d, 0
}

// This host's own ports are paced from four fifths on, and never refused: the kernel
// knows better.
func TestHostPortsArePaced(t *testing.T) {
	c := newCount(t)
	host := Budget{Ports: 100, HoldFIN: time.Minute}
	for range 80 {
		d, wait := c.take(host, Budget{}, Budget{})
		if wait > 0 {
			t.Fatalf("wait %v below four fifths", wait)
		}
		d.Closed(EndedByUs)
	}
	paced := 0
	for range 200 {
		d, wait := c.take(host, Budget{}, Budget{})
		if u := c.l.UsageOf(far); u.Live+u.Held > 160 { // 80 at once, and one a second until those come back
			t.Fatalf("%v", u)
		}
		if wait > 0 {
			if wait > time.Second {
				t.Fatalf("wait %v: never longer than a second", wait)
			}
			paced++
			c.after(wait)
			continue
		}
		d.Closed(EndedByUs)
	}
	if paced < 50 {
		t.Errorf("%d of 200 were paced", paced)
	}
	if u := c.l.Usage()[0]; u.Live != 0 || u.Held < 70 || u.Ports != 100 {
		t.Errorf("%+v", u)
	}
	c.after(2 * time.Minute)
	if u := c.l.UsageOf(far); u.Held != 0 {
		t.Errorf("after TIME_WAIT %+v", u)
	}
}

// A budget beyond this host is kept to exactly; what the peer closed first is held there,
// and not here.
func TestBudgetBeyondIsKept(t *testing.T) {
	c := newCount(t)
	budget := Budget{Ports: 10, HoldFIN: 240 * time.Second, HoldRST: 15 * time.Second}
	host := Budget{Ports: 28_000, HoldFIN: time.Minute}
	var begun []int64
	for len(begun) < 35 {
		d, wait := c.take(host, budget, Budget{})
		if wait > 0 {
			c.after(wait)
			continue
		}
		begun = append(begun, c.now)
		how := EndedByPeer
		if len(begun) > 20 {
			how = EndedByRST
		}
		d.Closed(how)
	}
	for i := 10; i < len(begun); i++ {
		hold := budget.HoldFIN
		switch { // where all in between were closed alike
		case i-10 >= 20:
			hold = budget.HoldRST
		case i > 20:
			continue
		}
		if gap := time.Duration(begun[i] - begun[i-10]); gap < hold {
			t.Errorf("connections %d and %d lie %v apart", i-10, i, gap)
		}
	}
	for _, u := range c.l.Usage() {
		if !u.Beyond && u.Held > 0 {
			t.Errorf("this host holds %+v, and the peer closed first", u)
		}
	}
}

// Live connections take ports until they end; who waits is told of that.
func TestLedgerTellsOfPortsThatComeBack(t *testing.T) {
	c := newCount(t)
	budget := Budget{Ports: 2}
	a, _ := c.take(Budget{}, budget, Budget{})
	b, _ := c.take(Budget{}, budget, Budget{})
	if a == nil || b == nil || a != b {
		t.Fatal("two ports were not had")
	}
	if _, wait := c.take(Budget{}, budget, Budget{}); wait == 0 {
		t.Error("a third of two ports was had")
	}
	freed := c.l.Freed()
	a.Closed(EndedByRST)
	select {
	case <-freed:
	default:
		t.Error("nobody is told of the port that came back")
	}
	if d, _ := c.take(Budget{}, budget, Budget{}); d == nil {
		t.Error("the port was not had")
	}
	b.Closed(EndedByUs)
	b.untake()
	c.after(time.Hour)
	c.l.Usage()
	if d, _ := c.take(Budget{}, budget, Budget{}); d != nil {
		d.untake()
	}
	if len(c.l.dests) != 0 {
		t.Errorf("%d destinations are remembered that count nothing", len(c.l.dests))
	}
	var none *Dest
	none.Closed(EndedByUs)
	if none.Name() != "" || none.Scarce() || none.Addr().IsValid() {
		t.Error("no destination has a name")
	}
}

// The rate is that of the last seconds, from the beginning.
func TestLedgerKnowsTheRate(t *testing.T) {
	c := newCount(t)
	for range 100 {
		d, _ := c.take(Budget{Ports: 28_000, HoldFIN: time.Minute}, Budget{}, Budget{})
		d.Closed(EndedByUs)
		c.after(10 * time.Millisecond)
	}
	if r := c.l.UsageOf(far).Rate; r < 80 || r > 125 {
		t.Errorf("rate %.1f after a second of 100 a second", r)
	}
	c.after(time.Minute)
	if r := c.l.UsageOf(far).Rate; r != 0 {
		t.Errorf("rate %.1f after a minute of nothing", r)
	}
}
