package prom_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/berth-go/berth"
	"github.com/berth-go/berth/kb"
	"github.com/berth-go/berth/telemetry/prom"
)

// emitted returns the labels of every metric by its name, as they are described. A
// histogram has the names that it is asked for by.
func emitted(t *testing.T) map[string][]string {
	t.Helper()
	c, err := prom.New(&berth.Transport{}, prom.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc, 100)
	c.Describe(ch)
	close(ch)
	described := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`)
	names := map[string][]string{}
	for d := range ch {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("a description is %s", d)
		}
		labels := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
		names[m[1]] = labels
		if strings.HasSuffix(m[1], "_seconds") && slices.Contains(labels, "host") {
			names[m[1]+"_bucket"] = append(slices.Clone(labels), "le")
			names[m[1]+"_count"] = labels
		}
	}
	if len(names) < 15 {
		t.Fatalf("only %d metrics are described", len(names))
	}
	return names
}

var (
	metricName = regexp.MustCompile(`berth_[a-z_]+`)
	labelList  = regexp.MustCompile(`\b(?:by|ignoring|without|on) \(([^)]*)\)`)
	matcher    = regexp.MustCompile(`(\w+)(?:=~|!=|!~|=)"`)
)

// checkExpr checks an expression's metrics and labels against those that there are.
func checkExpr(t *testing.T, where, expr string, names map[string][]string) {
	t.Helper()
	known := []string{"job", "instance"}
	found := metricName.FindAllString(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s asks for no metric of Berth's: %s", where, expr)
	}
	for _, name := range found {
		labels, there := names[name]
		if !there {
			t.Errorf("%s asks for %s, which is not emitted", where, name)
		}
		known = append(known, labels...)
	}
	var used []string
	for _, m := range labelList.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			used = append(used, strings.TrimSpace(l))
		}
	}
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		used = append(used, m[1])
	}
	for _, l := range used {
		if !slices.Contains(known, l) {
			t.Errorf("%s asks for the label %q, which its metrics do not have: %s", where, l, expr)
		}
	}
}

// ---- the dashboard ----

type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Datasource             struct{ UID string }
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct {
		Expr, LegendFormat string
		Datasource         struct{ Type, UID string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	b, err := os.ReadFile("dashboard.json")
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A dashboard that can be imported anywhere names no data source but its variable, lays no
// panel over another, and asks for what is there.
func TestDashboard(t *testing.T) {
	names := emitted(t)
	d := readDashboard(t)
	if d.SchemaVersion < 38 || d.UID == "" || d.Title == "" || len(d.Panels) < 10 {
		t.Errorf("schema %d, uid %q, title %q, %d panels", d.SchemaVersion, d.UID, d.Title, len(d.Panels))
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "query" {
			checkExpr(t, "variable "+v.Name, v.Definition, names)
			if v.Datasource.UID != "${datasource}" {
				t.Errorf("variable %s is of the data source %q", v.Name, v.Datasource.UID)
			}
		}
	}
	if want := []string{"datasource", "job", "host", "group"}; !slices.Equal(variables, want) {
		t.Errorf("the variables are %q, want %q", variables, want)
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	asked := map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d %q: %d targets, data source %q, or the number is another's", p.ID, p.Title, len(p.Targets), p.Datasource.UID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if by := taken[[2]int{x, y}]; by != "" {
					t.Fatalf("panel %q lies over %q", p.Title, by)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			checkExpr(t, "panel "+p.Title, target.Expr, names)
			for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(variables, v[1]) && v[1] != "__rate_interval" {
					t.Errorf("panel %q: no variable %s", p.Title, v[1])
				}
			}
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				asked[strings.TrimSuffix(name, "_bucket")] = true
			}
		}
	}
	for name := range names {
		if !strings.HasSuffix(name, "_count") && !asked[strings.TrimSuffix(name, "_bucket")] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// plain fills in the variables as for all of everything.
func plain(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$host", ".*", "$group", ".*").Replace(expr)
}

// ---- the alerts ----

type rules struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert       string            `yaml:"alert"`
	Record      string            `yaml:"record,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func readYAML(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readAlerts(t *testing.T) (list []rule) {
	t.Helper()
	var r rules
	readYAML(t, "alerts.yaml", &r)
	for _, g := range r.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) < 8 {
		t.Fatalf("%d alerts", len(list))
	}
	return list
}

// Every alert asks for metrics that there are, and ends at an entry of the knowledge base.
func TestAlerts(t *testing.T) {
	names := emitted(t)
	codes := regexp.MustCompile(`BERTH\d{4}`)
	for _, a := range readAlerts(t) {
		checkExpr(t, a.Alert, a.Expr, names)
		if s := a.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		code, description := a.Annotations["code"], a.Annotations["description"]
		if a.Annotations["summary"] == "" || !strings.Contains(strings.Join(strings.Fields(description), " "), "`berth explain "+code+"`") {
			t.Errorf("%s: the description does not send the reader to `berth explain %s`: %s", a.Alert, code, description)
		}
		for _, c := range append(codes.FindAllString(description, -1), code) {
			if _, there := kb.Lookup(c); !there {
				t.Errorf("%s: %q is no entry of the knowledge base", a.Alert, c)
			}
		}
	}
}

// Every alert is tested quiet and firing.
func TestAlertsHaveUnitTests(t *testing.T) {
	var file struct {
		Tests []struct {
			Name          string
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "alerts_test.yaml", &file)
	quiet, fires := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.AlertRuleTest {
			quiet[a.Alertname] = quiet[a.Alertname] || len(a.ExpAlerts) == 0
			fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
		}
	}
	for _, a := range readAlerts(t) {
		if !quiet[a.Alert] || !fires[a.Alert] {
			t.Errorf("%s: tested quiet: %v, firing: %v", a.Alert, quiet[a.Alert], fires[a.Alert])
		}
	}
}

// program finds a program, or skips the test with the reason.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("BERTH_REAL_PEERS") != "" {
			t.Fatalf("%s is not installed, and BERTH_REAL_PEERS demands it", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// promtool agrees with the rules, and with their unit tests.
func TestPromtoolOnTheAlerts(t *testing.T) {
	promtool := program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// promtool can read every expression of the dashboard.
func TestPromtoolOnTheDashboard(t *testing.T) {
	promtool := program(t, "promtool")
	var b strings.Builder
	b.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			n++
			fmt.Fprintf(&b, "  - record: panel_%d\n    expr: %q\n", n, plain(target.Expr))
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// ---- the document ----

// docs/telemetry.md has every metric with its labels, every alert with its code, and no
// other.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(berth_\\w+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\|").FindAllStringSubmatch(string(b), -1) {
		if strings.HasSuffix(m[1], "_total") != (m[2] == "counter") {
			t.Errorf("%s is a %s", m[1], m[2])
		}
		var labels []string
		for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		if strings.HasPrefix(m[3], "S") {
			labels = append(labels, "scheme", "host", "port", "group")
		}
		slices.Sort(labels)
		documented[m[1]] = labels
	}
	names := emitted(t)
	maps.DeleteFunc(names, func(name string, _ []string) bool {
		return strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_count")
	})
	for name, labels := range names {
		slices.Sort(labels)
		if got, there := documented[name]; !there || !slices.Equal(got, labels) {
			t.Errorf("%s has the labels %q; the document has %q (there: %v)", name, labels, got, there)
		}
	}
	for name := range documented {
		if _, there := names[name]; !there {
			t.Errorf("the document has %s, which is not emitted", name)
		}
	}
	alerts := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(Berth\\w+)` \\| (BERTH\\d{4}) \\|").FindAllStringSubmatch(string(b), -1) {
		alerts[m[1]] = m[2]
	}
	want := map[string]string{}
	for _, a := range readAlerts(t) {
		want[a.Alert] = a.Annotations["code"]
	}
	if !maps.Equal(alerts, want) {
		t.Errorf("the document has the alerts %v, want %v", alerts, want)
	}
}
