package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// progress shows on one line of a terminal what is being done. It is silent where
// nobody looks: when the output is no terminal, or on a CI machine.
type progress struct {
	w     io.Writer
	width int // 0 when silent
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("CI") != "" || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	return &progress{w: w, width: width}
}

// show replaces the line.
func (p *progress) show(experiment, text string) {
	if p.width == 0 {
		return
	}
	line := []rune(experiment + ": " + text)
	if len(line) >= p.width {
		line = append(line[:p.width-2], '…')
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", string(line))
}

// clear leaves the line empty.
func (p *progress) clear() {
	if p.width > 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
