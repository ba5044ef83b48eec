// The Keep-Alive field (RFC 2068 §19.7.1.1; "timeout" and "max" as servers send
// them). Framing decisions call it; the pool closes the connection a margin
// before the time that the peer named.

package h1

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxKeepAlive bounds a timeout whose number would overflow: 100 years.
const maxKeepAlive = 100 * 365 * 24 * time.Hour

// parseKeepAlive reads the lists in values, of which elements that are not a
// parameter with a number are ignored, as are unknown ones. -1 means that a
// parameter is absent; of several the smallest counts. Numbers too large are
// taken for the largest.
func parseKeepAlive(values []string) (timeout time.Duration, limit int) {
	timeout, limit = -1, -1
	for _, v := range values {
		for rest, more := v, true; more; {
			var element string
			element, rest, more = cutElement(rest)
			name, arg, ok := strings.Cut(element, "=")
			if !ok {
				continue
			}
			n, ok := parseNumber(trimOWS(arg))
			if !ok {
				continue
			}
			switch name = trimOWS(name); {
			case equalFold(name, "timeout"):
				d := maxKeepAlive
				if n < int64(maxKeepAlive/time.Second) {
					d = time.Duration(n) * time.Second
				}
				if timeout < 0 || d < timeout {
					timeout = d
				}
			case equalFold(name, "max"):
				m := int(min(n, math.MaxInt32))
				if limit < 0 || m < limit {
					limit = m
				}
			}
		}
	}
	return timeout, limit
}

// parseNumber reads s as 1*DIGIT; a number above 1<<63-1 is returned as that.
func parseNumber(s string) (n int64, ok bool) {
	u, err := strconv.ParseUint(s, 10, 63)
	return int64(u), err == nil || errors.Is(err, strconv.ErrRange)
}
