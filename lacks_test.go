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
		tr.lacks("IP_LOCAL_PORT_RANGE (Linux 6.3)", errors.ErrUnsupported)
	}
	if n := strings.Count(out.String(), "IP_LOCAL_PORT_RANGE"); n != 1 {
		t.Errorf("told %d times:\n%s", n, out.String())
	}
	silent := &Transport{}
	silent.init()
	silent.lacks("x", nil) // nobody listens
}
