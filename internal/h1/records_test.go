package h1

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// record returns a TLS record with n bytes.
func record(n int) []byte {
	return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...)
}

// However the socket cuts them, records are counted when they end.
func TestRecordsAreFollowed(t *testing.T) {
	stream := slices.Concat(record(3), record(0), record(16640), record(1), record(300))
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r := records{level: true}
		for p := stream; len(p) > 0; {
			n := min(len(p), 1+random.IntN(9000))
			if random.IntN(3) == 0 {
				n = 1
			}
			r.follow(p[:n])
			p = p[n:]
		}
		if r.n != 5 || !r.taken(5) || r.taken(4) || r.taken(manyReads) {
			t.Fatalf("%d records, taken by five reads: %v", r.n, r.taken(5))
		}
	}
}

func TestRecordInPiecesIsNotTaken(t *testing.T) {
	for cut := 1; cut < recordHeader+3; cut++ {
		r := records{level: true}
		r.follow(record(2))
		r.follow(record(3)[:cut])
		if r.taken(1) {
			t.Errorf("after %d bytes of another record TLS is said to hold nothing", cut)
		}
		r.settle()
		r.follow(record(3)[cut:])
		r.n = 0
		if r.taken(0) {
			t.Error("what TLS held when it was asked is forgotten")
		}
		r.settle()
		if !r.taken(0) {
			t.Error("TLS was asked between two records")
		}
	}
}
