package top

import (
	"fmt"
	"io"
	"strings"
)

// plainFormat is a line of WritePlain: stable columns, what may have blanks in it last.
const plainFormat = "%-8s %-1s %-12s %7s %6s %5s %5s %5s %5s %5s %6s %7s %6s %7s %6s %6s %-10s %s\n"

// WritePlainHeader writes the names of WritePlain's columns. They are the same in every
// language.
func WritePlainHeader(w io.Writer) error {
	_, err := fmt.Fprintf(w, plainFormat, "TIME", "!", "PROGRAM", "PID", "LEASED", "IDLE", "DIAL", "DRAIN", "LIMIT", "WAIT",
		"OLDEST", "REQ/S", "REUSE%", "P99WAIT", "FAIL/S", "PORTS%", "GROUP", "ENDPOINT")
	return err
}

// WritePlain writes a line for each of the endpoints, which are p's.
func WritePlain(w io.Writer, p *Program, endpoints []Endpoint) error {
	var b strings.Builder
	for i := range endpoints {
		e := &endpoints[i]
		s := &e.Stats
		mark, limit, oldest := e.Level.String(), None, None
		if e.Level == Quiet {
			mark = None
		}
		if e.Max > 0 {
			limit = Count(e.Max)
		}
		if s.Waiting > 0 {
			oldest = Duration(s.OldestWait)
		}
		fmt.Fprintf(&b, plainFormat, p.Read.Format("15:04:05"), mark, word(p.Report.Program), fmt.Sprint(p.Report.PID),
			Count(s.Leased), Count(s.Idle), Count(s.Dialing), Count(s.Draining), limit, Count(s.Waiting), oldest,
			Number(e.Rates.Requests), strings.TrimSuffix(Percent(e.Reuse), "%"), MaybeDuration(e.WaitP99), Number(e.Failures),
			strings.TrimSuffix(Percent(e.Ports), "%"), word(e.Group), e.Name())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// word is a text without blanks, so that a line has as many fields as columns.
func word(s string) string {
	if s == "" {
		return None
	}
	return strings.ReplaceAll(s, " ", "_")
}
