package berth

import (
	"fmt"
	"slices"
	"testing"
)

// Endpoints whose keys have the same hash are told apart, and can be removed in any
// order.
func TestEndpointsOfOneHash(t *testing.T) {
	const n = 4
	for first := range n {
		var tb endpointTable
		tb.init()
		tb.hash = func(endpointKey) uint64 { return 7 }
		var eps []*endpoint
		for i := range n {
			k := endpointKey{scheme: "http", host: fmt.Sprint(i)}
			a := alias{"http", fmt.Sprint(i)}
			ep, _ := tb.add(k, a, func() (*endpoint, error) { return &endpoint{key: k}, nil })
			eps = append(eps, ep)
			if again, _ := tb.add(k, a, func() (*endpoint, error) { t.Error("made twice"); return nil, nil }); again != eps[i] {
				t.Errorf("endpoint %d is another the second time", i)
			}
		}
		for i := range n {
			gone := eps[(first+i*3)%n]
			tb.remove(gone)
			tb.remove(gone) // has no effect
			if tb.find(gone.key) != nil || tb.lookup(alias{"http", gone.key.host}) != nil {
				t.Errorf("endpoint %s is still there", gone.key.host)
			}
			if left := tb.all(); len(left) != n-1-i || slices.Contains(left, gone) {
				t.Errorf("%d left, want %d", len(left), n-1-i)
			}
			for _, ep := range tb.all() {
				if tb.find(ep.key) != ep {
					t.Errorf("endpoint %s is lost", ep.key.host)
				}
			}
		}
	}
}
