package berth

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A kernel that lacks a feature is told of once.
func TestMissingFeatureIsToldOnce(t *testing.T) {
	var out strings.Builder
	tr, err := New(Config{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	tr.init()
	for range 3 {
		tr.lacks("IP_LOCAL_PORT_RANGE (Linux 6.3)", true, errors.ErrUnsupported)
	}
	if n := strings.Count(out.String(), "IP_LOCAL_PORT_RANGE"); n != 1 {
		t.Errorf("told %d times:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "level=WARN") {
		t.Errorf("%s: the configuration asked for it", out.String())
	}
	tr.lacks("another", false, errors.ErrUnsupported)
	if !strings.Contains(out.String(), "level=INFO") {
		t.Errorf("%s: nobody asked for the other", out.String())
	}
	silent := &Transport{}
	silent.init()
	silent.lacks("x", false, nil) // nobody listens
}
