//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// fillPorts: the two passes are Linux's.
func fillPorts(context.Context, byte, bool) ([]level, error) {
	return nil, fmt.Errorf("the search in two passes is Linux's, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
