package berth

import "testing"

// A call site is the caller's: not in what passes requests on, but in packages that are
// only named alike.
func TestCallSitesAreTheCallers(t *testing.T) {
	for function, want := range map[string]bool{
		"net/http.(*Client).do":                true,
		modulePath + ".(*Transport).RoundTrip": true,
		modulePath + "/internal/h1.(*Conn).f":  true,
		modulePath + "/clients.(*Registry).f":  true,
		modulePath + "/resilience.(*retry).f":  true,
		modulePath + "/clientside.f":           false,
		modulePath + "/doctor.f":               false,
		modulePath + "_test.TestF":             false,
		"example.com/app/clients.f":            false,
	} {
		if got := ours(function); got != want {
			t.Errorf("%s: ours %v", function, got)
		}
	}
}
