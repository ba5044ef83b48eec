//go:build race

package resilience

// raceEnabled: sync.Pool drops items on purpose under the race detector, so that
// allocations cannot be counted.
const raceEnabled = true
