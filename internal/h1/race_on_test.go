//go:build race

package h1

// raceEnabled: the race detector allocates, so that counts of allocations mean
// nothing under it.
const raceEnabled = true
