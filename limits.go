package berth

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/berth-go/berth/internal/pool"
)

// limits are those over several endpoints.
type limits struct {
	quota  *pool.Quota
	global atomic.Pointer[pool.Limit] // Config.MaxConns; nil as long as there was none

	mu    sync.Mutex // guards hosts and their members
	hosts map[endpointKey]*hostLimit
}

// hostLimit is Policy.MaxConnsPerHost of one host.
type hostLimit struct {
	pool.Limit
	members int // endpoints under it
}

const hostLimitName = "host max, all groups"

func unlimited(n int) int {
	if n <= 0 {
		return math.MaxInt
	}
	return n
}

// set puts Config.MaxConns in force.
func (l *limits) set(ed *edition) {
	n := ed.config.MaxConns
	if n <= 0 && l.global.Load() == nil {
		return
	}
	l.global.CompareAndSwap(nil, &pool.Limit{Name: "transport max"})
	l.quota.SetMax(l.global.Load(), unlimited(n))
}

// over returns the limits that hold for an endpoint, which is counted as a member of its
// host's if member says so. perHost is that one's number.
func (l *limits) over(key endpointKey, perHost int, member bool) (list []*pool.Limit, host *hostLimit) {
	if g := l.global.Load(); g != nil {
		list = append(list, g)
	}
	base := key.base()
	l.mu.Lock()
	defer l.mu.Unlock()
	host = l.hosts[base]
	if host == nil && perHost > 0 {
		host = &hostLimit{Limit: pool.MakeLimit(hostLimitName, unlimited(perHost))}
		if l.hosts == nil {
			l.hosts = map[endpointKey]*hostLimit{}
		}
		l.hosts[base] = host
	}
	if host != nil {
		list = append(list, &host.Limit)
		if member {
			host.members++
		}
	}
	return list, host
}

// left takes an endpoint off the members of its host's limit.
func (l *limits) left(key endpointKey, m *pool.Member) {
	base := key.base()
	l.mu.Lock()
	defer l.mu.Unlock()
	if host := l.hosts[base]; host != nil && m.Under(&host.Limit) {
		if host.members--; host.members == 0 {
			delete(l.hosts, base)
		}
	}
}

// joinNew puts an endpoint under its limits before anybody knows it. It has no connection:
// nothing follows from it, and the table's lock may be held.
func (ep *endpoint) joinNew(f *inForce) {
	l := &ep.t.limits
	if list, _ := l.over(ep.key, f.policy.MaxConnsPerHost, true); len(list) > 0 {
		ep.member.Store(l.quota.Join(ep.pool, list...))
	}
}

// join puts an endpoint that exists under the limits that hold now. t.steer is held.
func (ep *endpoint) join(f *inForce) {
	l := &ep.t.limits
	m := ep.member.Load()
	list, host := l.over(ep.key, f.policy.MaxConnsPerHost, false)
	if host != nil {
		l.quota.SetMax(&host.Limit, unlimited(f.policy.MaxConnsPerHost))
	}
	if m.UnderAll(list) {
		return
	}
	if m != nil {
		l.left(ep.key, m)
		l.quota.Leave(m)
		ep.member.Store(nil)
	}
	if list, _ = l.over(ep.key, f.policy.MaxConnsPerHost, true); len(list) > 0 {
		ep.member.Store(l.quota.Join(ep.pool, list...))
	}
}

// leave ends the endpoint's part in them.
func (ep *endpoint) leave() {
	ep.t.steer.Lock()
	defer ep.t.steer.Unlock()
	if m := ep.member.Swap(nil); m != nil {
		ep.t.limits.left(ep.key, m)
		ep.t.limits.quota.Leave(m)
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
