package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-go/berth/internal/source"
	"github.com/berth-go/berth/sockets"
)

// status is what a program with a starved endpoint answers.
const status = `{"schema":1,"time":"2026-03-01T12:00:00Z","pid":10,"program":"shop","unknown":{"x":[1]},"endpoints":[{
 "endpoint":"https://api.pay.example","group":"","stats":{"dialing":0,"leased":2,"idle":0,"draining":0,"waiting":37,"oldest_wait":2000000000,
  "requests":100,"reused":90,"dials":{"ok":10,"failed":0},"closes":{"idle":1},"leaks":{"suspect":1,"suspected":2,"reclaimed":5}},
 "policy":{"policy":{"max_conns":2},"from":{"max_conns":"rule 1"},"generation":1},
 "reason":"endpoint-limit","limit":"endpoint max 2","verdict":"leaked","leases":[
  {"method":"POST","path":"/v1/pay","phase":"awaiting headers","held":1000000,"suspect":false,"site":"pay.go:7 (pay.Do)","local":"10.0.0.1:40001","remote":"192.0.2.7:443"},
  {"method":"GET","path":"/v1/export?token=secret","phase":"body unread","held":842000000000,"since_byte":838000000000,"suspect":true,
   "site":"billing/export.go:88 (billing.Export)","stack":["x"],"local":"10.0.0.1:40000","remote":"192.0.2.7:443"}],
 "conns":[{"local":"10.0.0.1:40000","remote":"192.0.2.7:443","state":"leased","since":1}]}],
 "leaks":[{"site":"billing/export.go:88 (billing.Export)","endpoint":"https://api.pay.example","reclaimed":5},{"site":"x","endpoint":"y","reclaimed":0}],
 "ports":[{"destination":"192.0.2.7:443","ports":28232,"live":3,"held":10,"budget":false,"rate":1.5},
  {"destination":"","ports":100,"live":50,"held":35,"budget":true,"rate":1.5}]}`

// serve is a program whose Handler answers so.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return s
}

func read(t *testing.T, from ...string) []Program {
	t.Helper()
	return readPrograms(context.Background(), from, nil)
}

// answered has both looks see a program's answer.
func answered(t *testing.T, text string, change func(a, b *Sample)) (a, b Sample) {
	t.Helper()
	var p Program
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	p.clean()
	p.Source = "http://localhost:6060/"
	return host(func(a, b *Sample) {
		a.Programs, b.Programs = []Program{p}, []Program{p}
		if change != nil {
			change(a, b)
		}
	})
}

func TestProgramsAreJoinedToTheKernelsSockets(t *testing.T) {
	a, b := answered(t, status, func(a, b *Sample) {
		both(a, b, some(1, sockets.CloseWait, 10, there, 40000, queue(301, 0)))
	})
	got := Findings(a, b, Options{})
	f := one(got, "BERTH1001")
	if f.Level != Fail || f.Subject != (Subject{PID: 10, Process: "shop", Destination: "https://api.pay.example", State: "CLOSE_WAIT", Count: 37}) {
		t.Errorf("%v %+v", f.Level, f.Subject)
	}
	all := f.Title + "\n" + strings.Join(f.Evidence, "\n") + "\n" + f.Fix
	for _, want := range []string{
		"shop (pid 10): 37 requests wait for a connection to https://api.pay.example, the oldest for 2.0s (limit: endpoint max 2)",
		"2 leased, 0 idle, 0 dialing",
		"GET /v1/export, body unread, held 14m02s; 10.0.0.1:40000 → 192.0.2.7:443, kernel: CLOSE_WAIT, 301 B unread; at billing/export.go:88 (billing.Export)",
		"POST /v1/pay, awaiting headers, held 0.0s; 10.0.0.1:40001 → 192.0.2.7:443, kernel: not in the table",
		"Close the response body that is asked for at billing/export.go:88 (billing.Export)",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if strings.Contains(fmt.Sprint(got), "secret") {
		t.Error("a query is printed")
	}
	if i, j := strings.Index(all, "/v1/export"), strings.Index(all, "/v1/pay"); i > j {
		t.Error("the oldest lease is not the first")
	}
	if f := one(got, "BERTH1018"); f.Level != Warn || f.Subject.Count != 5 || !strings.Contains(f.Fix, "export.go:88") {
		t.Errorf("leaks: %+v", f)
	}
	if f := one(got, "BERTH2008"); f.Level != Warn || f.Subject.Count != 85 || !strings.Contains(strings.Join(f.Evidence, " "), "would last 10.0s") {
		t.Errorf("budget: %+v", f)
	}
	if f := one(got, "BERTH1004"); f.Code != "" {
		t.Errorf("ports: %+v", f)
	}
}

func TestProgramFindings(t *testing.T) {
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(status) }
	calm := []string{`"waiting":37`, `"waiting":0`, `"suspect":1`, `"suspect":0`, `"reclaimed":5`, `"reclaimed":0`, `"budget":true`, `"budget":false`, `"held":35`, `"held":0`, `"live":50`, `"live":1`}
	for _, tc := range []struct {
		name, text string
		change     func(a, b *Sample)
		code       string
		level      Level
		want       string
	}{
		{"all is well", edit(calm...), nil, "", OK, ""},
		{"waiting at the second look only", status, func(a, b *Sample) { a.Programs = nil }, "BERTH1001", Warn, "37 requests"},
		{"too small", edit(`"verdict":"leaked"`, `"verdict":"too small"`, `"suspect":true`, `"suspect":false`), nil, "BERTH1001", Fail, "Raise the limit"},
		{"of no verdict", edit(`"verdict":"leaked"`, `"verdict":""`, `"suspect":true`, `"suspect":false`), nil, "BERTH1001", Fail, "only if they are all at work"},
		{"held and nobody waits", edit(append([]string{`"suspect":1`, `"suspect":1`}, calm...)...), nil, "BERTH1018", Warn, "held by responses"},
		{"ports of this host", edit(`"live":3,"held":10`, `"live":3,"held":27000`), nil, "BERTH1004", Fail, "27003 of 28232"},
		{"idle churn", edit(calm...), func(a, b *Sample) {
			e := b.Programs[0].Endpoints[0]
			e.Stats.Dials.OK, e.Stats.Closes = 60, map[string]uint64{"surplus": 45}
			b.Programs[0].Endpoints = []endpoint{e}
		}, "BERTH2015", Warn, "50 connections dialed and 45 closed"},
		{"another process asked for", status, nil, "", OK, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := answered(t, tc.text, tc.change)
			o := Options{}
			if tc.name == "another process asked for" {
				o.PIDs = []int{99}
			}
			got := Findings(a, b, o)
			if tc.code == "" {
				for _, f := range got {
					if f.Level != OK {
						t.Errorf("found %+v", f)
					}
				}
				return
			}
			f := one(got, tc.code)
			if f.Level != tc.level || !strings.Contains(f.Title+f.Fix, tc.want) || f.Fix == "" || f.Subject.PID != 10 {
				t.Errorf("%+v; want %v with %q", f, tc.level, tc.want)
			}
		})
	}
}

func TestReadProgramByTCPAndUnixSocket(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, status) })
	s := serve(t, h)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("no Unix sockets: %v", err)
	}
	go http.Serve(ln, h)
	defer ln.Close()
	for _, p := range read(t, s.URL, "unix:"+path, "unix://"+path) {
		if p.Err != "" || p.PID != 10 || len(p.Endpoints) != 1 || p.Endpoints[0].Stats.Waiting != 37 || p.Endpoints[0].Leases[1].Held != 842*time.Second {
			t.Errorf("%s: %q, %+v", p.Source, p.Err, p)
		}
	}
}

// A program that answers badly costs its own line, and a bounded time.
func TestHostilePrograms(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"schema":1,"program":"`)
		for {
			if _, err := w.Write([]byte(strings.Repeat("a", 64<<10))); err != nil {
				return
			}
		}
	}
	hangs := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drips := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	say := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if status/100 == 3 {
				w.Header().Set("Location", "http://192.0.2.1/")
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	cases := []struct {
		name string
		h    http.HandlerFunc
		want string
	}{
		{"endless", endless, "longer than 16 MiB"},
		{"hangs", hangs, "no whole answer within 3s"},
		{"drips", drips, "no whole answer within 3s"},
		{"no JSON", say(200, "<html>"), "not the JSON of Transport.Handler"},
		{"cut short", say(200, status[:200]), "not the JSON of Transport.Handler"},
		{"a wrong type", say(200, `{"schema":1,"endpoints":"x"}`), "not the JSON of Transport.Handler"},
		{"deep", say(200, strings.Repeat("[", 100_000)), "not the JSON of Transport.Handler"},
		{"another schema", say(200, `{"schema":2}`), "schema 2; this berth knows 1"},
		{"empty object", say(200, `{}`), "schema 0"},
		{"a status", say(404, "no"), "status 404"},
		{"a redirect", say(302, ""), "status 302"},
	}
	var from []string
	for _, tc := range cases {
		from = append(from, serve(t, tc.h).URL)
	}
	from = append(from, serve(t, say(200, status)).URL)
	began := time.Now()
	got := read(t, from...)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	for i, tc := range cases {
		if !strings.Contains(got[i].Err, tc.want) {
			t.Errorf("%s: error %q, want %q", tc.name, got[i].Err, tc.want)
		}
	}
	if last := got[len(cases)]; last.Err != "" || last.PID != 10 {
		t.Errorf("the good one beside them: %q", last.Err)
	}
	a, b := host(func(a, b *Sample) { a.Programs, b.Programs = got, got })
	warned := 0
	for _, f := range Findings(a, b, Options{}) {
		if f.Check == "programs" && f.Code == "" && f.Level == Warn {
			warned++
		}
	}
	if warned != len(cases) {
		t.Errorf("%d warnings of %d", warned, len(cases))
	}
}

func TestCredentialsAreNotShown(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			t.Errorf("password %q", password)
		}
		io.WriteString(w, "x")
	})
	at := s.Listener.Addr().String()
	p := read(t, "http://user:secret@"+at+"/?key=secret", "http://user:secret@127.0.0.1:1/?key=secret")
	for _, p := range p {
		if p.Err == "" || strings.Contains(p.Source+p.Err, "secret") || strings.Contains(p.Source, "user") {
			t.Errorf("%q: %q", p.Source, p.Err)
		}
	}
	for _, bad := range []string{"", "unix:", "localhost:80", "ftp://user:secret@x/", "http:///", "http://user:secret@[x/"} {
		if _, err := source.Parse(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAProgramThatFailedIsAskedAgainByTheNextReport(t *testing.T) {
	asked := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.WriteHeader(500)
			return
		}
		io.WriteString(w, status)
	})
	var failed []int
	err := Watch(context.Background(), Options{Interval: 10 * time.Millisecond, From: []string{s.URL}}, func(r *Report) bool {
		failed = append(failed, len(r.Failed))
		return len(failed) < 2
	})
	if err != nil || fmt.Sprint(failed) != "[1 0]" || asked != 2 {
		t.Errorf("%v, failed %v, asked %d times", err, failed, asked)
	}
}

// FuzzProgram: whatever a program says, nothing panics and nothing that it says leaves
// its line.
func FuzzProgram(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte(`{"schema":1,"endpoints":[{"stats":{"waiting":-1,"oldest_wait":-5,"dials":{"ok":18446744073709551615}},"leases":[{"held":-1,"local":"x","site":"\u001b[2J"}]}],"ports":[{"ports":1,"live":-9223372036854775808,"rate":1e300}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Program
		if json.Unmarshal(text, &p) != nil {
			return
		}
		p.clean()
		a, b := host(func(a, b *Sample) {
			a.Programs, b.Programs = []Program{{}}, []Program{p}
			both(a, b, some(1, sockets.Established, 10, netip.MustParseAddrPort("192.0.2.7:443"), 40000))
		})
		r := report(a, b, Options{Lang: "en"})
		var out strings.Builder
		r.WriteText(&out, Style{Verbose: true})
		if strings.ContainsAny(out.String(), "\x1b\r\x00") || strings.Contains(out.String(), "%!") && !strings.Contains(string(text), "%") {
			t.Errorf("%q", out.String())
		}
		for _, finding := range r.Findings {
			for _, line := range append(finding.Evidence, finding.Title, finding.Fix) {
				if strings.Contains(line, "\n") {
					t.Errorf("%q", line)
				}
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
