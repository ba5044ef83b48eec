package top

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-go/berth"
)

// What a transport serves is understood whole.
func TestReportOfATransport(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer srv.Close()
	tr, err := berth.New(berth.Config{Policy: berth.Policy{MaxConns: 7}, Proxy: berth.NoProxy})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	g := tr.Group("blue")
	resp, err := (&http.Client{Transport: g}).Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	rec := httptest.NewRecorder()
	tr.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	var r Report
	if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	p := NewTracker("x").Report(&r, at(0))
	if len(p.Endpoints) != 1 {
		t.Fatalf("%d endpoints", len(p.Endpoints))
	}
	e := p.Endpoints[0]
	if e.Name() != srv.URL || e.Group != "blue" || e.Max != 7 || e.Stats.Requests != 1 || e.Conns() != 1 || e.Policy.From["max_conns"] != "policy" || e.Policy.Generation != 1 {
		t.Errorf("%q %q, max %d, %+v, %+v", e.Name(), e.Group, e.Max, e.Stats, e.Policy)
	}
}

func TestYoungerAndHostileReports(t *testing.T) {
	text := `{"schema":1,"program":"sh\u001b[2Jop","tomorrow":1,"endpoints":[{"endpoint":"https://x\u0007","policy":{"policy":{"max_conns":"many","tomorrow":{"a":1}},"from":{"a\u001b":"b"}},
	 "stats":{"leased":-5,"closes":{"id\u001ble":1},"tomorrow":2},"leases":[{"path":"/a?token=secret","site":"x\u001b]0;y"}]}]}`
	var r Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	p := NewTracker("x").Report(&r, at(0))
	var out strings.Builder
	if err := WritePlain(&out, p, p.Endpoints); err != nil {
		t.Fatal(err)
	}
	all, err := json.Marshal(p.Report)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{out.String(), string(all)} {
		if strings.Contains(text, "\x1b") || strings.Contains(text, `\u001b`) || strings.Contains(text, "secret") {
			t.Errorf("%q", text)
		}
	}
	if p.Endpoints[0].Max != 0 {
		t.Errorf("limit %d", p.Endpoints[0].Max)
	}
}

// FuzzReport: whatever a program says, nothing panics, and a line stays a line.
func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"schema":1,"endpoints":[{"endpoint":"a\nb","group":"g h","stats":{"leased":-1,"waiting":99999999999,"oldest_wait":-5,"requests":18446744073709551615,"wait":[{"below":-1,"count":3}]},"policy":{"policy":{"max_conns":1}}}],"ports":[{"destination":"","ports":1,"live":-9223372036854775808}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr := NewTracker("x")
		for second := range 2 {
			var r Report
			if json.Unmarshal(text, &r) != nil {
				return
			}
			r.Time = at(second)
			p := tr.Report(&r, at(second))
			var out strings.Builder
			WritePlain(&out, p, Select(p.Endpoints, "", ByWaiting))
			if got := strings.Count(out.String(), "\n"); got != len(p.Endpoints) || strings.Contains(out.String(), "\x1b") {
				t.Errorf("%d lines of %d endpoints: %q", got, len(p.Endpoints), &out)
			}
			for i := range p.Endpoints {
				Bar(&p.Endpoints[i], 8)
			}
			if err := WriteJSON(json.NewEncoder(&out), p, p.Endpoints, at(second)); err != nil {
				t.Error(err)
			}
		}
	})
}
