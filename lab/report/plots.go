package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/berth-go/berth/lab"
)

// figure is one or several panels under one title.
type figure struct {
	Title, Caption string
	Legend         []swatch
	Panels         []panel
	Wide           bool // a panel has the page's whole width
	Lanes          bool // its panels are timelines
}

// panel is a chart that the script draws, or a drawing that is there already.
type panel struct {
	Title   string
	End     string // how an area ends
	Y       string // what is upwards
	Chart   string // the id of its data
	Drawing template.HTML
	Label   string // for those who do not see it
}

// swatch is a line of a legend.
type swatch struct {
	Text, Hue, Dash  string
	Fill, Wide, Dots bool
}

// chart is what the script draws. Its JSON is the page's own business.
type chart struct {
	X       axis   `json:"x"`
	Y       axis   `json:"y"`
	Lines   []line `json:"lines"`
	Marks   []note `json:"marks,omitempty"`
	Levels  []note `json:"levels,omitempty"`
	Panels  bool   `json:"small,omitempty"`
	Unit    string `json:"unit,omitempty"` // of y, for the reading under the pointer
	Stacked bool   `json:"stacked,omitempty"`
}

type axis struct {
	Label string  `json:"label"`
	Log   bool    `json:"log,omitempty"`
	Whole bool    `json:"whole,omitempty"` // there is nothing between 1 and 2
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
}

type line struct {
	Label  string       `json:"label"`
	Hue    string       `json:"hue"`
	Dash   []int        `json:"dash,omitempty"`
	Width  float64      `json:"width"`
	As     string       `json:"as"` // "line", "step", "points", "bars", and for areas "area" or "steps"
	Points [][2]float64 `json:"points"`
}

type note struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
}

// plot says how a figure is made from an experiment's variants.
type plot struct {
	title, caption string
	series         []string // drawn together; of an area from the ground upwards
	as             string   // as in line
	x, y           string   // labels; an empty x takes the series' unit
	unit           string
	log            bool // y
	only           func(lab.Variant) bool
	panel          func(lab.Variant) string                  // the variants of one name share a panel; nil is one panel for all
	label          func(v lab.Variant, series string) string // in the legend; nil is the variant's name, "" leaves it out
	hue            func(v lab.Variant, series string) string // nil is that of the variant, or of the state for areas
	levels         []note
	own            bool                  // each panel has axes of its own
	bars           string                // a name of Measured that is drawn as bars
	lanes          func([]lab.Lane) bool // draws the timelines for which it is true
}

// hueOf returns the colour of a variant: Berth's is always the same.
func hueOf(name string) string {
	for _, h := range []struct{ prefix, hue string }{
		{"berth", "berth"}, {"net/http", "nethttp"}, {"http.Client", "nethttp"}, {"dead end", "nethttp"}, {"documented", "documented"},
	} {
		if strings.HasPrefix(name, h.prefix) {
			return h.hue
		}
	}
	return "other"
}

// stateHue returns the colour of a state.
func stateHue(state string) string {
	switch strings.ToUpper(state) {
	case "ESTABLISHED", "IN USE AT THE GATEWAY":
		return "established"
	case "TIME_WAIT", "HELD BY THE GATEWAY":
		return "time-wait"
	case "SYN_SENT", "SYN_RECV":
		return "syn"
	case "FIN_WAIT1", "FIN_WAIT2", "CLOSING":
		return "fin-wait"
	case "CLOSE_WAIT":
		return "close-wait"
	case "LAST_ACK":
		return "last-ack"
	}
	return "closed"
}

// figures draws an experiment's plots, and whatever series none of them takes. The
// charts are put into data.
func figures(id string, e lab.Result, plots []plot, data map[string]*chart) []figure {
	var all []figure
	taken := map[string]bool{}
	for _, p := range plots {
		for _, s := range p.series {
			taken[s] = true
		}
	}
	lanes := false
	for _, p := range plots {
		lanes = lanes || p.lanes != nil
	}
	plots = slices.Clip(plots)
	for _, v := range e.Variants { // in the order in which they come
		for _, s := range v.Series {
			if !taken[s.Name] {
				taken[s.Name] = true
				plots = append(plots, plain(s))
			}
		}
		if len(v.Timeline) > 0 && !lanes {
			lanes = true
			plots = append(plots, plot{title: "States over time", lanes: hasSegments, panel: byName},
				plot{title: "States over time", lanes: hasNoSegments, panel: byName})
		}
	}
	for _, p := range plots {
		f := p.figure(e, func(c *chart) string {
			name := fmt.Sprintf("%s-%d", id, len(data)+1)
			data[name] = c
			return name
		})
		if len(f.Panels) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// plain is the plot of a series that nobody has made one for.
func plain(s lab.Series) plot {
	first, rest := "", ""
	if r := []rune(s.Name); len(r) > 0 {
		first, rest = string(r[:1]), string(r[1:])
	}
	p := plot{title: strings.ToUpper(first) + rest, series: []string{s.Name}, as: "line", y: s.Name}
	if s.Unit == "s" {
		p.as = "step"
	}
	return p
}

func (p plot) area() bool { return p.as == "area" || p.as == "steps" }

func byName(v lab.Variant) string { return v.Name }

func (p plot) figure(e lab.Result, add func(*chart) string) figure {
	switch {
	case p.bars != "":
		return p.barFigure(e)
	case p.lanes != nil:
		return p.laneFigure(e)
	}
	f := figure{Title: p.title, Caption: p.caption}
	var panels []string
	charts := map[string]*chart{}
	styles := map[string]line{}
	perHue := map[string]int{}
	for _, v := range e.Variants {
		if p.only != nil && !p.only(v) {
			continue
		}
		lines := p.lines(v, styles, perHue, &f.Legend)
		if len(lines) == 0 {
			continue
		}
		name := ""
		if p.panel != nil {
			name = p.panel(v)
		}
		c := charts[name]
		if c == nil {
			c = &chart{X: axis{Label: cmp.Or(p.x, unitOf(v, p.series))}, Y: axis{Label: p.y, Log: p.log}, Levels: p.levels, Unit: p.unit, Panels: p.panel != nil, Stacked: p.area()}
			charts[name] = c
			panels = append(panels, name)
		}
		c.Lines = append(c.Lines, lines...)
		for _, m := range v.Marks {
			at := note{m.At, m.Text}
			near := func(o note) bool { return o.Text == m.Text } // the variants' own times differ by little
			if !slices.ContainsFunc(c.Marks, near) {
				c.Marks = append(c.Marks, at)
			}
		}
	}
	if p.own {
		for _, name := range panels {
			scale(charts, []string{name})
		}
	} else {
		scale(charts, panels)
	}
	end := func(c *chart) string { // of the highest, which an area has first
		if !c.Stacked {
			return ""
		}
		points := c.Lines[0].Points
		return text(points[len(points)-1][1]) + " at the end"
	}
	titled := p.panel != nil
	for _, name := range panels {
		titled = titled && len(charts[name].Lines) == 1 && charts[name].Lines[0].Label == name
	}
	if titled { // the panels' titles say who is who
		f.Legend = nil
	}
	for _, name := range panels {
		c := charts[name]
		title := name
		what := p.title
		if title != "" {
			what += ", " + title
		}
		f.Panels = append(f.Panels, panel{Title: title, End: end(c), Y: p.y, Chart: add(c), Label: what + ": a chart; its numbers are in the table"})
	}
	return f
}

// lines returns what a variant adds to its chart.
func (p plot) lines(v lab.Variant, styles map[string]line, perHue map[string]int, legend *[]swatch) []line {
	var all []line
	sum := map[float64]float64{} // of an area
	for _, name := range p.series {
		for _, s := range v.Series {
			if s.Name != name || len(s.Points) == 0 {
				continue
			}
			text := v.Name
			if p.area() {
				text = strings.ToUpper(s.Name)
				if strings.Contains(text, " ") {
					text = s.Name
				}
			}
			if p.label != nil {
				text = p.label(v, s.Name)
			}
			if text == "" {
				continue
			}
			style, known := styles[text]
			if !known {
				style = line{Label: text, Hue: hueOf(v.Name), As: p.as, Width: 2}
				if p.area() {
					style.Hue = stateHue(s.Name)
				}
				if p.hue != nil {
					style.Hue = p.hue(v, s.Name)
				}
				if p.as == "line" || p.as == "step" {
					style.Dash = dashes(perHue[style.Hue])
					switch {
					case style.Hue == "other": // dots over everything
						style.Dash = dashes(perHue[style.Hue] + 2)
					case style.Hue == "nethttp" && len(style.Dash) == 0:
						style.Width = 6 // and Berth's is drawn over it: lines that coincide are both seen
					}
				}
				perHue[style.Hue]++
				styles[text] = style
				*legend = append(*legend, swatch{Text: text, Hue: style.Hue, Dash: dashText(style.Dash), Fill: p.area() || p.as == "bars", Wide: style.Width > 3, Dots: p.as == "points"})
			}
			style.Points = slices.Clone(s.Points)
			if p.area() {
				for i, at := range style.Points {
					sum[at[0]] += at[1]
					style.Points[i][1] = sum[at[0]]
				}
			}
			if p.log {
				style.Points = slices.DeleteFunc(style.Points, func(at [2]float64) bool { return at[1] <= 0 })
			}
			slices.SortStableFunc(style.Points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
			if len(style.Points) > 0 {
				all = append(all, style)
			}
		}
	}
	if p.area() {
		slices.Reverse(all) // the highest is drawn first, the others over it
	}
	return all
}

func unitOf(v lab.Variant, names []string) string {
	for _, s := range v.Series {
		if slices.Contains(names, s.Name) {
			return s.Unit
		}
	}
	return ""
}

// dashes tells lines of one hue apart.
func dashes(n int) []int {
	return [][]int{nil, {7, 4}, {2, 3}, {10, 3, 2, 3}}[n%4]
}

func dashText(d []int) string { return strings.Trim(fmt.Sprint(d), "[]") }

// scale gives the panels of a figure the same axes, so that they can be compared, and
// draws net/http beneath Berth.
func scale(charts map[string]*chart, panels []string) {
	var x, y axis
	first, whole := true, true
	for _, name := range panels {
		c := charts[name]
		if !c.Stacked {
			slices.SortStableFunc(c.Lines, func(a, b line) int { return cmp.Compare(layer(a), layer(b)) })
		}
		for _, l := range c.Lines {
			for _, at := range l.Points {
				if first {
					x.Min, x.Max, y.Min, y.Max = at[0], at[0], at[1], at[1]
					first = false
				}
				whole = whole && at[1] == math.Trunc(at[1])
				x.Min, x.Max = min(x.Min, at[0]), max(x.Max, at[0])
				y.Min, y.Max = min(y.Min, at[1]), max(y.Max, at[1])
			}
		}
		for _, l := range c.Levels {
			y.Max = max(y.Max, l.At)
		}
	}
	for _, name := range panels {
		c := charts[name]
		c.X.Min, c.X.Max = x.Min, x.Max
		c.Y.Min, c.Y.Max, c.Y.Whole = y.Min, y.Max, whole && y.Max > 1
		if !c.Y.Log {
			c.Y.Min = min(c.Y.Min, 0)
		}
	}
}

func layer(l line) int {
	switch l.Hue {
	case "nethttp":
		return 0
	case "other":
		return 2
	}
	return 1
}
