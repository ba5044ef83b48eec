package memnet

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestRingIsAQueueOfBytes runs random puts and takes against a plain slice.
func TestRingIsAQueueOfBytes(t *testing.T) {
	for _, limit := range []int{1, 2, 7, 1000, 5000, -1} {
		seed := uint64(limit + 2)
		rng := rand.New(rand.NewPCG(seed, seed))
		r := ring{limit: limit}
		var model []byte
		next := byte(0)
		for step := range 3000 {
			switch rng.IntN(20) {
			case 0:
				r.drop()
				model = nil
			case 1, 2, 3, 4, 5, 6, 7, 8, 9:
				p := make([]byte, rng.IntN(700))
				for i := range p {
					p[i] = next
					next++
				}
				want := len(p)
				if limit >= 0 {
					want = min(want, limit-len(model))
				}
				if n := r.put(p); n != want {
					t.Fatalf("limit %d, step %d: put of %d took %d, want %d", limit, step, len(p), n, want)
				}
				model = append(model, p[:want]...)
			default:
				p := make([]byte, rng.IntN(700))
				n := r.take(p)
				if want := min(len(p), len(model)); n != want {
					t.Fatalf("limit %d, step %d: take gave %d, want %d", limit, step, n, want)
				}
				if !bytes.Equal(p[:n], model[:n]) {
					t.Fatalf("limit %d, step %d: take gave other bytes than were put", limit, step)
				}
				model = model[n:]
			}
			if r.len() != len(model) {
				t.Fatalf("limit %d, step %d: len %d, want %d", limit, step, r.len(), len(model))
			}
			if limit >= 0 && len(r.data) > limit {
				t.Fatalf("limit %d, step %d: holds %d bytes of memory", limit, step, len(r.data))
			}
		}
	}
}
