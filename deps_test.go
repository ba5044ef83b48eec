package berth_test

import (
	"go/build"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-go/berth"

// The core builds the standard library and golang.org/x/net/idna, nothing else.
func TestCoreImportsTheStandardLibraryOnly(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to ask for dependencies")
	}
	for _, p := range []string{"", "/internal/pool", "/internal/h1", "/internal/h2", "/internal/dial"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+p).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for _, dep := range strings.Fields(string(out)) {
			ours := strings.HasPrefix(dep, module)
			idna := dep == "golang.org/x/net/idna" || strings.HasPrefix(dep, "golang.org/x/text/")
			if !ours && !idna {
				t.Errorf("%s builds %s", module+p, dep)
			}
		}
	}
}

// Programs bring their own SDK of OpenTelemetry: the adapter builds its API alone.
func TestTelemetryBuildsNoSDK(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to ask for dependencies")
	}
	out, err := exec.Command("go", "list", "-deps", module+"/telemetry/otel").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "go.opentelemetry.io/otel/metric") {
		t.Errorf("the API is not among %d dependencies", len(deps))
	}
	for _, dep := range deps {
		if strings.HasPrefix(dep, "go.opentelemetry.io/otel/sdk") || strings.HasPrefix(dep, "go.opentelemetry.io/contrib") {
			t.Errorf("telemetry/otel builds %s", dep)
		}
	}
}

// The arrows of docs/design.md: which of our packages may import which.
func TestArrowsBetweenPackages(t *testing.T) {
	allowed := map[string][]string{
		".":               {"internal/pool", "internal/h1", "internal/h2", "internal/dial", "internal/http2", "internal/uplot"},
		"internal/uplot":  {},
		"internal/pool":   {},
		"internal/h1":     {"internal/pool"},
		"internal/h2":     {},
		"internal/http2":  {},
		"internal/dial":   {},
		"internal/memnet": {},
		"internal/origin": {},
		"proxyenv":        {},
		"sockets":         {},
		"internal/source": {},
		"doctor":          {"sockets", "internal/source"},
		"top":             {".", "internal/source"},
		"resilience":      {"."},
		"clients":         {".", "resilience"},
		"lab":             {".", "sockets", "internal/origin", "proxyenv", "clients", "resilience"},
		"lab/report":      {"lab", "internal/uplot"},
		"policyfile":      {".", "clients", "resilience"},
		"kb":              {},
		"berthtest":       {"."},
		"telemetry/prom":  {"."},
		"cmd/berth":       {".", "doctor", "kb", "lab", "lab/report", "policyfile", "clients", "resilience", "top", "internal/source"},
		"telemetry/otel":  {".", "clients", "resilience"},
	}
	for dir, may := range allowed {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range p.Imports {
			if dir == "internal/pool" && (imp == "net" || strings.HasPrefix(imp, "net/")) {
				t.Errorf("internal/pool imports %s: it decides, it does no I/O", imp)
			}
			rest, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			rest = strings.TrimPrefix(rest, "/")
			if rest == "" {
				rest = "."
			}
			found := false
			for _, m := range may {
				found = found || m == rest
			}
			if !found {
				t.Errorf("%s imports %s", dir, imp)
			}
		}
	}
}
