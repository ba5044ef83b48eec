// Package berthtest has checks for the tests of programs that use Berth.
package berthtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/berth-go/berth"
)

// TB is what of testing.TB is needed.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
}

// grace is how long requests that are about to end may take for it.
const grace = 5 * time.Second

// AssertNoLeaks fails the test if a request still holds a connection of the transport: a
// response body that was not read to its end and not closed, or a request that runs. It
// names each with the place in the program that made it. So it does with bodies that the
// collector had to find. Requests that are about to end are given five seconds; a test in a
// synctest bubble does not wait for them in earnest.
//
//	tr := &berth.Transport{}
//	defer tr.Close()
//	defer berthtest.AssertNoLeaks(t, tr)
func AssertNoLeaks(t TB, tr *berth.Transport) {
	t.Helper()
	var held []string
	for waited := time.Duration(0); ; waited += grace / 500 {
		if held = leases(tr); len(held) == 0 || waited >= grace {
			break
		}
		time.Sleep(grace / 500)
	}
	if len(held) > 0 {
		t.Errorf("berth: %d connections are still in use; read their response bodies to the end, or close them:\n%s", len(held), strings.Join(held, "\n"))
	}
	for _, l := range tr.Leaks() {
		if l.Reclaimed > 0 {
			t.Errorf("berth: %d response bodies of %s were forgotten, from %s", l.Reclaimed, l.Endpoint, place(l.Site))
		}
	}
}

// leases describes the leases of all endpoints.
func leases(tr *berth.Transport) (list []string) {
	for _, e := range tr.Report().Endpoints {
		for _, l := range e.Leases {
			list = append(list, fmt.Sprintf("\t%s %s%s, %s for %v, from %s", l.Method, e.Endpoint, l.Path, l.Phase, l.Held.Round(time.Millisecond), place(l.Site)))
		}
	}
	return list
}

func place(site string) string {
	if site == "" {
		return "a place that was not sampled"
	}
	return site
}
