//go:build !linux

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// tracer: only Linux has the tracepoint.
type tracer struct{ dir string }

func startTrace(uint16) (*tracer, error) {
	return nil, fmt.Errorf("no tracepoint on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (t *tracer) changes() ([]stateChange, error) { return nil, nil }

func (t *tracer) stop() {}

var processStart = time.Now()

func monotonic() time.Duration { return time.Since(processStart) }
