package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/top"
)

// topColumn is a column of the list that scrolls.
type topColumn struct {
	key   string // of its heading
	least int    // columns of a terminal; more if its heading or what it has shown takes more
	left  bool   // set to the left
	text  func(e *top.Endpoint) string
	style func(e *top.Endpoint) topStyle // nil is normal
}

// columns are those right of the endpoint's name. Groups have one where there are any.
func (m *topModel) columns() []topColumn {
	level := func(e *top.Endpoint) topStyle { return levelStyle(e.Level) }
	waits := func(e *top.Endpoint) topStyle {
		if e.Stats.Waiting > 0 {
			return levelStyle(e.Level)
		}
		return topNormal
	}
	bar := 8
	if m.width < 100 {
		bar = 5
	}
	list := []topColumn{
		{"leased", 4, false, func(e *top.Endpoint) string { return top.Count(e.Stats.Leased) }, nil},
		{"idle", 4, false, func(e *top.Endpoint) string { return top.Count(e.Stats.Idle) }, nil},
		{"dial", 4, false, func(e *top.Endpoint) string { return top.Count(e.Stats.Dialing) }, nil},
		{"drain", 4, false, func(e *top.Endpoint) string { return top.Count(e.Stats.Draining) }, nil},
		{"use", bar, true, func(e *top.Endpoint) string { return top.Bar(e, bar) }, func(e *top.Endpoint) topStyle {
			if e.Level == top.Quiet {
				return topBar
			}
			return level(e)
		}},
		{"limit", 4, false, func(e *top.Endpoint) string { return limitText(e, top.None) }, nil},
		{"wait", 4, false, func(e *top.Endpoint) string { return top.Count(e.Stats.Waiting) }, waits},
		{"oldest", 6, false, oldestText, waits},
		{"rate", 5, false, func(e *top.Endpoint) string { return top.Number(e.Rates.Requests) }, nil},
		{"reuse", 5, false, func(e *top.Endpoint) string { return top.Percent(e.Reuse) }, nil},
		{"p99", 6, false, func(e *top.Endpoint) string { return top.MaybeDuration(e.WaitP99) }, nil},
		{"fail", 5, false, func(e *top.Endpoint) string { return top.Number(e.Failures) }, func(e *top.Endpoint) topStyle {
			if e.Failures.V > 0 {
				return topBad
			}
			return topNormal
		}},
		{"ports", 5, false, func(e *top.Endpoint) string { return top.Percent(e.Ports) }, func(e *top.Endpoint) topStyle {
			if e.Ports.V >= 0.8 {
				return topNear
			}
			return topNormal
		}},
		{"why", 10, true, whyText, level},
	}
	if m.grouped() {
		list = slices.Insert(list, 0, topColumn{"group", 4, true, func(e *top.Endpoint) string { return e.Group }, nil})
	}
	return list
}

func (m *topModel) grouped() bool {
	for _, p := range m.shown {
		if p != nil && slices.ContainsFunc(p.Endpoints, func(e top.Endpoint) bool { return e.Group != "" }) {
			return true
		}
	}
	return false
}

func limitText(e *top.Endpoint, none string) string {
	if e.Max == 0 {
		return none
	}
	return top.Count(e.Max)
}

func oldestText(e *top.Endpoint) string {
	if e.Stats.Waiting == 0 {
		return top.None
	}
	return top.Duration(e.Stats.OldestWait)
}

func whyText(e *top.Endpoint) string {
	text := string(e.Reason)
	if e.Verdict != "" {
		text += ", " + string(e.Verdict)
	}
	return text
}

// lines are exactly those of the terminal, none wider than it.
func (m *topModel) lines() []string {
	var head, body []string
	foot := m.o.say("keys")
	switch m.mode {
	case topList:
		head, body = m.list()
		if m.editing {
			foot = "/" + m.filter + "█  " + m.o.say("keys-filter")
		}
	case topDetail, topHelp:
		foot = m.o.say("keys-detail")
		if m.mode == topHelp {
			foot = m.o.say("keys-help")
		}
		head = []string{m.title()}
		body = m.page()
		rows := max(m.height-2, 0)
		m.scroll = max(min(m.scroll, len(body)-rows), 0)
		body = body[m.scroll:]
	}
	lines := append(head, body...)
	rows := max(m.height-1, 0)
	lines = lines[:min(len(lines), rows)]
	for len(lines) < rows {
		lines = append(lines, "")
	}
	lines = append(lines, m.paint(topFaint, fit(foot, m.width, false)))
	for i, l := range lines {
		if lipgloss.Width(l) > m.width {
			lines[i] = fit(l, m.width, false)
		}
	}
	return lines
}

// title is the first line: what is shown, and the time of the picture.
func (m *topModel) title() string {
	say := m.o.say
	parts := []string{"berth top", say("sorted", say("sort-"+m.sort.String())), say("every", m.o.interval)}
	if m.filter != "" {
		parts = slices.Insert(parts, 1, say("filter", m.filter))
	}
	left := strings.Join(parts, " · ")
	paused := ""
	if m.paused {
		paused = say("paused") + " "
	}
	clock := m.now.Format("15:04:05")
	room := m.width - lipgloss.Width(paused) - len(clock) - 1
	if room < 9 {
		return m.paint(topStrong, fit(paused+clock, m.width, false))
	}
	return m.paint(topStrong, fit(left, room, false)) + " " + m.paint(topNear, paused) + clock
}

// bodyHeight is how many rows the list has.
func (m *topModel) bodyHeight() int {
	fixed := 3 // title, headings, keys
	if len(m.shown) == 1 {
		fixed++
	}
	return max(m.height-fixed, 1)
}

// list is the screen of all endpoints. A single program's line stands still above the
// headings, those of several move with their endpoints.
func (m *topModel) list() (head, rows []string) {
	head = []string{m.title()}
	single := len(m.shown) == 1
	if single {
		head = append(head, m.programLine(m.shown[0]))
	}
	columns, name, widths := m.layout()
	head = append(head, m.headings(columns, name, widths))
	var all []func() string // drawn only where they are seen
	text := func(style topStyle, text string) {
		all = append(all, func() string { return m.paint(style, text) })
	}
	cursor, at, n := m.cursor(m.order()), 0, 0
	for _, p := range m.shown {
		if !single {
			all = append(all, func() string { return m.programLine(p) })
		}
		if p == nil {
			continue
		}
		if p.Lost != nil {
			if fix := topFix(p.Lost, m.o.say); fix != "" {
				text(topFaint, "  → "+fix)
			}
		}
		list := top.Select(p.Endpoints, m.filter, m.sort)
		for j := range list {
			chosen := n == cursor
			if chosen {
				at = len(all)
			}
			all = append(all, func() string { return m.row(&list[j], columns, name, widths, chosen, p.Lost != nil) })
			n++
		}
		switch {
		case len(list) > 0 || p.Report == nil:
		case len(p.Endpoints) > 0:
			text(topFaint, "  "+m.o.say("no-match"))
		default:
			text(topFaint, "  "+m.o.say("empty"))
		}
	}
	height := m.bodyHeight()
	if cursor == 0 {
		at = 0 // with what stands above it
	}
	m.first = max(min(m.first, at), at-height+1)
	m.first = max(min(m.first, len(all)-height), 0)
	for _, row := range all[m.first:min(len(all), m.first+height)] {
		rows = append(rows, row())
	}
	return head, rows
}

// widest is what a column with a text of any length may take.
const widest = 24

// layout chooses the columns that fit, the width of the name and theirs. A column that
// had to grow stays so: a picture that moves every second is hard to read.
func (m *topModel) layout() (columns []topColumn, name int, widths []int) {
	all := m.columns()
	m.column = min(m.column, len(all)-1)
	longest := 12
	for _, c := range all {
		m.grown[c.key] = max(m.grown[c.key], c.least, lipgloss.Width(m.o.say("col-"+c.key)))
	}
	for _, p := range m.shown {
		if p == nil {
			continue
		}
		for i := range p.Endpoints {
			e := &p.Endpoints[i]
			longest = max(longest, lipgloss.Width(e.Name()))
			for _, c := range all {
				m.grown[c.key] = max(m.grown[c.key], min(lipgloss.Width(c.text(e)), widest))
			}
		}
	}
	least := min(longest, max(m.width/5, 15))
	room := m.width - 4 - least // the cursor, the mark, a blank, and › at the end
	for _, c := range all[m.column:] {
		w := m.grown[c.key]
		if c.left && room > c.least {
			w = min(w, room-1) // a text that is cut is better than none
		}
		if room < w+1 {
			break
		}
		room -= w + 1
		columns, widths = append(columns, c), append(widths, w)
	}
	return columns, min(longest, least+room), widths
}

// more says that columns are missing on the right, or that one is cut.
func (m *topModel) more(columns []topColumn, widths []int) bool {
	if m.column+len(columns) < len(m.columns()) {
		return true
	}
	last := len(columns) - 1
	return last > 0 && widths[last] < m.grown[columns[last].key]
}

func (m *topModel) headings(columns []topColumn, name int, widths []int) string {
	mark := "   "
	if m.column > 0 {
		mark = "‹  "
	}
	line := mark + fit(m.o.say("col-endpoint"), name, false)
	for i, c := range columns {
		line += " " + fit(m.o.say("col-"+c.key), widths[i], !c.left)
	}
	if m.more(columns, widths) {
		line = fit(line, m.width-1, false) + "›"
	}
	return m.paint(topStrong, line)
}

func (m *topModel) row(e *top.Endpoint, columns []topColumn, name int, widths []int, chosen, lost bool) string {
	paint := m.paint
	if lost {
		paint = func(_ topStyle, text string) string { return m.paint(topFaint, text) }
	}
	cursor := " "
	style := topNormal
	if chosen {
		cursor, style = ">", topChosen
	}
	line := cursor + paint(levelStyle(e.Level), e.Level.String()) + " " + paint(style, fit(shortName(e.Name(), name), name, false))
	for i, c := range columns {
		text := fit(c.text(e), widths[i], !c.left)
		style := topNormal
		if c.style != nil {
			style = c.style(e)
		}
		line += " " + paint(style, text)
	}
	return line
}

// programLine is a program's: its name, its age, its sums. In a narrow terminal the words
// are shorter, and then the last ones are missing.
func (m *topModel) programLine(p *top.Program) string {
	if p == nil {
		return ""
	}
	say := m.o.say
	if p.Lost != nil {
		text, since := source.Clean(p.Lost.Error()), max(m.now.Sub(p.Since), 0)
		if p.Report == nil {
			text = p.Source + " " + say("never-read", age(since), text)
		} else {
			text = p.Name() + " · " + say("pid", p.Report.PID) + " " + say("lost-since", age(since), p.Since.Format("15:04:05"), text)
		}
		return m.paint(topBad, fit(text, m.width, false))
	}
	conns, waiting := p.Total()
	line := func(short string) string {
		parts := []string{p.Name(), say("pid"+short, p.Report.PID), say("ago"+short, age(m.now.Sub(p.Read)))}
		for _, part := range [][2]string{{"endpoints", top.Count(len(p.Endpoints))}, {"conns", top.Count(conns)},
			{"waits", top.Count(waiting)}, {"rate", top.Number(p.Rates.Requests)}} {
			parts = append(parts, say(part[0]+short, part[1]))
		}
		return strings.Join(parts, " · ")
	}
	text := line("")
	if lipgloss.Width(text) > m.width {
		text = line("-short")
	}
	if lipgloss.Width(text) > m.width {
		text = strings.Join([]string{p.Name(), say("conns-short", top.Count(conns)), say("waits-short", top.Count(waiting)),
			say("rate-short", top.Number(p.Rates.Requests))}, " · ")
	}
	style := topStrong
	if waiting > 0 {
		style = topNear
	}
	if rest := m.width - lipgloss.Width(text) - 3; p.Report.Program != "" && rest >= lipgloss.Width(p.Source) {
		return m.paint(style, text) + m.paint(topFaint, " · "+p.Source)
	}
	return m.paint(style, fit(text, m.width, false))
}

// age is a time in whole seconds.
func age(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	}
	return top.Duration(d)
}
