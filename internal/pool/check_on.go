//go:build invariants

package pool

// checking says that the invariants are checked after every event.
const checking = true
