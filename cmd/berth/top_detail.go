package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/top"
)

// topLeasesMost bounds the leases of an endpoint's page.
const topLeasesMost = 100

// page is the text of the page that is open, to be scrolled.
func (m *topModel) page() []string {
	if m.mode == topHelp {
		return strings.Split(m.o.say("help"), "\n")
	}
	p := m.shown[m.opened.program]
	for i := range p.Endpoints {
		if e := &p.Endpoints[i]; e.Endpoint == m.opened.endpoint && e.Group == m.opened.group {
			d := topPage{m: m, p: p, e: e}
			return d.all()
		}
	}
	return []string{m.paint(topStrong, m.opened.endpoint), "", m.o.say("gone")}
}

// topPage writes an endpoint's page.
type topPage struct {
	m   *topModel
	p   *top.Program
	e   *top.Endpoint
	out []string
}

func (d *topPage) all() []string {
	e, say := d.e, d.m.o.say
	d.out = append(d.out, d.m.paint(topStrong, fit(e.Level.String()+" "+e.Endpoint, d.m.width, false)))
	d.out = append(d.out, d.m.programLine(d.p))
	s := &e.Stats
	d.head(say("now"))
	d.text("", say("state", s.Leased, s.Idle, s.Dialing, s.Draining, limitText(e, say("no-value"))))
	if e.Max > 0 {
		d.out = append(d.out, "  "+d.m.paint(topBar, top.Bar(e, min(max(d.m.width-4, 8), 60))))
	}
	if s.Waiting > 0 {
		d.out = append(d.out, d.m.paint(levelStyle(e.Level), fit("  "+e.Level.String()+" "+say("waiting-now", s.Waiting, top.Duration(s.OldestWait)), d.m.width, false)))
	}
	d.text("", say("rates", top.Number(e.Rates.Requests), top.Percent(e.Reuse), top.MaybeDuration(e.WaitP99), top.Number(e.Failures), top.Percent(e.Ports)))
	if e.Reason != "" {
		d.head(say("starved"))
		d.text("", whyText(e)+": "+e.EndpointReport.Limit)
		d.text(say("advice")+": ", e.Advice)
	}
	d.minute()
	d.leases()
	d.closes()
	d.leaks()
	d.policy()
	return d.out
}

func (d *topPage) head(text string) { d.out = append(d.out, "", d.m.paint(topStrong, text)) }

// text writes a text under a label, over as many lines as it takes.
func (d *topPage) text(label, text string) {
	for i, line := range wrapped(label+text, d.m.width-4) {
		indent := "  "
		if i > 0 {
			indent = "    "
		}
		d.out = append(d.out, indent+line)
	}
}

// minute draws the last minute, a column a second where there is room.
func (d *topPage) minute() {
	say := d.m.o.say
	d.head(say("minute"))
	number := func(n int) top.Maybe[float64] { return top.Maybe[float64]{V: float64(n), OK: true} }
	labels := []string{say("spark-rate"), say("spark-wait"), say("spark-conns")}
	label := 0
	for _, l := range labels {
		label = max(label, lipgloss.Width(l))
	}
	for i, value := range []func(top.Point) top.Maybe[float64]{
		func(p top.Point) top.Maybe[float64] { return p.Requests },
		func(p top.Point) top.Maybe[float64] { return number(p.Waiting) },
		func(p top.Point) top.Maybe[float64] { return number(p.Conns) },
	} {
		// Of a point a second, a column has one or two whatever their jitter.
		columns := max(min(d.m.width-label-18, 60), 5)
		values := top.Minute(d.e.History, d.m.now, columns, value)
		most := top.Maybe[float64]{}
		for _, v := range values {
			if v.OK {
				most = top.Maybe[float64]{V: max(most.V, v.V), OK: true}
			}
		}
		if i > 0 && most.OK {
			d.out = append(d.out, "  "+fit(labels[i], label, false)+" "+d.m.paint(topBar, top.Spark(values))+" "+say("peak", top.Count(int(most.V))))
			continue
		}
		d.out = append(d.out, "  "+fit(labels[i], label, false)+" "+d.m.paint(topBar, top.Spark(values))+" "+say("peak", top.Number(most)))
	}
}

// leases lists who holds connections. The request and the call site share what the width
// leaves; where that is little, the call site has a line of its own.
func (d *topPage) leases() {
	say := d.m.o.say
	list := d.e.Leases
	d.head(say("leases-n", d.e.Stats.Leased))
	if len(list) == 0 {
		d.out = append(d.out, "  "+say("lease-no"))
		return
	}
	list = slices.SortedStableFunc(slices.Values(list), func(a, b berth.LeaseInfo) int { return cmp.Compare(b.Held, a.Held) })
	rest := d.m.width - 2 - 9 - 9 - 19
	own := rest < 50
	request, site := rest, d.m.width-6
	if !own {
		request = min(rest/2, 40)
		site = rest - request - 1
	}
	line := "  " + fit(say("held"), 8, false) + " " + fit(say("unread"), 8, false) + " " + fit(say("phase"), 18, false) + " " + fit(say("request"), request, false)
	if !own {
		line += " " + fit(say("site"), site, false)
	}
	d.out = append(d.out, d.m.paint(topFaint, line))
	for i := range list {
		if i == topLeasesMost {
			d.out = append(d.out, "  …")
			break
		}
		l := &list[i]
		unread, style, mark := top.None, topNormal, " "
		if l.Unread > 0 {
			unread, style, mark = top.Duration(l.Unread), topNear, "~"
		}
		if l.Suspect {
			style, mark = topBad, "!"
		}
		line := mark + " " + fit(top.Duration(l.Held), 8, false) + " " + fit(unread, 8, false) + " " + fit(l.Phase, 18, false) + " " + fit(l.Method+" "+l.Path, request, false)
		switch {
		case !own:
			line += " " + fit(l.Site, site, false)
		case l.Site != "":
			d.out = append(d.out, d.m.paint(style, line))
			line = "    " + fit(l.Site, site, false)
		}
		d.out = append(d.out, d.m.paint(style, line))
	}
}

func (d *topPage) closes() {
	s := &d.e.Stats
	d.head(d.m.o.say("closes"))
	var parts []string
	for _, reason := range slices.SortedFunc(maps.Keys(s.Closes), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Closes[b], s.Closes[a]), strings.Compare(a, b))
	}) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, s.Closes[reason]))
	}
	if len(parts) == 0 {
		parts = []string{d.m.o.say("lease-no")}
	}
	d.text("", strings.Join(parts, ", "))
	d.text("", d.m.o.say("by-us", s.ClosedByUs, s.ClosedByPeer))

	var failed []string
	for _, f := range []struct {
		name string
		n    uint64
	}{{"dial failed", s.Dials.Failed}, {"dial exhausted", s.Dials.Exhausted}, {"dial refused", s.Dials.Refused}, {"queue full", s.Rejected.QueueFull},
		{"would queue", s.Rejected.WouldQueue}, {"back-off", s.Rejected.Backoff}, {"timeout", s.Rejected.Timeout}, {"closed", s.Rejected.Closed}} {
		if f.n > 0 {
			failed = append(failed, fmt.Sprintf("%s %d", f.name, f.n))
		}
	}
	if len(failed) > 0 {
		d.head(d.m.o.say("failed"))
		d.text("", strings.Join(failed, ", "))
	}
}

func (d *topPage) leaks() {
	say, s := d.m.o.say, &d.e.Stats.Leaks
	sites := d.p.Leaks(d.e)
	if len(sites) == 0 && s.Suspect == 0 && s.Suspected == 0 && s.Reclaimed == 0 {
		return
	}
	d.head(say("leaks"))
	d.text("", say("suspects", s.Suspect, s.Suspected, s.Reclaimed))
	for _, l := range sites {
		d.text("", say("leak", l.Suspected, l.Reclaimed, cmp.Or(l.Site, say("site-none"))))
	}
}

// policy lists the settings: those that somebody set first, then the defaults.
func (d *topPage) policy() {
	say, p := d.m.o.say, &d.e.Policy
	d.head(say("policy"))
	set := func(name string) int {
		if from := p.From[name]; from != "" && from != "default" {
			return 0
		}
		return 1
	}
	names := map[string]bool{}
	for name := range p.Values {
		names[name] = true
	}
	for name := range p.From {
		names[name] = true
	}
	longest := 0
	for name := range names {
		longest = max(longest, len(name))
	}
	for _, name := range slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Or(set(a)-set(b), strings.Compare(a, b)) }) {
		value := say("no-value")
		if raw, ok := p.Values[name]; ok {
			value = settingText(raw)
		}
		line := fit(name, min(longest, d.m.width/2), false) + " " + fit(value, max(10, lipgloss.Width(value)), false)
		style := topFaint
		if set(name) == 0 {
			style = topNormal
			line += " " + say("set-by", p.From[name])
		}
		d.out = append(d.out, d.m.paint(style, fit("  "+line, d.m.width, false)))
	}
}

// settingText is a setting's value: a text without its quotes, else its JSON.
func settingText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return source.Clean(text)
	}
	return source.Clean(string(raw))
}
