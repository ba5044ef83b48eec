package uplot

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// uPlot's files are its authors', unchanged.
func TestUPlotIsUnchanged(t *testing.T) {
	for _, f := range []struct{ name, text, want string }{
		{"uPlot.iife.min.js", Script, "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"},
		{"uPlot.min.css", Style, "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"},
		{"LICENSE", License, "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"},
	} {
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(f.text))); got != f.want {
			t.Errorf("%s has the sum %s", f.name, got)
		}
	}
}
