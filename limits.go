package berth

import (
	"fmt"
	"math"

	"github.com/berth-go/berth/internal/pool"
)

// hostLimit is Policy.MaxConnsPerHost of one host.
type hostLimit struct {
	pool.Limit
	members int // endpoints under it
}

// limit puts Config.MaxConns in force. t.steer is held, or nobody else knows t yet.
func (t *Transport) limit(ed *edition) {
	n := max(ed.config.MaxConns, 0)
	if n == 0 && t.global == nil {
		return
	}
	if t.global == nil {
		t.global = &pool.Limit{Name: "transport max"}
	}
	if n == 0 {
		n = math.MaxInt
	}
	t.quota.SetMax(t.global, n)
}

// join puts the endpoint under the limits that hold for it. t.steer is held.
func (ep *endpoint) join(f *inForce) {
	t := ep.t
	perHost := max(f.policy.MaxConnsPerHost, 0)
	base := ep.key.base()
	host := t.hosts[base]
	if perHost > 0 && host == nil {
		host = &hostLimit{Limit: pool.Limit{Name: "host max, all groups"}}
		if t.hosts == nil {
			t.hosts = map[endpointKey]*hostLimit{}
		}
		t.hosts[base] = host
	}
	if host != nil {
		n := perHost
		if n == 0 {
			n = math.MaxInt
		}
		t.quota.SetMax(&host.Limit, n)
	}
	var limits []*pool.Limit
	if t.global != nil {
		limits = append(limits, t.global)
	}
	if host != nil {
		limits = append(limits, &host.Limit)
	}
	m := ep.member.Load()
	if m.Under(limits) {
		return
	}
	if m != nil {
		t.quota.Leave(m)
		ep.leftHost(m)
		ep.member.Store(nil)
	}
	if host != nil {
		host.members++
	}
	if len(limits) > 0 {
		ep.member.Store(t.quota.Join(ep.pool, limits...))
	}
}

// leave ends the endpoint's part in them.
func (ep *endpoint) leave() {
	t := ep.t
	t.steer.Lock()
	defer t.steer.Unlock()
	if m := ep.member.Swap(nil); m != nil {
		t.quota.Leave(m)
		ep.leftHost(m)
	}
}

// leftHost forgets a host's limit with its last endpoint. t.steer is held.
func (ep *endpoint) leftHost(m *pool.Member) {
	base := ep.key.base()
	if host := ep.t.hosts[base]; host != nil && m.Has(&host.Limit) {
		if host.members--; host.members == 0 {
			delete(ep.t.hosts, base)
		}
	}
}

// admissionText says which limit over several endpoints keeps dials waiting.
func (ep *endpoint) admissionText() string {
	if m := ep.member.Load(); m != nil {
		if l, n := m.Binding(); l != nil {
			return fmt.Sprintf("%s %d", l.Name, n)
		}
	}
	return "a limit over several endpoints"
}
