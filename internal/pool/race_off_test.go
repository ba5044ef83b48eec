//go:build !race

package pool

// underRace says that the race detector is off.
const underRace = false
