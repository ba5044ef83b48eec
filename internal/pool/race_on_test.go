//go:build race

package pool

// underRace says that the race detector is on: sync.Pool drops items then, and
// allocations cannot be counted.
const underRace = true
