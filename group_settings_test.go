package berth_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/origin"
)

func (r *rig) setGroup(name string, p berth.Policy) {
	r.Helper()
	if err := r.tr.Group(name).SetPolicy(p); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) inGroup(name string) *berth.Endpoint {
	r.Helper()
	ep, err := r.tr.Group(name).Endpoint(rigURL)
	if err != nil {
		r.Fatal(err)
	}
	return ep
}

// A group's policy is before all rules and behind the endpoint's own, and of no other group.
func TestGroupPolicyIsBetweenEndpointAndRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, berth.Config{Policy: berth.Policy{MaxConns: 1, MaxIdle: 1, MaxDials: 1, MaxWaiters: 1},
			Rules: []berth.Rule{{Match: "origin.test", Policy: berth.Policy{MaxIdle: 2, MaxDials: 2, MaxWaiters: 2}}}}, origin.Serve(ok("a")))
		if err := r.getIn("g", "/"); err != nil { // it exists before and follows
			t.Fatal(err)
		}
		r.setGroup("g", berth.Policy{MaxConns: 3, MaxDials: 3, MaxWaiters: 3, Strict: true})
		if err := r.endpoint().SetPolicy(berth.Policy{MaxWaiters: 4}); err != nil {
			t.Fatal(err)
		}
		check := func(ep *berth.Endpoint, want string) {
			t.Helper()
			e := ep.Policy()
			got := ""
			for _, f := range []struct {
				name string
				n    int
			}{{"max_conns", e.Policy.MaxConns}, {"max_idle", e.Policy.MaxIdle}, {"max_dials", e.Policy.MaxDials}, {"max_waiters", e.Policy.MaxWaiters}} {
				got += fmt.Sprintf("%d by %s, ", f.n, e.From[f.name])
			}
			if got != want {
				t.Errorf("%v:\n     %s\nwant %s", ep, got, want)
			}
		}
		const others = "1 by policy, 2 by rule 1 (origin.test), 2 by rule 1 (origin.test), 4 by endpoint, "
		check(r.inGroup("g"), "3 by group, 2 by rule 1 (origin.test), 3 by group, 4 by endpoint, ")
		check(r.inGroup("other"), others)
		check(r.endpoint(), others)
		for _, e := range r.tr.Report().Endpoints {
			if e.Group == "g" && e.Policy.From["strict"] != "group" {
				t.Errorf("the report says %v", e.Policy.From)
			}
		}

		cfg := r.tr.Config()
		cfg.Policy.MaxConns, cfg.Policy.MaxIdle = 7, 7
		cfg.Rules = nil
		d, err := r.tr.Apply(cfg)
		if want := "generation 2\n  policy.max_conns 1 → 7\n  policy.max_idle 1 → 7\n  rules[0] origin.test → none\n" +
			"  http://origin.test in group g: max_idle 2 → 7"; err != nil || d.String() != want {
			t.Errorf("%v\n%v\nwant\n%v", err, d, want)
		}
		check(r.inGroup("g"), "3 by group, 7 by policy, 3 by group, 4 by endpoint, ")
		r.tr.CloseGroup("g")
		r.setGroup("g", berth.Policy{MaxIdle: 5}) // in place of all that it had
		check(r.inGroup("g"), "7 by policy, 5 by group, 1 by policy, 4 by endpoint, ")
		r.setGroup("g", berth.Policy{})
		check(r.inGroup("g"), "7 by policy, 7 by policy, 1 by policy, 4 by endpoint, ")

		r.setGroup("", berth.Policy{MaxDials: 9}) // the default group is one
		check(r.endpoint(), "7 by policy, 7 by policy, 9 by group, 4 by endpoint, ")
		check(r.inGroup("g"), "7 by policy, 7 by policy, 1 by policy, 4 by endpoint, ")
		r.close()
	})
}

// It holds at once, for what exists and for what is forgotten and comes again, and cuts
// nobody.
func TestGroupPolicyHoldsAtOnce(t *testing.T) {
	bubble(t, berth.Policy{MaxConns: 4}, origin.Latency(time.Second, ok("a")), func(r *rig) {
		g := r.tr.Group("g")
		r.setGroup("g", berth.Policy{MaxConns: 1}) // before its first request
		done := r.sendTo(g, 4, rigURL)
		other := r.send(4, "/")
		time.Sleep(100 * time.Millisecond)
		if s := r.inGroup("g").Stats(); s.Leased != 1 || s.Waiting != 3 {
			r.Errorf("%d leased, %d waiting", s.Leased, s.Waiting)
		}
		r.setGroup("g", berth.Policy{MaxConns: 3})
		synctest.Wait()
		if s := r.inGroup("g").Stats(); s.Leased != 3 || s.Waiting != 1 {
			r.Errorf("raised: %d leased, %d waiting", s.Leased, s.Waiting)
		}
		r.setGroup("g", berth.Policy{MaxConns: 2, AcquireTimeout: time.Millisecond})
		r.none(done)
		r.none(other)
		synctest.Wait()
		if s := r.inGroup("g").Stats(); s.Idle != 2 || s.Closes["limit"] != 1 {
			r.Errorf("lowered: %d idle, closes %v", s.Idle, s.Closes)
		}
		if s := r.stats(); s.Idle != 4 {
			r.Errorf("the default group has %d idle", s.Idle)
		}
		time.Sleep(time.Hour)
		if n := len(r.tr.Groups()); n != 0 {
			r.Errorf("%d groups after an hour", n)
		}
		busy := r.sendTo(g, 2, rigURL)
		time.Sleep(time.Millisecond)
		err := r.getIn("g", "/")
		e, is := errors.AsType[*berth.AcquireTimeoutError](err)
		if !is || e.SetBy != "group" || !strings.Contains(err.Error(), "endpoint max 2, set by group") {
			r.Errorf("%v", err)
		}
		r.none(busy)
	})
}

func TestGroupPolicyIsChecked(t *testing.T) {
	tr := mustNew(t, berth.Config{})
	for field, p := range map[string]berth.Policy{
		"Policy.Order":           {Order: "x"},
		"Policy.MaxIdle":         {MaxConns: 1, MaxIdle: 2},
		"Policy.MaxConnsPerHost": {MaxConns: 1, MaxConnsPerHost: 2},
		"Policy.PortBudget":      {PortBudget: berth.PortBudget{Ports: 9}},
	} {
		err := tr.Group("g").SetPolicy(p)
		if e, is := errors.AsType[*berth.ConfigError](err); !is || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	ep, err := tr.Group("g").Endpoint("http://a.test")
	if err != nil || ep.Policy().From["max_conns"] != "default" {
		t.Errorf("what is wrong changes nothing: %v, %v", ep.Policy().From, err)
	}
}

// Settings of a group and connections of another have nothing to do with each other, and an
// endpoint with a policy of its own keeps its group's guard.
func TestGroupGuardBesideAnEndpointsPolicy(t *testing.T) {
	bubble(t, berth.Policy{}, origin.Serve(ok("a")), func(r *rig) {
		g := r.tr.Group("g")
		g.SetAllowAddr(func(berth.AddrInfo) error { return errPrivate })
		r.setGroup("g", berth.Policy{MaxConns: 2})
		r.setGroup("g", berth.Policy{}) // the guard stays
		if err := r.endpoint().SetPolicy(berth.Policy{MaxConns: 3}); err != nil {
			r.Fatal(err)
		}
		wantRefused(r.T, r.getIn("g", "/"))
		r.get("/")
		g.SetAllowAddr(nil)
		if err := r.getIn("g", "/"); err != nil {
			r.Error(err)
		}
		dials := r.dials()
		r.setGroup("g", berth.Policy{MaxConns: 1})
		if err := r.getIn("g", "/"); err != nil || r.dials() != dials {
			r.Errorf("%v, %d dials: a policy replaces no connection", err, r.dials()-dials)
		}
	})
}

// A thousand groups with settings: what is set costs its own, and endpoints of a group
// share it.
func TestThousandGroupsWithSettings(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own; .ci/run has a pass without it")
	}
	const groups, each = 1000, 4
	size := func(policy berth.Policy) float64 {
		tr := mustNew(t, berth.Config{Proxy: berth.NoProxy, MaxGroups: -1})
		var all []*berth.Group
		for i := range groups {
			g := tr.Group(fmt.Sprint("group ", i))
			if err := g.SetPolicy(policy); err != nil {
				t.Fatal(err)
			}
			all = append(all, g)
		}
		before := heap()
		for _, g := range all {
			for i := range each {
				ep, err := g.Endpoint(fmt.Sprintf("http://host%d.test", i))
				if err != nil {
					t.Fatal(err)
				}
				if err := ep.Warm(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		after := heap()
		runtime.KeepAlive(all)
		runtime.KeepAlive(tr)
		return float64(after-before) / (groups * each)
	}
	plain, set := size(berth.Policy{}), size(berth.Policy{MaxConns: 3})
	t.Logf("an endpoint takes %.0f bytes, in a group with a policy %.0f", plain, set)
	if set > plain+1000 {
		t.Errorf("an endpoint takes %.0f bytes, in a group with a policy %.0f", plain, set)
	}
}

func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
