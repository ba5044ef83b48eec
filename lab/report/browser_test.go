package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// In a real browser every chart is drawn, and the page has nothing to complain about.
func TestBrowserDrawsEveryChart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			browser = p
			break
		}
	}
	if browser == "" {
		t.Skip("no chromium here")
	}
	page := render(t, recorded(t))
	charts := strings.Count(page, " data-chart=")
	if charts == 0 {
		t.Fatal("the page has no charts")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--user-data-dir="+filepath.Join(dir, "profile"),
		"--window-size=400,900", "--dump-dom", "file://"+file)
	var dom, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &dom, &log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		t.Skipf("the browser does not run here: %v", err)
	}
	if want := fmt.Sprintf(`data-drawn="%d/%d"`, charts, charts); !strings.Contains(dom.String(), want) {
		got := regexp.MustCompile(`<html[^>]*>`).FindString(dom.String())
		t.Errorf("%s, want %s", got, want)
	}
	if strings.Contains(dom.String(), "data-error=") {
		t.Errorf("a script failed: %s", regexp.MustCompile(`data-error="[^"]*"`).FindString(dom.String()))
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("console: %s", line)
		}
	}
}
