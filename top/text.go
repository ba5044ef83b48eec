package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// None is what stands where there is no number.
const None = "-"

// Count is a number in five columns at most: 99999, 123k, 45M.
func Count(n int) string {
	switch {
	case n >= 10_000_000:
		return strconv.Itoa(n/1_000_000) + "M"
	case n >= 100_000:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n)
}

// Number is a rate: 0, 0.3, 12.5, 1204, 123k. What is not zero is not shown as zero.
func Number(m Maybe[float64]) string {
	switch v := m.V; {
	case !m.OK || math.IsNaN(v) || math.IsInf(v, 0):
		return None
	case v <= 0:
		return "0"
	case v < 0.1:
		return "<0.1"
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 1e12:
		return Count(int(math.Round(v)))
	}
	return ">1T"
}

// Percent is a share. It is 100% only when all is.
func Percent(m Maybe[float64]) string {
	if !m.OK || math.IsNaN(m.V) || m.V < 0 {
		return None
	}
	p := math.Floor(m.V*1000) / 10
	switch {
	case p >= 1000:
		return ">999%"
	case p == math.Trunc(p):
		return strconv.Itoa(int(p)) + "%"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + "%"
}

// Duration is a time in six columns at most, for less than 1,000 hours: 0.4ms, 12ms, 1.2s, 14m02s, 3h05m, 41h.
func Duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", max(d.Seconds()*1000, 0.1))
	case d < time.Second:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", math.Floor(d.Seconds()*10)/10)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 10*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}

// MaybeDuration is Duration, or none.
func MaybeDuration(m Maybe[time.Duration]) string {
	if !m.OK {
		return None
	}
	return Duration(m.V)
}

// Bar shows an endpoint's connections against its limit in so many columns: in use █, being
// dialled or draining ▒, idle ░, free ·. What there is at all has a column, as far as they
// go. Without a limit it is blank.
func Bar(e *Endpoint, columns int) string {
	s := &e.Stats
	if e.Max <= 0 {
		return strings.Repeat(" ", columns)
	}
	var b strings.Builder
	left := columns
	for _, part := range []struct {
		n    int
		sign string
	}{{s.Leased, "█"}, {s.Dialing + s.Draining, "▒"}, {s.Idle, "░"}} {
		n := int(math.Round(float64(max(part.n, 0)) / float64(e.Max) * float64(columns)))
		if part.n > 0 {
			n = max(n, 1)
		}
		n = min(n, left)
		left -= n
		b.WriteString(strings.Repeat(part.sign, n))
	}
	b.WriteString(strings.Repeat("·", left))
	return b.String()
}

// Spark draws values as a line of columns from ▁ to █, the largest of them being █, and a
// blank where there is none. Zero is ▁.
func Spark(values []Maybe[float64]) string {
	const steps = "▁▂▃▄▅▆▇█"
	signs := []rune(steps)
	var most float64
	for _, v := range values {
		most = max(most, v.V)
	}
	var b strings.Builder
	for _, v := range values {
		switch {
		case !v.OK:
			b.WriteByte(' ')
		case most <= 0 || v.V <= 0:
			b.WriteRune(signs[0])
		default:
			b.WriteRune(signs[min(1+int(v.V/most*float64(len(signs)-1)), len(signs)-1)])
		}
	}
	return b.String()
}

// Minute spreads the last minute before now over columns, a point over those of the time
// for which it stands. Of several points in a column the largest value counts.
func Minute(history []Point, now time.Time, columns int, value func(Point) Maybe[float64]) []Maybe[float64] {
	out := make([]Maybe[float64], columns)
	column := func(age time.Duration) int { return columns - 1 - int(age*time.Duration(columns)/historyTime) }
	for _, p := range history {
		age, v := now.Sub(p.At), value(p)
		if age < 0 || age >= historyTime || !v.OK {
			continue
		}
		first := column(min(age+max(p.Over-1, 0), historyTime-1))
		for i := first; i <= column(age); i++ {
			if !out[i].OK || v.V > out[i].V {
				out[i] = v
			}
		}
	}
	return out
}
