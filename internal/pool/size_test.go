package pool

import (
	"testing"
	"unsafe"
)

// A pool is allocated for each endpoint. Objects of more than 512 bytes have a header of 8
// in a size class: 704 is the class, the next is 768 (runtime/sizeclasses.go).
func TestSizeOfAPool(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the classes are those of 64 bits")
	}
	for _, of := range []struct {
		name       string
		size, most uintptr
	}{
		{"Pool", unsafe.Sizeof(Pool{}), 704 - 8}, {"Slot", unsafe.Sizeof(Slot{}), 256}, {"Lease", unsafe.Sizeof(Lease{}), 112},
	} {
		if of.size > of.most {
			t.Errorf("a %s has %d bytes, and %d are its size class", of.name, of.size, of.most)
		}
	}
}
