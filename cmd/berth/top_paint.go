package main

import (
	"image/color"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/berth-go/berth/top"
)

// topStyle is how a text looks. Every style is told by a mark or a word as well.
type topStyle int

const (
	topNormal topStyle = iota
	topFaint
	topStrong
	topNear
	topBad
	topChosen
	topBar
)

// paint gives a text its look; without colours bold, faint and reverse remain.
func (m *topModel) paint(style topStyle, text string) string {
	if style == topNormal || text == "" {
		return text
	}
	s := lipgloss.NewStyle()
	switch style {
	case topFaint:
		s = s.Faint(true)
	case topStrong:
		s = s.Bold(true)
	case topChosen:
		s = s.Reverse(true)
	case topNear, topBad:
		s = s.Bold(style == topBad)
		if m.colour {
			s = s.Foreground(map[topStyle]color.Color{topNear: lipgloss.Yellow, topBad: lipgloss.Red}[style])
		}
	case topBar:
		if m.colour {
			s = s.Foreground(lipgloss.Cyan)
		}
	}
	return s.Render(text)
}

func levelStyle(l top.Level) topStyle {
	return [...]topStyle{topNormal, topNear, topBad}[l]
}

// fit makes a text so many columns wide: cut with … or filled up with blanks, on the left
// where right says so. Chinese characters take two columns.
func fit(text string, columns int, right bool) string {
	if columns <= 0 {
		return ""
	}
	text = ansi.Truncate(text, columns, "…")
	blanks := strings.Repeat(" ", max(columns-lipgloss.Width(text), 0))
	if right {
		return blanks + text
	}
	return text + blanks
}

// shortName is an endpoint's name in so many columns: without https:// where it is too
// long, and then with … within, since names differ at both ends.
func shortName(name string, columns int) string {
	if lipgloss.Width(name) > columns {
		name = strings.TrimPrefix(name, "https://")
	}
	w := lipgloss.Width(name)
	if w <= columns || columns < 3 {
		return name
	}
	left := (columns - 1) * 2 / 3
	return ansi.Truncate(name, left, "") + "…" + ansi.TruncateLeft(name, w-(columns-1-left), "")
}

// wrapped breaks a text into lines of so many columns.
func wrapped(text string, columns int) []string {
	return strings.Split(ansi.Wrap(text, max(columns, 10), ""), "\n")
}
