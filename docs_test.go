package berth_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The documents name tests that exist.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "*/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	named := 0
	for _, doc := range []string{"docs/contract.md", "docs/faults.md", "docs/performance.md"} {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(b), -1) {
			named++
			if !strings.Contains(code.String(), "func "+name) {
				t.Errorf("%s names %s, which does not exist", doc, name)
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d names were found", named)
	}
}
