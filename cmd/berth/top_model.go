package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/top"
)

// topScreen is top on a terminal. It ends when the user quits, with the context, or after
// o.count intervals.
func topScreen(ctx context.Context, sources []*source.Source, o topOptions, in io.Reader, out io.Writer) error {
	first := readAllTop(ctx, sources)
	if ctx.Err() != nil {
		return nil
	}
	if err := noneRead(sources, first, o.say); err != nil {
		return err
	}
	m := newTopModel(topTrackers(sources), o, func(i int) tea.Cmd {
		return func() tea.Msg { return readTop(ctx, i, sources[i]) }
	})
	m.colour = os.Getenv("NO_COLOR") == ""
	for _, r := range first {
		m.take(r)
	}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	if err != nil && ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil // SIGINT, SIGTERM
	}
	return err
}

// topMode is what the screen shows.
type topMode int

const (
	topList topMode = iota
	topDetail
	topHelp
)

// topID names an endpoint on the screen.
type topID struct {
	program         int // index
	endpoint, group string
}

// topModel is the screen's state. Update and View are called by one goroutine; the time
// comes with the messages.
type topModel struct {
	o        topOptions
	read     func(i int) tea.Cmd
	trackers []*top.Tracker
	colour   bool

	now    time.Time
	live   []*top.Program // as read
	shown  []*top.Program // the same, unless paused
	paused bool
	taken  []int // readings of each program after the first

	width, height int
	mode, before  topMode // before: where help goes back to
	sort          top.Key
	filter        string
	editing       bool

	chosen topID // where the cursor is; the first row until it is moved
	moved  bool
	opened topID
	first  int            // row at the top of the list
	scroll int            // line at the top of a page
	column int            // the first of the columns that scroll
	grown  map[string]int // columns' widths
}

type (
	topTick time.Time       // a second has passed: ages change
	topDue  struct{ i int } // a program is to be read
)

func newTopModel(trackers []*top.Tracker, o topOptions, read func(i int) tea.Cmd) *topModel {
	n := len(trackers)
	return &topModel{o: o, read: read, trackers: trackers, live: make([]*top.Program, n), shown: make([]*top.Program, n), taken: make([]int, n),
		width: 80, height: 24, grown: map[string]int{}, sort: o.sort, filter: o.filter, colour: true}
}

// Init has every program read after an interval.
func (m *topModel) Init() tea.Cmd {
	list := []tea.Cmd{tick()}
	for i := range m.trackers {
		list = append(list, m.due(i, m.o.interval))
	}
	return tea.Batch(list...)
}

func tick() tea.Cmd { return tea.Tick(time.Second, func(t time.Time) tea.Msg { return topTick(t) }) }

func (m *topModel) due(i int, in time.Duration) tea.Cmd {
	return tea.Tick(in, func(time.Time) tea.Msg { return topDue{i} })
}

// take takes what was read of a program.
func (m *topModel) take(r topReading) {
	m.live[r.i] = r.taken(m.trackers[r.i])
	if r.at.After(m.now) && !m.paused {
		m.now = r.at
	}
	if !m.paused {
		m.shown[r.i] = m.live[r.i]
	}
}

// Update takes a message.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case topTick:
		if t := time.Time(msg); t.After(m.now) && !m.paused {
			m.now = t
		}
		return m, tick()
	case topDue:
		return m, m.read(msg.i)
	case topReading:
		m.take(msg)
		m.taken[msg.i]++
		if m.o.count > 0 && slices.Min(m.taken) >= m.o.count {
			return m, tea.Quit
		}
		return m, m.due(msg.i, m.o.interval)
	case tea.WindowSizeMsg:
		m.width, m.height = max(msg.Width, 1), max(msg.Height, 1)
		clear(m.grown)
	case tea.PasteMsg:
		if m.editing {
			m.typed(msg.Content)
		}
	case tea.KeyPressMsg:
		if msg.String() == "ctrl+c" {
			return m, tea.Quit
		}
		if m.editing {
			m.edit(msg)
			return m, nil
		}
		return m, m.key(msg.String())
	}
	return m, nil
}

// edit is a key while the filter is written.
func (m *topModel) edit(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		m.editing = false
	case "esc":
		m.editing, m.filter = false, ""
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	case "ctrl+u":
		m.filter = ""
	default:
		m.typed(k.Text)
	}
}

func (m *topModel) typed(text string) {
	const most = 100
	for _, r := range text {
		if unicode.IsPrint(r) && len(m.filter) < most {
			m.filter += string(r)
		}
	}
}

// key is a key otherwise.
func (m *topModel) key(k string) tea.Cmd {
	switch k {
	case "q":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "p", "space":
		m.paused = !m.paused
		if !m.paused {
			copy(m.shown, m.live)
			for _, p := range m.live {
				if p != nil && p.Read.After(m.now) {
					m.now = p.Read
				}
			}
		}
	case "?":
		if m.mode != topHelp {
			m.before, m.mode, m.scroll = m.mode, topHelp, 0
		} else {
			m.mode, m.scroll = m.before, 0
		}
	default:
		if m.mode == topList {
			m.listKey(k)
		} else {
			m.pageKey(k)
		}
	}
	return nil
}

func (m *topModel) listKey(k string) {
	page := max(m.bodyHeight()-1, 1)
	switch k {
	case "s":
		m.sort = m.sort.Next()
	case "w":
		m.sort = top.ByWaiting
	case "c":
		m.sort = top.ByConns
	case "r":
		m.sort = top.ByRequests
	case "e":
		m.sort = top.ByName
	case "/":
		m.editing = true
	case "esc":
		m.filter = ""
	case "h", "left":
		m.column = max(m.column-1, 0)
	case "l", "right":
		if columns, _, widths := m.layout(); m.more(columns, widths) {
			m.column++
		}
	case "j", "down":
		m.move(1)
	case "k", "up":
		m.move(-1)
	case "pgdown", "ctrl+f", "ctrl+d":
		m.move(page)
	case "pgup", "ctrl+b", "ctrl+u":
		m.move(-page)
	case "home", "g":
		m.move(-1 << 30)
	case "end", "G":
		m.move(1 << 30)
	case "enter":
		if ids := m.order(); len(ids) > 0 {
			m.opened, m.mode, m.scroll = ids[m.cursor(ids)], topDetail, 0
		}
	}
}

func (m *topModel) pageKey(k string) {
	page := max(m.height-3, 1)
	switch k {
	case "esc", "backspace", "left":
		if m.mode == topHelp {
			m.mode = m.before
		} else {
			m.mode = topList
		}
		m.scroll = 0
	case "j", "down", "enter":
		m.scroll++
	case "k", "up":
		m.scroll--
	case "pgdown", "ctrl+f", "ctrl+d":
		m.scroll += page
	case "pgup", "ctrl+b", "ctrl+u":
		m.scroll -= page
	case "home", "g":
		m.scroll = 0
	case "end", "G":
		m.scroll = 1 << 30
	}
	m.scroll = max(min(m.scroll, len(m.page())-(m.height-2)), 0)
}

// order is the endpoints of all programs as they stand below each other.
func (m *topModel) order() (ids []topID) {
	for i, p := range m.shown {
		if p == nil {
			continue
		}
		for _, e := range top.Select(p.Endpoints, m.filter, m.sort) {
			ids = append(ids, topID{i, e.Endpoint, e.Group})
		}
	}
	return ids
}

// cursor is the index of the chosen endpoint, of the first when there is no such one.
func (m *topModel) cursor(ids []topID) int {
	if !m.moved {
		return 0
	}
	return max(slices.Index(ids, m.chosen), 0)
}

func (m *topModel) move(by int) {
	ids := m.order()
	if len(ids) == 0 {
		return
	}
	m.chosen, m.moved = ids[max(min(m.cursor(ids)+by, len(ids)-1), 0)], true
}

// View draws the state.
func (m *topModel) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "berth top"
	return v
}
