package h1

import (
	"testing"
	"time"
)

func TestParseKeepAlive(t *testing.T) {
	for _, c := range []struct {
		values  []string
		timeout time.Duration
		max     int
	}{
		{nil, -1, -1},
		{[]string{""}, -1, -1},
		{[]string{"timeout=5"}, 5 * time.Second, -1},
		{[]string{"timeout=5, max=100"}, 5 * time.Second, 100},
		{[]string{"Timeout = 5 ,MAX= 7"}, 5 * time.Second, 7},
		{[]string{"timeout=0"}, 0, -1},
		{[]string{"max=0"}, -1, 0},
		{[]string{"timeout=-1"}, -1, -1},
		{[]string{"timeout=+1"}, -1, -1},
		{[]string{"timeout=1.5"}, -1, -1},
		{[]string{"timeout=1_0"}, -1, -1},
		{[]string{`timeout="5"`}, -1, -1},
		{[]string{"timeout="}, -1, -1},
		{[]string{"timeout"}, -1, -1},
		{[]string{"abc"}, -1, -1},
		{[]string{"abc=3"}, -1, -1},
		{[]string{"foo, timeout=30"}, 30 * time.Second, -1},
		{[]string{"timeout=30", "timeout=10, max=9", "timeout=20, max=10"}, 10 * time.Second, 9},
		{[]string{"timeout=99999999999999999999999, max=99999999999999999999999"}, maxKeepAlive, 1<<31 - 1},
		{[]string{"timeout=9223372036854775807"}, maxKeepAlive, -1},
	} {
		timeout, limit := parseKeepAlive(c.values)
		if timeout != c.timeout || limit != c.max {
			t.Errorf("parseKeepAlive(%q) = %v, %d, want %v, %d", c.values, timeout, limit, c.timeout, c.max)
		}
	}
}
