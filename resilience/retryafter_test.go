package resilience

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		value string
		want  time.Duration
		asks  bool
	}{
		{"", 0, false},
		{"0", 0, true},
		{"7", 7 * time.Second, true},
		{" 7\t", 7 * time.Second, true},
		{"0007", 7 * time.Second, true},
		{"86400", longestWait, true},
		{"86401", longestWait, true},
		{"9223372037", longestWait, true}, // more nanoseconds than there are
		{"18446744073709551616", longestWait, true},
		{"99999999999999999999999999999999", longestWait, true},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1.5", 0, false},
		{"1e3", 0, false},
		{"0x10", 0, false},
		{"1_0", 0, false},
		{"7, 8", 0, false},
		{"soon", 0, false},
		{"٧", 0, false},
		{"Sat, 21 Nov 2026 12:00:09 GMT", 9 * time.Second, true},
		{"Saturday, 21-Nov-26 12:00:09 GMT", 9 * time.Second, true},
		{"Sat Nov 21 12:00:09 2026", 9 * time.Second, true},
		{"Sat, 21 Nov 2026 12:00:00 GMT", 0, true},
		{"Sat, 21 Nov 2026 11:59:59 GMT", 0, true},
		{"Thu, 01 Jan 1970 00:00:00 GMT", 0, true},
		{"Fri, 31 Dec 9999 23:59:59 GMT", longestWait, true},
		{"Sat, 21 Nov 2026 12:00:09 XYZ", 0, false},
	} {
		resp := &http.Response{Header: http.Header{}}
		if tc.value != "" {
			resp.Header.Set("Retry-After", tc.value)
		}
		if got, asks := retryAfter(resp, now); got != tc.want || asks != tc.asks {
			t.Errorf("Retry-After: %q is %v, %v; want %v, %v", tc.value, got, asks, tc.want, tc.asks)
		}
	}
	if _, asks := retryAfter(&http.Response{}, now); asks {
		t.Error("a response without a header asks for a wait")
	}
}

// Nothing that a server sends makes a wait that is negative or longer than the bound.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "-1", "18446744073709551615", "Sat, 21 Nov 2026 12:00:09 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(s, int64(0))
	}
	f.Fuzz(func(t *testing.T, s string, at int64) {
		resp := &http.Response{Header: http.Header{"Retry-After": {s}}}
		if d, asks := retryAfter(resp, time.Unix(at, 0)); d < 0 || d > longestWait || !asks && d != 0 {
			t.Errorf("Retry-After: %q at %d is %v, %v", s, at, d, asks)
		}
	})
}
