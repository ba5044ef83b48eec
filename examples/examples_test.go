package examples

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The examples run by themselves, and say what their output.txt says where there is one.
func TestExamplesRun(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to run them with")
	}
	programs, err := filepath.Glob("*/main.go")
	if err != nil || len(programs) < 5 {
		t.Fatal(programs, err)
	}
	for _, p := range programs {
		dir := filepath.Dir(p)
		t.Run(dir, func(t *testing.T) {
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "go", "run", "./"+dir)
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, &stderr)
			}
			want, err := os.ReadFile(filepath.Join(dir, "output.txt"))
			if os.IsNotExist(err) {
				return // it differs each time
			}
			if err != nil || string(out) != string(want) {
				t.Errorf("%v\n%s\nwant\n%s", err, out, want)
			}
		})
	}
}
