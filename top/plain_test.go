package top

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth"
)

// shop is a program whose names have blanks, with rates of one second.
func shop() *Program {
	tr := NewTracker("http://localhost:6061/")
	report := func(second int, requests uint64) *Report {
		r := said(7, second, map[string]uint64{"a": requests, "b": 0})
		r.Program = "web shop"
		e := &r.Endpoints[0]
		e.Group, e.Endpoint = "big customers", "https://a through http://proxy in group big customers"
		e.Stats.Waiting, e.Stats.OldestWait, e.Reason, e.Limit, e.Verdict, e.Advice = 2, 1500*time.Millisecond, berth.ReasonEndpoint, "endpoint max 4", berth.VerdictTooSmall, "raise it"
		e.Stats.Leased = 4
		e.Policy.Values = map[string]json.RawMessage{"max_conns": json.RawMessage("4")}
		return r
	}
	tr.Report(report(0, 10), at(0))
	return tr.Report(report(1, 30), at(1))
}

// A line has as many fields as the header, whatever the names are; the endpoint is the rest.
func TestPlainColumnsAreStable(t *testing.T) {
	p := shop()
	var out strings.Builder
	if err := WritePlainHeader(&out); err != nil {
		t.Fatal(err)
	}
	if err := WritePlain(&out, p, Select(p.Endpoints, "", ByName)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	columns := len(strings.Fields(lines[0]))
	want := [][]string{
		{"12:00:01", "-", "web_shop", "7", "0", "0", "0", "0", "-", "0", "-", "0", "-", "-", "0", "-", "-", "b"},
		{"12:00:01", "!", "web_shop", "7", "4", "0", "0", "0", "4", "2", "1.5s", "20.0", "0", "-", "0", "-", "big_customers", "https://a", "through", "http://proxy"},
	}
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, w := range want {
		if got := strings.Join(strings.Fields(lines[i+1]), " "); got != strings.Join(w, " ") {
			t.Errorf("got  %s\nwant %s", got, strings.Join(w, " "))
		}
		if len(w) < columns {
			t.Errorf("%d columns of %d", len(w), columns)
		}
	}
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	p := shop()
	if err := WriteJSON(json.NewEncoder(&out), p, Select(p.Endpoints, "through", ByName), at(1)); err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"source":"http://localhost:6061/","time":"2026-03-01T12:00:01Z","pid":7,"program":"web shop","interval":1000000000,` +
		`"total":{"connections":4,"waiting":2,"requests_per_second":20,"failures_per_second":0,"reuse":0},` +
		`"endpoints":[{"endpoint":"https://a through http://proxy","group":"big customers","attention":"waiting","leased":4,"idle":0,"dialing":0,"draining":0,"limit":4,` +
		`"waiting":2,"oldest_wait":1500000000,"requests_per_second":20,"failures_per_second":0,"reuse":0,"wait_p99":null,"ports":null,"suspects":0,` +
		`"reason":"endpoint-limit","limit_text":"endpoint max 4","verdict":"too small","advice":"raise it"}]}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", &out, want)
	}
	out.Reset()
	lost := *p
	lost.Lost, lost.Since = errors.New("refused"), at(2)
	if err := WriteJSON(json.NewEncoder(&out), &lost, nil, at(3)); err != nil {
		t.Fatal(err)
	}
	want = `{"schema":1,"source":"http://localhost:6061/","time":"2026-03-01T12:00:03Z","pid":7,"program":"web shop","interval":0,` +
		`"lost":{"since":"2026-03-01T12:00:02Z","error":"refused"},"endpoints":[]}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", &out, want)
	}
}
