// The bytes under way in one direction: a first-in-first-out buffer that grows
// as it is used, up to a limit. stream.go is its only user and locks it.

package memnet

// smallest is a ring's first allocation in bytes: a request head fits, and a
// thousand idle connections cost little.
const smallest = 1 << 10

// ring is a queue of bytes. The zero value with a limit set is an empty ring.
type ring struct {
	data  []byte
	start int // index in data of the oldest byte
	count int // bytes held
	limit int // the most it holds; negative for no limit
}

func (r *ring) len() int { return r.count }

// put appends as much of p as there is room for and returns how much that was.
func (r *ring) put(p []byte) int {
	if r.limit >= 0 {
		p = p[:min(len(p), r.limit-r.count)]
	}
	if len(p) == 0 {
		return 0
	}
	if need := r.count + len(p); need > len(r.data) {
		r.grow(need)
	}
	end := (r.start + r.count) % len(r.data)
	k := copy(r.data[end:], p)
	copy(r.data, p[k:])
	r.count += len(p)
	return len(p)
}

// take moves the oldest bytes to p and returns how many.
func (r *ring) take(p []byte) int {
	p = p[:min(len(p), r.count)]
	if len(p) == 0 {
		return 0
	}
	k := copy(p, r.data[r.start:])
	copy(p[k:], r.data)
	r.start = (r.start + len(p)) % len(r.data)
	r.count -= len(p)
	return len(p)
}

// drop forgets everything and gives the memory back.
func (r *ring) drop() {
	r.data, r.start, r.count = nil, 0, 0
}

// grow makes room for need bytes, doubling so that the copies stay few.
func (r *ring) grow(need int) {
	size := max(need, 2*len(r.data), smallest)
	if r.limit >= 0 {
		size = min(size, r.limit)
	}
	data := make([]byte, size)
	n := r.take(data)
	r.data, r.start, r.count = data, 0, n
}
