package resilience

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter returns how long a response asks to be left alone (RFC 9110 §10.2.3: seconds,
// or a date), and whether it does. A date that has passed is 0; what is neither, or less
// than 0, is as if it were not there; more than longestWait is longestWait.
func retryAfter(resp *http.Response, now time.Time) (time.Duration, bool) {
	v := strings.Trim(resp.Header.Get("Retry-After"), " \t")
	if v == "" {
		return 0, false
	}
	if strings.Trim(v, "0123456789") == "" {
		seconds, err := strconv.ParseUint(v, 10, 64)
		if err != nil || seconds > uint64(longestWait/time.Second) {
			return longestWait, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), longestWait), true
}
