package berth

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"weak"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/pool"
)

// watch resolves an endpoint's name again and again while the endpoint has connections.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer // nil while there is nothing to watch
	changed int         // dial.Answer.Changed as connections were last compared with it
	wanted  bool        // a connection was opened since the timer was set
	ended   bool        // the endpoint is forgotten
}

// background is work that nobody waits for until the transport ends.
type background struct {
	mu     sync.Mutex
	ended  bool
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

// begin counts a piece of work, which calls done; ctx ends with the transport. ok is
// false when that has ended already.
func (b *background) begin() (ctx context.Context, done func(), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return nil, nil, false
	}
	if b.ctx == nil {
		b.ctx, b.cancel = context.WithCancel(context.Background())
	}
	b.wg.Add(1)
	return b.ctx, b.wg.Done, true
}

// end cancels what runs and waits for it.
func (b *background) end() {
	b.mu.Lock()
	b.ended = true
	if b.cancel != nil {
		b.cancel()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// target is what the endpoint's connections are dialled to.
func (ep *endpoint) target(f *inForce) dial.Target {
	t := dial.Target{Host: ep.key.host, Port: ep.key.port, History: &ep.history, Load: ep.pool.Load, Budget: f.policy.PortBudget.budget(),
		MinTTL: or(f.policy.DNSMinTTL, defaultDNSMinTTL, 0), MaxTTL: or(f.policy.DNSMaxTTL, defaultDNSMaxTTL, 0)}
	if ep.proxy != nil {
		t.Host, t.Port = ep.proxy.Hostname(), proxyPort(ep.proxy)
	}
	t.Allow = ep.allowAddr(f, t.Host)
	if tr := f.config.Trace; tr != nil && tr.Resolved != nil {
		t.Asked = ep.resolved(tr)
	}
	return t
}

// watchName begins to watch the endpoint's name, now that it has a connection by it.
func (ep *endpoint) watchName(f *inForce, d *dial.Dest) {
	t := ep.target(f)
	if d == nil || t.MaxTTL <= 0 {
		return
	}
	if _, err := netip.ParseAddr(t.Host); err == nil {
		return
	}
	w := ep.watch.Load()
	if w == nil {
		w = &watch{}
		if !ep.watch.CompareAndSwap(nil, w) {
			w = ep.watch.Load()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = true
	if w.timer == nil && !w.ended {
		_, w.changed = ep.t.names.Until(t.Host)
		ep.watchAt(w, t.Host, 0, nil)
	}
}

// followName has the name be resolved anew when what holds for that has changed.
func (ep *endpoint) followName(before, f *inForce) {
	if f.policy.DNSMinTTL == before.policy.DNSMinTTL && f.policy.DNSMaxTTL == before.policy.DNSMaxTTL && same(f.config.Resolve, before.config.Resolve) {
		return
	}
	ep.t.names.Expire(ep.target(f).Host)
	if w := ep.watch.Load(); w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.timer != nil {
			w.timer.Reset(0)
		}
	}
}

// endWatch ends the watch.
func (ep *endpoint) endWatch() {
	if w := ep.watch.Load(); w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.ended = true; w.timer != nil {
			w.timer.Stop()
		}
	}
}

// watchAt sets the timer: to when the answer for the name ends, or an address that was
// set aside is due that is none of without, but not before least. It does not keep the endpoint from being
// collected. w.mu is held.
func (ep *endpoint) watchAt(w *watch, host string, least time.Duration, without []netip.Addr) {
	until, _ := ep.t.names.Until(host)
	wait := time.Until(until)
	if due := ep.t.names.NextDue(host, without); !due.IsZero() {
		wait = min(wait, time.Until(due))
	}
	wait = max(wait, least, time.Millisecond)
	if w.timer != nil {
		w.timer.Reset(wait)
		return
	}
	wep := weak.Make(ep)
	w.timer = time.AfterFunc(wait, func() {
		if ep := wep.Value(); ep != nil {
			ep.lookAgain()
		}
	})
}

// lookAgain resolves the name, and has connections follow the answer.
func (ep *endpoint) lookAgain() {
	w := ep.watch.Load()
	ctx, done, ok := ep.t.watches.begin()
	if !ok {
		return
	}
	defer done()
	f := ep.now.Load()
	t := ep.target(f)
	if t.MaxTTL > 0 && ep.pool.Live() {
		d := f.dialer
		ctx, cancel := context.WithTimeout(ctx, or(f.policy.DialTimeout, defaultDialTimeout, defaultDialTimeout))
		a, err := ep.t.names.Resolve(ctx, d.Query(t))
		if err == nil {
			ep.followAddresses(w, a, t)
		}
		refused := ep.tryAgain(ctx, d, t)
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.ended {
			ep.watchAt(w, t.Host, time.Millisecond, refused)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted && t.MaxTTL > 0 && !w.ended { // it may not be in the pool yet
		w.wanted = false
		ep.watchAt(w, t.Host, time.Second, nil)
		return
	}
	if w.timer != nil { // a look at the same time may have been first
		w.timer.Stop()
		w.timer = nil // the next connection begins anew
	}
}

// followAddresses retires connections to addresses that left the answer, and when others
// came, those that some address has beyond its share.
func (ep *endpoint) followAddresses(w *watch, a dial.Answer, t dial.Target) {
	n, err := strconv.ParseUint(t.Port, 10, 16)
	if err != nil || a.Stale != nil {
		return
	}
	w.mu.Lock()
	balance := w.changed != a.Changed
	w.changed = a.Changed
	w.mu.Unlock()
	valid := map[string]bool{}
	reachable := 0
	for _, addr := range a.Addrs {
		at := netip.AddrPortFrom(addr, uint16(n))
		valid[at.String()] = true
		if balance && !ep.t.names.Aside(t.Host, addr) && (t.Allow == nil || t.Allow(at) == nil) {
			reachable++
		}
	}
	staying := map[string][]*pool.Slot{}
	total := 0
	for _, s := range ep.pool.Conns() {
		place := s.Conn().Place()
		switch {
		case place == "":
		case !valid[place]:
			ep.pool.Retire(s, pool.ReasonAddress)
		default:
			staying[place] = append(staying[place], s)
			total++
		}
	}
	if !balance || reachable == 0 {
		return
	}
	share := (total + reachable - 1) / reachable
	for _, slots := range staying {
		for _, s := range slots[:max(len(slots)-share, 0)] { // idle ones come first
			ep.pool.Retire(s, pool.ReasonAddress)
		}
	}
}

// tryAgain connects to the addresses that were set aside long enough. It returns those that
// it may not connect to: another group's dials may have set them aside.
func (ep *endpoint) tryAgain(ctx context.Context, d *dial.Dialer, t dial.Target) (refused []netip.Addr) {
	n, err := strconv.ParseUint(t.Port, 10, 16)
	if err != nil {
		return nil
	}
	for _, addr := range ep.t.names.Due(t.Host) {
		at := netip.AddrPortFrom(addr, uint16(n))
		if t.Allow != nil && t.Allow(at) != nil {
			refused = append(refused, addr)
			continue
		}
		d.Probe(ctx, t, at)
	}
	return refused
}
