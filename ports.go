package berth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-go/berth/internal/dial"
	"github.com/berth-go/berth/internal/pool"
)

// PortBudget is a number of ports that lie beyond this host, such as those of a gateway
// that translates addresses (SNAT), and how long each stays taken after its connection. A
// new connection waits, within the time that its request may, for a port to come back;
// from four fifths on it waits so that ports are not used up faster than they do. In JSON
// it may be the name of a preset.
type PortBudget struct {
	Ports        int           `json:"ports"`          // 0 is no budget
	HoldAfterFIN time.Duration `json:"hold_after_fin"` // after a connection that ended by FIN; zero is 60 s, negative none
	HoldAfterRST time.Duration `json:"hold_after_rst"` // after one that ended by RST; zero is none
}

// PortBudgetPreset returns the budget that a platform documents, and whether there is
// one of that name; see [PortBudgetPresets].
func PortBudgetPreset(name string) (PortBudget, bool) {
	b, ok := portBudgets()[name]
	return b, ok
}

// PortBudgetPresets returns the names of the presets, sorted: aws-nat-gateway (55,000
// connections to a destination for each address), azure-app-service (128 ports
// preallocated to an instance, held 240 s after FIN and 15 s after RST), azure-lb-50,
// azure-lb-100, azure-lb-200, azure-lb-400, azure-lb-800, azure-lb-1000 (default ports of
// an instance by the number of instances in the pool), azure-nat-gateway (50,000
// connections to a destination for each address), gcp-cloud-nat (64 ports of a VM, held
// 120 s). The figures are those of docs/ports.md.
func PortBudgetPresets() []string { return slices.Sorted(maps.Keys(portBudgets())) }

func portBudgets() map[string]PortBudget {
	lb := func(ports int) PortBudget { return PortBudget{ports, 240 * time.Second, 15 * time.Second} }
	return map[string]PortBudget{
		"aws-nat-gateway":   {Ports: 55_000},
		"azure-app-service": lb(128),
		"azure-lb-50":       lb(1024), "azure-lb-100": lb(512), "azure-lb-200": lb(256),
		"azure-lb-400": lb(128), "azure-lb-800": lb(64), "azure-lb-1000": lb(32),
		"azure-nat-gateway": {Ports: 50_000},
		"gcp-cloud-nat":     {Ports: 64, HoldAfterFIN: 120 * time.Second},
	}
}

func (b PortBudget) validate(field string) error {
	if b.Ports < 0 {
		return &ConfigError{Field: field + ".Ports", Reason: "is negative; 0 is no budget"}
	}
	return nil
}

func (b PortBudget) budget() dial.Budget {
	return dial.Budget{Ports: b.Ports, HoldFIN: or(b.HoldAfterFIN, time.Minute, 0), HoldRST: max(b.HoldAfterRST, 0)}
}

// String is the number of ports and the times.
func (b PortBudget) String() string {
	if b.Ports == 0 {
		return "none"
	}
	d := b.budget()
	return fmt.Sprintf("%d ports, held %v after FIN, %v after RST", b.Ports, d.HoldFIN, d.HoldRST)
}

// MarshalJSON writes durations as strings.
func (b PortBudget) MarshalJSON() ([]byte, error) {
	m := map[string]any{"ports": b.Ports}
	for name, d := range map[string]time.Duration{"hold_after_fin": b.HoldAfterFIN, "hold_after_rst": b.HoldAfterRST} {
		if d != 0 {
			m[name] = formatDuration(d)
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON writes, or the name of a preset.
func (b *PortBudget) UnmarshalJSON(data []byte) error {
	var name string
	if json.Unmarshal(data, &name) == nil {
		preset, ok := PortBudgetPreset(name)
		if !ok {
			return fmt.Errorf("no budget %q; known are %s", name, strings.Join(PortBudgetPresets(), ", "))
		}
		*b = preset
		return nil
	}
	return unmarshalFields(b, data)
}

// PortUsage is how many ports a destination takes.
type PortUsage struct {
	Destination string  `json:"destination"` // address and port; "" for all together
	Ports       int     `json:"ports"`       // that there are
	Live        int     `json:"live"`        // with a connection
	Held        int     `json:"held"`        // without one, in TIME_WAIT or held by a gateway
	Budget      bool    `json:"budget"`      // of a PortBudget; else this host's own
	Rate        float64 `json:"rate"`        // new connections a second, of late
}

// Used is the share of the ports that are taken.
func (u PortUsage) Used() float64 {
	if u.Ports == 0 {
		return 0
	}
	return float64(u.Live+u.Held) / float64(u.Ports)
}

// Exhausted is how long the ports last at the present rate, none coming back; negative
// when nothing is opened.
func (u PortUsage) Exhausted() time.Duration {
	if u.Rate < 0.01 {
		return -1
	}
	return time.Duration(float64(max(u.Ports-u.Live-u.Held, 0)) / u.Rate * float64(time.Second))
}

// Ports returns what destinations take of this host's ports and of budgets, as far as
// Berth has opened the connections itself, sorted by destination.
func (t *Transport) Ports() []PortUsage {
	t.init()
	var list []PortUsage
	for _, u := range t.ports.Usage() {
		list = append(list, portUsage(u))
	}
	return list
}

func portUsage(u dial.Usage) PortUsage {
	return PortUsage{Destination: u.Dest, Ports: u.Ports, Live: u.Live, Held: u.Held, Budget: u.Beyond, Rate: u.Rate}
}

// portWait is why a dial waits for a port.
type portWait struct{ why atomic.Pointer[error] }

// refusedPause is how long a dial waits that the kernel gave no port, before it tries
// again.
const refusedPause = 100 * time.Millisecond

// awaitPort waits until a dial that failed for want of a port may be tried again, and
// reports whether it may: a budget has no room, or the kernel gave no port and no
// connection lives that others could be served by. It ends with ctx. Why it waits is told
// until the dial has ended: see portText.
func (ep *endpoint) awaitPort(ctx context.Context, slot *pool.Slot, err error, f *inForce, w *portWait) bool {
	var wait time.Duration
	busy, is := errors.AsType[*dial.BusyError](err)
	switch {
	case refused(err):
		return false
	case is:
		wait = busy.Wait
	case dial.Exhausted(err) == dial.Ports && f.config.DialContext == nil && !ep.pool.Live():
		wait = refusedPause
	default:
		return false
	}
	w.why.Store(&err)
	ep.t.portless.Store(ep, w)
	ep.pool.Stalled(slot, true)
	defer ep.pool.Stalled(slot, false)
	freed := ep.t.ports.Freed()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-freed:
		return true
	case <-ctx.Done():
		return false
	}
}

// portText says which ports a dial of the endpoint waits for; "" when it waits for none.
func (ep *endpoint) portText() string {
	v, ok := ep.t.portless.Load(ep)
	if !ok {
		return ""
	}
	if busy, is := errors.AsType[*dial.BusyError](*v.(*portWait).why.Load()); is {
		return busy.Usage.String()
	}
	return "this host is out of ports to " + ep.name
}

// lacks tells once of a feature that the kernel does not have: as a warning when the
// configuration asks for it.
func (t *Transport) lacks(feature string, asked bool, err error) {
	if _, told := t.lacking.LoadOrStore(feature, true); told {
		return
	}
	if log := t.edition.Load().config.Logger; log != nil {
		level := slog.LevelInfo
		if asked {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "berth: the kernel lacks a feature; going on without it", "feature", feature, "error", err)
	}
}

// exhaustedError tells what there is of the resource that a dial failed for want of.
func (ep *endpoint) exhaustedError(r dial.Resource, err error) error {
	e := &PortsExhaustedError{Endpoint: ep.name, Resource: r.String(), Err: err}
	e.InUse, e.TimeWait = dial.SocketCounts()
	switch r {
	case dial.Descriptors:
		e.Limit = dial.DescriptorLimit()
	case dial.Ports:
		if busy, is := errors.AsType[*dial.BusyError](err); is {
			e.Usage = portUsage(busy.Usage)
			break
		}
		op, is := errors.AsType[*net.OpError](err)
		if !is {
			break
		}
		if addr, ok := op.Addr.(*net.TCPAddr); ok {
			e.Usage = portUsage(ep.now.Load().dialer.UsageOf(netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))))
		}
	}
	return e
}
