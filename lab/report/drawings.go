package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-go/berth/lab"
)

// Bars and lanes are drawn here, as SVG: they stand without a script.

// svg collects a drawing. Only its own methods write markup; texts are escaped.
type svg struct {
	b    strings.Builder
	w, h float64
}

func (s *svg) el(name, class string, attrs ...any) {
	fmt.Fprintf(&s.b, `<%s class="%s"`, name, class)
	for i := 0; i+1 < len(attrs); i += 2 {
		fmt.Fprintf(&s.b, ` %s="`, attrs[i])
		if f, ok := attrs[i+1].(float64); ok {
			s.b.WriteString(coordinate(f))
		} else {
			s.b.WriteString(template.HTMLEscapeString(fmt.Sprint(attrs[i+1])))
		}
		s.b.WriteByte('"')
	}
	s.b.WriteString("/>")
}

func (s *svg) text(class string, x, y float64, text string) {
	fmt.Fprintf(&s.b, `<text class="%s" x="%s" y="%s">%s</text>`, class, coordinate(x), coordinate(y), template.HTMLEscapeString(text))
}

func coordinate(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }

// html returns the drawing. label stands for it where it is not seen.
func (s *svg) html(label string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %s %s" width="%s" height="%s" role="img" aria-label="%s">%s</svg>`,
		coordinate(s.w), coordinate(s.h), coordinate(s.w), coordinate(s.h), template.HTMLEscapeString(label), s.b.String()))
}

// barFigure draws one value of each variant.
func (p plot) barFigure(e lab.Result) figure {
	f := figure{Title: p.title, Caption: p.caption}
	type bar struct {
		label, hue string
		value      float64
	}
	var names []string
	groups := map[string][]bar{}
	most := 0.0
	for _, v := range e.Variants {
		n, ok := number(v.Measured[p.bars])
		if !ok || n < 0 || p.only != nil && !p.only(v) {
			continue
		}
		name, label := "", v.Name
		if p.panel != nil {
			name = p.panel(v)
		}
		if p.label != nil {
			label = p.label(v, p.bars)
		}
		if _, ok := groups[name]; !ok {
			names = append(names, name)
		}
		groups[name] = append(groups[name], bar{label, hueOf(v.Name), n})
		most = max(most, n)
	}
	for _, name := range names {
		const height, gap, values = 22.0, 8.0, 52.0
		width := 360.0
		if len(names) == 1 {
			width = 640
		}
		gutter := 60.0
		for _, b := range groups[name] {
			gutter = max(gutter, 6.3*float64(len([]rune(b.label)))+14)
		}
		gutter = min(gutter, width*0.55)
		s := &svg{w: width, h: float64(len(groups[name]))*(height+gap) + 4}
		room := width - gutter - values
		for i, b := range groups[name] {
			y := float64(i)*(height+gap) + 2
			long := max(1, room*b.value/max(most, 1))
			s.text("t end", gutter-8, y+height*0.68, b.label)
			s.el("rect", "f-"+b.hue, "x", gutter, "y", y, "width", long, "height", height, "rx", 2.0)
			s.text("t strong", gutter+long+6, y+height*0.68, text(b.value))
		}
		s.el("line", "axis", "x1", gutter, "y1", 0.0, "x2", gutter, "y2", s.h)
		title := p.title
		if name != "" {
			title += ", " + name
		}
		f.Panels = append(f.Panels, panel{Title: name, Y: p.y, Drawing: s.html(title), Label: title})
	}
	return f
}

func hasSegments(lanes []lab.Lane) bool {
	return slices.ContainsFunc(lanes, func(l lab.Lane) bool {
		return slices.ContainsFunc(l.Spans, func(s lab.Span) bool { return s.Segment != "" })
	})
}

func hasNoSegments(lanes []lab.Lane) bool { return !hasSegments(lanes) }

// laneFigure draws the timelines: those of a connection's two sides by what happened,
// others by time.
func (p plot) laneFigure(e lab.Result) figure {
	f := figure{Title: p.title, Caption: p.caption, Lanes: true}
	var states []string
	for _, v := range e.Variants {
		if len(v.Timeline) == 0 || !p.lanes(v.Timeline) || p.only != nil && !p.only(v) {
			continue
		}
		for _, l := range v.Timeline {
			for _, s := range l.Spans {
				if !slices.Contains(states, s.State) {
					states = append(states, s.State)
				}
			}
		}
		title := p.title + ", " + v.Name
		drawing := timeLanes(v, title)
		if hasSegments(v.Timeline) {
			drawing = eventLanes(v.Timeline, title)
			f.Wide = true
		}
		f.Panels = append(f.Panels, panel{Title: v.Name, Drawing: drawing, Label: title})
	}
	if !f.Wide { // where segments are drawn, the states are written into their lanes
		for _, s := range states {
			f.Legend = append(f.Legend, swatch{Text: s, Hue: stateHue(s), Fill: true})
		}
	}
	return f
}

// timeLanes draws lanes over time, which is linear.
func timeLanes(v lab.Variant, title string) template.HTML {
	const width, gutter, right, height, gap, above = 520.0, 116.0, 40.0, 18.0, 8.0, 22.0
	lanes := v.Timeline
	end := 0.0
	for _, l := range lanes {
		for _, s := range l.Spans {
			end = max(end, s.To)
		}
	}
	for _, m := range v.Marks {
		end = max(end, m.At)
	}
	if end <= 0 {
		end = 1
	}
	bottom := above + float64(len(lanes))*(height+gap)
	s := &svg{w: width, h: bottom + 34}
	x := func(at float64) float64 { return gutter + (width-gutter-right)*max(at, 0)/end }
	for _, at := range ticks(end) {
		s.el("line", "grid", "x1", x(at), "y1", above-4, "x2", x(at), "y2", bottom)
		s.text("t middle", x(at), bottom+13, text(at))
	}
	s.text("t middle muted", gutter+(width-gutter-right)/2, bottom+28, lanes[0].Unit)
	last := math.Inf(-1)
	for _, m := range v.Marks {
		s.el("line", "mark", "x1", x(m.At), "y1", above-6, "x2", x(m.At), "y2", bottom)
		long := 5.8 * float64(len([]rune(m.Text)))
		if from := min(x(m.At), width-long); from > last {
			s.text("t small", from, above-10, m.Text)
			last = from + long + 6
		}
	}
	for i, l := range lanes {
		y := above + float64(i)*(height+gap)
		s.text("t end mono", gutter-8, y+height*0.72, l.Name)
		for _, span := range l.Spans {
			s.el("rect", "f-"+stateHue(span.State), "x", x(span.From), "y", y, "width", max(2.5, x(span.To)-x(span.From)), "height", height)
			if span.Open {
				s.el("path", "f-"+stateHue(span.State), "d", fmt.Sprintf("M%s %sl7 %sl-7 %sz", coordinate(max(x(span.To), x(span.From)+2)), coordinate(y), coordinate(height/2), coordinate(height/2)))
			}
		}
	}
	return s.html(title)
}

// ticks returns round values from 0 up to end, about six.
func ticks(end float64) []float64 {
	raw := end / 6
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * unit
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw {
			step = m * unit
			break
		}
	}
	var all []float64
	for i := 0; float64(i)*step <= end*1.0001 && i < 20; i++ {
		all = append(all, math.Round(float64(i)*step*1e6)/1e6)
	}
	return all
}

// eventLanes draws the two sides of a connection. What takes microseconds and what takes
// milliseconds both are to be read: an interval's width grows with its logarithm.
func eventLanes(lanes []lab.Lane, title string) template.HTML {
	const gutter, right, above, height, between = 64.0, 30.0, 30.0, 30.0, 92.0
	var times []float64
	for _, l := range lanes {
		for _, s := range l.Spans {
			times = append(times, s.From, s.To)
		}
	}
	slices.Sort(times)
	times = slices.Compact(times)
	at := map[float64]float64{}
	x := gutter
	for i, t := range times {
		if i > 0 {
			x += 74 + 16*max(0, math.Log10(1+100*(t-times[i-1]))-1)
		}
		at[t] = x
	}
	width := x + right
	s := &svg{w: width, h: above + float64(len(lanes))*height + float64(len(lanes)-1)*between + 26}
	for i, t := range times {
		last := i == len(times)-1
		if !last {
			s.el("line", "grid", "x1", at[t], "y1", above-8, "x2", at[t], "y2", s.h-22)
			s.text("t small middle", at[t], above-14, text(math.Round(t*1000)/1000))
		}
	}
	s.text("t small end muted", gutter-14, above-14, lanes[0].Unit)
	for i, l := range lanes {
		y := above + float64(i)*(height+between)
		s.text("t end strong", gutter-10, y+height*0.65, l.Name)
		for _, span := range l.Spans {
			class := "f-" + stateHue(span.State)
			if span.Guessed {
				class += " guessed"
			}
			from, to := at[span.From], at[span.To]
			s.el("rect", class, "x", from+1, "y", y, "width", max(3, to-from-2), "height", height, "rx", 2.0)
			if span.Open {
				s.el("path", class, "d", fmt.Sprintf("M%s %sl10 %sl-10 %sz", coordinate(to-2), coordinate(y), coordinate(height/2), coordinate(height/2)))
			}
			on := "t on mono middle"
			if span.Guessed {
				on = "t small mono middle"
			}
			s.text(on, (from+to)/2, y+height*0.63, span.State)
			if !span.Sent || len(lanes) != 2 {
				continue
			}
			// From this side's lane to the other's.
			y1, y2 := above+height+2, above+height+between-2
			tip := y2 - 7
			if i == 1 {
				y1, y2 = y2, y1
				tip = y2 + 7
			}
			s.el("line", "arrow", "x1", from, "y1", y1, "x2", from+9, "y2", y2)
			s.el("path", "arrowhead", "d", fmt.Sprintf("M%s %sL%s %sL%s %sz", coordinate(from+9), coordinate(y2), coordinate(from+4.5), coordinate(tip), coordinate(from+11.5), coordinate(tip)))
			for n, word := range strings.Fields(span.Segment) {
				s.text("t small mono", from+13, above+height+between/2-12+float64(n)*13, word)
			}
		}
	}
	s.text("t small muted", gutter, s.h-6, cmp.Or(lanes[0].Unit, "time")+" since the first change; the intervals are not to scale")
	return s.html(title)
}
